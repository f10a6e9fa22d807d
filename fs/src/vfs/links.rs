//! Symbolic links: data, but what they lead to may be guarded by their names.

use std::{
    ffi::OsStr,
    path::{Component, Path, PathBuf},
};

use rustix::io::Errno;

use super::{
    filesystem::Vfs,
    inode::{Inode, InodeId, Kind},
};
use crate::{
    error::Error,
    names::{FilePath, Place},
    run::Caller,
};

impl Vfs {
    /// Whoever reads a link follows it: the gate learns where that leads by each of its names, and a
    /// guarded one does not lead out of the tree.
    pub(crate) fn read_link(&self, id: InodeId, caller: Caller) -> Result<PathBuf, Error> {
        let inode = self.inodes.find(id)?;
        let text = self.backing.read_link(&inode.node)?;
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
        let is_certain = ends.as_written.is_some();
        for end in ends.all() {
            self.gate.link_followed(link.clone().into(), end.into());
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
            && let Ok(text) = self.backing.read_link(&inode.node)
        {
            for end in self.ends_of(&link, &text).all() {
                self.gate.link_found(link.clone().into(), end.into());
            }
        }
    }

    /// Where a link of this text leads. An absolute one leads to the mount's own tree, or away: to the
    /// directory that the mount fronts it leads around the mount, unless both are one.
    fn ends_of(&self, link: &FilePath, text: &Path) -> Ends {
        let target = self.options.target.as_deref();
        let (above, text) = match target.and_then(|target| text.strip_prefix(target).ok()) {
            Some(inside) => (Path::new(""), inside),
            None if text.is_absolute() => return Ends::default(),
            None => (link.relative.parent().unwrap_or(Path::new("")), text),
        };
        let in_tree = |relative| FilePath { tree: link.tree, relative };
        let (as_written, way) = (as_written(above, text).map(in_tree), above.join(text));
        let is_root = way.as_os_str().is_empty();
        match if is_root { Ok(way) } else { self.backing.follow(&way) } {
            Ok(end) => Ends { now: Some(in_tree(end)), as_written },
            // To nowhere, or round in circles.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ends { now: None, as_written },
            Err(_) => Ends::default(),
        }
    }
}

/// Where a link leads within its tree.
#[derive(Default)]
struct Ends {
    /// Past all links on the way.
    now: Option<FilePath>,
    /// Until somebody goes there a link on the way may lead elsewhere, and what is missing may be
    /// made: by this path it is known all the same. None when it leads out, or nobody can say.
    as_written: Option<FilePath>,
}

impl Ends {
    fn all(self) -> impl Iterator<Item = FilePath> {
        self.now.into_iter().chain(self.as_written)
    }
}

/// The path of a link's text below a directory, as long as no other link is on the way. None when it
/// leads out, or upwards from a directory that may be such a link.
fn as_written(above: &Path, text: &Path) -> Option<PathBuf> {
    let (mut written, mut is_below) = (above.to_owned(), false);
    for component in text.components() {
        match component {
            Component::Normal(name) => {
                written.push(name);
                is_below = true;
            }
            Component::CurDir => {}
            Component::ParentDir if !is_below && written.pop() => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_as_it_is_written_leads_into_the_tree_or_nobody_knows_where() {
        let written = |above, text| as_written(Path::new(above), Path::new(text));
        assert_eq!(written("", ""), Some(PathBuf::new()));
        assert_eq!(written("a", ".."), Some(PathBuf::new()));
        assert_eq!(written("snapshots/1", "../../blobs/./9f"), Some("blobs/9f".into()));
        assert_eq!(written("a", "../.."), None);
        assert_eq!(written("a", "d/../w"), None);
        assert_eq!(written("a", "/a"), None);
    }
}
