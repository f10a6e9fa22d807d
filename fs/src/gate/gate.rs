use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use attestfs_attestation::{Level, Lock, Policy, PolicyRefusal, Refusal, Unavailable};
use attestfs_digest::Digests;

use super::{
    Admitted, Patience, Verdict, Wanted,
    admitted::Reason,
    guard::Guard,
    hashing::{Elsewhere, Hashed},
    verdict::{Refused, Stop},
    verity,
};
use crate::{
    backing::Node,
    error::Error,
    fact::{Fact, Process, TreePath, told_sentence},
    identity::Identity,
    meter::meter,
    port::{BundleSource, Clock, PublishedFile},
    read::Reading,
    run::{Guards, InTheWay, Run},
};

/// What a gate goes by.
#[derive(Debug)]
pub struct GateParts {
    /// Which files are guarded. None guards nothing.
    pub policy: Option<Policy>,
    /// What may be read at all, and with which content. None allows everything.
    pub lock: Option<Lock>,
    /// What was published.
    pub source: Box<dyn BundleSource>,
    /// For what expires.
    pub clock: Box<dyn Clock>,
}

/// What the gate says to somebody who wants to read.
#[derive(Debug)]
pub(crate) enum Decision {
    Made(Result<Admitted, Error>),
    /// It takes more patience.
    Later,
    /// It takes what somebody else is hashing.
    AfterHashing(Elsewhere),
    /// It takes that others close the file.
    AfterOthers,
}

/// Decides what may be read, and whether a file is immutable. One for all trees of a process.
#[derive(Debug)]
pub struct Gate {
    guard: Option<Guard>,
    refusals: AtomicU64,
}

impl Gate {
    /// A gate for these parts.
    pub fn new(parts: GateParts) -> Arc<Self> {
        Arc::new(Self { guard: Some(Guard::new(parts)), refusals: AtomicU64::new(0) })
    }

    /// A gate that guards nothing and knows of no publication.
    pub fn open() -> Arc<Self> {
        Arc::new(Self { guard: None, refusals: AtomicU64::new(0) })
    }

    /// How many opens were refused, or would have been but for audit mode.
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// Whether the filesystem of `root` has what the policy wants.
    pub(crate) fn is_possible_on(&self, root: &Node) -> bool {
        !self.has_rule_of(Level::Verity) || verity::is_possible(root)
    }

    /// Whether reads of some files are verified. Of which, nobody knows beforehand: files are renamed.
    pub(crate) fn verifies_reads(&self) -> bool {
        self.has_rule_of(Level::PerRead)
    }

    fn has_rule_of(&self, level: Level) -> bool {
        let policy = self.guard.as_ref().and_then(Guard::policy);
        policy.is_some_and(|policy| policy.rules().iter().any(|rule| rule.level() == Some(level)))
    }

    /// Whether a content may be read. Tells a refusal.
    pub(crate) fn admit(
        &self,
        wanted: &Wanted<'_>,
        patience: Patience<'_>,
        by: &dyn Fn() -> Process,
    ) -> Decision {
        let Some(guard) = &self.guard else {
            meter().admitted(Reason::Unguarded);
            return Decision::Made(Ok(Admitted::without_look(Reason::Unguarded)));
        };
        match guard.decide(wanted, patience, by) {
            Ok(admitted) => {
                meter().admitted(admitted.reason);
                if let (Reason::Vouched(_) | Reason::Locked, Some((identity, _))) =
                    (admitted.reason, admitted.digests())
                {
                    wanted.tracked.content().vouched = Some(identity);
                }
                Decision::Made(Ok(admitted))
            }
            Err(Stop::Later | Stop::Changed) => Decision::Later,
            Err(Stop::Elsewhere(hashing)) => Decision::AfterHashing(hashing),
            Err(Stop::InTheWay) => Decision::AfterOthers,
            Err(Stop::Failed(error)) => Decision::Made(Err(error)),
            Err(Stop::Refused(refused)) => {
                Decision::Made(self.refuse(guard, wanted, *refused, &by()))
            }
        }
    }

