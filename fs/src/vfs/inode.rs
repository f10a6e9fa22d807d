//! The inodes that the kernel holds references to.

use std::{
    collections::HashMap,
    ffi::OsStr,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use rustix::fs::FileType;

use crate::{
    backing::{Node, Stat},
    error::Error,
    identity::FileKey,
    names::Place,
    run::{Run, Tracked},
};

/// The number by which the kernel names an inode, and the inode number that users see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct InodeId(pub(crate) u64);

impl InodeId {
    /// `FUSE_ROOT_ID`.
    pub(crate) const ROOT: Self = Self(1);
}

/// A file of any kind that the kernel knows.
#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) id: InodeId,
    pub(crate) node: Node,
    pub(crate) kind: Kind,
}

/// What we keep of an inode, by its kind.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Directory(Arc<Place>),
    Regular(Arc<Tracked>),
    /// Symbolic link, fifo, socket or device.
    Other,
}

impl Inode {
    pub(crate) fn place(&self) -> Result<&Arc<Place>, Error> {
        match &self.kind {
            Kind::Directory(place) => Ok(place),
            Kind::Regular(_) | Kind::Other => Err(Error::Invalid),
        }
    }

    pub(crate) fn tracked(&self) -> Option<&Arc<Tracked>> {
        match &self.kind {
            Kind::Regular(tracked) => Some(tracked),
            Kind::Directory(_) | Kind::Other => None,
        }
    }
}

/// The table of inodes of one mount.
#[derive(Debug)]
pub(crate) struct Inodes {
    run: Arc<Run>,
    root: Arc<Inode>,
    device: u64,
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    referenced: HashMap<InodeId, Reference>,
    /// Directories that are named by something that outlives the kernel's references.
    places: HashMap<FileKey, Weak<Place>>,
    /// Numbers given to inodes of other devices below the root; kept, so that they stay the same.
    foreign: HashMap<(u64, u64), InodeId>,
}

#[derive(Debug)]
struct Reference {
    inode: Arc<Inode>,
    lookups: u64,
}

impl Inodes {
    pub(crate) fn new(run: Arc<Run>, tree: u16, root: Node, stat: &Stat) -> Self {
        let kind = Kind::Directory(Place::root(tree));
        let root = Arc::new(Inode { id: InodeId::ROOT, node: root, kind });
        Self { run, root, device: stat.device(), tables: Mutex::default() }
    }

    pub(crate) fn find(&self, id: InodeId) -> Result<Arc<Inode>, Error> {
        if id == InodeId::ROOT {
            return Ok(Arc::clone(&self.root));
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

    /// The inode behind `node`, with one more reference by the kernel, known by `name` in `parent`.
    ///
    /// While the kernel holds a reference our descriptor keeps the backing inode alive, so its
    /// number cannot come to mean another file meanwhile.
    pub(crate) fn reference(
        &self,
        node: Node,
        stat: &Stat,
        parent: &Arc<Place>,
        name: &OsStr,
    ) -> Arc<Inode> {
        let mut tables = self.tables.lock();
        let id = tables.number(stat, self.device);
        if let Some(reference) = tables.referenced.get_mut(&id) {
            reference.lookups += 1;
            let inode = Arc::clone(&reference.inode);
            drop(tables);
            seen_as(&inode, parent, name);
            return inode;
        }
        let kind = match stat.kind() {
            FileType::Directory => Kind::Directory(tables.place(stat, parent, name)),
            FileType::RegularFile => Kind::Regular(self.run.track(stat.identity.file)),
            _ => Kind::Other,
        };
        let inode = Arc::new(Inode { id, node, kind });
        tables.referenced.insert(id, Reference { inode: Arc::clone(&inode), lookups: 1 });
        drop(tables);
        seen_as(&inode, parent, name);
        inode
    }

    /// The kernel gives back `lookups` references.
    pub(crate) fn forget(&self, id: InodeId, lookups: u64) {
        let mut tables = self.tables.lock();
        let Some(reference) = tables.referenced.get_mut(&id) else {
            return;
        };
        reference.lookups = reference.lookups.saturating_sub(lookups);
        if reference.lookups > 0 {
            return;
        }
        let forgotten = tables.referenced.remove(&id).map(|reference| reference.inode);
        tables.sweep();
        drop(tables);
        if let Some(file) = forgotten.as_ref().and_then(|inode| inode.tracked()) {
            let file = file.key();
            drop(forgotten);
            self.run.forget(file);
        }
    }
}

impl Tables {
    /// The backing inode number itself where that is unique, so that it is the same at all times
    /// and in all mounts.
    fn number(&mut self, stat: &Stat, device: u64) -> InodeId {
        let (home, inode) = (stat.device(), stat.statx.stx_ino);
        if home == device && inode != InodeId::ROOT.0 && inode < FOREIGN_BASE {
            return InodeId(inode);
        }
        let next = InodeId(FOREIGN_BASE + self.foreign.len() as u64);
        *self.foreign.entry((home, inode)).or_insert(next)
    }

    fn place(&mut self, stat: &Stat, parent: &Arc<Place>, name: &OsStr) -> Arc<Place> {
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
        Kind::Regular(tracked) => tracked.names().add(parent, name),
        Kind::Other => {}
    }
}

/// Numbers from here on are ours to give; no filesystem in use counts that far.
const FOREIGN_BASE: u64 = 1 << 62;

/// So many dead entries are not worth a walk over the table.
const SWEEP_SLACK: usize = 1024;
