//! The lock of a run's data: what it may open, and with which content. `FORMAT.md` draws the file.

mod entry;
mod judge;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use entry::{LOCK_HEADER, LOCK_MAX, Locked, MANIFESTS_SUFFIX, manifest_name};
pub use judge::{Lock, LockDifference};
pub use read::{LockError, ManifestFault};
pub use write::WrittenLock;

pub(crate) use judge::short;
