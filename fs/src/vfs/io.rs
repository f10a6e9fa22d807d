//! Open files: reading, writing, and what else is done through a handle.

use std::{ffi::OsStr, fs::File, sync::Arc};

use rustix::{
    fs::{FallocateFlags, OFlags, SeekFrom, StatVfs},
    io::Errno,
};

use super::{
    directory::DirectoryHandle,
    filesystem::{Attributes, Vfs},
    handle::{Handle, HandleId},
    inode::{Inode, InodeId},
    virtual_files::VirtualFiles,
};
use crate::{
    backing::DirectoryEntry,
    error::Error,
    read::Reading,
    run::{Caller, Opened},
    write::WriteHandle,
};

/// What is true of a write when it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Nothing: what goes wrong is told to whoever writes on, syncs or closes.
    Received,
    /// It is stored. The kernel writes pages back through any open file that was mapped, so what goes wrong is told
    /// to the kernel, and by it to all who sync or close the file.
    Stored,
    /// It is synced: whoever wrote it wants that of each write (`O_SYNC`, `O_DSYNC`), and the kernel asks for nothing
    /// more.
    Synced {
        /// And not the times of the file.
        data_only: bool,
    },
}

impl Vfs {
    pub(crate) fn release(&self, id: HandleId) {
        self.handles.remove(id);
    }

    pub(crate) fn read(
        &self,
        id: HandleId,
        buffer: &mut [u8],
        offset: u64,
    ) -> Result<usize, Error> {
        let handle = self.handles.find(id)?;
        if let Handle::Virtual(file) = handle {
            return file.read(buffer, offset);
        }
        self.read_from(&handle.reading()?, buffer, offset)
    }

    /// Bytes that are not those that were admitted are told, and given to nobody; in audit mode they
    /// are.
    fn read_from(
        &self,
        reading: &Reading<'_>,
        buffer: &mut [u8],
        offset: u64,
    ) -> Result<usize, Error> {
        match reading.read(buffer, offset) {
            Err(Error::WrongBytes) if !self.gate.wrong_bytes(reading) => {
                reading.read_as_it_is(buffer, offset)
            }
            read => read,
        }
    }

    pub(crate) fn write(
        &self,
        id: HandleId,
        (bytes, offset): (&[u8], u64),
        drop_privilege_bits: bool,
        promise: Promise,
        answer: impl FnOnce(Result<usize, Error>),
    ) {
        let handle = match self.handles.find(id) {
            Ok(handle) => handle,
            Err(error) => return answer(Err(error)),
        };
        let writer = match handle.writer() {
            Ok(writer) => writer,
            Err(error) => return answer(Err(error)),
        };
        if drop_privilege_bits && let Err(error) = writer.drop_privilege_bits() {
            return answer(Err(error));
        }
        match promise {
            Promise::Received => self.write_as_suits(writer, bytes, offset, answer),
            Promise::Stored => answer(writer.write_back(bytes, offset)),
            Promise::Synced { data_only } => {
                let sync = || self.backing.sync(writer.file(), data_only);
                let written = writer.write(bytes, offset);
                answer(written.and_then(|count| Ok(sync().map(|()| count)?)));
            }
        }
    }

    fn write_as_suits(
        &self,
        writer: &WriteHandle,
        bytes: &[u8],
        offset: u64,
        answer: impl FnOnce(Result<usize, Error>),
    ) {
        let behind = bytes.len() >= BEHIND_BYTES || writer.is_behind();
        if behind && writer.may_be_behind() && self.has_room_for(bytes.len()) {
            if !writer.write_behind(bytes, offset, answer) {
                self.space.look_again();
            }
        } else {
            answer(writer.write(bytes, offset));
        }
    }

    /// Whether the store will not be full before so much more is stored.
    fn has_room_for(&self, bytes: usize) -> bool {
        let look = || self.backing.root().and_then(|root| self.backing.statfs(&root)).ok();
        self.space.covers(bytes as u64, look)
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
        let (reading, writer) = (from.reading()?, to.writer()?);
        from.wait_until_stored();
        if reading.verifies().is_none() {
            return writer.copy_from((from.file()?, from_offset), to_offset, length);
        }
        // What is copied inside the store nobody verifies.
        let mut piece = vec![0; length.min(VERIFIED_COPY_MAX)];
        let count = self.read_from(&reading, &mut piece, from_offset)?;
        writer.drop_privilege_bits()?;
        writer.write(&piece[..count], to_offset)
    }

