//! The descriptors by which we reach the files of the store that the kernel knows: as many as there is room for. The
//! others are let go, and opened again by their names when somebody asks for them.

use std::{collections::VecDeque, mem, os::fd::AsFd, path::Path, sync::Arc};

use rustix::io::{self, Errno};

use super::{
    filesystem::Vfs,
    inode::{Inode, InodeId},
};
use crate::{backing::Node, error::Error, identity::FileKey};

use crate::sync::Mutex;

/// The descriptor of one inode. Whoever was given it keeps it open as long as it takes.
#[derive(Debug, Default)]
pub(super) struct Descriptor(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    #[default]
    LetGo,
    Open {
        node: Arc<Node>,
        /// Whether somebody asked for it since it was last looked at.
        used: bool,
    },
}

impl Descriptor {
    pub(super) fn is_open(&self) -> bool {
        matches!(*self.0.lock(), State::Open { .. })
    }

    /// Somebody asks for it.
    pub(super) fn node(&self) -> Option<Arc<Node>> {
        match &mut *self.0.lock() {
            State::LetGo => None,
            State::Open { node, used } => {
                *used = true;
                Some(Arc::clone(node))
            }
        }
    }

    /// The same file was opened once more.
    ///
    /// # Returns
    /// Whether that was needed.
    pub(super) fn fill(&self, node: &Arc<Node>) -> bool {
        let mut state = self.0.lock();
        let was_let_go = matches!(*state, State::LetGo);
        if was_let_go {
            *state = State::Open { node: Arc::clone(node), used: false };
        }
        was_let_go
    }

    /// Whether somebody asked for it since the last time that this was asked.
    pub(super) fn was_used(&self) -> bool {
        match &mut *self.0.lock() {
            State::LetGo => false,
            State::Open { used, .. } => mem::take(used),
        }
    }

    pub(super) fn let_go(&self) -> Option<Arc<Node>> {
        match mem::take(&mut *self.0.lock()) {
            State::LetGo => None,
            State::Open { node, .. } => Some(node),
        }
    }
}

/// Whose descriptors are open, as a clock: when there are too many, those are let go in turn that nobody asked for
/// since their last turn.
#[derive(Debug)]
pub(super) struct Ring {
    /// May name inodes that the kernel forgot meanwhile, and one inode twice.
    turns: VecDeque<InodeId>,
    room: usize,
}

impl Ring {
    pub(super) fn of(room: usize) -> Self {
        Self { turns: VecDeque::new(), room }
    }

    /// One more is open. Whose turn it is leaves, unless it `stays`: so many as there is no room for. When all of many
    /// stay, there are more of them for a while.
    pub(super) fn add(&mut self, id: InodeId, mut stays: impl FnMut(InodeId) -> bool) {
        self.turns.push_back(id);
        for _ in 0..TURNS_MAX {
            if self.turns.len() <= self.room {
                return;
            }
            let Some(next) = self.turns.pop_front() else { return };
            if stays(next) {
                self.turns.push_back(next);
            }
        }
    }
}

impl Vfs {
    /// The file of the store behind an inode.
    ///
    /// # Errors
    /// [`Error::Lost`]; what the store says when the file has to be opened again.
    pub(super) fn node(&self, inode: &Inode) -> Result<Arc<Node>, Error> {
        match inode.descriptor.node() {
            Some(node) => Ok(node),
            None => self.open_again(inode),
        }
    }

    fn open_again(&self, inode: &Inode) -> Result<Arc<Node>, Error> {
        if let Ok(node) = self.search(inode) {
            return Ok(self.inodes.hold(inode, node));
        }
        // The names in the store may just not have been those that we know.
        let _nobody_renames = self.inodes.renaming.write();
        match inode.descriptor.node() {
            Some(node) => Ok(node),
            None => Ok(self.inodes.hold(inode, self.search(inode)?)),
        }
    }

    /// Looks for a file by the names that it is known by. Where another file has the name now, it is not found.
    fn search(&self, inode: &Inode) -> Result<Node, Error> {
        let mut failure = Error::Lost;
        for path in inode.paths(NAMES_TRIED_MAX) {
            match self.file_at(&path.relative, inode.file) {
                Ok(Some(node)) => return Ok(node),
                Ok(None) => {}
                Err(errno) => failure = errno.into(),
            }
        }
        Err(failure)
    }

    /// What is at this path, if it is this `file`.
    fn file_at(&self, path: &Path, file: FileKey) -> io::Result<Option<Node>> {
        let node = match self.backing.resolve(path) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            found => found?,
        };
        let is_same = self.backing.stat(node.as_fd())?.identity.file == file;
        Ok(is_same.then_some(node))
    }
}

/// So many turns one more descriptor is worth: those of which all stay must not keep the others waiting.
const TURNS_MAX: usize = 64;

/// So many names of a file are tried, those first that were seen last.
const NAMES_TRIED_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(ring: &Ring) -> Vec<u64> {
        ring.turns.iter().map(|id| id.0).collect()
    }

    #[test]
    fn who_stays_has_another_turn_and_others_leave() {
        let mut ring = Ring::of(2);
        for id in [2, 3, 4] {
            ring.add(InodeId(id), |next| next == InodeId(2));
        }
        assert_eq!(turns(&ring), [4, 2]);
        ring.add(InodeId(5), |_| false);
        assert_eq!(turns(&ring), [2, 5]);
    }

    #[test]
    fn more_stay_than_there_is_room_for_and_nobody_looks_at_all_of_them() {
        let mut ring = Ring::of(1);
        let mut looks = 0;
        for id in 0..1000 {
            ring.add(InodeId(id), |_| true);
        }
        ring.add(InodeId(1000), |_| {
            looks += 1;
            true
        });
        assert_eq!((ring.turns.len(), looks), (1001, TURNS_MAX));
        for id in 1001..1020 {
            ring.add(InodeId(id), |_| false);
        }
        assert_eq!(ring.turns.len(), 1);
    }
}
