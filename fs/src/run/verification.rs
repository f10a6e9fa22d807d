//! What the reads of a file are verified against while somebody has it open who must get no other
//! bytes. The kernel keeps one set of pages for all who have it open, so the reads of all are.

use std::{
    ptr,
    sync::{Arc, Weak},
};

use attestfs_digest::{Digests, Outboard};

use super::run::Run;
use crate::identity::Identity;

/// One content that was admitted to be read as it was found. Ends when the last open that it was
/// admitted to is gone.
#[derive(Debug)]
pub(crate) struct Verification {
    pub(crate) outboard: Arc<Outboard>,
    /// What was found.
    pub(crate) found: (Identity, Digests),
    /// Whose request it was.
    run: Weak<Run>,
    /// Those of a file are counted from 1.
    pub(super) number: u64,
}

/// All of one file.
#[derive(Debug, Default)]
pub(super) struct Verifications {
    /// The oldest first.
    live: Vec<Weak<Verification>>,
    count: u64,
}

impl Verifications {
    /// How many there have been by now.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn begin(
        &mut self,
        run: &Arc<Run>,
        found: (Identity, Digests),
        outboard: &Arc<Outboard>,
    ) -> Arc<Verification> {
        self.live.retain(|verification| verification.strong_count() > 0);
        self.count += 1;
        let (outboard, run) = (Arc::clone(outboard), Arc::downgrade(run));
        let verification = Arc::new(Verification { outboard, found, run, number: self.count });
        self.live.push(Arc::downgrade(&verification));
        verification
    }

    /// The newest that is not over.
    pub(super) fn newest(&self) -> Option<Arc<Verification>> {
        self.live.iter().rev().find_map(Weak::upgrade)
    }

    /// Whether bytes that `run` puts into the file would be read by somebody whose own they are not.
    pub(super) fn are_in_the_way_of(&self, run: &Run) -> bool {
        let mut live = self.live.iter().filter_map(Weak::upgrade);
        live.any(|verification| run.is_idle() || !ptr::eq(verification.run.as_ptr(), run))
    }
}
