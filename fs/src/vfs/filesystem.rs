use std::{os::fd::AsFd, sync::Arc};

use super::{
    handle::Handles,
    inode::{Inode, InodeId, Inodes},
};
use crate::{
    backing::{Backing, Stat},
    error::Error,
    mount::MountOptions,
    run::{Processes, Run},
};

/// One mounted tree of a run.
///
/// The operations stand in the files beside this one: names in `namespace`, open files in `io`,
/// attributes in `attribute` and `xattr`.
#[derive(Debug)]
pub(crate) struct Vfs {
    pub(super) backing: Arc<dyn Backing>,
    pub(super) run: Arc<Run>,
    pub(super) inodes: Inodes,
    pub(super) handles: Handles,
    pub(super) processes: Processes,
    pub(super) options: MountOptions,
}

/// What the kernel is told of an inode.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes {
    pub(crate) id: InodeId,
    pub(crate) stat: Stat,
}

impl Vfs {
    pub(crate) fn new(
        backing: Arc<dyn Backing>,
        run: Arc<Run>,
        options: MountOptions,
    ) -> Result<Self, Error> {
        let root = backing.root()?;
        let stat = backing.stat(root.as_fd())?;
        let inodes = Inodes::new(Arc::clone(&run), options.tree, root, &stat);
        Ok(Self {
            backing,
            run,
            inodes,
            handles: Handles::default(),
            processes: Processes::default(),
            options,
        })
    }

    /// The kernel is gone, and every open with it: what RELEASE did not reach us was one all the
    /// same.
    pub(crate) fn release_all(&self) {
        self.handles.clear();
    }

    pub(super) fn attributes_of(&self, inode: &Inode) -> Result<Attributes, Error> {
        Ok(Attributes { id: inode.id, stat: self.backing.stat(inode.node.as_fd())? })
    }
}
