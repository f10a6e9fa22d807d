//! Names: looking up, making, linking, renaming, removing.

use std::{
    ffi::OsStr,
    fs::File,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{FileType, Mode, OFlags, RenameFlags};

use super::{
    filesystem::{Attributes, Vfs},
    handle::{Handle, HandleId},
    inode::{Inode, InodeId, Kind},
};
use crate::{
    backing::{Node, Stat},
    error::Error,
    fact::Process,
    run::{Caller, Change, Opened},
    write::{WriteHandle, truncate_unopened},
};

/// Something that is being made for a caller.
struct Created<'a> {
    parent: &'a Inode,
    name: &'a OsStr,
    /// As the caller wants it, its umask taken off.
    mode: Mode,
    caller: Caller,
}

impl Vfs {
    pub(crate) fn lookup(&self, parent: InodeId, name: &OsStr) -> Result<Attributes, Error> {
        let parent = self.inodes.find(parent)?;
        let node = self.backing.lookup(&parent.node, name)?;
        self.enter(&parent, name, node).map(|(_, attributes)| attributes)
    }

    pub(crate) fn forget(&self, id: InodeId, lookups: u64) {
        self.inodes.forget(id, lookups);
    }

    /// Makes a regular file and opens it; opens it when it is there already.
    pub(crate) fn create(
        &self,
        parent: InodeId,
        name: &OsStr,
        mode: Mode,
        flags: OFlags,
        caller: Caller,
    ) -> Result<(Attributes, HandleId), Error> {
        let parent = self.inodes.find(parent)?;
        let existed = self.backing.lookup(&parent.node, name).is_ok();
        let wanted = OFlags::RDWR | (flags & (OFlags::EXCL | OFlags::TRUNC));
        let file = self.backing.create(&parent.node, name, wanted, mode)?;
        let created = Created { parent: &parent, name, mode, caller };
        if existed {
            return self.open_existing(&created, file, flags.contains(OFlags::TRUNC));
        }
        self.open_new(&created, file).inspect_err(|_| self.undo(&created))
    }

    fn open_new(&self, made: &Created<'_>, file: File) -> Result<(Attributes, HandleId), Error> {
        let node = self.backing.node_of(&file)?;
        self.give_to(made, &node)?;
        let (inode, attributes) = self.enter(made.parent, made.name, node)?;
        let by = self.processes.of(made.caller);
        let opened = self.writer(&inode, file, by).and_then(|writer| {
            writer.truncate(0)?;
            Ok(self.handles.insert(Handle::Writer(Arc::new(writer))))
        });
        // Without an answer the kernel holds no reference.
        let handle = opened.inspect_err(|_| self.inodes.forget(inode.id, 1))?;
        Ok((attributes, handle))
    }

    /// Somebody else made it between the kernel's lookup and now.
    fn open_existing(
        &self,
        found: &Created<'_>,
        file: File,
        truncated: bool,
    ) -> Result<(Attributes, HandleId), Error> {
        let node = self.backing.node_of(&file)?;
        let (inode, attributes) = self.enter(found.parent, found.name, node)?;
        let by = self.processes.of(found.caller);
        let writer = self.writer(&inode, file, by)?;
        if truncated {
            writer.truncate(0)?;
        } else {
            writer.tell_found(attributes.stat.identity);
        }
        Ok((attributes, self.handles.insert(Handle::Writer(Arc::new(writer)))))
    }

    fn writer(&self, inode: &Inode, file: File, by: Process) -> Result<WriteHandle, Error> {
        let tracked = Arc::clone(inode.tracked().ok_or(Error::Invalid)?);
        Ok(WriteHandle::new(Arc::clone(&self.run), tracked, self.opened(file), by))
    }

    /// A file that the caller was told could not be made must not be there.
    fn undo(&self, made: &Created<'_>) {
        if let Err(errno) = self.backing.unlink(&made.parent.node, made.name) {
            tracing::warn!(%errno, name = ?made.name, "a file that failed to be made stays");
        }
    }