    /// A symbolic link was found that leads to `target`: a file, or a directory with files, of the same
    /// tree. What lies there is guarded by the names that it has by way of the link, too.
    pub(crate) fn link_found(&self, link: TreePath, target: TreePath) {
        if let Some(guard) = &self.guard {
            guard.links.found(link, target);
        }
    }

    /// Such a link was read: somebody goes there.
    pub(crate) fn link_followed(&self, link: TreePath, target: TreePath) {
        if let Some(guard) = &self.guard {
            guard.links.followed(link, target);
        }
    }

    /// Whether a guarded link may be followed out of its tree. Tells a refusal.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub(crate) fn let_out(
        &self,
        run: &Run,
        link: TreePath,
        by: &dyn Fn() -> Process,
    ) -> Result<(), Error> {
        let refusal = PolicyRefusal::LeadsOut { name: link.path.clone() };
        self.let_pass((link, refusal), |guard, refused| self.tell(guard, run, refused, &by()))
    }

    /// Whether what is no file, and the kernel therefore opens without asking, may be found by this
    /// name. Tells a refusal, if somebody asked for it.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub(crate) fn let_in(
        &self,
        run: &Run,
        path: TreePath,
        by: Option<&Process>,
    ) -> Result<(), Error> {
        let reason = "it is no file but a pipe, a socket or a device, which nobody can vouch for";
        let (name, reason) = (path.path.clone(), reason.to_owned());
        self.let_pass((path, PolicyRefusal::Unverified { name, reason }), |guard, refused| {
            if let Some(by) = by {
                self.tell(guard, run, refused, by);
            }
        })
    }

    /// Refuses what has a guarded name and cannot be guarded.
    fn let_pass(
        &self,
        (path, refusal): (TreePath, PolicyRefusal),
        tell: impl FnOnce(&Guard, &Refused),
    ) -> Result<(), Error> {
        let Some(guard) = self.guard.as_ref().filter(|guard| guard.is_on_a_guarded_way(&path))
        else {
            return Ok(());
        };
        let refused = guard.refused((path, refusal.into()), None);
        tell(guard, &refused);
        if refused.enforced { Err(Error::Refused) } else { Ok(()) }
    }

    /// What can be said of a file without hashing it. None of one that nothing guards.
    pub(crate) fn verdict(&self, wanted: &Wanted<'_>) -> Option<Verdict> {
        match self.guard.as_ref()?.decide(wanted, Patience::NoHashing, &Process::default) {
            Ok(admitted) => Verdict::of(&admitted),
            Err(Stop::Refused(refused)) => Some(Verdict::Refused {
                reason: refused.refusal.to_string(),
                next_step: refused.refusal.next_step().to_owned(),
            }),
            Err(
                Stop::Later | Stop::Elsewhere(_) | Stop::InTheWay | Stop::Changed | Stop::Failed(_),
            ) => None,
        }
    }

    /// The digests of exactly this content, if somebody had to wait for them here.
    pub(crate) fn digests(&self, identity: &Identity) -> Option<Digests> {
        Some(self.guard.as_ref()?.hashing.known(identity, false)?.digests)
    }

    /// What was published of this file, whatever it holds by now.
    pub(crate) fn published(
        &self,
        identity: &Identity,
    ) -> Result<Option<PublishedFile>, Unavailable> {
        match &self.guard {
            Some(guard) => guard.parts.source.published(identity),
            None => Ok(None),
        }
    }

    /// What was published, if anything can have been.
    pub(crate) fn source(&self) -> Option<&dyn BundleSource> {
        self.guard.as_ref().map(|guard| guard.parts.source.as_ref())
    }

    /// Whether a file of these names is guarded: the names must be remembered then.
    pub(crate) fn has_rule_for(&self, names: &[TreePath]) -> bool {
        let policy = self.guard.as_ref().and_then(Guard::policy);
        policy.is_some_and(|policy| names.iter().any(|name| policy.rule_for(&name.path).is_some()))
    }

    /// Whether somebody may be refused.
    pub(crate) fn guards(&self) -> bool {
        self.guard.as_ref().is_some_and(Guard::is_needed)
    }

    /// Bytes were read that are not those of the content that was admitted. Tells it.
    ///
    /// # Returns
    /// Whether they must be kept back; not in audit mode.
    pub(crate) fn wrong_bytes(&self, reading: &Reading<'_>) -> bool {
        let Reading { run, tracked, by, .. } = *reading;
        let (Some(guard), Some(verification)) = (&self.guard, reading.verifies()) else {
            return true;
        };
        let (identity, digests) = verification.found;
        guard.hashing.forget(&identity);
        let path = tracked.path_or_former().unwrap_or_else(TreePath::nowhere);
        let refusal = Refusal::DigestMismatch {
            name: path.path.clone(),
            expected: digests.sha256.to_string(),
            found: "other bytes while it was read".to_owned(),
            others: 0,
        };
        let found = Some((identity, Hashed { digests, outboard: None }));
        let refused = guard.refused((path, refusal), found);
        self.tell(guard, run, &refused, by);
        refused.enforced
    }

    fn refuse(
        &self,
        guard: &Guard,
        wanted: &Wanted<'_>,
        refused: Refused,
        by: &Process,
    ) -> Result<Admitted, Error> {
        self.tell(guard, wanted.run, &refused, by);
        if refused.enforced {
            return Err(refused.error());
        }
        let admitted = match &refused.found {
            Some((identity, hashed)) => Admitted::found(Reason::Tolerated, *identity, hashed),
            None => Admitted::without_look(Reason::Tolerated),
        };
        Ok(admitted.holding(refused.hold))
    }

    /// Tells why a file may not be changed. Nobody is kept from reading: it counts as no refusal of
    /// that, and no policy has a say in it.
    pub(super) fn tell_immutable(
        &self,
        run: &Run,
        (path, refusal): (TreePath, Refusal),
        by: &dyn Fn() -> Process,
    ) {
        if let Some(guard) = &self.guard {
            let refused = Refused { path, refusal, enforced: true, found: None, hold: None };
            tell_news(guard, run, &refused, &by());
        }
    }

    /// Somebody else has the file open and is in the way of who wants to change it. Tells it, and as
    /// little is it a refusal to read.
    ///
    /// # Errors
    /// [`Error::InUse`]; not in audit mode.
    pub(super) fn keep_apart(
        &self,
        run: &Run,
        path: TreePath,
        in_the_way: &InTheWay,
        by: &dyn Fn() -> Process,
    ) -> Result<(), Error> {
        let Some(guard) = &self.guard else { return Ok(()) };
        let refused = guard.kept_apart(path, in_the_way);
        tell_news(guard, run, &refused, &by());
        if refused.enforced { Err(refused.error()) } else { Ok(()) }
    }

    fn tell(&self, guard: &Guard, run: &Run, refused: &Refused, by: &Process) {
        self.refusals.fetch_add(1, Ordering::Relaxed);
        let (_, title) = refused.refusal.check();
        meter().refused(title, refused.enforced);
        tell_news(guard, run, refused, by);
    }
}

impl Guards for Gate {
    fn keeps_back(&self, names: &[TreePath]) -> bool {
        self.guard.as_ref().is_some_and(Guard::enforces) && Guards::guards(self, names)
    }

    fn guards(&self, names: &[TreePath]) -> bool {
        self.guard
            .as_ref()
            .is_some_and(|guard| names.iter().any(|name| guard.has_rule_for(name, |_alias| true)))
    }
}

/// Tells a refusal, unless it was told a moment ago.
fn tell_news(guard: &Guard, run: &Run, refused: &Refused, by: &Process) {
    let (check, _) = refused.refusal.check();
    let reason = refused.refusal.to_string();
    let now = guard.parts.clock.now();
    if guard.retelling.is_news(by.pid, &refused.path, &reason, now) {
        run.tell(Fact::Refused {
            path: refused.path.clone().told(),
            sha256: refused.sha256(),
            check,
            reason: told_sentence(reason),
            next_step: refused.refusal.next_step().to_owned(),
            enforced: refused.enforced,
            by: by.clone(),
        });
    }
}
