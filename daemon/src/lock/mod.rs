//! The lock of a run's data, `--lock`: read before the command, enforced by the gate while it runs,
//! written or compared when it is over; and runs that need not be repeated, `--reuse`.

mod data;
mod failure;
mod file;
mod opened;
mod reuse;

pub(crate) use data::{DataLock, JournalPart, LockOptions, LockWish};
pub(crate) use failure::LockFailure;
pub(crate) use reuse::{NotReused, Repetition, Reused};
