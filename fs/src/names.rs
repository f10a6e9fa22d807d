//! Where files are: names as they passed through the mount. Paths are attributes; identity is the
//! inode's.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use attestfs_attestation::escaped;
use parking_lot::Mutex;

use crate::{
    fact::TreePath,
    lately::{Lately, Moment},
};

/// A directory's position below the root of its tree. Follows renames of the directory and of
/// those above it.
#[derive(Debug)]
pub(crate) struct Place(Mutex<Whereabouts>);

#[derive(Debug)]
struct Whereabouts {
    position: Position,
    /// The paths that it had a moment ago.
    former: Lately<FilePath>,
}

#[derive(Clone, Debug)]
enum Position {
    Root { tree: u16 },
    Below { parent: Arc<Place>, name: OsString },
}

impl Place {
    /// The root of tree number `tree`.
    pub(crate) fn root(tree: u16) -> Arc<Self> {
        Self::at(Position::Root { tree })
    }

    pub(crate) fn below(parent: &Arc<Self>, name: &OsStr) -> Arc<Self> {
        let (parent, name) = (Arc::clone(parent), name.to_owned());
        Self::at(Position::Below { parent, name })
    }

    fn at(position: Position) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Whereabouts { position, former: Lately::default() })))
    }

    /// The directory is now known by this name; the root stays where it is.
    pub(crate) fn move_to(&self, parent: &Arc<Self>, name: &OsStr) {
        if self.is_at(parent, name) {
            return;
        }
        let former = self.paths();
        let mut whereabouts = self.0.lock();
        if let Position::Root { .. } = whereabouts.position {
            return;
        }
        match former {
            Some(former) => former.into_iter().for_each(|path| whereabouts.former.add(path)),
            None => whereabouts.former.add_unknown(),
        }
        whereabouts.position =
            Position::Below { parent: Arc::clone(parent), name: name.to_owned() };
        MOVES.fetch_add(1, Ordering::Release);
    }

    /// How many directories have moved so far, in all trees of this process.
    pub(crate) fn moves() -> u64 {
        MOVES.load(Ordering::Acquire)
    }

    fn is_at(&self, parent: &Arc<Self>, name: &OsStr) -> bool {
        match &self.0.lock().position {
            Position::Root { .. } => false,
            Position::Below { parent: known, name: as_known } => {
                Arc::ptr_eq(known, parent) && as_known == name
            }
        }
    }

    /// The path of `name` in this directory, as [`path`](Self::path).
    pub(crate) fn path_of(&self, name: &OsStr) -> Option<FilePath> {
        let mut path = self.path()?;
        path.relative.push(name);
        Some(path)
    }

    /// The path of this directory. None when the chain upwards runs in circles, which takes somebody
    /// who moves directories about below the mount.
    pub(crate) fn path(&self) -> Option<FilePath> {
        self.walk_up(|_, _| Some(()))
    }

    /// The path of this directory, and those that it had a moment ago or that a directory above it
    /// had.
    ///
    /// # Returns
    /// `None` when that is not all of them, or as [`path`](Self::path).
    fn paths(&self) -> Option<Vec<FilePath>> {
        let mut former = Vec::new();
        let path = self.walk_up(|above, rest| {
            former.extend(above.recent()?.map(|above| above.joined(rest)));
            Some(())
        })?;
        Some([path].into_iter().chain(former).collect())
    }

    /// When it got its path, or a directory above it did. None when they have had it all along.
    fn moved(&self) -> Option<Moment> {
        let mut moved = None;
        self.walk_up(|former, _| {
            moved = moved.max(former.last());
            Some(())
        });
        moved
    }

    /// The path of this directory. Each on the way up says which paths it had before, and is told how
    /// it goes on below.
    fn walk_up(
        &self,
        mut look: impl FnMut(&Lately<FilePath>, &[OsString]) -> Option<()>,
    ) -> Option<FilePath> {
        let mut reversed = Vec::new();
        let mut step = |place: &Self, reversed: &[OsString]| {
            let whereabouts = place.0.lock();
            look(&whereabouts.former, reversed)?;
            Some(whereabouts.position.clone())
        };
        let mut position = step(self, &reversed)?;
        while let Position::Below { parent, name } = position {
            reversed.push(name);
            if reversed.len() > DEPTH_MAX {
                return None;
            }
            position = step(&parent, &reversed)?;
        }
        let Position::Root { tree } = position else {
            return None;
        };
        Some(FilePath { tree, relative: PathBuf::new() }.joined(&reversed))
    }
}

