//! The bytes of which everything is made that is written.

use std::sync::LazyLock;

use crate::deed::Bytes;

/// No two pieces of it are alike.
pub(crate) static POOL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut pool = vec![0; POOL_BYTES];
    blake3::Hasher::new().finalize_xof().fill(&mut pool);
    pool
});

pub(crate) const POOL_BYTES: usize = 4 << 20;

impl Bytes {
    pub(crate) fn of_pool(self) -> &'static [u8] {
        &POOL[self.start..self.start + self.length]
    }
}
