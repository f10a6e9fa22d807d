//! The checks, in their order.

use attestfs_attestation::{Alias, Content, Level, Mode, Policy, PolicyRefusal, Refusal};
use attestfs_digest::Digests;

use super::{
    Admitted, GateParts, Patience, Wanted,
    admitted::Reason,
    demands::{Demands, Grounds},
    evidence::directories_above,
    hashing::{Hash, Hashed, Hashing, NotHashed, Order},
    judging::{Asked, Judging},
    links::Links,
    retelling::Retelling,
    standing::{Foundation, Naming, Standing},
    surroundings::Season,
    verdict::{Refused, Stop},
    verity,
};
use crate::{
    backing::Stat,
    fact::{Process, TreePath},
    identity::Identity,
    left_behind::is_written_past_others,
    run::{Hold, Holder, InTheWay, Usage},
};

/// A gate that has something to go by.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) parts: GateParts,
    pub(super) hashing: Hashing,
    pub(super) links: Links,
    pub(super) retelling: Retelling,
    judging: Judging,
    standing: Standing,
}

impl Guard {
    pub(super) fn new(parts: GateParts) -> Self {
        Self {
            parts,
            hashing: Hashing::default(),
            links: Links::default(),
            retelling: Retelling::default(),
            judging: Judging::default(),
            standing: Standing::default(),
        }
    }

    pub(super) fn policy(&self) -> Option<&Policy> {
        self.parts.policy.as_ref()
    }

    /// Whether anybody may be refused.
    pub(super) fn is_needed(&self) -> bool {
        self.parts.policy.is_some() || self.parts.lock.is_some()
    }

    /// Whether a content may be read. Looked at again when it changes meanwhile, but not for ever.
    pub(super) fn decide(
        &self,
        wanted: &Wanted<'_>,
        patience: Patience<'_>,
        by: &dyn Fn() -> Process,
    ) -> Result<Admitted, Stop> {
        if !self.is_needed() {
            return Ok(Admitted::without_look(Reason::Unguarded));
        }
        if let Some(admitted) = self.admit_again(wanted, by) {
            return Ok(admitted);
        }
        for _ in 0..ATTEMPTS {
            match self.decide_once(wanted, patience, by) {
                Err(Stop::Changed) => {}
                decided => {
                    return decided.inspect(|admitted| self.let_stand(wanted, admitted));
                }
            }
        }
        Err(self.unverified(wanted.path(), NotHashed::Changed.to_string()))
    }

    /// What was admitted before and still is, as far as that is known without judging it.
    fn admit_again(&self, wanted: &Wanted<'_>, by: &dyn Fn() -> Process) -> Option<Admitted> {
        wanted.usage.filter(|usage| *usage == Usage::Reads)?;
        let found = self.standing.of(wanted.tracked.key())?;
        let (source, now) = (self.parts.source.as_ref(), self.parts.clock.now());
        if !found.stands(wanted, (&self.standing, &self.links), (source, now)) {
            return None;
        }
        let hashed = Hashed { digests: found.digests, outboard: None };
        let hold = self.hold(wanted, (&found.identity, &hashed), by).ok()?;
        Some(Admitted::found(Reason::Vouched(found.level), found.identity, &hashed).holding(hold))
    }

    /// What was admitted is admitted again without being judged, if it is opened more than once.
    fn let_stand(&self, wanted: &Wanted<'_>, admitted: &Admitted) {
        let is_read = wanted.usage == Some(Usage::Reads) && !admitted.is_verified();
        if let (Reason::Vouched(Level::Stat | Level::Rehash), true, Some((identity, digests))) =
            (admitted.reason, is_read, admitted.digests())
            && self.standing.is_frequent(&identity)
            && let Some(foundation) = self.foundation(wanted, (identity, digests))
        {
            self.standing.add(foundation);
        }
    }