/// A path below one of the trees, as the system calls want it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FilePath {
    pub(crate) tree: u16,
    pub(crate) relative: PathBuf,
}

impl FilePath {
    /// Further down; the names from the bottom up.
    fn joined(&self, reversed: &[OsString]) -> Self {
        let mut relative = self.relative.clone();
        relative.extend(reversed.iter().rev());
        Self { tree: self.tree, relative }
    }
}

impl From<FilePath> for TreePath {
    fn from(path: FilePath) -> Self {
        Self { tree: path.tree, path: escaped(path.relative.as_os_str().as_bytes()) }
    }
}

/// The paths that somebody may be coming by to a file or symbolic link.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sighted {
    /// By the names that it has, the one seen last first; by the one that went last when all are gone.
    pub(crate) now: Vec<FilePath>,
    /// Those that count only because they were so a moment ago.
    pub(crate) lately: Vec<FilePath>,
}

/// The names of a file or symbolic link: none when it is unlinked, several when it is hard-linked.
#[derive(Debug, Default)]
pub(crate) struct Names {
    current: Vec<Known>,
    /// The one that went last, once all are gone.
    former: Option<Known>,
    /// The paths by names that went a moment ago.
    lost: Lately<FilePath>,
    /// How many there ever were.
    count: u64,
    state: NamesState,
}

/// As long as it is the same, the same names are known, and the same one was seen last. No two files ever have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NamesState(u64);

impl Default for NamesState {
    /// One that was never before.
    fn default() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

#[derive(Debug)]
struct Known {
    parent: Arc<Place>,
    component: OsString,
    /// In the order in which they were first seen, from 1.
    number: u64,
    seen: Moment,
}

impl Known {
    fn new(parent: &Arc<Place>, name: &OsStr, number: u64) -> Self {
        Self { parent: Arc::clone(parent), component: name.to_owned(), number, seen: Moment::now() }
    }

    fn is(&self, parent: &Arc<Place>, name: &OsStr) -> bool {
        Arc::ptr_eq(&self.parent, parent) && self.component == name
    }

    fn path(&self) -> Option<FilePath> {
        self.parent.path_of(&self.component)
    }

    /// As those of the directory that it is in.
    fn paths(&self) -> Option<impl Iterator<Item = FilePath>> {
        let name = [self.component.clone()];
        Some(self.parent.paths()?.into_iter().map(move |above| above.joined(&name)))
    }
}

impl Names {
    /// The name was seen: it is the first one to tell from now on.
    pub(crate) fn add(&mut self, parent: &Arc<Place>, name: &OsStr) {
        if !self.current.last().is_some_and(|last| last.is(parent, name)) {
            self.state = NamesState::default();
        }
        let number = self.take(parent, name).unwrap_or_else(|| {
            self.count += 1;
            self.count
        });
        self.current.push(Known::new(parent, name, number));
    }

    pub(crate) fn remove(&mut self, parent: &Arc<Place>, name: &OsStr) {
        self.state = NamesState::default();
        let gone = Known::new(parent, name, self.take(parent, name).unwrap_or_default());
        match gone.paths() {
            Some(paths) => paths.for_each(|path| self.lost.add(path)),
            None => self.lost.add_unknown(),
        }
        if self.current.is_empty() {
            self.former = Some(gone);
        }
    }

    /// # Returns
    /// The number of a name that was known.
    fn take(&mut self, parent: &Arc<Place>, name: &OsStr) -> Option<u64> {
        let index = self.current.iter().position(|known| known.is(parent, name))?;
        Some(self.current.remove(index).number)
    }

    /// Whether it is unlinked.
    pub(crate) fn is_empty(&self) -> bool {
        self.current.is_empty()
    }

    /// The path by the name seen last.
    pub(crate) fn path(&self) -> Option<FilePath> {
        self.current.last()?.path()
    }

    /// The paths by all names, the one seen last first.
    pub(crate) fn paths(&self) -> impl Iterator<Item = FilePath> {
        self.current.iter().rev().filter_map(Known::path)
    }

    /// The paths by names of which none was known when there had been `count`, the one seen last
    /// first.
    pub(crate) fn paths_since(&self, count: u64) -> impl Iterator<Item = FilePath> {
        let new = self.current.iter().rev().filter(move |name| name.number > count);
        new.filter_map(Known::path)
    }

