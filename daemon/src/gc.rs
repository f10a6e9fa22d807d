//! What the state directory keeps about content that is gone, and freeing it.
//!
//! In doubt everything stays: content that may have been moved or copied, or lies on a file system that
//! is not mounted now, keeps its attestations. `daemon/DESIGN.md` gives the rules.

mod needed;
mod plan;
mod presence;
mod report;
mod scope;
mod sweep;
#[cfg(test)]
mod tests;

pub use report::{Amount, GarbageReport, Kept};
pub use scope::Scope;

use std::io;

use attestfs_digest::Sha256;

use crate::{
    commit::{CommitError, Room},
    lineage::LineageError,
};

use self::plan::Plan;

/// Why nothing, or not everything, was freed.
#[derive(Debug, thiserror::Error)]
pub enum GcError {
    /// The memory of the control plane failed.
    #[error(transparent)]
    Lineage(#[from] LineageError),
    /// A frozen commit cannot be read, so that nobody knows what it needs.
    #[error(transparent)]
    Frozen(#[from] CommitError),
    /// A file of the state directory cannot be read or removed.
    #[error("the state directory: {0}")]
    Io(#[from] io::Error),
}

/// Says what can be freed; frees it when that is exactly what was `agreed` to before.
///
/// # Errors
/// Each variant of [`GcError`]. What was left undone is done the next time.
pub(crate) fn collect(
    room: &Room,
    scope: &Scope,
    agreed: Option<Sha256>,
) -> Result<GarbageReport, GcError> {
    let plan = Plan::make(room, scope)?;
    let mut report = plan.report();
    if agreed == Some(report.plan) {
        sweep::sweep(room, &plan)?;
        report.freed = true;
    }
    Ok(report)
}
