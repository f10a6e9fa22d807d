//! The inodes that the kernel holds references to.

mod emptying;

use std::{
    any::Any,
    collections::HashMap,
    ffi::OsStr,
    fmt, mem,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use rustix::fs::FileType;

pub(crate) use emptying::Emptier;

use self::emptying::Emptying;

use crate::{
    backing::{Node, Stat},
    error::Error,
    identity::FileKey,
    meter::{Counted, meter},
    names::{FilePath, Names, Place},
    run::{Grace, Run, Tracked},
    sync::{Condvar, Mutex, RwLock},
    vfs::{
        attribute::SUPERUSER,
        descriptors::{Descriptor, Ring},
        owner::Surroundings,
        tenure::{Regular, Tenure},
        ways::{Opener, Way, Ways},
    },
};

/// The number by which the kernel names an inode, and the inode number that users see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct InodeId(pub(crate) u64);

impl InodeId {
    /// `FUSE_ROOT_ID`.
    pub(crate) const ROOT: Self = Self(1);

    /// The number of the n-th virtual file.
    pub(super) fn of_virtual(position: u64) -> Self {
        Self(VIRTUAL_BASE + position)
    }

    /// Which virtual file has this number, if it is one's.
    pub(super) fn virtual_position(self) -> Option<u64> {
        self.0.checked_sub(VIRTUAL_BASE)
    }

    /// Whether the file is made up by us: what the kernel is told of it holds for one request.
    pub(crate) fn is_virtual(self) -> bool {
        self.virtual_position().is_some()
    }
}

/// A file of any kind that the kernel knows.
#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) id: InodeId,
    pub(super) file: FileKey,
    pub(super) descriptor: Descriptor,
    pub(crate) kind: Kind,
    /// Whether no name leads to it any more, whatever names are known.
    removed: AtomicBool,
    pub(super) surroundings: Surroundings,
    ways: Mutex<Ways<Shortcut>>,
    fewer_ways: Condvar,
    /// The size that the kernel was told last.
    told_size: AtomicU64,
    emptying: Emptying,
    _counted: Counted,
}

/// What the kernel knows a file of the store by, so that it reads there by itself. Ends when nobody has the
/// file open.
#[derive(Clone)]
pub(crate) struct Shortcut(pub(crate) Arc<dyn Any + Send + Sync>);

impl fmt::Debug for Shortcut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shortcut")
    }
}

/// One who has a file open, in its way. Dropped when it is closed.
#[derive(Debug)]
pub(crate) struct OnWay(Arc<Inode>);

impl Drop for OnWay {
    fn drop(&mut self) {
        self.0.ways.lock().leave();
        self.0.fewer_ways.notify_all();
    }
}

/// What we keep of an inode, by its kind.
#[derive(Debug)]
pub(crate) enum Kind {
    Directory(Arc<Place>),
    /// The run that the file belongs to, and what it knows of it. Another one with each run.
    Regular(Mutex<Regular>),
    /// A symbolic link and its names: what it leads to may be guarded by each.
    Link(Mutex<Names>),
    /// Fifo, socket or device.
    Other,
}

impl Inode {
    fn new(id: InodeId, file: FileKey, kind: Kind) -> Self {
        Self {
            id,
            file,
            descriptor: Descriptor::default(),
            kind,
            removed: AtomicBool::default(),
            surroundings: Surroundings::default(),
            ways: Mutex::default(),
            fewer_ways: Condvar::new(),
            told_size: AtomicU64::default(),
            emptying: Emptying::default(),
            _counted: meter().inode(),
        }
    }

    /// The way in which one more has the file open.
    ///
    /// # Errors
    /// As [`Ways::enter`].
    pub(super) fn enter_way(
        self: &Arc<Self>,
        opener: Opener,
        shortcut: impl FnOnce() -> Option<Shortcut>,
    ) -> Result<(OnWay, Way<Shortcut>), Error> {
        let way = self.ways.lock().enter(opener, shortcut)?;
        Ok((OnWay(Arc::clone(self)), way))
    }

