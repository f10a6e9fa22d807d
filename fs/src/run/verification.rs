//! What the reads of a file are verified against while somebody has it open who must get no other
//! bytes. The kernel keeps one set of pages for all who have it open, so the reads of all are.

use std::sync::{Arc, Weak};

use attestfs_digest::{Digests, Outboard};

use crate::identity::Identity;

/// One content that was admitted to be read as it was found. Ends when the last open that it was
/// admitted to is gone.
#[derive(Debug)]
pub(crate) struct Verification {
    pub(crate) outboard: Arc<Outboard>,
    /// What was found.
    pub(crate) found: (Identity, Digests),
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
        found: (Identity, Digests),
        outboard: &Arc<Outboard>,
    ) -> Arc<Verification> {
        self.live.retain(|verification| verification.strong_count() > 0);
        self.count += 1;
        let outboard = Arc::clone(outboard);
        let verification = Arc::new(Verification { outboard, found, number: self.count });
        self.live.push(Arc::downgrade(&verification));
        verification
    }

    /// The newest that is not over.
    pub(super) fn newest(&self) -> Option<Arc<Verification>> {
        self.live.iter().rev().find_map(Weak::upgrade)
    }
}
