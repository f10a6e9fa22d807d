use std::{collections::HashSet, path::Path};

use attestfs_attestation::Alias;
use attestfs_digest::Digests;
use parking_lot::Mutex;

use super::{hashing::Waiting, links::Links};
use crate::{
    backing::Stat,
    error::Error,
    fact::TreePath,
    names::Sighted,
    run::{Grace, Opened, Run, Tracked, Usage},
};

/// Content that somebody wants to read.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    /// Whose request it is.
    pub(crate) run: &'a Run,
    pub(crate) tracked: &'a Tracked,
    /// The descriptor that will be read.
    pub(crate) opened: &'a Opened,
    /// The absolute path of the backing tree: what statements call it.
    pub(crate) origin: &'a Path,
    /// How the file is to be held open. Not at all by whoever only wants to know what the gate says.
    pub(crate) usage: Option<Usage>,
    /// Whether somebody may be told by whom it is held: not on a read-only mount, where nobody is ever in the way.
    pub(crate) is_contested: bool,
    /// How long whoever is in the way of that is waited for.
    pub(crate) grace: Grace,
    pub(crate) sightings: Sightings,
}

/// By which names a file was known since somebody came for it. What it is called by now counts as
/// well, and not instead: it may be renamed while it is being hashed.
#[derive(Debug, Default)]
pub(crate) struct Sightings(Mutex<Sighting>);

/// The names of a file; those that it has come first.
#[derive(Clone, Debug, Default)]
pub(super) struct Sighting {
    pub(super) names: Vec<SightedName>,
}

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct SightedName {
    pub(super) path: TreePath,
    /// The other paths to it, by way of links.
    pub(super) aliases: Vec<Alias>,
    /// Whether the file has it no more, and somebody may still be coming by it.
    pub(super) is_former: bool,
}

/// How long whoever asks the gate can wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience<'a> {
    /// Not at all: nothing may be hashed and nobody's signature checked.
    None,
    /// Not for the bytes of a file.
    NoHashing,
    /// As long as the connection lives.
    WhileConnected(Waiting<'a>),
}

impl Wanted<'_> {
    /// The name that is told when it is no matter of one of them.
    pub(super) fn path(&self) -> TreePath {
        self.tracked.path_or_former().unwrap_or_else(TreePath::nowhere)
    }

    /// By which names the file is known by now. A file of one link has the one that was seen last:
    /// what was seen before was renamed below the mount. Of several links every name counts that was
    /// ever seen; of a file without a name the one that it had; and whatever counted a moment ago.
    ///
    /// # Errors
    /// What is wrong with them, when they are not all known.
    pub(super) fn look(&self, stat: &Stat, links: &Links) -> Result<Sighting, &'static str> {
        let sighted = self.tracked.names().sighted(stat.statx.stx_nlink <= 1);
        let sighted = sighted.ok_or("too many paths lead to it, or one that runs in circles")?;
        let mut sighting = self.sightings.0.lock();
        sighting.add(sighted);
        if sighting.names.is_empty() {
            return Err("no path leads to it");
        }
        for SightedName { path, aliases, .. } in &mut sighting.names {
            let now = links.aliases(path).ok_or("too many links lead to it")?;
            let again: HashSet<_> = recent(&now).map(|alias| alias.path.clone()).collect();
            aliases.retain(|alias| alias.is_recent && !again.contains(&alias.path));
            aliases.extend(now);
        }
        Ok(sighting.clone())
    }

    /// Whether the run wrote what the file holds, and built it on nothing that was not admitted.
    pub(super) fn is_own(&self) -> Result<bool, Error> {
        if self.run.is_idle() {
            return Ok(false);
        }
        // Under the lock, which every change through the mount holds as well.
        let content = self.tracked.content();
        let identity = self.opened.stat()?.identity;
        Ok(content.is_own(&identity))
    }

    /// Whether these are the digests of what the run wrote: then somebody only touched it since.
    pub(super) fn is_sealed_as(&self, digests: &Digests) -> bool {
        !self.run.is_idle() && self.tracked.content().is_sealed_as(digests)
    }
}

impl Sighting {
    /// What is not among the names by now is a former one.
    fn add(&mut self, sighted: Sighted) {
        let now: Vec<_> = sighted.now.into_iter().map(TreePath::from).collect();
        let lately = sighted.lately.into_iter().map(TreePath::from);
        for path in now.iter().cloned().chain(lately) {
            if !self.names.iter().any(|known| known.path == path) {
                self.names.push(SightedName { path, aliases: Vec::new(), is_former: false });
            }
        }
        for name in &mut self.names {
            name.is_former = !now.contains(&name.path);
        }
        self.names.sort_by_key(|name| name.is_former);
    }
}

fn recent(aliases: &[Alias]) -> impl Iterator<Item = &Alias> {
    aliases.iter().filter(|alias| alias.is_recent)
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, fs::File, sync::Arc};

    use super::*;
    use crate::{backing::Directory, fact::Fact, names::Place, port::Recorder};

    #[derive(Debug)]
    struct Deaf;

    impl Recorder for Deaf {
        fn record(&self, _fact: Fact) {}
    }

    #[test]
    fn whoever_waits_is_guarded_by_every_name_that_the_file_had_meanwhile() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("big");
        File::create(&path).unwrap();
        let backing = Arc::new(Directory::new(File::open(directory.path()).unwrap().into()));
        let opened = Opened { backing, file: Arc::new(File::open(path).unwrap()) };
        let stat = opened.stat().unwrap();
        let (run, links, root) = (Run::idle(Box::new(Deaf)), Links::default(), Place::root(0));
        let tracked = run.track(stat.identity.file);
        let (origin, sightings) = (directory.path(), Sightings::default());
        let (run, tracked, opened, usage) = (&run, &tracked, &opened, None);
        let grace = Grace::Denied;
        let is_contested = true;
        let wanted = Wanted { run, tracked, opened, origin, usage, is_contested, grace, sightings };
        let look = || -> Vec<String> {
            let names = wanted.look(&stat, &links).unwrap().names.into_iter();
            let aliased = |aliases: Vec<Alias>| aliases.into_iter().map(|alias| alias.path);
            names.flat_map(|name| aliased(name.aliases).chain([name.path.path])).collect()
        };
        assert_eq!(wanted.look(&stat, &links).err(), Some("no path leads to it"));
        tracked.names().add(&root, OsStr::new("big.pt"));
        let of = |path: &str| TreePath { tree: 0, path: path.to_owned() };
        links.followed(of("link.pt"), of("big.pt"));
        assert_eq!(look(), ["link.pt", "big.pt"]);
        let alias = links.aliases(&of("big.pt")).unwrap().remove(0);
        links.forget(0, &alias.steps[0]);
        tracked.names().remove(&root, OsStr::new("big.pt"));
        tracked.names().add(&root, OsStr::new("big.raw"));
        tracked.names().age();
        assert_eq!(look(), ["big.raw", "link.pt", "big.pt"], "what it is called comes first");
        assert_eq!(look(), ["big.raw", "link.pt", "big.pt"], "each once");
    }
}