    pub(crate) fn make_node(
        &self,
        parent: InodeId,
        name: &OsStr,
        (kind, mode, device): (FileType, Mode, u64),
        caller: Caller,
    ) -> Result<Attributes, Error> {
        let parent = self.inodes.find(parent)?;
        let node = self.backing.make_node(&parent.node, name, kind, mode, device)?;
        self.give_to(&Created { parent: &parent, name, mode, caller }, &node)?;
        let (inode, attributes) = self.enter(&parent, name, node)?;
        if let Some(tracked) = inode.tracked() {
            let file = self.backing.open(&inode.node, OFlags::RDWR)?;
            let opened = Opened { backing: Arc::clone(&self.backing), file: Arc::new(file) };
            let by = self.processes.of(caller);
            // An output, though an empty one.
            let change = Change { tracked, opened: &opened, by: &by };
            truncate_unopened(&self.run, change, 0)?;
        }
        Ok(attributes)
    }

    pub(crate) fn make_directory(
        &self,
        parent: InodeId,
        name: &OsStr,
        mode: Mode,
        caller: Caller,
    ) -> Result<Attributes, Error> {
        let parent = self.inodes.find(parent)?;
        let node = self.backing.make_directory(&parent.node, name, mode)?;
        self.give_to(&Created { parent: &parent, name, mode, caller }, &node)?;
        self.enter(&parent, name, node).map(|(_, attributes)| attributes)
    }

    pub(crate) fn symlink(
        &self,
        parent: InodeId,
        name: &OsStr,
        target: &Path,
        caller: Caller,
    ) -> Result<Attributes, Error> {
        let parent = self.inodes.find(parent)?;
        let node = self.backing.symlink(&parent.node, name, target)?;
        let mode = Mode::empty();
        self.give_to(&Created { parent: &parent, name, mode, caller }, &node)?;
        self.enter(&parent, name, node).map(|(_, attributes)| attributes)
    }

    pub(crate) fn read_link(&self, id: InodeId) -> Result<PathBuf, Error> {
        Ok(self.backing.read_link(&self.inodes.find(id)?.node)?)
    }

    pub(crate) fn link(
        &self,
        id: InodeId,
        parent: InodeId,
        name: &OsStr,
    ) -> Result<Attributes, Error> {
        let (inode, parent) = (self.inodes.find(id)?, self.inodes.find(parent)?);
        self.metadata_change(&inode, || Ok(self.backing.link(&inode.node, &parent.node, name)?))?;
        let node = self.backing.lookup(&parent.node, name)?;
        self.enter(&parent, name, node).map(|(_, attributes)| attributes)
    }

    pub(crate) fn unlink(&self, parent: InodeId, name: &OsStr) -> Result<(), Error> {
        let parent = self.inodes.find(parent)?;
        let victim = self.resident(&parent, name);
        self.metadata_change_of(&[victim.as_deref()], || {
            self.backing.unlink(&parent.node, name)?;
            lose_name(victim.as_deref(), &parent, name)
        })?;
        self.note_last_name(victim.as_deref())
    }

    pub(crate) fn remove_directory(&self, parent: InodeId, name: &OsStr) -> Result<(), Error> {
        let parent = self.inodes.find(parent)?;
        Ok(self.backing.remove_directory(&parent.node, name)?)
    }

    pub(crate) fn rename(
        &self,
        (from, from_name): (InodeId, &OsStr),
        (to, to_name): (InodeId, &OsStr),
        flags: RenameFlags,
    ) -> Result<(), Error> {
        let (from, to) = (self.inodes.find(from)?, self.inodes.find(to)?);
        let moved = self.resident(&from, from_name);
        let replaced = self.resident(&to, to_name);
        let (moved, replaced) = (moved.as_deref(), replaced.as_deref());
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        self.metadata_change_of(&[moved, replaced], || {
            self.backing.rename((&from.node, from_name), (&to.node, to_name), flags)?;
            if is_same(moved, replaced) {
                // Two names of one file: POSIX has rename do nothing.
                return Ok(());
            }
            if exchange {
                self.gain_name(replaced, (&to, to_name), (&from, from_name))?;
            } else {
                lose_name(replaced, &to, to_name)?;
            }
            self.gain_name(moved, (&from, from_name), (&to, to_name))
        })?;
        if exchange || is_same(moved, replaced) { Ok(()) } else { self.note_last_name(replaced) }
    }

