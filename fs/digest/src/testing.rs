use std::{cell::RefCell, io, ops::Range};

use sha2::Digest;

use crate::{Blake3, Digests, ReadAt, Sha256};

/// Bytes that differ from group to group.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0_u32..).flat_map(|word| word.wrapping_mul(0x9E37_79B1).to_le_bytes()).take(length).collect()
}

/// What the libraries say about these bytes, with nothing of ours between.
pub(crate) fn judged(bytes: &[u8]) -> Digests {
    Digests {
        sha256: Sha256(sha2::Sha256::digest(bytes).into()),
        blake3: Blake3(blake3::hash(bytes).into()),
    }
}

/// A content that remembers what was read of it.
pub(crate) struct Watched<'a> {
    bytes: &'a [u8],
    reads: RefCell<Vec<Range<u64>>>,
}

impl<'a> Watched<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, reads: RefCell::default() }
    }

    pub(crate) fn reads(self) -> Vec<Range<u64>> {
        self.reads.into_inner()
    }
}

impl ReadAt for Watched<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read_at(offset, buffer)?;
        self.reads.borrow_mut().push(offset..offset + read as u64);
        Ok(read)
    }
}
