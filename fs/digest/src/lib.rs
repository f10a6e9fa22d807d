//! Bytes to chunk groups to tree to digest.
//!
//! Every number this crate gives is the number that `b3sum` or `sha256sum` prints for the same bytes.
//! Two ways lead to it: [`digests`] reads a content from one end to the other, and [`FileHasher`]
//! follows a file while it is written and reads back only what it did not see. The first judges the
//! second. `DESIGN.md` beside this crate draws the tree.

mod chain;
mod chase;
mod content;
mod crew;
mod digest;
mod file_hasher;
mod lanes;
mod levels;
mod many;
mod midstate;
mod outboard;
mod parallel;
mod reader;
mod tree;
mod whole;

#[cfg(test)]
mod testing;

pub use chain::{Chain, feed_all};
pub use chase::Chase;
pub use content::{ReadAt, ReadError};
pub use digest::{Blake3, Digests, ParseDigestError, Sha256};
pub use file_hasher::FileHasher;
pub use many::sha256_many;
pub use outboard::Outboard;
pub use parallel::{blake3_of, digests_parallel};
pub use reader::Progress;
pub use whole::{blake3, digests, digests_with_progress, sha256};