    /// How many names there ever were.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn state(&self) -> NamesState {
        self.state
    }

    /// The paths by all names that somebody may be coming by. Of a file that is said to have but one
    /// link an earlier name was renamed below the mount, and counts for as long as the kernel may go by
    /// it; so does one that is gone. When all are gone, the last one counts for good.
    ///
    /// # Returns
    /// `None` when they are not all known: any of them might be the guarded one.
    pub(crate) fn sighted(&self, is_alone: bool) -> Option<Sighted> {
        let mut sighted = Sighted::default();
        let (mut names, former) = (self.current.iter().rev(), self.former.as_ref());
        let last = names.next().or(former);
        let others = names.filter(|name| !is_alone || name.seen.is_recent());
        for (index, name) in last.into_iter().chain(others).enumerate() {
            let mut paths = name.paths()?;
            if index == 0 || !is_alone {
                sighted.now.extend(paths.next());
            }
            sighted.lately.extend(paths);
        }
        sighted.lately.extend(self.lost.recent()?.cloned());
        let mut seen = HashSet::new();
        for paths in [&mut sighted.now, &mut sighted.lately] {
            paths.retain(|path| seen.insert(path.clone()));
        }
        Some(sighted)
    }

    /// When a name went, or a directory above one got another path, for the last time that is known.
    pub(crate) fn changed(&self) -> Option<Moment> {
        let moved = self.current.iter().filter_map(|name| name.parent.moved());
        moved.chain(self.lost.last()).max()
    }

    /// The path by the name seen last, be it gone.
    pub(crate) fn path_or_former(&self) -> Option<FilePath> {
        self.current.last().or(self.former.as_ref())?.path()
    }
}

static MOVES: AtomicU64 = AtomicU64::new(0);

/// `PATH_MAX` in one-letter names.
const DEPTH_MAX: usize = 2048;

