//! Eight lanes.

use std::{
    arch::x86_64::{
        __m256i, _mm_cvtsi32_si128, _mm256_add_epi32, _mm256_and_si256, _mm256_loadu_si256,
        _mm256_or_si256, _mm256_permute2x128_si256, _mm256_set_epi32, _mm256_set1_epi32,
        _mm256_shuffle_epi8, _mm256_sll_epi32, _mm256_srl_epi32, _mm256_srli_epi32,
        _mm256_storeu_si256, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64, _mm256_unpacklo_epi32,
        _mm256_unpacklo_epi64, _mm256_xor_si256,
    },
    array,
};

use super::rounds::{CONSTANTS, kernel, sixteen_times};
use crate::midstate::{Block, Words};

pub(super) const LANES: usize = 8;

type Vector = __m256i;

kernel!("avx2");

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 32]) -> Vector {
    // SAFETY: reads 32 bytes from a reference to 32 bytes, at any alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn gather(words: &[Words; LANES], word: usize) -> Vector {
    let values: [u32; LANES] = array::from_fn(|lane| words[lane][word]);
    // SAFETY: reads 32 bytes from an array of 32 bytes, at any alignment.
    unsafe { _mm256_loadu_si256(values.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn scatter(vector: Vector, words: &mut [Words; LANES], word: usize) {
    let mut values = [0_u32; LANES];
    // SAFETY: writes 32 bytes into an array of 32 bytes, at any alignment.
    unsafe { _mm256_storeu_si256(values.as_mut_ptr().cast(), vector) };
    for (words, value) in words.iter_mut().zip(values) {
        words[word] = value;
    }
}

/// Word `i` of every lane's block becomes vector `i`, as the number that its bytes spell.
#[inline]
#[target_feature(enable = "avx2")]
fn message(blocks: &[&Block; LANES]) -> [Vector; 16] {
    let first = half(&array::from_fn(|lane| load(&halves(blocks[lane])[0])));
    let second = half(&array::from_fn(|lane| load(&halves(blocks[lane])[1])));
    array::from_fn(|word| if word < 8 { first[word] } else { second[word - 8] })
}

fn halves(block: &Block) -> &[[u8; 32]] {
    block.as_chunks().0
}

/// Eight words of each lane.
#[inline]
#[target_feature(enable = "avx2")]
fn half(rows: &[Vector; LANES]) -> [Vector; 8] {
    let swap = _mm256_set_epi32(
        0x0c0d_0e0f,
        0x0809_0a0b,
        0x0405_0607,
        0x0001_0203,
        0x0c0d_0e0f,
        0x0809_0a0b,
        0x0405_0607,
        0x0001_0203,
    );
    let [upper, lower]: [[Vector; 4]; 2] = array::from_fn(|four| {
        let [a, b, c, d]: [Vector; 4] =
            array::from_fn(|row| _mm256_shuffle_epi8(rows[4 * four + row], swap));
        let (low_ab, high_ab) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
        let (low_cd, high_cd) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
        [
            _mm256_unpacklo_epi64(low_ab, low_cd),
            _mm256_unpackhi_epi64(low_ab, low_cd),
            _mm256_unpacklo_epi64(high_ab, high_cd),
            _mm256_unpackhi_epi64(high_ab, high_cd),
        ]
    });
    array::from_fn(|word| {
        if word < 4 {
            _mm256_permute2x128_si256::<0x20>(upper[word], lower[word])
        } else {
            _mm256_permute2x128_si256::<0x31>(upper[word - 4], lower[word - 4])
        }
    })
}

#[inline]
#[target_feature(enable = "avx2")]
fn splat(value: u32) -> Vector {
    _mm256_set1_epi32(value.cast_signed())
}

#[inline]
#[target_feature(enable = "avx2")]
fn add(a: Vector, b: Vector) -> Vector {
    _mm256_add_epi32(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn rotate<const BITS: i32>(a: Vector) -> Vector {
    let right = _mm256_srl_epi32(a, _mm_cvtsi32_si128(BITS));
    let left = _mm256_sll_epi32(a, _mm_cvtsi32_si128(32 - BITS));
    _mm256_or_si256(right, left)
}

#[inline]
#[target_feature(enable = "avx2")]
fn shift<const BITS: i32>(a: Vector) -> Vector {
    _mm256_srli_epi32::<BITS>(a)
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor(a: Vector, b: Vector, c: Vector) -> Vector {
    _mm256_xor_si256(_mm256_xor_si256(a, b), c)
}

/// Bits of `b` where `a` is one, of `c` where it is zero.
#[inline]
#[target_feature(enable = "avx2")]
fn choice(a: Vector, b: Vector, c: Vector) -> Vector {
    _mm256_xor_si256(_mm256_and_si256(_mm256_xor_si256(b, c), a), c)
}

#[inline]
#[target_feature(enable = "avx2")]
fn majority(a: Vector, b: Vector, c: Vector) -> Vector {
    _mm256_or_si256(_mm256_and_si256(a, b), _mm256_and_si256(_mm256_or_si256(a, b), c))
}