    /// The tracked names follow what the backing store did.
    fn gain_name(
        &self,
        inode: Option<&Inode>,
        (from, from_name): (&Inode, &OsStr),
        (to, to_name): (&Inode, &OsStr),
    ) -> Result<(), Error> {
        let (from, to) = (from.place()?, to.place()?);
        match inode.map(|inode| &inode.kind) {
            Some(Kind::Directory(place)) => {
                place.move_to(to, to_name);
                if let (Some(old), Some(new)) = (from.path_of(from_name), to.path_of(to_name)) {
                    self.run.directory_renamed(&old.into(), &new.into());
                }
            }
            Some(Kind::Regular(tracked)) => {
                let mut names = tracked.names();
                names.remove(from, from_name);
                names.add(to, to_name);
            }
            Some(Kind::Other) | None => {}
        }
        Ok(())
    }

    /// Notes that a file that lost a name has none left.
    fn note_last_name(&self, inode: Option<&Inode>) -> Result<(), Error> {
        if let Some(inode) = inode
            && let Some(tracked) = inode.tracked()
            && self.stat(inode)?.statx.stx_nlink == 0
        {
            self.run.unlinked(tracked);
        }
        Ok(())
    }

    /// What the kernel knows under this name, if it knows it.
    fn resident(&self, parent: &Inode, name: &OsStr) -> Option<Arc<Inode>> {
        let node = self.backing.lookup(&parent.node, name).ok()?;
        let stat = self.backing.stat(node.as_fd()).ok()?;
        self.inodes.find_by_stat(&stat)
    }

    pub(super) fn metadata_change<T>(
        &self,
        inode: &Inode,
        operation: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Some(tracked) = inode.tracked() else {
            return operation();
        };
        self.run.change_metadata(tracked, || self.stat(inode), operation)
    }

    /// One operation that changes the metadata of up to two files.
    fn metadata_change_of(
        &self,
        inodes: &[Option<&Inode>],
        operation: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut files: Vec<&Inode> = inodes.iter().flatten().copied().collect();
        // Each file once, and everywhere in the same order: each of them is locked.
        files.sort_by_key(|inode| inode.id);
        files.dedup_by_key(|inode| inode.id);
        match files[..] {
            [one, other] => self.metadata_change(one, || self.metadata_change(other, operation)),
            [one] => self.metadata_change(one, operation),
            _ => operation(),
        }
    }

    /// The kernel now knows `node` by this name: one more reference to its inode.
    pub(super) fn enter(
        &self,
        parent: &Inode,
        name: &OsStr,
        node: Node,
    ) -> Result<(Arc<Inode>, Attributes), Error> {
        let stat = self.backing.stat(node.as_fd())?;
        let inode = self.inodes.reference(node, &stat, parent.place()?, name);
        let attributes = Attributes { id: inode.id, stat };
        Ok((inode, attributes))
    }

    /// What we made as ourselves belongs to the caller. In a directory with the set-group-id bit
    /// the group stays the directory's.
    fn give_to(&self, made: &Created<'_>, node: &Node) -> Result<(), Error> {
        let caller = made.caller;
        let now = self.backing.stat(node.as_fd())?.statx;
        let above = self.stat(made.parent)?.statx;
        let inherits = u32::from(above.stx_mode) & Mode::SGID.bits() != 0;
        let uid = (now.stx_uid != caller.uid).then_some(caller.uid);
        let gid = (!inherits && now.stx_gid != caller.gid).then_some(caller.gid);
        if uid.is_none() && gid.is_none() {
            return Ok(());
        }
        self.backing.change_owner(node, uid, gid)?;
        // Which takes set-id bits away that the caller may ask for.
        if made.mode.intersects(Mode::SUID | Mode::SGID) {
            self.backing.change_mode(node.as_fd(), made.mode)?;
        }
        Ok(())
    }

    pub(super) fn stat(&self, inode: &Inode) -> Result<Stat, Error> {
        Ok(self.backing.stat(inode.node.as_fd())?)
    }
}

fn is_same(one: Option<&Inode>, other: Option<&Inode>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one.id == other.id)
}

fn lose_name(inode: Option<&Inode>, parent: &Inode, name: &OsStr) -> Result<(), Error> {
    if let Some(tracked) = inode.and_then(Inode::tracked) {
        tracked.names().remove(parent.place()?, name);
    }
    Ok(())
}
