use parking_lot::{Mutex, MutexGuard};

use super::content::Content;
use crate::{
    fact::TreePath,
    identity::FileKey,
    names::{FilePath, Names},
};

/// What the run knows of one regular file. Outlives the kernel's references to the inode and holds
/// no descriptor.
#[derive(Debug)]
pub(crate) struct Tracked {
    key: FileKey,
    names: Mutex<Names>,
    content: Mutex<Content>,
}

impl Tracked {
    pub(crate) fn new(key: FileKey) -> Self {
        Self { key, names: Mutex::default(), content: Mutex::default() }
    }

    pub(crate) fn key(&self) -> FileKey {
        self.key
    }

    pub(crate) fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock()
    }

    /// The lock that every change of the file's bytes is made under.
    pub(crate) fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock()
    }

    /// Where the file is now; none when it is unlinked.
    pub(crate) fn path(&self) -> Option<TreePath> {
        self.file_path().map(TreePath::from)
    }

    /// All places where the file is, the one seen last first.
    pub(crate) fn paths(&self) -> Vec<TreePath> {
        self.names.lock().paths().map(TreePath::from).collect()
    }

    /// Where the file is now, or was when it had a name.
    pub(crate) fn path_or_former(&self) -> Option<TreePath> {
        self.names.lock().path_or_former().map(TreePath::from)
    }

    pub(crate) fn file_path(&self) -> Option<FilePath> {
        self.names.lock().path()
    }
}
