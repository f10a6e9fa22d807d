//! Open files and directories.

use std::{
    collections::HashMap,
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{directory::DirectoryHandle, inode::OnWay, virtual_files::OpenVirtual};
use crate::{
    error::Error,
    meter::{Counted, meter},
    read::{ReadHandle, Reading},
    sync::Mutex,
    write::WriteHandle,
};

/// The number by which the kernel names an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HandleId(pub(crate) u64);

/// One open, from OPEN, CREATE or OPENDIR to RELEASE or RELEASEDIR.
#[derive(Clone, Debug)]
pub(crate) enum Handle {
    Reader(Arc<ReadHandle>),
    Writer(Arc<WriteHandle>),
    Directory(Arc<DirectoryHandle>),
    /// Of a file that we make up.
    Virtual(Arc<OpenVirtual>),
}

impl Handle {
    /// The open file of the backing store.
    ///
    /// # Errors
    /// [`Error::NotSupported`] of a virtual one, which has none.
    pub(crate) fn file(&self) -> Result<&File, Error> {
        match self {
            Self::Reader(reader) => Ok(&reader.opened.file),
            Self::Writer(writer) => Ok(writer.file()),
            Self::Directory(directory) => Ok(directory.file()),
            Self::Virtual(_) => Err(Error::NotSupported),
        }
    }

    /// Waits until all writes to the file that were answered are stored.
    pub(crate) fn wait_until_stored(&self) {
        match self {
            Self::Reader(reader) => reader.tracked.line().wait_until_empty(),
            Self::Writer(writer) => writer.wait_until_stored(),
            Self::Directory(_) | Self::Virtual(_) => {}
        }
    }

    fn writes_past(&self) -> bool {
        matches!(self, Self::Writer(writer) if writer.writes_past())
    }

    pub(crate) fn writer(&self) -> Result<&Arc<WriteHandle>, Error> {
        match self {
            Self::Writer(writer) => Ok(writer),
            Self::Reader(_) | Self::Directory(_) | Self::Virtual(_) => Err(Error::UnknownHandle),
        }
    }

    /// # Errors
    /// [`Error::UnknownHandle`] when it was not opened for reading.
    pub(crate) fn reading(&self) -> Result<Reading<'_>, Error> {
        match self {
            Self::Reader(reader) => Ok(reader.reading()),
            Self::Writer(writer) => writer.reading(),
            Self::Directory(_) => Err(Error::UnknownHandle),
            // A copy inside the store is what there cannot be of it.
            Self::Virtual(_) => Err(Error::NotSupported),
        }
    }

    pub(crate) fn directory(&self) -> Result<&Arc<DirectoryHandle>, Error> {
        match self {
            Self::Directory(directory) => Ok(directory),
            Self::Reader(_) | Self::Writer(_) | Self::Virtual(_) => Err(Error::UnknownHandle),
        }
    }
}

/// A handle in the table.
#[derive(Debug)]
struct Open {
    handle: Handle,
    way: Option<OnWay>,
    _counted: Counted,
}

/// The table of open handles of one mount.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    open: Mutex<Table>,
    last: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    handles: HashMap<HandleId, Open>,
    /// The kernel is gone: it never hears of what is opened from now on, so that nobody would close it.
    is_over: bool,
}

impl Handles {
    /// What is open and has no way of its own: a directory, or a file that we make up.
    pub(crate) fn insert(&self, handle: Handle) -> HandleId {
        self.insert_on_way(handle, None)
    }

    /// A regular file, and the way in which the kernel has it open until the handle is removed.
    pub(crate) fn insert_on_way(&self, handle: Handle, way: Option<OnWay>) -> HandleId {
        let id = HandleId(self.last.fetch_add(1, Ordering::Relaxed) + 1);
        let opened = Open { handle, way, _counted: meter().handle() };
        let mut open = self.open.lock();
        if !open.is_over {
            open.handles.insert(id, opened);
        }
        id
    }

    pub(crate) fn find(&self, id: HandleId) -> Result<Handle, Error> {
        let open = self.open.lock();
        open.handles.get(&id).map(|open| open.handle.clone()).ok_or(Error::UnknownHandle)
    }

    /// Closes a handle.
    pub(crate) fn remove(&self, id: HandleId) {
        let open = self.open.lock().handles.remove(&id);
        drop(open);
    }

    /// Closes all, but for those by which somebody may write past us and that he has not closed. Nothing is opened any
    /// more.
    pub(crate) fn close_all(&self, is_closed: impl Fn(&WriteHandle) -> bool) {
        let closed = self.open.lock().end();
        drop(closed);
        // Whoever asks meanwhile is told of all of them.
        for (id, writer) in self.past() {
            if is_closed(&writer) {
                self.remove(id);
            }
        }
    }

    /// Those by which somebody may write past us.
    pub(crate) fn writers_past(&self) -> Vec<Arc<WriteHandle>> {
        self.past().into_iter().map(|(_, writer)| writer).collect()
    }

    fn past(&self) -> Vec<(HandleId, Arc<WriteHandle>)> {
        let open = self.open.lock();
        let past = open.handles.iter().filter(|(_, open)| open.handle.writes_past());
        past.filter_map(|(id, open)| Some((*id, Arc::clone(open.handle.writer().ok()?)))).collect()
    }
}

impl Table {
    /// The kernel is gone: what it has open from here on, it has open for somebody else.
    ///
    /// # Returns
    /// The ways of all, and those that are closed: to be dropped when the table is not locked.
    fn end(&mut self) -> (Vec<OnWay>, Vec<Open>) {
        self.is_over = true;
        let ways = self.handles.values_mut().filter_map(|open| open.way.take()).collect();
        let closed = self.handles.extract_if(|_, open| !open.handle.writes_past());
        (ways, closed.map(|(_, open)| open).collect())
    }
}

#[cfg(test)]
#[cfg(feature = "shuttle")]
mod schedules;
