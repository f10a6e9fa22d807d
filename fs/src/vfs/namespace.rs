//! Names: looking up, making, linking, renaming, removing.

use std::{ffi::OsStr, fs::File, os::fd::AsFd, path::Path, sync::Arc};

use rustix::{
    fs::{FileType, Mode, OFlags, RenameFlags},
    io::Errno,
};

use super::{
    filesystem::{Attributes, Vfs},
    inode::{Inode, InodeId, Kind},
    opening::{Answer, Ready},
    tenure::Regular,
    virtual_files::VirtualFiles,
    ways::Opener,
};
use crate::{
    backing::{Node, Stat},
    error::Error,
    fact::{Fact, Process},
    gate::Admitted,
    identity::Identity,
    run::{Caller, Opened, Tracked},
    write::WriteHandle,
};

/// Something that is being made for a caller.
struct Created<'a> {
    parent: &'a Inode,
    name: &'a OsStr,
    /// As the caller wants it, its umask taken off.
    mode: Mode,
    caller: Caller,
}

/// What is behind a name that was to be made.
enum Entered {
    Made(Box<(Attributes, Ready)>),
    Found(Arc<Inode>),
}

impl Vfs {
    pub(crate) fn lookup(
        &self,
        parent: InodeId,
        name: &OsStr,
        caller: Caller,
    ) -> Result<Attributes, Error> {
        if let Some(found) = self.look_up_virtual(parent, name, caller) {
            return found;
        }
        let parent = self.inodes.find(parent)?;
        let node = self.backing.lookup(&*self.node(&parent)?, name)?;
        self.enter(&parent, name, node, Some(caller)).map(|(_, attributes)| attributes)
    }

    pub(crate) fn forget(&self, id: InodeId, lookups: u64) {
        self.inodes.forget(id, lookups, |inode, tracked| self.must_stay_known(inode, tracked));
    }

    /// Whether a file is guarded by one of its names and may be opened by others, when the kernel has
    /// forgotten that one.
    fn must_stay_known(&self, inode: &Inode, tracked: &Tracked) -> bool {
        let is_alone = |stat: Stat| stat.statx.stx_nlink <= 1;
        self.gate.has_rule_for(&tracked.paths()) && !self.stat(inode).is_ok_and(is_alone)
    }

    /// Makes a regular file and opens it. When somebody else made it between the kernel's lookup and
    /// now, it is opened as any other.
    pub(crate) fn create(
        self: &Arc<Self>,
        parent: InodeId,
        name: &OsStr,
        mode: Mode,
        flags: OFlags,
        caller: Caller,
    ) -> Answer<(Attributes, Ready)> {
        match self.create_or_find(parent, name, mode, flags, caller) {
            Ok(Entered::Made(made)) => Answer::Now(Ok(*made)),
            Ok(Entered::Found(inode)) => self.open_found(inode, flags, caller),
            Err(error) => Answer::Now(Err(error)),
        }
    }