    /// What the admission of this content follows from. None where that cannot be said, or asked for again.
    fn foundation(
        &self,
        wanted: &Wanted<'_>,
        (identity, digests): (Identity, Digests),
    ) -> Option<Foundation> {
        // Each before what follows from it is looked at.
        let names = Naming::of(wanted, &self.links);
        let stat = wanted.opened.stat().ok()?;
        let patience = Patience::None;
        let demands = self.demands(wanted, &stat, patience).ok()?;
        let guarded = demands.alone()?;
        let (name, level) = (guarded.path(), guarded.level()?);
        let season = self.watch_around(wanted, &name)?;
        let (source, now) = (self.parts.source.as_ref(), self.parts.clock.now());
        let content = Content::new(digests, identity.size);
        let asked = Asked { wanted, content, source, now, patience };
        let ground = self.judging.ground(guarded.guarding.rule, &name, &asked)?;
        Some(Foundation { identity, digests, level, names, season, ground })
    }

    /// Watches the directories above the file of this name from now on. Each is looked for when the one that it lies in
    /// is watched, so that another one cannot take its place unnoticed; and all in one season, so that none of them is
    /// watched no more when the last one is.
    fn watch_around(&self, wanted: &Wanted<'_>, name: &TreePath) -> Option<Season> {
        let (relative, surroundings) = (name.relative(), &self.standing.surroundings);
        let mut season = None;
        for directory in directories_above(wanted.opened.backing.as_ref(), &relative) {
            let watched = surroundings.watch(&directory.ok()?).ok()?;
            if *season.get_or_insert(watched) != watched {
                return None;
            }
        }
        season
    }

    /// The checks in the order of this module's parent.
    fn decide_once(
        &self,
        wanted: &Wanted<'_>,
        patience: Patience<'_>,
        by: &dyn Fn() -> Process,
    ) -> Result<Admitted, Stop> {
        let stat = wanted.opened.stat()?;
        // 1. A rule guards one of the names, or the data is locked.
        let demands = self.demands(wanted, &stat, patience)?;
        if demands.are_none() {
            return Ok(Admitted::without_look(Reason::Unguarded));
        }
        // 2. The run wrote it.
        if wanted.is_own()? {
            return Ok(Admitted::without_look(Reason::Own));
        }
        // 3. The rule refuses whatever it is.
        if self.enforces()
            && let Some(refused) = demands.forbidden()
        {
            return Err(self.refused(refused, None).into());
        }
        // 4. Its digest.
        let identity = stat.identity;
        let hashed = self.content(wanted, &demands, &stat, patience)?;
        if wanted.is_sealed_as(&hashed.digests) {
            return Ok(Admitted::without_look(Reason::Own));
        }
        let content = Content::new(hashed.digests, identity.size);
        let found = Some((identity, hashed.clone()));
        // 5. The lock has it.
        if let Some((path, refusal)) = demands.not_locked(&content, &identity) {
            return Err(Refused { path, refusal, enforced: true, found, hold: None }.into());
        }
        // 6. Each guarded name is attested.
        let (source, now) = (self.parts.source.as_ref(), self.parts.clock.now());
        let asked = Asked { wanted, content, source, now, patience };
        let not_attested = self.not_attested(&demands, &asked)?;
        let refused = match not_attested.map(|refused| self.refused(refused, found)) {
            Some(refused) if refused.enforced || self.parts.lock.is_none() => {
                return Err(refused.into());
            }
            refused => refused,
        };
        // 7. Nobody else can change what was looked at.
        let hold = self.hold(wanted, (&identity, &hashed), by)?;
        if let Some(refused) = refused {
            return Err(Refused { hold, ..refused }.into());
        }
        let reason = demands.level().map_or(Reason::Locked, Reason::Vouched);
        Ok(Admitted::found(reason, identity, &hashed).holding(hold))
    }

