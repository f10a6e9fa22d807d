//! Facts go to the journal; those that may complete a checkpoint, and refusals, are looked at on the
//! way.

use std::sync::Arc;

use attestfs_fs::{Fact, Recorder, TreePath};

use super::{checkpoint::Watcher, console::Console};
use crate::journal::Journal;

/// One line of the log for a refusal. Levels of log lines are fixed where they are written.
macro_rules! tell_refusal {
    ($level:expr, $fact:expr) => {
        if let Fact::Refused { path, sha256, check, reason, next_step, enforced, by } = $fact {
            tracing::event!(
                target: "attestfs::gate",
                $level,
                path = %path,
                reason,
                sha256 = sha256.map(tracing::field::display),
                check,
                enforced,
                pid = by.pid,
                uid = by.uid,
                next_step,
                "{}", if *enforced { "refused" } else { "would be refused" },
            );
        }
    };
}

/// The recorder of a run.
#[derive(Debug)]
pub(super) struct RunRecorder {
    pub(super) journal: Arc<Journal>,
    pub(super) watcher: Option<Watcher>,
    pub(super) refusals: Refusals,
}

/// Where those who look see at once what the gate refuses.
#[derive(Clone, Debug)]
pub(crate) enum Refusals {
    /// On standard error, and in the log when somebody asks for one.
    Shown(Console),
    /// In the log.
    Logged,
}

impl Recorder for RunRecorder {
    fn record(&self, fact: Fact) {
        if let (Some(watcher), Fact::Sealed { path: Some(path), digests, .. }) =
            (&self.watcher, &fact)
        {
            watcher.sealed(path, *digests);
        }
        self.refusals.tell(&fact);
        self.journal.record(fact);
    }

    fn directory_renamed(&self, from: &TreePath, to: &TreePath) {
        if let Some(watcher) = &self.watcher {
            watcher.directory_renamed(from, to);
        }
    }
}

impl Refusals {
    /// Tells a fact that is a refusal.
    pub(crate) fn tell(&self, fact: &Fact) {
        let Fact::Refused { .. } = fact else { return };
        match self {
            Self::Shown(console) => {
                tell_refusal!(tracing::Level::INFO, fact);
                console.refused(fact);
            }
            Self::Logged => tell_refusal!(tracing::Level::WARN, fact),
        }
    }
}
