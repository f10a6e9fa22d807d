//! The directories that a run observes, and how paths in them are spelt.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStringExt, fs::MetadataExt},
    },
    path::{Component, Path, PathBuf},
};

use attestfs_attestation::{escaped, unescaped};
use attestfs_fs::TreePath;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};

/// The trees of a run, in the order in which facts number them.
#[derive(Debug)]
pub(crate) struct Trees(Vec<Tree>);

/// One of them.
#[derive(Debug)]
pub(crate) struct Tree {
    /// What statements call it: absolute, without symbolic links.
    pub(crate) path: PathBuf,
    /// `O_PATH`, taken before anything is mounted on it.
    pub(crate) root: OwnedFd,
}

impl Trees {
    pub(crate) fn new(trees: Vec<Tree>) -> Self {
        Self(trees)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Tree> {
        self.0.iter()
    }

    /// The first one, which relative paths are relative to.
    pub(crate) fn first(&self) -> Option<&Tree> {
        self.0.first()
    }

    /// The trees themselves, as places.
    pub(crate) fn whole(&self) -> impl Iterator<Item = TreePath> {
        let trees = 0..u16::try_from(self.0.len()).unwrap_or(u16::MAX);
        trees.map(|tree| TreePath { tree, path: String::new() })
    }

    /// The tree that an absolute path lies in: by what it is called, or by the directory that is
    /// there, for a tree may be called otherwise than it is found.
    pub(crate) fn containing(&self, path: &Path) -> Option<&Tree> {
        let called = self.0.iter().find(|tree| path.starts_with(&tree.path));
        called.or_else(|| path.ancestors().find_map(|above| self.rooted_at(above)))
    }

    fn rooted_at(&self, directory: &Path) -> Option<&Tree> {
        let found = fs::metadata(directory).ok()?;
        self.0.iter().find(|tree| {
            fstat(&tree.root)
                .is_ok_and(|root| (root.st_dev, root.st_ino) == (found.dev(), found.ino()))
        })
    }

    /// Where an absolute path lies that has neither symbolic links nor dots in it. Nothing need be
    /// there.
    pub(crate) fn place(&self, path: &Path) -> Option<TreePath> {
        let index = self.0.iter().position(|tree| path.starts_with(&tree.path))?;
        let below = path.strip_prefix(&self.0[index].path).ok()?;
        Some(TreePath {
            tree: u16::try_from(index).ok()?,
            path: escaped(below.as_os_str().as_encoded_bytes()),
        })
    }

    /// The absolute path of a place, as statements spell it.
    pub(crate) fn absolute(&self, place: &TreePath) -> String {
        let root = escaped(self.tree(place).path.as_os_str().as_encoded_bytes());
        match (root.as_str(), place.path.as_str()) {
            (_, "") => root,
            ("/", below) => format!("/{below}"),
            (_, below) => format!("{root}/{below}"),
        }
    }

    /// The same as the system calls want it.
    pub(crate) fn path_of(&self, place: &TreePath) -> PathBuf {
        self.tree(place).path.join(below(place))
    }

    /// What is there, beneath the mount; none when nothing is.
    pub(crate) fn kind(&self, place: &TreePath) -> Option<FileType> {
        let node = self.open(place, OFlags::PATH | OFlags::NOFOLLOW).ok()?;
        Some(FileType::from_raw_mode(fstat(node).ok()?.st_mode))
    }

    /// Opens the file that is there, beneath the mount.
    pub(crate) fn open_file(&self, place: &TreePath) -> io::Result<File> {
        // NONBLOCK: a pipe that took the file's place must not hold us.
        let file = self.open(place, OFlags::NOFOLLOW | OFlags::NONBLOCK)?;
        Ok(File::from(file))
    }

    /// Opens the directory that is there, beneath the mount, to look through it.
    pub(crate) fn open_directory(&self, place: &TreePath) -> io::Result<File> {
        let node = self.open(place, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
        Ok(File::from(node))
    }

    fn open(&self, place: &TreePath, flags: OFlags) -> io::Result<OwnedFd> {
        let below = below(place);
        let below = if below.as_os_str().is_empty() { Path::new(".") } else { &below };
        let root = &self.tree(place).root;
        Ok(openat2(root, below, flags | OFlags::CLOEXEC, Mode::empty(), BENEATH)?)
    }

    fn tree(&self, place: &TreePath) -> &Tree {
        &self.0[usize::from(place.tree)]
    }
}

impl Tree {
    /// # Errors
    /// There is no directory of this absolute path.
    pub(crate) fn open(path: PathBuf) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&path, flags, Mode::empty())?;
        Ok(Self { path, root })
    }

    /// The root itself, as `syncfs(2)` wants it.
    pub(crate) fn open_to_sync(&self) -> io::Result<File> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.root, ".", flags, Mode::empty())?.into())
    }

    /// A second descriptor of the root.
    pub(crate) fn open_again(&self) -> io::Result<OwnedFd> {
        Ok(rustix::io::fcntl_dupfd_cloexec(self.root.as_fd(), 0)?)
    }
}

/// Neither out of the tree, nor through a link.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

fn below(place: &TreePath) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescaped(&place.path)))
}

/// The path with symbolic links resolved as far as it exists.
pub(crate) fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut existing = absolute.as_path();
    loop {
        if let Ok(resolved) = fs::canonicalize(existing) {
            let rest = absolute.strip_prefix(existing).unwrap_or(Path::new(""));
            // Joining nothing would end the path in a slash.
            return if rest.as_os_str().is_empty() { resolved } else { resolved.join(rest) };
        }
        match existing.parent() {
            Some(parent) => existing = parent,
            None => return absolute,
        }
    }
}

/// Without `.` and `..`, by the letters of the path.
pub(crate) fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree(path: &Path) -> Tree {
        Tree { path: path.to_owned(), root: File::open(path).unwrap().into() }
    }

    #[test]
    fn a_place_has_an_absolute_path_and_is_found_by_it() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let trees = Trees::new(vec![tree(one.path()), tree(two.path())]);
        for (tree, path) in [(0, ""), (0, "a/b"), (1, ""), (1, "c\\\\d")] {
            let place = TreePath { tree, path: path.to_owned() };
            assert_eq!(trees.place(&trees.path_of(&place)), Some(place.clone()));
            assert!(trees.absolute(&place).ends_with(path), "{place}");
        }
        assert_eq!(trees.place(Path::new("/elsewhere")), None);
        assert_eq!(trees.place(Path::new("relative")), None);
        assert_eq!(trees.whole().count(), 2);
    }

    #[test]
    fn no_place_leads_out_of_its_tree() {
        let base = tempfile::tempdir().unwrap();
        let root = base.path().join("root");
        fs::create_dir_all(root.join("inside")).unwrap();
        fs::write(base.path().join("secret"), "").unwrap();
        symlink("../secret", root.join("link")).unwrap();
        symlink("..", root.join("up")).unwrap();
        let trees = Trees::new(vec![tree(&root)]);
        let place = |path: &str| TreePath { tree: 0, path: path.to_owned() };
        assert_eq!(trees.kind(&place("")), Some(FileType::Directory));
        assert_eq!(trees.kind(&place("inside")), Some(FileType::Directory));
        assert_eq!(trees.kind(&place("link")), Some(FileType::Symlink));
        for path in ["../secret", "up/secret", "nothing"] {
            assert_eq!(trees.kind(&place(path)), None, "{path}");
        }
        for path in ["../secret", "up/secret", "link"] {
            assert!(trees.open_file(&place(path)).is_err(), "{path}");
        }
    }
}