    /// The first guarded name, if there is one, under which nobody attests the content, and why.
    fn not_attested(
        &self,
        demands: &Demands<'_>,
        asked: &Asked<'_>,
    ) -> Result<Option<(TreePath, Refusal)>, Stop> {
        if let Some(refused) = demands.forbidden() {
            return Ok(Some(refused));
        }
        for guarded in &demands.guarded {
            if let Err(refusal) = self.judging.judge(guarded, asked)? {
                return Ok(Some(guarded.told(refusal, asked.wanted)));
            }
        }
        Ok(None)
    }

    /// Holds the file open with the content of this identity, as it is wanted.
    ///
    /// # Errors
    /// Somebody else may write to it, or somebody is waited for, or it has changed.
    fn hold(
        &self,
        wanted: &Wanted<'_>,
        (identity, hashed): (&Identity, &Hashed),
        by: &dyn Fn() -> Process,
    ) -> Result<Option<Hold>, Stop> {
        let Wanted { run, tracked, opened, .. } = *wanted;
        let owner = run.owner();
        let stop = |in_the_way: &InTheWay| {
            if !wanted.grace.is_over() {
                return Stop::InTheWay;
            }
            let found = Some((*identity, hashed.clone()));
            Refused { found, ..self.kept_apart(wanted.path(), in_the_way) }.into()
        };
        if is_written_past_others(&opened.file) {
            let found = Some((*identity, hashed.clone()));
            let somebody = InTheWay::Writer(Process::default());
            return Err(Refused { found, ..self.kept_apart(wanted.path(), &somebody) }.into());
        }
        let Some(usage) = wanted.usage else {
            let in_the_way = tracked.in_the_way_of(Usage::Reads, owner);
            return in_the_way.map_or(Ok(None), |in_the_way| Err(stop(&in_the_way)));
        };
        let by = wanted.is_contested.then(by).unwrap_or_default();
        let holder = Holder { owner, by };
        // A change of others lies before, and is seen, or asks for those who hold the file.
        let _order = tracked.in_order();
        let hold = tracked.hold(usage, holder).map_err(|in_the_way| stop(&in_the_way))?;
        if opened.stat()?.identity != *identity {
            return Err(Stop::Changed);
        }
        Ok(Some(hold))
    }

    /// Somebody is in the way of who wants to read or change a file.
    pub(super) fn kept_apart(&self, path: TreePath, in_the_way: &InTheWay) -> Refused {
        let name = path.path.clone();
        let refusal = match in_the_way {
            InTheWay::Writer(by) => Refusal::OpenForWriting { name, by: by.to_string() },
            InTheWay::Reader(by) => Refusal::OpenForReading { name, by: by.to_string() },
        };
        Refused { path, refusal, enforced: self.keeps_apart(), found: None, hold: None }
    }

