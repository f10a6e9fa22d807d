//! Whose turn it is on a mount that lives longer than a run.

use std::sync::Arc;

use crate::{
    fact::TreePath,
    run::{Run, Tracked},
};

/// The time of one run on a mount: requests that come while it lasts belong to that run. Open files
/// stay with the run that they were opened in.
#[derive(Debug)]
pub(crate) struct Tenure {
    pub(crate) run: Arc<Run>,
    /// Shown as `user.attestfs.stage` of what the run wrote.
    pub(crate) stage: String,
    /// Shown as `user.attestfs.run` of what the run wrote.
    pub(crate) run_id: String,
    /// Below these the run may write to published content.
    pub(crate) replaceable: Arc<[TreePath]>,
}

/// A regular file in a tenure.
#[derive(Clone, Debug)]
pub(crate) struct Regular {
    pub(crate) tenure: Arc<Tenure>,
    pub(crate) tracked: Arc<Tracked>,
}

impl Regular {
    /// The file goes on in `tenure`, with its names and none of what the earlier run knew of its
    /// content. Whoever has it open stays with that run.
    pub(super) fn pass_to(&mut self, tenure: &Arc<Tenure>) {
        let tracked = tenure.run.take_over(&self.tracked, &self.tenure.run);
        let ended = std::mem::replace(self, Self { tenure: Arc::clone(tenure), tracked });
        let file = ended.tracked.key();
        drop(ended.tracked);
        ended.tenure.run.forget(file);
    }
}
