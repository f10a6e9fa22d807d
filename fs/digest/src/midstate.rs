use sha2::block_api::compress256;

use crate::{digest::Sha256, lanes::Lane};

/// What SHA-256 takes at a time.
pub(crate) type Block = [u8; BLOCK_BYTES];

/// The eight words that SHA-256 carries from block to block.
pub(crate) type Words = [u32; 8];

/// A SHA-256 on its way: of all bytes that it was given so far, in order.
///
/// The `sha2` crate has the same inside and keeps it there. It is here in the open because many of
/// them are compressed at a time, one in each lane of a vector.
#[derive(Clone, Debug)]
pub(crate) struct Midstate {
    words: Words,
    length: u64,
    /// The block that is not full yet: its first `length % 64` bytes.
    begun: Block,
}

impl Midstate {
    /// Bytes that it was given.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The next bytes.
    pub(crate) fn absorb(&mut self, bytes: &[u8]) {
        self.take(bytes).finish();
    }

    /// The next bytes too, but the blocks among them are still to be compressed, before anything else
    /// is done with this.
    #[must_use]
    pub(crate) fn take<'a>(&'a mut self, bytes: &'a [u8]) -> Lane<'a> {
        let (first, rest) = bytes.split_at(bytes.len().min(self.missing()));
        let begun = self.begun_bytes();
        self.begun[begun..begun + first.len()].copy_from_slice(first);
        if begun + first.len() == BLOCK_BYTES {
            compress256(&mut self.words, &[self.begun]);
        }
        let (blocks, last) = rest.as_chunks();
        self.begun[..last.len()].copy_from_slice(last);
        self.length += bytes.len() as u64;
        Lane { words: &mut self.words, blocks }
    }

    /// Of everything so far; more may follow.
    pub(crate) fn digest(&self) -> Sha256 {
        let mut padded = self.clone();
        let bits = self.length << 3;
        let zeros = (2 * BLOCK_BYTES - 1 - size_of_val(&bits) - self.begun_bytes()) % BLOCK_BYTES;
        padded.absorb(&[0x80]);
        padded.absorb(&[0; BLOCK_BYTES][..zeros]);
        padded.absorb(&bits.to_be_bytes());
        let mut digest = [0; 32];
        for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(padded.words) {
            *bytes = word.to_be_bytes();
        }
        Sha256(digest)
    }

    #[expect(clippy::cast_possible_truncation, reason = "it is less than 64")]
    fn begun_bytes(&self) -> usize {
        (self.length % BLOCK_BYTES as u64) as usize
    }

    /// What a begun block lacks; nothing where none is begun.
    fn missing(&self) -> usize {
        (BLOCK_BYTES - self.begun_bytes()) % BLOCK_BYTES
    }
}

impl Default for Midstate {
    /// Of nothing.
    fn default() -> Self {
        Self { words: BEGINNING, length: 0, begun: [0; BLOCK_BYTES] }
    }
}

const BLOCK_BYTES: usize = 64;

/// FIPS 180-4, 5.3.3.
const BEGINNING: Words = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::testing::{judged, pattern};

    #[test]
    fn every_length_has_the_digest_of_the_library() {
        for length in 0..=4 * BLOCK_BYTES + 1 {
            let bytes = pattern(length);
            let mut midstate = Midstate::default();
            midstate.absorb(&bytes);
            assert_eq!(midstate.digest(), judged(&bytes).sha256, "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_make_the_same_digest(sizes in vec(0..200_usize, 0..20)) {
            let bytes = pattern(sizes.iter().sum());
            let mut midstate = Midstate::default();
            let mut rest = &bytes[..];
            for size in sizes {
                let (piece, after) = rest.split_at(size);
                midstate.absorb(piece);
                rest = after;
                let seen = &bytes[..bytes.len() - rest.len()];
                prop_assert_eq!(midstate.digest(), judged(seen).sha256);
            }
            prop_assert_eq!(midstate.length(), bytes.len() as u64);
        }
    }
}