#[cfg(test)]
impl Names {
    /// As if time had passed.
    pub(crate) fn age(&mut self) {
        self.lost.age();
        self.current.iter_mut().for_each(|name| name.seen = Moment::long_ago());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(names: &Names) -> Option<String> {
        names.path().map(|path| TreePath::from(path).path)
    }

    #[test]
    fn a_file_follows_its_directories() {
        let root = Place::root(0);
        let tmp = Place::below(&root, OsStr::new("ckpt.tmp"));
        let inner = Place::below(&tmp, OsStr::new("a"));
        let mut names = Names::default();
        assert_eq!(path(&names), None);
        names.add(&inner, OsStr::new("w"));
        assert_eq!(path(&names).as_deref(), Some("ckpt.tmp/a/w"));
        tmp.move_to(&root, OsStr::new("ckpt"));
        assert_eq!(path(&names).as_deref(), Some("ckpt/a/w"));
        names.remove(&inner, OsStr::new("w"));
        assert_eq!(path(&names), None);
        let former = names.path_or_former().map(|path| TreePath::from(path).path);
        assert_eq!(former.as_deref(), Some("ckpt/a/w"));
    }

    #[test]
    fn names_are_in_another_state_when_one_came_or_went_or_another_was_seen_last() {
        let (root, a, b) = (Place::root(0), OsStr::new("a"), OsStr::new("b"));
        let mut names = Names::default();
        let mut after = |change: fn(&mut Names, &Arc<Place>, &OsStr), name| {
            let before = names.state();
            change(&mut names, &root, name);
            names.state() != before
        };
        assert!(after(Names::add, a));
        assert!(!after(Names::add, a), "it was seen again");
        assert!(after(Names::add, b));
        assert!(after(Names::add, a), "the one to tell is another one");
        assert!(after(Names::remove, b));
        assert_ne!(Names::default().state(), Names::default().state());
    }

    #[test]
    fn a_name_is_new_once_however_often_it_is_seen() {
        let root = Place::root(0);
        let mut names = Names::default();
        let mut see = |name: &str, since: u64| {
            names.add(&root, OsStr::new(name));
            let new: Vec<_> = names.paths_since(since).map(|path| path.relative).collect();
            (new, names.count())
        };
        assert_eq!(see("a", 0), (vec!["a".into()], 1));
        assert_eq!(see("b", 0), (vec!["b".into(), "a".into()], 2));
        assert_eq!(see("b", 1), (vec!["b".into()], 2));
        assert_eq!(see("a", 2), (vec![], 2));
        names.remove(&root, OsStr::new("a"));
        names.add(&root, OsStr::new("a"));
        assert_eq!(names.paths_since(2).count(), 1, "it came back");
    }

    #[test]
    fn a_chain_in_circles_has_no_path() {
        let root = Place::root(0);
        let a = Place::below(&root, OsStr::new("a"));
        let b = Place::below(&a, OsStr::new("b"));
        a.move_to(&b, OsStr::new("a"));
        assert_eq!(b.path_of(OsStr::new("x")), None);
        a.move_to(&root, OsStr::new("a"));
    }

    fn sighted(names: &Names, is_alone: bool) -> Option<Vec<String>> {
        let Sighted { now, lately } = names.sighted(is_alone)?;
        Some(now.into_iter().chain(lately).map(|path| TreePath::from(path).path).collect())
    }

    #[test]
    fn a_name_that_went_counts_for_a_while() {
        let root = Place::root(0);
        let mut names = Names::default();
        assert_eq!(sighted(&names, true), Some(vec![]));
        names.add(&root, OsStr::new("q.pt"));
        names.remove(&root, OsStr::new("q.pt"));
        assert_eq!(sighted(&names, true).unwrap(), ["q.pt"]);
        names.add(&root, OsStr::new("q.raw"));
        assert_eq!(sighted(&names, true).unwrap(), ["q.raw", "q.pt"]);
        names.age();
        assert_eq!(sighted(&names, true).unwrap(), ["q.raw"]);
        names.remove(&root, OsStr::new("q.raw"));
        names.age();
        assert_eq!(sighted(&names, false).unwrap(), ["q.raw"], "it has no other one");
    }

    #[test]
    fn a_name_that_was_renamed_below_counts_for_a_while() {
        let root = Place::root(0);
        let mut names = Names::default();
        names.add(&root, OsStr::new("q.pt"));
        names.add(&root, OsStr::new("q.raw"));
        assert_eq!(sighted(&names, true).unwrap(), ["q.raw", "q.pt"]);
        names.age();
        assert_eq!(sighted(&names, true).unwrap(), ["q.raw"]);
        assert_eq!(sighted(&names, false).unwrap(), ["q.raw", "q.pt"]);
    }

    #[test]
    fn the_name_that_a_directory_had_counts_for_a_while() {
        let root = Place::root(0);
        let above = Place::below(&root, OsStr::new("guarded"));
        let within = Place::below(&above, OsStr::new("a"));
        let mut names = Names::default();
        names.add(&within, OsStr::new("w"));
        above.move_to(&root, OsStr::new("free"));
        assert_eq!(sighted(&names, true).unwrap(), ["free/a/w", "guarded/a/w"]);
        within.move_to(&root, OsStr::new("b"));
        assert_eq!(sighted(&names, true).unwrap(), ["b/w", "free/a/w", "guarded/a/w"]);
        within.0.lock().former.age();
        assert_eq!(sighted(&names, true).unwrap(), ["b/w"]);
        // To be seen where it was is no move.
        within.move_to(&root, OsStr::new("b"));
        assert_eq!(sighted(&names, true).unwrap(), ["b/w"]);
    }

    #[test]
    fn of_names_that_are_not_all_known_none_is_left_out() {
        let root = Place::root(0);
        let a = Place::below(&root, OsStr::new("a"));
        let b = Place::below(&a, OsStr::new("b"));
        let mut names = Names::default();
        names.add(&b, OsStr::new("w.pt"));
        names.add(&root, OsStr::new("w.raw"));
        a.move_to(&b, OsStr::new("a"));
        assert_eq!(names.paths().count(), 1);
        assert_eq!(names.sighted(false), None, "one of them runs in circles");
        a.move_to(&root, OsStr::new("a"));
        assert_eq!(names.sighted(false), None, "a moment ago it did");
        a.0.lock().former.age();
        assert_eq!(sighted(&names, false).unwrap(), ["w.raw", "a/b/w.pt"]);
    }

    #[test]
    fn two_names_never_look_alike() {
        let root = Place::root(3);
        let path =
            |name: &[u8]| TreePath::from(root.path_of(OsStr::from_bytes(name)).unwrap()).path;
        assert_eq!(path(b"a\xffb"), r"a\xffb");
        assert_eq!(path(br"a\xffb"), r"a\\xffb");
        assert_eq!(path("é".as_bytes()), "é");
    }
}
