//! Sixteen lanes.

use std::{
    arch::x86_64::{
        __m512i, _mm512_add_epi32, _mm512_loadu_si512, _mm512_ror_epi32, _mm512_set1_epi32,
        _mm512_set4_epi32, _mm512_shuffle_epi8, _mm512_shuffle_i32x4, _mm512_srli_epi32,
        _mm512_storeu_si512, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32,
        _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
    },
    array,
};

use super::rounds::{CONSTANTS, kernel, sixteen_times};
use crate::midstate::{Block, Words};

pub(super) const LANES: usize = 16;

type Vector = __m512i;

kernel!("avx512f,avx512bw");

#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8; 64]) -> Vector {
    // SAFETY: reads 64 bytes from a reference to 64 bytes, at any alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn gather(words: &[Words; LANES], word: usize) -> Vector {
    let values: [u32; LANES] = array::from_fn(|lane| words[lane][word]);
    // SAFETY: reads 64 bytes from an array of 64 bytes, at any alignment.
    unsafe { _mm512_loadu_si512(values.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn scatter(vector: Vector, words: &mut [Words; LANES], word: usize) {
    let mut values = [0_u32; LANES];
    // SAFETY: writes 64 bytes into an array of 64 bytes, at any alignment.
    unsafe { _mm512_storeu_si512(values.as_mut_ptr().cast(), vector) };
    for (words, value) in words.iter_mut().zip(values) {
        words[word] = value;
    }
}

/// Word `i` of every lane's block becomes vector `i`, as the number that its bytes spell.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn message(blocks: &[&Block; LANES]) -> [Vector; 16] {
    let swap = _mm512_set4_epi32(0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203);
    let mut rows: [Vector; 16] =
        array::from_fn(|lane| _mm512_shuffle_epi8(load(blocks[lane]), swap));
    // Within each quarter of four neighbouring rows: four by four words.
    for four in rows.as_chunks_mut::<4>().0 {
        let [a, b, c, d] = *four;
        let (low_ab, high_ab) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (low_cd, high_cd) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        *four = [
            _mm512_unpacklo_epi64(low_ab, low_cd),
            _mm512_unpackhi_epi64(low_ab, low_cd),
            _mm512_unpacklo_epi64(high_ab, high_cd),
            _mm512_unpackhi_epi64(high_ab, high_cd),
        ];
    }
    // Then the quarters themselves: four by four of them.
    let mut message = rows;
    for word in 0..4 {
        let [a, b, c, d] = array::from_fn(|four| rows[4 * four + word]);
        let (even_ab, odd_ab) =
            (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
        let (even_cd, odd_cd) =
            (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xdd>(c, d));
        message[word] = _mm512_shuffle_i32x4::<0x88>(even_ab, even_cd);
        message[word + 4] = _mm512_shuffle_i32x4::<0x88>(odd_ab, odd_cd);
        message[word + 8] = _mm512_shuffle_i32x4::<0xdd>(even_ab, even_cd);
        message[word + 12] = _mm512_shuffle_i32x4::<0xdd>(odd_ab, odd_cd);
    }
    message
}

#[inline]
#[target_feature(enable = "avx512f")]
fn splat(value: u32) -> Vector {
    _mm512_set1_epi32(value.cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add(a: Vector, b: Vector) -> Vector {
    _mm512_add_epi32(a, b)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn rotate<const BITS: i32>(a: Vector) -> Vector {
    _mm512_ror_epi32::<BITS>(a)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn shift<const BITS: u32>(a: Vector) -> Vector {
    _mm512_srli_epi32::<BITS>(a)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn xor(a: Vector, b: Vector, c: Vector) -> Vector {
    _mm512_ternarylogic_epi32::<0x96>(a, b, c)
}

/// Bits of `b` where `a` is one, of `c` where it is zero.
#[inline]
#[target_feature(enable = "avx512f")]
fn choice(a: Vector, b: Vector, c: Vector) -> Vector {
    _mm512_ternarylogic_epi32::<0xca>(a, b, c)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn majority(a: Vector, b: Vector, c: Vector) -> Vector {
    _mm512_ternarylogic_epi32::<0xe8>(a, b, c)
}
