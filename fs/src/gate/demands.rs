//! What the policy and the lock ask about one file.

use attestfs_attestation::{
    Alias, Content, Guarding, Level, Lock, Policy, PolicyRefusal, Refusal, is_publication,
};
use jiff::Timestamp;

use super::{
    links::Links,
    verdict::Stop,
    wanted::{Patience, SightedName, Sighting, Wanted},
};
use crate::{fact::TreePath, identity::Identity};

/// What has to be asked before a file may be read. Nothing of one that nobody guards.
#[derive(Debug, Default)]
pub(super) struct Demands<'a> {
    pub(super) guarded: Vec<Guarded<'a>>,
    lock: Option<&'a Lock>,
    /// The names under which the lock may have it.
    locked: Vec<TreePath>,
    /// Whether links lead to it, be they asked or not.
    is_linked: bool,
}

/// A file that a rule has.
#[derive(Debug)]
pub(super) struct Guarded<'a> {
    pub(super) guarding: Guarding<'a>,
    /// That all its names are in.
    pub(super) tree: u16,
    /// Whether it counts only because the file was called so a moment ago.
    pub(super) is_former: bool,
}

/// What the demands on a file follow from, besides its names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grounds<'a, 'w> {
    pub(super) policy: Option<&'a Policy>,
    pub(super) lock: Option<&'a Lock>,
    pub(super) links: &'a Links,
    pub(super) wanted: &'w Wanted<'w>,
    pub(super) patience: Patience<'w>,
}

impl<'a> Demands<'a> {
    /// Of a file that was seen so.
    ///
    /// # Errors
    /// [`Stop::Later`] when more links have to be asked than whoever asks has patience for.
    pub(super) fn of(grounds: &Grounds<'a, '_>, sighting: Sighting) -> Result<Self, Stop> {
        let mut demands = Self { lock: grounds.lock, ..Self::default() };
        let mut questions = match grounds.patience {
            Patience::None => QUESTIONS_AT_ONCE,
            Patience::NoHashing | Patience::WhileConnected(_) => usize::MAX,
        };
        for SightedName { path: name, aliases, is_former } in sighting.names {
            let tree = name.tree;
            demands.is_linked |= !aliases.is_empty();
            let mut counts = |alias: &Alias| grounds.counts(alias, &name, &mut questions);
            if let Some(policy) = grounds.policy {
                let guarding = policy.guarding(&name.path, &aliases, &mut counts)?.into_iter();
                let guarded = guarding.map(|guarding| Guarded { guarding, tree, is_former });
                demands.guarded.extend(guarded);
            }
            if grounds.lock.is_some() {
                demands.lock(&name, &aliases, &mut counts)?;
            }
        }
        Ok(demands)
    }

    /// By its own name a file must be in the lock; a publication by those of the links to it.
    fn lock(
        &mut self,
        name: &TreePath,
        aliases: &[Alias],
        counts: &mut dyn FnMut(&Alias) -> Result<bool, Stop>,
    ) -> Result<(), Stop> {
        if !is_publication(&name.path) {
            self.locked.push(name.clone());
            return Ok(());
        }
        for alias in aliases.iter().filter(|alias| !is_publication(&alias.path)) {
            if counts(alias)? {
                self.locked.push(TreePath { tree: name.tree, path: alias.path.clone() });
            }
        }
        Ok(())
    }

    /// The one demand on it, where nothing else can come to count by itself.
    pub(super) fn alone(&self) -> Option<&Guarded<'a>> {
        let [guarded] = self.guarded.as_slice() else { return None };
        let is_alone = !guarded.is_former && !self.is_linked && self.lock.is_none();
        is_alone.then_some(guarded)
    }

    pub(super) fn are_none(&self) -> bool {
        self.guarded.is_empty() && self.locked.is_empty()
    }

    /// The path that is told when it is no matter of one rule.
    pub(super) fn path(&self) -> TreePath {
        let guarded = self.guarded.iter().map(Guarded::path);
        guarded.chain(self.locked.iter().cloned()).next().unwrap_or_else(TreePath::nowhere)
    }

    /// The refusal of a rule that refuses whatever it has.
    pub(super) fn forbidden(&self) -> Option<(TreePath, Refusal)> {
        self.guarded.iter().find_map(|guarded| {
            let Guarding { rule, path, .. } = &guarded.guarding;
            let forbidden = PolicyRefusal::Forbidden {
                rule: rule.number(),
                name: path.clone(),
                reason: rule.refuses()?.to_owned(),
            };
            Some((guarded.path(), forbidden.into()))
        })
    }

    /// The strictest.
    pub(super) fn level(&self) -> Option<Level> {
        self.guarded.iter().filter_map(Guarded::level).max()
    }

    /// A path whose rule wants this level.
    pub(super) fn with(&self, level: Level) -> Option<TreePath> {
        let mut guarded = self.guarded.iter();
        guarded.find(|guarded| guarded.level() == Some(level)).map(Guarded::path)
    }

    /// Why the lock does not have it. Of several names one must be in the lock, and none with another
    /// content: it is the same file by all of them.
    pub(super) fn not_locked(
        &self,
        content: &Content,
        identity: &Identity,
    ) -> Option<(TreePath, Refusal)> {
        let lock = self.lock?;
        let changed = Timestamp::from_nanosecond(i128::from(identity.mtime_ns)).unwrap_or_default();
        let (mut has_it, mut absent) = (false, None);
        for name in &self.locked {
            match lock.check(name.tree, &name.path, content, changed) {
                Ok(()) => has_it = true,
                Err(refusal @ Refusal::NotLocked { .. }) => {
                    absent = absent.or_else(|| Some((name.clone(), refusal)));
                }
                Err(refusal) => return Some((name.clone(), refusal)),
            }
        }
        absent.filter(|_| !has_it)
    }
}

