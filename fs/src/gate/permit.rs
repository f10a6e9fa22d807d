use std::sync::{Arc, Weak};

use attestfs_attestation::Refusal;

use super::gate::Gate;
use crate::{
    error::Error,
    fact::{Process, TreePath},
    identity::Identity,
    port::PublishedFile,
    run::{Change, Content, Hold, Holder, InTheWay, Run, Tracked, Usage},
};

/// Leave to change a file in one run. Asked again at each change: what was published since it was opened
/// is immutable.
#[derive(Clone, Debug)]
pub(crate) struct Permit {
    gate: Arc<Gate>,
    /// Where the run puts its outputs, as long as its tenure lasts: what is published there
    /// afterwards is none of its own.
    replaceable: Weak<[TreePath]>,
}

impl Permit {
    pub(crate) fn new(gate: Arc<Gate>, replaceable: &Arc<[TreePath]>) -> Self {
        Self { gate, replaceable: Arc::downgrade(replaceable) }
    }

    /// Whether `run` may change the file. Tells why not.
    ///
    /// # Errors
    /// [`Error::Published`]; [`Error::Refused`] when nobody can say whether it was.
    pub(crate) fn check(
        &self,
        run: &Run,
        tracked: &Tracked,
        identity: &Identity,
        by: &dyn Fn() -> Process,
    ) -> Result<(), Error> {
        let (error, refusal) = match self.gate.published(identity) {
            Ok(None) => return Ok(()),
            Ok(Some(PublishedFile { statement, .. })) => {
                let Some(kept) = self.kept(tracked) else { return Ok(()) };
                let immutable =
                    Refusal::Immutable { name: kept.path.clone(), attestation: statement };
                (Error::Published, (kept, immutable))
            }
            Err(unavailable) => {
                let path = tracked.path_or_former().unwrap_or_else(TreePath::nowhere);
                (Error::Refused, (path, unavailable.into()))
            }
        };
        self.gate.tell_immutable(run, refusal, by);
        Err(error)
    }

    /// Holds the file open for writing, where nothing that is read had to be judged. Tells who is in the way.
    ///
    /// # Errors
    /// [`Error::InUse`].
    pub(crate) fn hold(&self, run: &Run, tracked: &Tracked, by: &Process) -> Result<Hold, Error> {
        let holder = || Holder { owner: run.owner(), by: by.clone() };
        tracked.hold(Usage::Writes, holder()).or_else(|in_the_way| {
            self.keep_apart(run, tracked, &in_the_way, by)?;
            Ok(tracked.hold_anyway(Usage::Writes, holder()))
        })
    }

    /// Whether nobody else reads what `run` is about to change, through what it holds open itself if it
    /// does. Tells who does.
    ///
    /// # Errors
    /// [`Error::InUse`].
    pub(crate) fn check_readers(
        &self,
        run: &Run,
        change: Change<'_>,
        own: Option<&Hold>,
    ) -> Result<(), Error> {
        match change.tracked.in_the_way_of_change(run.owner(), own) {
            Some(in_the_way) => self.keep_apart(run, change.tracked, &in_the_way, change.by),
            None => Ok(()),
        }
    }

    fn keep_apart(
        &self,
        run: &Run,
        tracked: &Tracked,
        in_the_way: &InTheWay,
        by: &Process,
    ) -> Result<(), Error> {
        let path = tracked.path_or_former().unwrap_or_else(TreePath::nowhere);
        self.gate.keep_apart(run, path, in_the_way, &|| by.clone())
    }

    /// The same for a file that is open. The answer holds as long as nobody else changes the file and
    /// nothing is published.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub(crate) fn check_again(
        &self,
        run: &Run,
        content: &mut Content,
        change: Change<'_>,
        identity: &Identity,
    ) -> Result<(), Error> {
        let Some(source) = self.gate.source() else { return Ok(()) };
        // Before the question: what is published meanwhile has it asked once more. A source that cannot
        // be asked gives no answer to remember.
        let now = source.file_generation().ok().map(|generation| (*identity, generation));
        if now.is_none() || content.permitted != now {
            self.check(run, change.tracked, identity, &|| change.by.clone())?;
            content.permitted = now;
        }
        Ok(())
    }

    /// Whether what the file holds was published, and the run may not replace it. Tells nothing.
    pub(crate) fn is_immutable(&self, tracked: &Tracked, identity: &Identity) -> bool {
        matches!(self.gate.published(identity), Ok(Some(_))) && self.kept(tracked).is_some()
    }

    /// The name of a file that does not lie where the run puts its outputs: with the others the file
    /// changes by this one as well.
    fn kept(&self, tracked: &Tracked) -> Option<TreePath> {
        let mut paths = tracked.paths();
        if paths.is_empty() {
            return Some(tracked.path_or_former().unwrap_or_else(TreePath::nowhere));
        }
        let replaceable = self.replaceable.upgrade();
        let replaceable = replaceable.as_deref().unwrap_or_default();
        paths.retain(|path| !replaceable.iter().any(|above| above.covers(path)));
        paths.into_iter().next()
    }
}
