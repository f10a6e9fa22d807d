//! Reading directories: entries come from the backing store's own stable positions, one buffer at
//! a time, so that a directory of any size is listed in the same memory.

use std::{collections::VecDeque, fs::File, sync::Arc};

use parking_lot::Mutex;

use super::inode::Inode;
use crate::{
    backing::{Backing, DirectoryEntry},
    error::Error,
};

/// One open directory.
#[derive(Debug)]
pub(crate) struct DirectoryHandle {
    inode: Arc<Inode>,
    file: File,
    ahead: Mutex<Ahead>,
}

/// Entries that were read from the backing store and not handed out yet.
#[derive(Debug, Default)]
struct Ahead {
    position: u64,
    entries: VecDeque<DirectoryEntry>,
}

impl DirectoryHandle {
    pub(crate) fn new(inode: Arc<Inode>, file: File) -> Self {
        Self { inode, file, ahead: Mutex::default() }
    }

    pub(crate) fn inode(&self) -> &Arc<Inode> {
        &self.inode
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Hands entries from `position` on to `give`, until it answers `false` (no room: this entry
    /// comes again next time) or the directory ends.
    pub(crate) fn read(
        &self,
        backing: &dyn Backing,
        position: u64,
        mut give: impl FnMut(&DirectoryEntry) -> bool,
    ) -> Result<(), Error> {
        let mut ahead = self.ahead.lock();
        if ahead.position != position {
            *ahead = Ahead { position, entries: VecDeque::new() };
        }
        loop {
            if ahead.entries.is_empty() {
                ahead.entries = backing.entries(&self.file, ahead.position)?.into();
            }
            let Some(entry) = ahead.entries.front() else {
                return Ok(());
            };
            if !give(entry) {
                return Ok(());
            }
            ahead.position = entry.next;
            ahead.entries.pop_front();
        }
    }
}