impl Guarded<'_> {
    /// The path that the rule has: what is told.
    pub(super) fn path(&self) -> TreePath {
        TreePath { tree: self.tree, path: self.guarding.path.clone() }
    }

    pub(super) fn level(&self) -> Option<Level> {
        self.guarding.rule.level()
    }

    /// A refusal as it is told. Where the name that the file has is attested, it passes.
    pub(super) fn told(&self, refusal: Refusal, wanted: &Wanted<'_>) -> (TreePath, Refusal) {
        match refusal {
            Refusal::Unavailable(_) => (self.path(), refusal),
            _ if self.is_former => {
                let former = self.guarding.path.clone();
                (wanted.path(), PolicyRefusal::Renamed { former }.into())
            }
            refusal => (self.path(), refusal),
        }
    }
}

impl Grounds<'_, '_> {
    /// Whether one comes to the file of this name by these links, or may have set out to a moment
    /// ago.
    fn counts(&self, alias: &Alias, name: &TreePath, questions: &mut usize) -> Result<bool, Stop> {
        if alias.is_recent {
            return Ok(true);
        }
        *questions = questions.checked_sub(1).ok_or(Stop::Later)?;
        let leads = |from: &str, to: &str| {
            let of = |path: &str| TreePath { tree: name.tree, path: path.to_owned() }.relative();
            self.wanted.opened.backing.follow(&of(from)) == Ok(of(to))
        };
        if leads(&alias.path, &name.path) {
            return Ok(true);
        }
        for step in alias.steps.iter().filter(|step| !leads(&step.link, &step.target)) {
            self.links.forget(name.tree, step);
        }
        Ok(false)
    }
}

/// So many links are asked on a thread that answers requests, each by some system calls.
const QUESTIONS_AT_ONCE: usize = 16;

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::symlink, sync::Arc};

    use super::*;
    use crate::{
        backing::Directory,
        fact::Fact,
        gate::Sightings,
        port::Recorder,
        run::{Grace, Opened, Run},
    };

    #[derive(Debug)]
    struct Deaf;

    impl Recorder for Deaf {
        fn record(&self, _fact: Fact) {}
    }

    fn path(path: &str) -> TreePath {
        TreePath { tree: 0, path: path.to_owned() }
    }

    #[test]
    fn many_links_are_asked_by_whoever_may_take_his_time() {
        let policy = "version = 1\n[[rule]]\npaths = [\"*.pt\"]\nrefuse = \"no\"";
        let policy = Policy::parse(policy, &mut |_| Err(String::new())).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = Arc::new(File::create(directory.path().join("w")).unwrap());
        let backing = Arc::new(Directory::new(File::open(directory.path()).unwrap().into()));
        let opened = Opened { backing, file };
        let (run, links) = (Run::idle(Box::new(Deaf)), Links::default());
        let tracked = run.track(opened.stat().unwrap().identity.file);
        let (origin, sightings) = (directory.path(), Sightings::default());
        let (run, tracked, opened, usage) = (&run, &tracked, &opened, None);
        let grace = Grace::Denied;
        let is_contested = true;
        let wanted =
            &Wanted { run, tracked, opened, origin, usage, is_contested, grace, sightings };
        let guarded = |patience| {
            let lock = None;
            let grounds = Grounds { policy: Some(&policy), lock, links: &links, wanted, patience };
            let (path, aliases) = (path("w"), links.aliases(&path("w")).unwrap());
            let names = vec![SightedName { path, aliases, is_former: false }];
            Demands::of(&grounds, Sighting { names }).map(|demands| demands.guarded.len())
        };
        for number in 0..QUESTIONS_AT_ONCE {
            links.followed(path(&format!("gone-{number}.pt")), path("w"));
        }
        links.age();
        assert_eq!(guarded(Patience::None).unwrap(), 0);
        assert_eq!(links.aliases(&path("w")), Some(Vec::new()), "those that were asked are gone");
        symlink("w", directory.path().join("link.pt")).unwrap();
        for number in 0..QUESTIONS_AT_ONCE {
            links.followed(path(&format!("gone-{number}.pt")), path("w"));
        }
        links.followed(path("link.pt"), path("w"));
        links.age();
        assert!(matches!(guarded(Patience::None), Err(Stop::Later)));
        assert_eq!(guarded(Patience::NoHashing).unwrap(), 1);
        links.followed(path("gone.pt"), path("w"));
        assert_eq!(guarded(Patience::None).unwrap(), 1, "it led there a moment ago");
    }
}
