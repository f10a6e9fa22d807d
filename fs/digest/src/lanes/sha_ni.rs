//! Two streams in turns through the SHA extensions: one alone waits for its own results half of the time.

use std::{
    arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_loadu_si128, _mm_set_epi32,
        _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8,
        _mm_shuffle_epi32, _mm_storeu_si128,
    },
    array,
};

use super::rounds::{CONSTANTS, sixteen_times};
use crate::midstate::{Block, Words};

pub(super) const LANES: usize = 2;

/// Compresses the blocks of each lane into its words. Both have as many blocks as the first.
#[target_feature(enable = "sha,sse4.1,ssse3")]
pub(super) fn compress(words: &mut [Words; LANES], blocks: &[&[Block]; LANES]) {
    let mut states = [State::load(&words[0]), State::load(&words[1])];
    for (first, second) in blocks[0].iter().zip(blocks[1]) {
        let before = states;
        let mut messages = [message(first), message(second)];
        sixteen_times!(FOUR => {
            let constants = load_words(&CONSTANTS.as_chunks().0[FOUR]);
            for (state, message) in states.iter_mut().zip(&mut messages) {
                if matches!(FOUR, 4..) {
                    extend(message, FOUR % 4);
                }
                state.four_rounds(_mm_add_epi32(message[FOUR % 4], constants));
            }
        });
        for (state, before) in states.iter_mut().zip(before) {
            state.add(before);
        }
    }
    for (words, state) in words.iter_mut().zip(states) {
        *words = state.store();
    }
}

/// The eight words in the order that the instructions want.
#[derive(Clone, Copy)]
struct State {
    abef: __m128i,
    cdgh: __m128i,
}

#[expect(clippy::many_single_char_names, reason = "the letters of FIPS 180-4")]
impl State {
    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn load(&[a, b, c, d, e, f, g, h]: &Words) -> Self {
        Self { abef: load_words(&[f, e, b, a]), cdgh: load_words(&[h, g, d, c]) }
    }

    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn store(self) -> Words {
        let [f, e, b, a] = store_words(self.abef);
        let [h, g, d, c] = store_words(self.cdgh);
        [a, b, c, d, e, f, g, h]
    }

    /// Of four words of the message schedule with their constants added.
    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn four_rounds(&mut self, input: __m128i) {
        self.cdgh = _mm_sha256rnds2_epu32(self.cdgh, self.abef, input);
        let upper = _mm_shuffle_epi32::<0x0e>(input);
        self.abef = _mm_sha256rnds2_epu32(self.abef, self.cdgh, upper);
    }

    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn add(&mut self, before: Self) {
        self.abef = _mm_add_epi32(self.abef, before.abef);
        self.cdgh = _mm_add_epi32(self.cdgh, before.cdgh);
    }
}

/// The next four words of the message schedule, in the place of the oldest.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn extend(message: &mut [__m128i; 4], oldest: usize) {
    let [first, second, third, fourth] = array::from_fn(|index| message[(oldest + index) % 4]);
    let sum = _mm_sha256msg1_epu32(first, second);
    let sum = _mm_add_epi32(sum, _mm_alignr_epi8::<4>(fourth, third));
    message[oldest] = _mm_sha256msg2_epu32(sum, fourth);
}

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn message(block: &Block) -> [__m128i; 4] {
    let swap = _mm_set_epi32(0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203);
    let quarters: &[[u8; 16]] = block.as_chunks().0;
    array::from_fn(|quarter| _mm_shuffle_epi8(load(&quarters[quarter]), swap))
}

#[inline]
#[target_feature(enable = "sse2")]
fn load(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: reads 16 bytes from a reference to 16 bytes, at any alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "sse2")]
fn load_words(words: &[u32; 4]) -> __m128i {
    // SAFETY: reads 16 bytes from a reference to 16 bytes, at any alignment.
    unsafe { _mm_loadu_si128(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "sse2")]
fn store_words(vector: __m128i) -> [u32; 4] {
    let mut words = [0; 4];
    // SAFETY: writes 16 bytes into an array of 16 bytes, at any alignment.
    unsafe { _mm_storeu_si128(words.as_mut_ptr().cast(), vector) };
    words
}
