//! Where files are: names as they passed through the mount. Paths are attributes; identity is the
//! inode's.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    sync::Arc,
};

use attestfs_attestation::escaped;
use parking_lot::Mutex;

use crate::fact::TreePath;

/// A directory's position below the root of its tree. Follows renames of the directory and of
/// those above it.
#[derive(Debug)]
pub(crate) struct Place(Mutex<Position>);

#[derive(Clone, Debug)]
enum Position {
    Root { tree: u16 },
    Below { parent: Arc<Place>, name: OsString },
}

impl Place {
    /// The root of tree number `tree`.
    pub(crate) fn root(tree: u16) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Position::Root { tree })))
    }

    pub(crate) fn below(parent: &Arc<Self>, name: &OsStr) -> Arc<Self> {
        let (parent, name) = (Arc::clone(parent), name.to_owned());
        Arc::new(Self(Mutex::new(Position::Below { parent, name })))
    }

    /// The directory is now known by this name; the root stays where it is.
    pub(crate) fn move_to(&self, parent: &Arc<Self>, name: &OsStr) {
        let mut position = self.0.lock();
        if let Position::Below { .. } = *position {
            *position = Position::Below { parent: Arc::clone(parent), name: name.to_owned() };
        }
    }

    /// The path of `name` in this directory. None when the chain upwards runs in circles, which
    /// takes somebody who moves directories about below the mount.
    pub(crate) fn path_of(&self, name: &OsStr) -> Option<FilePath> {
        let mut reversed = vec![name.to_owned()];
        let mut position = self.0.lock().clone();
        while let Position::Below { parent, name } = position {
            reversed.push(name);
            if reversed.len() > DEPTH_MAX {
                return None;
            }
            position = parent.0.lock().clone();
        }
        let Position::Root { tree } = position else {
            return None;
        };
        Some(FilePath { tree, relative: reversed.iter().rev().collect() })
    }
}

/// A path below one of the trees, as the system calls want it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FilePath {
    pub(crate) tree: u16,
    pub(crate) relative: PathBuf,
}

impl From<FilePath> for TreePath {
    fn from(path: FilePath) -> Self {
        Self { tree: path.tree, path: escaped(path.relative.as_os_str().as_bytes()) }
    }
}

/// The names of one regular file: none when it is unlinked, several when it is hard-linked.
#[derive(Debug, Default)]
pub(crate) struct Names {
    current: Vec<Name>,
    /// The one that went last, once all are gone.
    former: Option<Name>,
}

type Name = (Arc<Place>, OsString);

impl Names {
    /// The name was seen: it is the first one to tell from now on.
    pub(crate) fn add(&mut self, parent: &Arc<Place>, name: &OsStr) {
        self.current.retain(|known| !is(known, parent, name));
        self.current.push((Arc::clone(parent), name.to_owned()));
    }

    pub(crate) fn remove(&mut self, parent: &Arc<Place>, name: &OsStr) {
        self.current.retain(|known| !is(known, parent, name));
        if self.current.is_empty() {
            self.former = Some((Arc::clone(parent), name.to_owned()));
        }
    }

    /// The path by the name seen last.
    pub(crate) fn path(&self) -> Option<FilePath> {
        let (parent, name) = self.current.last()?;
        parent.path_of(name)
    }

    /// The paths by all names, the one seen last first.
    pub(crate) fn paths(&self) -> impl Iterator<Item = FilePath> {
        self.current.iter().rev().filter_map(|(parent, name)| parent.path_of(name))
    }

    /// The path by the name seen last, be it gone.
    pub(crate) fn path_or_former(&self) -> Option<FilePath> {
        let (parent, name) = self.current.last().or(self.former.as_ref())?;
        parent.path_of(name)
    }
}

fn is((place, known): &Name, parent: &Arc<Place>, name: &OsStr) -> bool {
    Arc::ptr_eq(place, parent) && known == name
}

/// `PATH_MAX` in one-letter names.
const DEPTH_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    fn path(names: &Names) -> Option<String> {
        names.path().map(|path| TreePath::from(path).path)
    }

    #[test]
    fn a_file_follows_its_directories() {
        let root = Place::root(0);
        let tmp = Place::below(&root, OsStr::new("ckpt.tmp"));
        let inner = Place::below(&tmp, OsStr::new("a"));
        let mut names = Names::default();
        assert_eq!(path(&names), None);
        names.add(&inner, OsStr::new("w"));
        assert_eq!(path(&names).as_deref(), Some("ckpt.tmp/a/w"));
        tmp.move_to(&root, OsStr::new("ckpt"));
        assert_eq!(path(&names).as_deref(), Some("ckpt/a/w"));
        names.remove(&inner, OsStr::new("w"));
        assert_eq!(path(&names), None);
        let former = names.path_or_former().map(|path| TreePath::from(path).path);
        assert_eq!(former.as_deref(), Some("ckpt/a/w"));
    }

    #[test]
    fn a_chain_in_circles_has_no_path() {
        let root = Place::root(0);
        let a = Place::below(&root, OsStr::new("a"));
        let b = Place::below(&a, OsStr::new("b"));
        a.move_to(&b, OsStr::new("a"));
        assert_eq!(b.path_of(OsStr::new("x")), None);
        a.move_to(&root, OsStr::new("a"));
    }

    #[test]
    fn two_names_never_look_alike() {
        let root = Place::root(3);
        let path =
            |name: &[u8]| TreePath::from(root.path_of(OsStr::from_bytes(name)).unwrap()).path;
        assert_eq!(path(b"a\xffb"), r"a\xffb");
        assert_eq!(path(br"a\xffb"), r"a\\xffb");
        assert_eq!(path("é".as_bytes()), "é");
    }
}