    /// As which user somebody may write to the file past us.
    pub(super) fn written_past(&self) -> Option<u32> {
        self.ways.lock().written_past()
    }

    /// Sets set-id bits, which a write takes away from a file and one past us does not. Only the superuser may write
    /// and leave them. Whoever is given leave to write so looks for them afterwards.
    ///
    /// # Errors
    /// [`Error::InUse`] when another user writes past us.
    pub(super) fn while_no_user_writes_past<T>(&self, set: impl FnOnce() -> T) -> Result<T, Error> {
        let ways = self.ways.lock();
        match ways.written_past() {
            None | Some(SUPERUSER) => Ok(set()),
            Some(_) => Err(Error::InUse),
        }
    }

    /// Whether somebody has the file open past us.
    pub(super) fn is_passed(&self) -> bool {
        self.ways.lock().is_passed()
    }

    /// Waits until nobody has, as long as there is grace.
    pub(super) fn wait_until_not_passed(&self, grace: Grace) {
        let mut ways = self.ways.lock();
        let is_passed = |ways: &mut Ways<_>| ways.is_passed();
        self.fewer_ways.wait_while_for(&mut ways, is_passed, grace.remaining());
    }

    /// Waits while somebody empties the file, on behalf of who asks for it. To be called when the store has been asked: what is
    /// not seen to be emptied then was not before.
    ///
    /// # Returns
    /// Whether the store is to be asked again.
    pub(super) fn wait_until_emptied(&self, thread: Option<u32>) -> bool {
        self.emptying.wait_until_heard(thread)
    }

    /// The kernel is told this size now.
    ///
    /// # Returns
    /// Whether it was told another one before.
    pub(super) fn tell_size(&self, size: u64) -> bool {
        self.told_size.swap(size, Relaxed) != size
    }

    pub(crate) fn place(&self) -> Result<&Arc<Place>, Error> {
        match &self.kind {
            Kind::Directory(place) => Ok(place),
            Kind::Regular(_) | Kind::Link(_) | Kind::Other => Err(Error::Invalid),
        }
    }

    /// The regular file as the run that is on now knows it. Ask once for each request: the next
    /// answer may be of another run.
    pub(crate) fn regular(&self) -> Option<Regular> {
        match &self.kind {
            Kind::Regular(regular) => Some(regular.lock().clone()),
            Kind::Directory(_) | Kind::Link(_) | Kind::Other => None,
        }
    }

    pub(crate) fn tracked(&self) -> Option<Arc<Tracked>> {
        self.regular().map(|regular| regular.tracked)
    }

    /// No name leads to it any more.
    pub(super) fn set_removed(&self) {
        self.removed.store(true, Relaxed);
    }

    /// Where it is, by the name seen last first. No more than `max` of these.
    pub(super) fn paths(&self, max: usize) -> Vec<FilePath> {
        match &self.kind {
            Kind::Directory(place) => place.path().into_iter().collect(),
            Kind::Regular(regular) => regular.lock().tracked.names().paths().take(max).collect(),
            Kind::Link(names) => names.lock().paths().take(max).collect(),
            Kind::Other => Vec::new(),
        }
    }

    /// Whether its descriptor stays open: somebody asked for it lately, has the file open or is about to, or there is no
    /// way to open it again and to tell that it is the same one. Only under the lock of the tables, where nobody else
    /// comes by the inode.
    fn stays_open(self: &Arc<Self>) -> bool {
        self.descriptor.was_used() || Arc::strong_count(self) > 1 || !self.can_be_found()
    }

    /// Whether it can be told from others that have its name or its number by now: by its birth, where that is known.
    fn can_be_found(&self) -> bool {
        self.file.born_ns != 0 && !self.removed.load(Relaxed) && !self.paths(1).is_empty()
    }
}