    /// # Errors
    /// The file has names that cannot be looked up in the policy, or none, or too many.
    fn demands(
        &self,
        wanted: &Wanted<'_>,
        stat: &Stat,
        patience: Patience<'_>,
    ) -> Result<Demands<'_>, Stop> {
        let sighting = wanted.look(stat, &self.links);
        let sighting =
            sighting.map_err(|reason| self.unverified(wanted.path(), reason.to_owned()))?;
        let (policy, lock, links) = (self.policy(), self.parts.lock.as_ref(), &self.links);
        Demands::of(&Grounds { policy, lock, links, wanted, patience }, sighting)
    }

    /// Whether a rule has this path, or another one by way of links of which `counts` is true. In
    /// doubt one has.
    pub(super) fn has_rule_for(&self, path: &TreePath, counts: impl Fn(&Alias) -> bool) -> bool {
        let Some(policy) = self.policy() else { return false };
        let has = |path: &str| policy.rule_for(path).is_some();
        let by_link = |alias: &Alias| counts(alias) && has(&alias.path);
        has(&path.path)
            || self.links.aliases(path).is_none_or(|aliases| aliases.iter().any(by_link))
    }

    /// Whether somebody may be going by a guarded name to what this path leads to.
    pub(super) fn is_on_a_guarded_way(&self, path: &TreePath) -> bool {
        let recently = |path: &TreePath| self.has_rule_for(path, |alias| alias.is_recent);
        recently(path) || self.links.recently_through(path).iter().any(recently)
    }

    /// The digests, known as surely as the demands want it.
    fn content(
        &self,
        wanted: &Wanted<'_>,
        demands: &Demands<'_>,
        stat: &Stat,
        patience: Patience<'_>,
    ) -> Result<Hashed, Stop> {
        let identity = &stat.identity;
        if let Some(path) = demands.with(Level::Verity)
            && !verity::is_on(stat)
        {
            let reason = "it has no fs-verity, which its rule wants".to_owned();
            return Err(self.unverified(path, reason));
        }
        let with_outboard = demands.with(Level::PerRead).is_some();
        if let Some(hashed) = self.hashing.known(identity, with_outboard) {
            return Ok(hashed);
        }
        if demands.level().is_none_or(|level| level == Level::Stat)
            && let Some(digests) = self.recorded(wanted, identity, demands)?
        {
            return Ok(Hashed { digests, outboard: None });
        }
        let Patience::WhileConnected(waiting) = patience else {
            return Err(Stop::Later);
        };
        let refuse = |reason| Err(self.unverified(demands.path(), reason));
        if wanted.run.exceeds_holes(stat) {
            return refuse("it is sparse, and its apparent size exceeds what is hashed".to_owned());
        }
        let order = Order {
            tracked: wanted.tracked,
            opened: wanted.opened,
            identity: *identity,
            published: self.published(identity, demands)?,
            with_outboard,
            clock: self.parts.clock.as_ref(),
            waiting,
        };
        match self.hashing.hash(&order) {
            Hash::Made(Ok(hashed)) => Ok(hashed),
            Hash::Made(Err(NotHashed::Changed)) => Err(Stop::Changed),
            Hash::Made(Err(reason)) => refuse(reason.to_string()),
            Hash::Elsewhere(hashing) => Err(Stop::Elsewhere(hashing)),
        }
    }

    /// Digests of exactly this identity that somebody computed before: this run or an earlier one.
    fn recorded(
        &self,
        wanted: &Wanted<'_>,
        identity: &Identity,
        demands: &Demands<'_>,
    ) -> Result<Option<Digests>, Stop> {
        let content = wanted.tracked.content();
        if content.identity() == Some(*identity)
            && let Some(digests) = content.digests()
        {
            return Ok(Some(digests));
        }
        drop(content);
        self.published(identity, demands)
    }

    /// Those that the store has of exactly this identity since it was published.
    fn published(
        &self,
        identity: &Identity,
        demands: &Demands<'_>,
    ) -> Result<Option<Digests>, Stop> {
        match self.parts.source.published(identity) {
            Ok(published) => Ok(published.and_then(|published| published.digests)),
            Err(unavailable) => Err(self.unseen(demands.path(), unavailable.into())),
        }
    }

    /// As the mode of the policy says.
    pub(super) fn refused(
        &self,
        (path, refusal): (TreePath, Refusal),
        found: Option<(Identity, Hashed)>,
    ) -> Refused {
        Refused { path, refusal, enforced: self.enforces(), found, hold: None }
    }

    fn unverified(&self, path: TreePath, reason: String) -> Stop {
        let refusal = PolicyRefusal::Unverified { name: path.path.clone(), reason };
        self.unseen(path, refusal.into())
    }

    /// Of content that nobody could look at.
    fn unseen(&self, path: TreePath, refusal: Refusal) -> Stop {
        Refused { path, refusal, enforced: self.keeps_apart(), found: None, hold: None }.into()
    }

    /// Whether anything is refused that is no matter of one rule alone. A lock has no audit mode.
    pub(super) fn keeps_apart(&self) -> bool {
        self.enforces() || self.parts.lock.is_some()
    }

    pub(super) fn enforces(&self) -> bool {
        self.policy().is_none_or(|policy| policy.mode() == Mode::Enforce)
    }
}

/// So many times a file is looked at again because it changes.
const ATTEMPTS: usize = 3;
