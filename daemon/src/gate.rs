//! The gate of a run or mount: what its options ask for, read once, before anything is served.

use std::{path::Path, sync::Arc};

use attestfs_attestation::Lock;
use attestfs_fs::{Gate, GateParts};

use crate::{
    clock::SystemClock,
    config::StateDir,
    policy::{PolicyFileError, read_placed_policy},
    publication::Published,
    session::{Trees, resolved},
};

/// The gate that follows a policy and a lock, where they are given, and asks what `state` has
/// published.
///
/// # Errors
/// The policy cannot be read, is none, or lies below one of the `trees` that it is to guard, as may no
/// file that it names: in doubt nothing is served.
pub(crate) fn gate(
    policy: Option<&Path>,
    lock: Option<Lock>,
    state: &StateDir,
    trees: &Trees,
) -> Result<Arc<Gate>, PolicyFileError> {
    let place = |file: &Path| refuse_policy_inside(file, trees);
    let policy = policy.map(|policy| read_placed_policy(policy, &place)).transpose()?;
    let published = Published::of(state);
    if let Err(unavailable) = published.read_ahead() {
        tracing::warn!(%unavailable, "the gate stays shut until that is known");
    }
    Ok(Gate::new(GateParts {
        policy,
        lock,
        source: Box::new(published),
        clock: Box::new(SystemClock),
    }))
}

/// Why a file cannot say what is admitted to these trees, if it cannot.
fn refuse_policy_inside(file: &Path, trees: &Trees) -> Result<(), String> {
    match trees.containing(&resolved(file)) {
        Some(tree) => Err(format!(
            "{} lies below {}, where those whom it judges could change it: keep it elsewhere",
            file.display(),
            tree.path.display()
        )),
        None => Ok(()),
    }
}