    fn create_or_find(
        &self,
        parent: InodeId,
        name: &OsStr,
        mode: Mode,
        flags: OFlags,
        caller: Caller,
    ) -> Result<Entered, Error> {
        let parent = self.changeable_directory(parent, name)?;
        let directory = &*self.node(&parent)?;
        match self.backing.create(directory, name, OFlags::RDWR | OFlags::EXCL, mode) {
            Ok(file) => {
                let created = Created { parent: &parent, name, mode, caller };
                let opener = match flags & OFlags::ACCMODE {
                    OFlags::WRONLY => self.writer_alone(caller, flags, || Ok(mode))?,
                    _ => Opener::Maker,
                };
                let made = self.open_new(&created, file, opener);
                let made = made.inspect_err(|_| self.undo(&created));
                made.map(|made| Entered::Made(Box::new(made)))
            }
            Err(Errno::EXIST) if !flags.contains(OFlags::EXCL) => {
                let node = self.backing.lookup(directory, name)?;
                let entered = self.enter(&parent, name, node, Some(caller));
                entered.map(|(inode, _)| Entered::Found(inode))
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn open_new(
        &self,
        made: &Created<'_>,
        file: File,
        opener: Opener,
    ) -> Result<(Attributes, Ready), Error> {
        let node = self.backing.node_of(&file)?;
        let stat = self.give_to(made, &node)?;
        let (inode, attributes) = self.enter_as(made.parent, made.name, (node, stat), None)?;
        let made_as = (&inode, attributes.stat.identity);
        let writer = self.open_made(made_as, file, self.processes.of(made.caller));
        // Without an answer the kernel holds no reference.
        let writer = writer.inspect_err(|_| self.forget(inode.id, 1))?;
        Ok((attributes, Ready::made(inode, opener, writer)))
    }

    fn open_made(
        &self,
        (inode, identity): (&Arc<Inode>, Identity),
        file: File,
        by: Process,
    ) -> Result<WriteHandle, Error> {
        let regular = inode.regular().ok_or(Error::Invalid)?;
        let (held, admitted) = (self.hold_now(&regular, by)?, Some(Admitted::emptied()));
        let writer = self.write_handle(regular, self.opened(file), held, admitted);
        writer.tell_made(identity);
        Ok(writer)
    }

    fn open_found(
        self: &Arc<Self>,
        inode: Arc<Inode>,
        flags: OFlags,
        caller: Caller,
    ) -> Answer<(Attributes, Ready)> {
        let vfs = Arc::clone(self);
        self.open_inode(Arc::clone(&inode), flags, caller).then(move |opened| {
            let opened = opened.and_then(|ready| Ok((vfs.attributes_of(&inode)?, ready)));
            opened.inspect_err(|_| vfs.forget(inode.id, 1))
        })
    }

    /// A file that the caller was told could not be made must not be there.
    fn undo(&self, made: &Created<'_>) {
        let unlink = |parent: Arc<Node>| Ok(self.backing.unlink(&parent, made.name)?);
        if let Err(error) = self.node(made.parent).and_then(unlink) {
            tracing::warn!(%error, name = ?made.name, "a file that failed to be made stays");
        }
    }

    pub(crate) fn make_node(
        &self,
        parent: InodeId,
        name: &OsStr,
        (kind, mode, device): (FileType, Mode, u64),
        caller: Caller,
    ) -> Result<Attributes, Error> {
        let parent = self.changeable_directory(parent, name)?;
        self.admit_special(kind, (&parent, name), Some(caller))?;
        let node = self.backing.make_node(&*self.node(&parent)?, name, kind, mode, device)?;
        let stat = self.give_to(&Created { parent: &parent, name, mode, caller }, &node)?;
        let (inode, attributes) = self.enter_as(&parent, name, (node, stat), None)?;
        if let Some(regular) = inode.regular() {
            let file = self.backing.open(&*self.node(&inode)?, OFlags::RDWR)?;
            let opened = Opened { backing: Arc::clone(&self.backing), file: Arc::new(file) };
            let held = self.hold_now(&regular, self.processes.of(caller))?;
            // An output, though an empty one.
            self.truncate_held(&regular, &opened, 0, held)?;
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
        let parent = self.changeable_directory(parent, name)?;
        let node = self.backing.make_directory(&*self.node(&parent)?, name, mode)?;
        let stat = self.give_to(&Created { parent: &parent, name, mode, caller }, &node)?;
        self.enter_as(&parent, name, (node, stat), None).map(|(_, attributes)| attributes)
    }

    pub(crate) fn symlink(
        &self,
        parent: InodeId,
        name: &OsStr,
        target: &Path,
        caller: Caller,
    ) -> Result<Attributes, Error> {
        let parent = self.changeable_directory(parent, name)?;
        let node = self.backing.symlink(&*self.node(&parent)?, name, target)?;
        let mode = Mode::empty();
        let stat = self.give_to(&Created { parent: &parent, name, mode, caller }, &node)?;
        self.enter_as(&parent, name, (node, stat), None).map(|(_, attributes)| attributes)
    }

    pub(crate) fn link(
        &self,
        id: InodeId,
        parent: InodeId,
        name: &OsStr,
    ) -> Result<Attributes, Error> {
        let (inode, parent) = (self.inodes.find(id)?, self.changeable_directory(parent, name)?);
        self.admit_special(self.stat(&inode)?.kind(), (&parent, name), None)?;
        let (file, directory) = (&*self.node(&inode)?, &*self.node(&parent)?);
        self.metadata_change(&inode, || Ok(self.backing.link(file, directory, name)?))?;
        let node = self.backing.lookup(directory, name)?;
        self.enter(&parent, name, node, None).map(|(_, attributes)| attributes)
    }

    pub(crate) fn unlink(
        &self,
        parent: InodeId,
        name: &OsStr,
        caller: Caller,
    ) -> Result<(), Error> {
        let parent = self.changeable_directory(parent, name)?;
        let directory = &*self.node(&parent)?;
        let victim = self.resident(directory, name)?;
        self.metadata_change_of(&[victim.as_deref()], || {
            self.backing.unlink(directory, name)?;
            lose_name(victim.as_deref(), &parent, name)
        })?;
        self.note_last_name(victim.as_deref(), caller)
    }

    pub(crate) fn remove_directory(&self, parent: InodeId, name: &OsStr) -> Result<(), Error> {
        let parent = self.changeable_directory(parent, name)?;
        let directory = &*self.node(&parent)?;
        let victim = self.resident(directory, name)?;
        self.backing.remove_directory(directory, name)?;
        lose_name(victim.as_deref(), &parent, name)
    }

    pub(crate) fn rename(
        &self,
        (from, from_name): (InodeId, &OsStr),
        (to, to_name): (InodeId, &OsStr),
        flags: RenameFlags,
        caller: Caller,
    ) -> Result<(), Error> {
        let from = self.changeable_directory(from, from_name)?;
        let to = self.changeable_directory(to, to_name)?;
        let (source, target) = (&*self.node(&from)?, &*self.node(&to)?);
        let moved = self.resident(source, from_name)?;
        let replaced = self.resident(target, to_name)?;
        let (moved, replaced) = (moved.as_deref(), replaced.as_deref());
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        if let Some(moved) = moved {
            self.admit_special(self.stat(moved)?.kind(), (&to, to_name), Some(caller))?;
        }
        if let Some(replaced) = replaced.filter(|_| exchange) {
            self.admit_special(self.stat(replaced)?.kind(), (&from, from_name), Some(caller))?;
        }
        self.metadata_change_of(&[moved, replaced], || {
            // What follows asks for no descriptor that could have been let go.
            let _until_names_follow = self.inodes.renaming.read();
            self.backing.rename((source, from_name), (target, to_name), flags)?;
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
        if exchange || is_same(moved, replaced) {
            return Ok(());
        }
        self.note_last_name(replaced, caller)
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
                    self.inodes.tenure().run.directory_renamed(&old.into(), &new.into());
                }
            }
            Some(Kind::Regular(regular)) => {
                let tracked = Arc::clone(&regular.lock().tracked);
                let mut names = tracked.names();
                names.remove(from, from_name);
                names.add(to, to_name);
            }
            Some(Kind::Link(names)) => {
                let mut names = names.lock();
                names.remove(from, from_name);
                names.add(to, to_name);
            }
            Some(Kind::Other) | None => {}
        }
        if let Some(inode) = inode {
            self.note_link(inode, (to, to_name));
        }
        Ok(())
    }

    /// Tells that a file that lost a name has none left: of what the run wrote that it is gone, of
    /// what others published that it was removed.
    fn note_last_name(&self, inode: Option<&Inode>, caller: Caller) -> Result<(), Error> {
        let Some(inode) = inode else { return Ok(()) };
        let Some(Regular { tenure, tracked }) = inode.regular() else { return Ok(()) };
        let stat = self.stat(inode)?;
        if stat.statx.stx_nlink > 0 {
            return Ok(());
        }
        inode.set_removed();
        if tenure.run.unlinked(&tracked) {
            return Ok(());
        }
        match self.gate.published(&stat.identity) {
            Ok(None) => {}
            Ok(Some(_)) => {
                let path = tracked.told_path();
                let (file, by) = (tracked.key(), self.processes.of(caller));
                tenure.run.tell(Fact::Removed { file, path, by });
            }
            Err(unavailable) => {
                tracing::warn!(%unavailable, "whether a removed file was published cannot be said");
            }
        }
        Ok(())
    }

    /// The directory in which something of this name is to change. What we make up does not.
    fn changeable_directory(&self, id: InodeId, name: &OsStr) -> Result<Arc<Inode>, Error> {
        if VirtualFiles::is_ours(id, name) {
            return Err(Error::ReadOnly);
        }
        self.inodes.find(id)
    }

    /// What the kernel knows under this name, if it knows it. It stays within reach when the name goes.
    ///
    /// # Errors
    /// When the store does not say what is there: the gate would go by the name that it had.
    fn resident(&self, parent: &Node, name: &OsStr) -> Result<Option<Arc<Inode>>, Error> {
        let node = match self.backing.lookup(parent, name) {
            Ok(node) => node,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let stat = self.backing.stat(node.as_fd())?;
        Ok(self.inodes.find_behind(node, &stat))
    }

    pub(super) fn metadata_change<T>(
        &self,
        inode: &Inode,
        operation: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Some(Regular { tenure, tracked }) = inode.regular() else {
            return operation();
        };
        tenure.run.change_metadata(&tracked, || self.stat(inode), operation)
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
        caller: Option<Caller>,
    ) -> Result<(Arc<Inode>, Attributes), Error> {
        let stat = self.stat_when_stored(&node, caller.map(|caller| caller.thread))?;
        self.enter_as(parent, name, (node, stat), caller)
    }

    fn enter_as(
        &self,
        parent: &Inode,
        name: &OsStr,
        (node, stat): (Node, Stat),
        caller: Option<Caller>,
    ) -> Result<(Arc<Inode>, Attributes), Error> {
        self.admit_special(stat.kind(), (parent, name), caller)?;
        let inode = self.inodes.reference(node, &stat, parent.place()?, name);
        self.note_link(&inode, (parent.place()?, name));
        self.note_surroundings((&inode, &stat), parent)?;
        let attributes = self.told(&inode, stat);
        Ok((inode, attributes))
    }

    /// What we made as ourselves belongs to the caller. In a directory with the set-group-id bit
    /// the group stays the directory's. Answers with what it is now.
    fn give_to(&self, made: &Created<'_>, node: &Node) -> Result<Stat, Error> {
        let caller = made.caller;
        let stat = self.backing.stat(node.as_fd())?;
        let now = stat.statx;
        let uid = (now.stx_uid != caller.uid).then_some(caller.uid);
        let gid = (now.stx_gid != caller.gid && !inherits_group(&self.stat(made.parent)?))
            .then_some(caller.gid);
        if uid.is_none() && gid.is_none() {
            return Ok(stat);
        }
        self.backing.change_owner(node, uid, gid)?;
        // Which takes set-id bits away that the caller may ask for.
        if made.mode.intersects(Mode::SUID | Mode::SGID) {
            self.backing.change_mode(node.as_fd(), made.mode)?;
        }
        Ok(self.backing.stat(node.as_fd())?)
    }

    /// What is told of a file counts all that was answered: the kernel appends where it believes the end to be.
    fn stat_when_stored(&self, node: &Node, thread: Option<u32>) -> Result<Stat, Error> {
        let mut stat = self.backing.stat(node.as_fd())?;
        let Some(inode) = self.inodes.find_by_stat(&stat) else { return Ok(stat) };
        if let Some(tracked) = inode.tracked()
            && !tracked.line().is_empty()
        {
            tracked.line().wait_until_empty();
            stat = self.backing.stat(node.as_fd())?;
        }
        if inode.wait_until_emptied(thread) {
            stat = self.backing.stat(node.as_fd())?;
        }
        Ok(stat)
    }

    pub(super) fn stat(&self, inode: &Inode) -> Result<Stat, Error> {
        Ok(self.backing.stat(self.node(inode)?.as_fd())?)
    }
}

/// Whether what is made in this directory belongs to its group.
fn inherits_group(directory: &Stat) -> bool {
    u32::from(directory.statx.stx_mode) & Mode::SGID.bits() != 0
}

fn is_same(one: Option<&Inode>, other: Option<&Inode>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one.id == other.id)
}

fn lose_name(inode: Option<&Inode>, parent: &Inode, name: &OsStr) -> Result<(), Error> {
    let Some(inode) = inode else { return Ok(()) };
    match &inode.kind {
        Kind::Directory(_) => inode.set_removed(),
        Kind::Regular(regular) => {
            let tracked = Arc::clone(&regular.lock().tracked);
            tracked.names().remove(parent.place()?, name);
        }
        Kind::Link(names) => names.lock().remove(parent.place()?, name),
        Kind::Other => {}
    }
    Ok(())
}