/// The table of inodes of one mount.
#[derive(Debug)]
pub(crate) struct Inodes {
    root: Arc<Inode>,
    device: u64,
    tables: Mutex<Tables>,
    /// Read by whoever renames something, from before the store does it until the names that we know have followed.
    /// Meanwhile nobody asks for a descriptor that has been let go.
    pub(super) renaming: RwLock<()>,
}

#[derive(Debug)]
struct Tables {
    /// What requests belong to. Under the lock of the tables, so that every file in them belongs to
    /// it too.
    tenure: Arc<Tenure>,
    /// Runs before that somebody may not be done with, the last one last: what they know of a file is
    /// taken over also when the kernel had forgotten it.
    ended: Vec<Weak<Run>>,
    referenced: HashMap<InodeId, Reference>,
    /// Those of them whose descriptors are open.
    open: Ring,
    /// Files that the kernel forgot and whose names must not be: see [`Inodes::forget`].
    linked: HashMap<FileKey, Linked>,
    /// How many files the kernel forgot so far.
    forgotten: u64,
    /// Directories that are named by something that outlives the kernel's references.
    places: HashMap<FileKey, Weak<Place>>,
    /// Numbers given to files, by device, whose own number means another one below the root; kept, so that they stay the
    /// same.
    given: HashMap<(u64, FileKey), InodeId>,
}

/// A file without inode, of which something is known.
#[derive(Debug)]
struct Linked {
    tracked: Arc<Tracked>,
    /// Which forgetting left it here. The same file may be looked up and forgotten again before that
    /// one is done, and then it is no longer the one to say what stays.
    by: u64,
}

#[derive(Debug)]
struct Reference {
    inode: Arc<Inode>,
    lookups: u64,
}

impl Inodes {
    /// Keeps so many `descriptors` open, and those that must not be let go.
    pub(crate) fn new(
        tenure: Tenure,
        tree: u16,
        (root, stat): (Node, &Stat),
        descriptors: usize,
    ) -> Self {
        let kind = Kind::Directory(Place::root(tree));
        let inode = Inode::new(InodeId::ROOT, stat.identity.file, kind);
        // Not one of the ring: the root is where all that is opened again is looked for.
        inode.descriptor.fill(&Arc::new(root));
        let tables = Mutex::new(Tables::new(Arc::new(tenure), Ring::of(descriptors)));
        Self { root: Arc::new(inode), device: stat.device(), tables, renaming: RwLock::default() }
    }

    /// What requests belong to.
    pub(crate) fn tenure(&self) -> Arc<Tenure> {
        Arc::clone(&self.tables.lock().tenure)
    }

    /// Requests belong to `tenure` from now on, and so does every file that the kernel knows.
    pub(crate) fn begin(&self, tenure: Tenure) {
        let mut tables = self.tables.lock();
        let Tables { tenure: current, ended: runs, referenced, linked, .. } = &mut *tables;
        let tenure = &Arc::new(tenure);
        let ended = mem::replace(current, Arc::clone(tenure));
        runs.retain(|run| run.strong_count() > 0);
        runs.push(Arc::downgrade(&ended.run));
        for reference in referenced.values() {
            if let Kind::Regular(regular) = &reference.inode.kind {
                regular.lock().pass_to(tenure);
            }
        }
        for Linked { tracked, .. } in linked.values_mut() {
            *tracked = tenure.run.take_over(tracked, &ended.run);
        }
    }

    /// The inode that the kernel names.
    ///
    /// # Errors
    /// [`Error::UnknownInode`]; [`Error::ReadOnly`] of a virtual one, which is answered for elsewhere
    /// as far as it is readable.
    pub(crate) fn find(&self, id: InodeId) -> Result<Arc<Inode>, Error> {
        if id == InodeId::ROOT {
            return Ok(Arc::clone(&self.root));
        }
        if id.is_virtual() {
            return Err(Error::ReadOnly);
        }
        let tables = self.tables.lock();
        let reference = tables.referenced.get(&id).ok_or(Error::UnknownInode)?;
        Ok(Arc::clone(&reference.inode))
    }

