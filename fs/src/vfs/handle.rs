//! Open files and directories.

use std::{
    collections::HashMap,
    fs::File,
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use super::directory::DirectoryHandle;
use crate::{error::Error, read::ReadHandle, write::WriteHandle};

/// The number by which the kernel names an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HandleId(pub(crate) u64);

/// One open, from OPEN, CREATE or OPENDIR to RELEASE or RELEASEDIR.
#[derive(Clone, Debug)]
pub(crate) enum Handle {
    Reader(Arc<ReadHandle>),
    Writer(Arc<WriteHandle>),
    Directory(Arc<DirectoryHandle>),
}

impl Handle {
    /// The open file of the backing store.
    pub(crate) fn file(&self) -> &File {
        match self {
            Self::Reader(reader) => reader.file(),
            Self::Writer(writer) => writer.file(),
            Self::Directory(directory) => directory.file(),
        }
    }

    pub(crate) fn writer(&self) -> Result<&Arc<WriteHandle>, Error> {
        match self {
            Self::Writer(writer) => Ok(writer),
            Self::Reader(_) | Self::Directory(_) => Err(Error::UnknownHandle),
        }
    }

    pub(crate) fn directory(&self) -> Result<&Arc<DirectoryHandle>, Error> {
        match self {
            Self::Directory(directory) => Ok(directory),
            Self::Reader(_) | Self::Writer(_) => Err(Error::UnknownHandle),
        }
    }
}

/// The table of open handles of one mount.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    open: Mutex<HashMap<HandleId, Handle>>,
    last: AtomicU64,
}

impl Handles {
    pub(crate) fn insert(&self, handle: Handle) -> HandleId {
        let id = HandleId(self.last.fetch_add(1, Ordering::Relaxed) + 1);
        self.open.lock().insert(id, handle);
        id
    }

    pub(crate) fn find(&self, id: HandleId) -> Result<Handle, Error> {
        self.open.lock().get(&id).cloned().ok_or(Error::UnknownHandle)
    }

    pub(crate) fn remove(&self, id: HandleId) -> Option<Handle> {
        self.open.lock().remove(&id)
    }

    pub(crate) fn clear(&self) {
        let open = mem::take(&mut *self.open.lock());
        drop(open);
    }
}
