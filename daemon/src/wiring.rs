//! The one file that knows every concrete type.

use std::sync::Arc;

use crate::{
    clock::SystemClock,
    commit::NoAttester,
    config::{Environment, StateDir},
    daemon::{DaemonError, Seams},
    lineage::DiskStore,
    publication::DurableFiles,
};

/// What the daemon of this machine is made of.
///
/// # Errors
/// The lineage store of `state` cannot be opened.
pub fn seams(state: &StateDir, environment: &Environment) -> Result<Seams, DaemonError> {
    Ok(Seams {
        store: Arc::new(DiskStore::open(&state.lineage())?),
        files: Arc::new(DurableFiles),
        attester: Arc::new(NoAttester),
        clock: Arc::new(SystemClock),
        stop_at: environment.stop_at,
    })
}
