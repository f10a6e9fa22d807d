//! Facts go to the journal; those that may complete a checkpoint are looked at on the way.

use std::sync::Arc;

use attestfs_fs::{Fact, Recorder, TreePath};

use super::checkpoint::Watcher;
use crate::journal::Journal;

/// The recorder of a run.
#[derive(Debug)]
pub(super) struct RunRecorder {
    pub(super) journal: Arc<Journal>,
    pub(super) watcher: Option<Watcher>,
}

impl Recorder for RunRecorder {
    fn record(&self, fact: Fact) {
        if let (Some(watcher), Fact::Sealed { path: Some(path), digests, .. }) =
            (&self.watcher, &fact)
        {
            watcher.sealed(path, *digests);
        }
        self.journal.record(fact);
    }

    fn directory_renamed(&self, from: &TreePath, to: &TreePath) {
        if let Some(watcher) = &self.watcher {
            watcher.directory_renamed(from, to);
        }
    }
}