    /// The inode of this number if the kernel holds a reference to it.
    pub(crate) fn find_by_stat(&self, stat: &Stat) -> Option<Arc<Inode>> {
        let mut tables = self.tables.lock();
        let id = tables.number(stat, self.device);
        tables.referenced.get(&id).map(|reference| Arc::clone(&reference.inode))
    }

    /// The inode behind `node` if the kernel holds a reference to it. Whoever is given it can reach it without its
    /// names.
    pub(crate) fn find_behind(&self, node: Node, stat: &Stat) -> Option<Arc<Inode>> {
        let inode = self.find_by_stat(stat)?;
        self.hold(&inode, node);
        Some(inode)
    }

    /// The file was opened again: `node`, unless somebody else was faster.
    pub(super) fn hold(&self, inode: &Inode, node: Node) -> Arc<Node> {
        let node = Arc::new(node);
        let let_go = self.tables.lock().hold(inode, &node);
        drop(let_go);
        inode.descriptor.node().unwrap_or(node)
    }

    /// The inode behind `node`, with one more reference by the kernel, known by `name` in `parent`.
    pub(crate) fn reference(
        &self,
        node: Node,
        stat: &Stat,
        parent: &Arc<Place>,
        name: &OsStr,
    ) -> Arc<Inode> {
        let node = Arc::new(node);
        let mut tables = self.tables.lock();
        let id = tables.number(stat, self.device);
        let inode = match tables.referenced.get_mut(&id) {
            Some(reference) => {
                reference.lookups += 1;
                Arc::clone(&reference.inode)
            }
            None => tables.make(id, stat, (parent, name)),
        };
        let let_go = tables.hold(&inode, &node);
        drop(tables);
        drop(let_go);
        seen_as(&inode, parent, name);
        inode
    }

    /// The kernel gives back `lookups` references. If these were the last ones, `keeps_names` says
    /// whether the names of a regular file must stay known all the same.
    pub(crate) fn forget(
        &self,
        id: InodeId,
        lookups: u64,
        keeps_names: impl FnOnce(&Inode, &Tracked) -> bool,
    ) {
        let mut tables = self.tables.lock();
        let Some(reference) = tables.referenced.get_mut(&id) else {
            return;
        };
        reference.lookups = reference.lookups.saturating_sub(lookups);
        if reference.lookups > 0 {
            return;
        }
        let Some(Reference { inode, .. }) = tables.referenced.remove(&id) else { return };
        tables.sweep();
        let Some(Regular { tenure, tracked }) = inode.regular() else { return };
        let file = tracked.key();
        // Whoever looks it up meanwhile finds the names.
        let by = tables.keep(&tracked);
        drop(tables);
        if !keeps_names(&inode, &tracked) {
            self.tables.lock().let_go(file, by);
        }
        drop((inode, tracked));
        tenure.run.forget(file);
    }
}

impl Tables {
    fn new(tenure: Arc<Tenure>, open: Ring) -> Self {
        Self {
            tenure,
            ended: Vec::new(),
            referenced: HashMap::new(),
            open,
            linked: HashMap::new(),
            forgotten: 0,
            places: HashMap::new(),
            given: HashMap::new(),
        }
    }

    fn make(&mut self, id: InodeId, stat: &Stat, name: (&Arc<Place>, &OsStr)) -> Arc<Inode> {
        let kind = match stat.kind() {
            FileType::Directory => Kind::Directory(self.place(stat, name)),
            FileType::RegularFile => Kind::Regular(Mutex::new(self.regular(stat))),
            FileType::Symlink => Kind::Link(Mutex::default()),
            _ => Kind::Other,
        };
        let inode = Arc::new(Inode::new(id, stat.identity.file, kind));
        self.referenced.insert(id, Reference { inode: Arc::clone(&inode), lookups: 1 });
        inode
    }