    /// `SEEK_DATA` and `SEEK_HOLE`; the kernel answers the others itself.
    pub(crate) fn seek(&self, id: HandleId, to: SeekFrom) -> Result<u64, Error> {
        let handle = self.handles.find(id)?;
        handle.wait_until_stored();
        Ok(self.backing.seek(handle.file()?, to)?)
    }

    pub(crate) fn sync(&self, id: HandleId, data_only: bool) -> Result<(), Error> {
        let handle = self.handles.find(id)?;
        handle.wait_until_stored();
        if let Ok(writer) = handle.writer() {
            writer.sync()?;
        }
        Ok(self.backing.sync(handle.file()?, data_only)?)
    }

    /// Somebody closes a descriptor: all that was answered is stored.
    pub(crate) fn flush(&self, id: HandleId) -> Result<(), Error> {
        match self.handles.find(id)?.writer() {
            Ok(writer) => writer.flush(),
            Err(_reader) => Ok(()),
        }
    }

    pub(crate) fn open_directory(&self, id: InodeId, caller: Caller) -> Result<HandleId, Error> {
        if let Some(directory) = self.virtual_file(id) {
            let opened = self.open_virtual(directory, OFlags::RDONLY, caller)?;
            return Ok(self.handles.insert(opened));
        }
        let inode = self.inodes.find(id)?;
        let file = self.backing.open(&*self.node(&inode)?, OFlags::RDONLY | OFlags::DIRECTORY)?;
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
        if let Handle::Virtual(directory) = handle {
            return self.read_virtual_directory(&directory, position, &mut give);
        }
        let directory = handle.directory()?;
        let parent = directory.inode().id;
        directory.read(self.backing.as_ref(), position, |entry| {
            VirtualFiles::is_ours(parent, &entry.name) || give(entry)
        })
    }

    /// As a lookup of an entry of an open directory; `None` when it went away since it was listed.
    pub(crate) fn look_up_entry(
        &self,
        directory: HandleId,
        name: &OsStr,
    ) -> Result<Option<Attributes>, Error> {
        let handle = self.handles.find(directory)?;
        if let Handle::Virtual(directory) = handle {
            return self.look_up_virtual_entry(&directory, name);
        }
        let parent = handle.directory()?.inode();
        match self.backing.lookup(&*self.node(parent)?, name) {
            Ok(node) => self.enter(parent, name, node, None).map(|(_, it)| Some(it)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    pub(crate) fn statfs(&self, id: InodeId) -> Result<StatVfs, Error> {
        let id = if id.is_virtual() { InodeId::ROOT } else { id };
        let inode = self.inodes.find(id)?;
        Ok(self.backing.statfs(&*self.node(&inode)?)?)
    }

    /// A file that is written to is opened readable too where that is allowed, so that it can be
    /// read back for its digest.
    pub(super) fn open_backing(&self, inode: &Inode, access: OFlags) -> Result<Opened, Error> {
        let node = &*self.node(inode)?;
        let file = if access == OFlags::WRONLY {
            self.backing
                .open(node, OFlags::RDWR)
                .or_else(|_| self.backing.open(node, OFlags::WRONLY))?
        } else {
            self.backing.open(node, access)?
        };
        Ok(self.opened(file))
    }

    pub(super) fn opened(&self, file: File) -> Opened {
        Opened { backing: Arc::clone(&self.backing), file: Arc::new(file) }
    }
}

/// Smaller writes are stored before they are answered: to wake another thread for the next one costs more than
/// the writer waits. Not so the end of a large one: of 1 MiB that does not begin with a page the kernel makes
/// two requests.
const BEHIND_BYTES: usize = 64 << 10;

/// Bytes of a verified file that one request copies at the most; the kernel asks for the rest.
const VERIFIED_COPY_MAX: usize = 4 << 20;
