//! Symbolic links: data, but what they lead to may be guarded by their names.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use attestfs_attestation::{Ends, Followed};
use rustix::io::Errno;

use super::{
    filesystem::Vfs,
    inode::{Inode, InodeId, Kind},
};
use crate::{
    error::Error,
    fact::TreePath,
    names::{FilePath, Place},
    run::Caller,
};

impl Vfs {
    /// Whoever reads a link follows it: the gate learns where that leads by each of its names, and a
    /// guarded one does not lead out of the tree.
    pub(crate) fn read_link(&self, id: InodeId, caller: Caller) -> Result<PathBuf, Error> {
        let inode = self.inodes.find(id)?;
        let text = self.backing.read_link(&*self.node(&inode)?)?;
        if let Kind::Link(names) = &inode.kind
            && self.gate.guards()
        {
            let is_alone = self.stat(&inode)?.statx.stx_nlink <= 1;
            let sighted = names.lock().sighted(is_alone).ok_or(Error::Refused)?;
            for path in sighted.now.into_iter().chain(sighted.lately) {
                self.let_follow(path, &text, caller)?;
            }
        }
        Ok(text)
    }

    fn let_follow(&self, link: FilePath, text: &Path, caller: Caller) -> Result<(), Error> {
        let ends = self.ends_of(&link, text);
        let is_certain = ends.are_certain();
        for end in places(&link, ends) {
            self.gate.link_followed(link.clone().into(), end);
        }
        if is_certain {
            return Ok(());
        }
        let tenure = self.inodes.tenure();
        self.gate.let_out(&tenure.run, link.into(), &|| self.processes.of(caller))
    }

    /// A link has this name now. The gate learns where it leads, before anybody goes there.
    pub(super) fn note_link(&self, inode: &Inode, (parent, name): (&Place, &OsStr)) {
        if let (Kind::Link(_), true) = (&inode.kind, self.gate.guards())
            && let Some(link) = parent.path_of(name)
            && let Ok(node) = self.node(inode)
            && let Ok(text) = self.backing.read_link(&node)
        {
            for end in places(&link, self.ends_of(&link, &text)) {
                self.gate.link_found(link.clone().into(), end);
            }
        }
    }

    fn ends_of(&self, link: &FilePath, text: &Path) -> Ends {
        let target = self.options.target.as_deref();
        Ends::of(&link.relative, text, target, |way| match self.backing.follow(way) {
            Ok(end) => Followed::To(end),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Followed::Nowhere,
            Err(_) => Followed::Elsewhere,
        })
    }
}

/// The ends of a link in its tree.
fn places(link: &FilePath, ends: Ends) -> impl Iterator<Item = TreePath> {
    let tree = link.tree;
    ends.all().map(move |relative| FilePath { tree, relative }.into())
}