    /// Keeps the descriptor of an inode open if it was let go. Answers with those that are let go in its place.
    fn hold(&mut self, inode: &Inode, node: &Arc<Node>) -> Vec<Arc<Node>> {
        let mut let_go = Vec::new();
        if inode.descriptor.fill(node) {
            let Self { open, referenced, .. } = self;
            open.add(inode.id, |next| {
                let Some(Reference { inode, .. }) = referenced.get(&next) else { return false };
                if inode.descriptor.is_open() && inode.stays_open() {
                    return true;
                }
                let_go.extend(inode.descriptor.let_go());
                false
            });
        }
        let_go
    }

    fn regular(&mut self, stat: &Stat) -> Regular {
        let (run, file) = (&self.tenure.run, stat.identity.file);
        let tracked = match self.linked.remove(&file) {
            Some(known) => run.take_over(&known.tracked, run),
            None => match self.known_before(file) {
                Some((earlier, known)) => run.take_over(&known, &earlier),
                None => run.track(file),
            },
        };
        Regular { tenure: Arc::clone(&self.tenure), tracked }
    }

    /// What the last run before that knows this file knows of it.
    fn known_before(&self, file: FileKey) -> Option<(Arc<Run>, Arc<Tracked>)> {
        let mut ended = self.ended.iter().rev().filter_map(Weak::upgrade);
        ended.find_map(|run| run.known(file).map(|known| (run, known)))
    }

    /// Keeps a file that the kernel forgot. By which number, that the same forgetting lets go of it.
    fn keep(&mut self, tracked: &Arc<Tracked>) -> u64 {
        self.forgotten += 1;
        let linked = Linked { tracked: Arc::clone(tracked), by: self.forgotten };
        self.linked.insert(tracked.key(), linked);
        self.forgotten
    }

    fn let_go(&mut self, file: FileKey, by: u64) {
        if self.linked.get(&file).is_some_and(|linked| linked.by == by) {
            self.linked.remove(&file);
        }
    }

    /// The backing inode number itself where that is unique, so that it is the same at all times
    /// and in all mounts.
    fn number(&mut self, stat: &Stat, device: u64) -> InodeId {
        let file = (stat.device(), stat.identity.file);
        if let Some(given) = self.given.get(&file) {
            return *given;
        }
        let own = InodeId(stat.statx.stx_ino);
        if stat.device() == device && own.0 < GIVEN_BASE && self.can_mean(own, stat) {
            return own;
        }
        let next = InodeId(GIVEN_BASE + self.given.len() as u64);
        self.given.insert(file, next);
        next
    }

    /// Whether the kernel knows no other file by this number. While our descriptor of a file is open, the store uses its
    /// number for no other one. Once it was let go, the file may be gone, and the number used again.
    fn can_mean(&self, id: InodeId, stat: &Stat) -> bool {
        let is_same = |Reference { inode, .. }: &Reference| {
            inode.descriptor.is_open() || inode.file == stat.identity.file
        };
        id != InodeId::ROOT && self.referenced.get(&id).is_none_or(is_same)
    }

    fn place(&mut self, stat: &Stat, (parent, name): (&Arc<Place>, &OsStr)) -> Arc<Place> {
        let file = stat.identity.file;
        if let Some(place) = self.places.get(&file).and_then(Weak::upgrade) {
            return place;
        }
        let place = Place::below(parent, name);
        self.places.insert(file, Arc::downgrade(&place));
        place
    }

    /// Drops the traces of directories that nobody names any more, once they are the larger part.
    fn sweep(&mut self) {
        if self.places.len() > 2 * self.referenced.len() + SWEEP_SLACK {
            self.places.retain(|_, place| place.strong_count() > 0);
        }
    }
}

