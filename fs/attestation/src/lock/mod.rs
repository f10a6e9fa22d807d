//! The lock of a run's data: what it may open, and with which content. `FORMAT.md` draws the file.

mod entry;
mod judge;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use entry::{LOCK_HEADER, LOCK_MAX, Locked};
pub use judge::{Lock, LockDifference, is_locked_data};
pub use read::{LockError, ManifestFault};
pub use write::WrittenLock;

pub(crate) use judge::short;
