//! Holding files open for writing: who reads what was judged is in the way, and waited for.

use std::sync::Arc;

use super::{filesystem::Vfs, opening::Answer, tenure::Regular};
use crate::{
    error::Error,
    fact::Process,
    run::{Caller, Grace, Hold, Holder, Usage},
};

/// A file that is held open for writing.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) hold: Hold,
    pub(super) by: Process,
}

impl Vfs {
    /// Holds a file open for writing, where nothing that is read has to be judged. Goes on with that.
    pub(super) fn when_held<T: 'static>(
        self: &Arc<Self>,
        regular: Regular,
        caller: Caller,
        go_on: impl FnOnce(&Self, Held) -> Result<T, Error> + Send + 'static,
    ) -> Answer<T> {
        let by = self.processes.of(caller);
        Arc::clone(self).hold_within(Grace::Ahead, regular, by, go_on)
    }

    /// Waits for nobody: of a file that was just made.
    ///
    /// # Errors
    /// [`Error::InUse`].
    pub(super) fn hold_now(&self, regular: &Regular, by: Process) -> Result<Held, Error> {
        let Regular { tenure, tracked } = regular;
        let hold = self.permit(regular).hold(&tenure.run, tracked, &by)?;
        Ok(Held { hold, by })
    }

    /// Whoever is still in the way when the grace is over is told.
    fn hold_within<T: 'static>(
        self: Arc<Self>,
        grace: Grace,
        regular: Regular,
        by: Process,
        go_on: impl FnOnce(&Self, Held) -> Result<T, Error> + Send + 'static,
    ) -> Answer<T> {
        let owner = regular.tenure.run.owner();
        let held = match regular.tracked.hold(Usage::Writes, Holder { owner, by: by.clone() }) {
            Ok(hold) => Ok(Held { hold, by }),
            Err(_in_the_way) if grace.is_over() => self.hold_now(&regular, by),
            Err(_in_the_way) => {
                let grace = grace.begun();
                return Answer::AfterOthers(Box::new(move || {
                    regular.tracked.wait_until_free(Usage::Writes, owner, grace);
                    self.hold_within(grace, regular, by, go_on)
                }));
            }
        };
        Answer::Now(held.and_then(|held| go_on(&self, held)))
    }
}
