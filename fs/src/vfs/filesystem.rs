use std::{
    os::{fd::AsFd, unix::ffi::OsStrExt},
    sync::Arc,
};

use attestfs_attestation::escaped;

use super::{
    handle::Handles,
    inode::{Inode, InodeId, Inodes},
    space::Space,
    tenure::Tenure,
    virtual_files::VirtualFiles,
};
use crate::{
    backing::{Backing, Stat},
    error::Error,
    fact::{Process, TreePath},
    gate::{Connection, Gate},
    left_behind::Server,
    mount::{Capture, MountOptions},
    run::{Guards, Processes, Run},
    write::WriteHandle,
};

/// One mounted tree of a run.
///
/// The operations stand in the files beside this one: names in `namespace`, open files in `io`,
/// attributes in `attribute` and `xattr`.
#[derive(Debug)]
pub(crate) struct Vfs {
    pub(super) backing: Arc<dyn Backing>,
    pub(super) inodes: Inodes,
    pub(super) handles: Handles,
    pub(super) processes: Processes,
    pub(super) virtual_files: VirtualFiles,
    pub(super) space: Space,
    pub(super) options: MountOptions,
    pub(super) gate: Arc<Gate>,
    /// Ends with the kernel's interest in answers.
    pub(super) connection: Connection,
    /// By which it is known who goes on to write past this process when it has ended. None where nobody does.
    pub(super) server: Option<Server>,
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
        gate: Arc<Gate>,
        options: MountOptions,
    ) -> Result<Self, Error> {
        let server = (options.capture == Capture::Reread).then(Server::this).flatten();
        let root = backing.root()?;
        let stat = backing.stat(root.as_fd())?;
        run.guarded_by(Arc::clone(&gate) as Arc<dyn Guards>);
        let tenure = Tenure {
            run,
            stage: options.stage.clone(),
            run_id: options.run_id.clone(),
            replaceable: options.replaceable.clone().into(),
        };
        let inodes = Inodes::new(tenure, options.tree, (root, &stat), options.descriptors);
        Ok(Self {
            backing,
            inodes,
            handles: Handles::default(),
            processes: Processes::default(),
            virtual_files: VirtualFiles::below(escaped(options.origin.as_os_str().as_bytes())),
            space: Space::default(),
            options,
            gate,
            connection: Connection::default(),
            server,
        })
    }

    /// Whether the process ids in requests are those of this process namespace.
    pub(crate) fn sees_callers(&self) -> bool {
        self.options.sees_callers
    }

    /// Whether mounts with mapped user ids are allowed.
    pub(crate) fn maps_users(&self) -> bool {
        self.options.mapped_users
    }

    /// Whether somebody may be refused.
    pub(crate) fn guards(&self) -> bool {
        self.gate.guards()
    }

    /// Requests from now on belong to another run.
    pub(crate) fn begin(&self, tenure: Tenure) {
        tenure.run.guarded_by(Arc::clone(&self.gate) as Arc<dyn Guards>);
        self.inodes.begin(tenure);
    }

    /// Where a file lies, in words, if it has a name that is known. Takes no lock that is held while the store is asked for
    /// something: it may hang.
    pub(crate) fn place_of(&self, id: InodeId) -> Option<String> {
        let path = self.inodes.find(id).ok()?.paths(1).pop()?;
        let place = self.options.origin.join(path.relative);
        Some(escaped(place.as_os_str().as_bytes()))
    }

    /// A request about this file broke off in the middle: what was seen of a content that is being written need not be what
    /// is stored.
    pub(crate) fn doubt(&self, id: InodeId) {
        let Some(regular) = self.inodes.find(id).ok().and_then(|inode| inode.regular()) else {
            return;
        };
        let mut known = Some(regular.tracked);
        while let Some(tracked) = known {
            tracked.doubt();
            known = tracked.earlier().map(|(_run, tracked)| tracked);
        }
    }

    /// The kernel is gone, and every open with it: what RELEASE did not reach us was one all the
    /// same. Only who writes past us may go on, where somebody took the mount away by force.
    pub(crate) fn release_all(&self) {
        self.connection.end();
        self.handles.close_all(|writer| !self.is_marked(writer));
    }

    /// Whether the kernel has the file open for somebody who may write past us.
    fn is_marked(&self, writer: &WriteHandle) -> bool {
        self.server.is_some_and(|server| server.has_marked(writer.file()))
    }

    pub(crate) fn writers_past(&self) -> Vec<(Process, TreePath)> {
        let told = |writer: &Arc<WriteHandle>| {
            let (by, path) = writer.holder();
            (by.clone(), path.unwrap_or_else(TreePath::nowhere))
        };
        let mut writers = self.handles.writers_past();
        if self.connection.has_ended() {
            // Nobody tells us any more when they close it.
            writers.retain(|writer| self.is_marked(writer));
        }
        writers.iter().map(told).collect()
    }

    /// How runs come to know what is written through it.
    pub(crate) fn capture(&self) -> Capture {
        self.options.capture
    }

    /// Whether the kernel may read files of the store past us.
    pub(crate) fn may_be_passed(&self) -> bool {
        self.options.passthrough
    }

    /// How many filesystems lie upon each other, counted from the one that lies upon the store: 1, or 2 upon
    /// an overlay, and then nothing can lie upon this one.
    pub(crate) fn stack_depth(&self) -> u32 {
        let root = self.backing.root();
        let overlay = root.and_then(|root| self.backing.is_stacked(&root)).unwrap_or(false);
        if overlay { 2 } else { 1 }
    }

    pub(super) fn attributes_of(&self, inode: &Inode) -> Result<Attributes, Error> {
        if let Some(tracked) = inode.tracked().filter(|_| !inode.is_passed()) {
            tracked.line().wait_until_empty();
        }
        Ok(self.told(inode, self.stat(inode)?))
    }
}
