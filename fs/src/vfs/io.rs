//! Open files: reading, writing, and what else is done through a handle.

use std::{ffi::OsStr, fs::File, os::fd::AsFd, sync::Arc};

use rustix::{
    fs::{FallocateFlags, OFlags, SeekFrom, StatVfs},
    io::Errno,
};

use super::{
    directory::DirectoryHandle,
    filesystem::{Attributes, Vfs},
    handle::{Handle, HandleId},
    inode::{Inode, InodeId},
};
use crate::{
    backing::DirectoryEntry,
    error::Error,
    fact::Process,
    read::{self, ReadHandle},
    run::{Caller, Change, Opened, Tracked},
    write::{WriteHandle, truncate_unopened},
};

/// Whether the pages that the kernel kept of a file still hold what the file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageCache {
    Keep,
    Drop,
}

impl Vfs {
    /// Opens a regular file. Of `flags` the access mode and `O_TRUNC` count; the kernel has done
    /// the rest, and `O_APPEND` on our side would put bytes elsewhere than it says.
    pub(crate) fn open(
        &self,
        id: InodeId,
        flags: OFlags,
        caller: Caller,
    ) -> Result<(HandleId, PageCache), Error> {
        let inode = self.inodes.find(id)?;
        let Some(tracked) = inode.tracked().map(Arc::clone) else {
            return Err(Error::Invalid);
        };
        let access = flags & OFlags::ACCMODE;
        let opened = self.open_backing(&inode, access)?;
        let page_cache = self.page_cache(&tracked, &opened)?;
        let truncates = flags.contains(OFlags::TRUNC);
        let identity = opened.stat()?.identity;
        let by = || self.processes.of(caller);
        if access == OFlags::RDONLY {
            if truncates {
                self.truncate_unopened(&inode, &tracked, &by())?;
            } else {
                self.run.opened(&tracked, identity, &opened, by);
            }
            let reader = Handle::Reader(Arc::new(ReadHandle::new(opened)));
            return Ok((self.handles.insert(reader), page_cache));
        }
        let writer = WriteHandle::new(Arc::clone(&self.run), tracked, opened, by());
        if truncates {
            writer.truncate(0)?;
        } else if identity.size > 0 {
            // Who opens an empty file to write to it brings nothing along.
            writer.tell_found(identity);
        }
        Ok((self.handles.insert(Handle::Writer(Arc::new(writer))), page_cache))
    }

    /// `O_TRUNC`, which Linux grants to readers as well, if they may write.
    fn truncate_unopened(
        &self,
        inode: &Inode,
        tracked: &Arc<Tracked>,
        by: &Process,
    ) -> Result<(), Error> {
        let opened = self.open_backing(inode, OFlags::WRONLY)?;
        truncate_unopened(&self.run, Change { tracked, opened: &opened, by }, 0)
    }

    pub(crate) fn release(&self, id: HandleId) {
        drop(self.handles.remove(id));
    }

    pub(crate) fn read(
        &self,
        id: HandleId,
        buffer: &mut [u8],
        offset: u64,
    ) -> Result<usize, Error> {
        let handle = self.handles.find(id)?;
        read::read(self.backing.as_ref(), handle.file(), buffer, offset)
    }

    pub(crate) fn write(
        &self,
        id: HandleId,
        bytes: &[u8],
        offset: u64,
        drop_privilege_bits: bool,
    ) -> Result<usize, Error> {
        let handle = self.handles.find(id)?;
        let writer = handle.writer()?;
        if drop_privilege_bits {
            writer.drop_privilege_bits()?;
        }
        writer.write(bytes, offset)
    }

    pub(crate) fn allocate(
        &self,
        id: HandleId,
        mode: FallocateFlags,
        offset: u64,
        length: u64,
    ) -> Result<(), Error> {
        self.handles.find(id)?.writer()?.allocate(mode, offset, length)
    }

    pub(crate) fn copy_range(
        &self,
        (from, from_offset): (HandleId, u64),
        (to, to_offset): (HandleId, u64),
        length: usize,
    ) -> Result<usize, Error> {
        let (from, to) = (self.handles.find(from)?, self.handles.find(to)?);
        to.writer()?.copy_from((from.file(), from_offset), to_offset, length)
    }

    /// `SEEK_DATA` and `SEEK_HOLE`; the kernel answers the others itself.
    pub(crate) fn seek(&self, id: HandleId, to: SeekFrom) -> Result<u64, Error> {
        Ok(self.backing.seek(self.handles.find(id)?.file(), to)?)
    }

    pub(crate) fn sync(&self, id: HandleId, data_only: bool) -> Result<(), Error> {
        Ok(self.backing.sync(self.handles.find(id)?.file(), data_only)?)
    }

    pub(crate) fn open_directory(&self, id: InodeId) -> Result<HandleId, Error> {
        let inode = self.inodes.find(id)?;
        let file = self.backing.open(&inode.node, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let directory = DirectoryHandle::new(inode, file);
        Ok(self.handles.insert(Handle::Directory(Arc::new(directory))))
    }

    /// Hands out the entries of an open directory from `position` on, each with the number that
    /// users see, until `give` answers `false`.
    pub(crate) fn read_directory(
        &self,
        id: HandleId,
        position: u64,
        mut give: impl FnMut(&DirectoryEntry) -> bool,
    ) -> Result<(), Error> {
        let handle = self.handles.find(id)?;
        handle.directory()?.read(self.backing.as_ref(), position, &mut give)
    }

    /// As a lookup of an entry of an open directory; `None` when it went away since it was listed.
    pub(crate) fn look_up_entry(
        &self,
        directory: HandleId,
        name: &OsStr,
    ) -> Result<Option<Attributes>, Error> {
        let handle = self.handles.find(directory)?;
        let parent = handle.directory()?.inode();
        match self.backing.lookup(&parent.node, name) {
            Ok(node) => self.enter(parent, name, node).map(|(_, attributes)| Some(attributes)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    pub(crate) fn statfs(&self, id: InodeId) -> Result<StatVfs, Error> {
        Ok(self.backing.statfs(&self.inodes.find(id)?.node)?)
    }

    /// A file that is written to is opened readable too where that is allowed, so that it can be
    /// read back for its digest.
    pub(super) fn open_backing(&self, inode: &Inode, access: OFlags) -> Result<Opened, Error> {
        let file = if access == OFlags::WRONLY {
            self.backing
                .open(&inode.node, OFlags::RDWR)
                .or_else(|_| self.backing.open(&inode.node, OFlags::WRONLY))?
        } else {
            self.backing.open(&inode.node, access)?
        };
        Ok(self.opened(file))
    }

    pub(super) fn opened(&self, file: File) -> Opened {
        Opened { backing: Arc::clone(&self.backing), file: Arc::new(file) }
    }

    fn page_cache(&self, tracked: &Tracked, opened: &Opened) -> Result<PageCache, Error> {
        let mut content = tracked.content();
        let now = self.backing.stat(opened.file.as_fd())?.identity;
        let kept = content.cached == Some(now);
        content.cached = Some(now);
        Ok(if kept { PageCache::Keep } else { PageCache::Drop })
    }
}