fn seen_as(inode: &Inode, parent: &Arc<Place>, name: &OsStr) {
    match &inode.kind {
        Kind::Directory(place) => place.move_to(parent, name),
        Kind::Regular(regular) => regular.lock().tracked.names().add(parent, name),
        Kind::Link(names) => names.lock().add(parent, name),
        Kind::Other => {}
    }
}

/// Numbers from here on are ours to give; no filesystem in use counts that far.
const GIVEN_BASE: u64 = 1 << 62;

/// Numbers from here on are those of virtual files; so many are never given.
const VIRTUAL_BASE: u64 = 1 << 63;

/// So many dead entries are not worth a walk over the table.
const SWEEP_SLACK: usize = 1024;

#[cfg(test)]
#[cfg(feature = "shuttle")]
mod schedules;

#[cfg(test)]
pub(super) mod tests {
    use std::{fs, os::fd::AsFd};

    use rustix::fs::{Mode, OFlags, open};

    use super::*;
    use crate::{
        backing::{Backing, Directory},
        fact::Fact,
        port::Recorder,
    };

    #[derive(Debug)]
    struct Deaf;

    impl Recorder for Deaf {
        fn record(&self, _fact: Fact) {}
    }

    pub(in crate::vfs) struct Desk {
        pub(in crate::vfs) directory: tempfile::TempDir,
        backing: Directory,
        pub(in crate::vfs) inodes: Inodes,
    }

    pub(in crate::vfs) fn tenure() -> Tenure {
        Tenure {
            run: Run::idle(Box::new(Deaf)),
            stage: String::new(),
            run_id: String::new(),
            replaceable: Arc::new([]),
        }
    }

    impl Desk {
        pub(in crate::vfs) fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
            let backing = Directory::new(open(directory.path(), flags, Mode::empty()).unwrap());
            let root = backing.root().unwrap();
            let stat = backing.stat(root.as_fd()).unwrap();
            let inodes = Inodes::new(tenure(), 0, (root, &stat), 1024);
            Self { directory, backing, inodes }
        }

        pub(in crate::vfs) fn look_up(&self, name: &str) -> Arc<Inode> {
            let root = self.inodes.find(InodeId::ROOT).unwrap();
            let node = self.backing.root().unwrap();
            let node = self.backing.lookup(&node, name.as_ref()).unwrap();
            let stat = self.backing.stat(node.as_fd()).unwrap();
            self.inodes.reference(node, &stat, root.place().unwrap(), name.as_ref())
        }

        fn names_of(&self, name: &str) -> usize {
            self.look_up(name).tracked().unwrap().names().paths().count()
        }
    }

    #[test]
    fn names_are_forgotten_with_a_file_unless_they_must_be_known() {
        for (keeps, known) in [(false, 1), (true, 2)] {
            let desk = Desk::new();
            fs::write(desk.directory.path().join("a"), "").unwrap();
            fs::hard_link(desk.directory.path().join("a"), desk.directory.path().join("b"))
                .unwrap();
            let id = desk.look_up("a").id;
            desk.inodes.forget(id, 1, |_, _| keeps);
            assert_eq!(desk.names_of("b"), known, "{keeps}");
        }
    }

    #[test]
    fn a_file_that_is_known_again_before_it_is_forgotten_keeps_the_names_that_must_be_known() {
        let desk = Desk::new();
        let (one, other) = (desk.directory.path().join("a"), desk.directory.path().join("b"));
        fs::write(&one, "").unwrap();
        let id = desk.look_up("a").id;
        desk.inodes.forget(id, 1, |_, _| {
            // Meanwhile somebody else links it, and the kernel forgets it once more.
            fs::hard_link(&one, &other).unwrap();
            desk.look_up("b");
            desk.inodes.forget(id, 1, |_, _| true);
            false
        });
        assert_eq!(desk.names_of("b"), 2);
    }
}
