//! Looking at files below a directory, through its descriptor: no name and no symbolic link leads
//! out of it.

use std::{
    fs::File,
    io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use attestfs_attestation::unescaped;
use attestfs_fs::Identity;
use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2},
    io::Errno,
};

use super::LentTrees;
use crate::artifact::{self, WalkError};

/// A directory that is being attested.
#[derive(Debug)]
pub(super) struct Directory(artifact::Directory);

/// Something below it, other than a directory that holds something.
#[derive(Debug)]
pub(super) struct Found {
    /// Relative to the directory.
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File(Identity),
    Symlink,
    EmptyDirectory,
    Special,
}

impl Directory {
    /// Opens the directory at `path` below `tree`, both escaped.
    pub(super) fn open(trees: &LentTrees, tree: &str, path: &str) -> io::Result<Self> {
        let tree = trees.open(tree)?;
        let path = unescaped(path);
        let path = if path.is_empty() { b"." } else { &path[..] };
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat2(tree, path, flags, Mode::empty(), BENEATH)?;
        Ok(Self(File::from(directory).into()))
    }

    pub(super) fn file(&self) -> &File {
        self.0.file()
    }

    /// What a `stat` says of the regular file at `path`; none when there is no such file.
    pub(super) fn identity(&self, path: &Path) -> io::Result<Option<Identity>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat2(self.file(), path, flags, Mode::empty(), BENEATH) {
            Ok(node) if is_file(&node)? => Ok(Some(Identity::of(node)?)),
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Opens the regular file at `path` for reading.
    pub(super) fn open_file(&self, path: &Path) -> io::Result<File> {
        // NONBLOCK: a pipe that took the file's place must not hold us.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(File::from(openat2(self.file(), path, flags, Mode::empty(), BENEATH)?))
    }

    /// Everything below the directory.
    pub(super) fn walk(&self) -> Result<Vec<Found>, WalkError> {
        let walked = self.0.walk()?.into_iter();
        walked.filter_map(|walked| self.found(walked).transpose()).collect()
    }

    /// What was walked past, with the identity of a file; none when it went away meanwhile.
    fn found(&self, walked: artifact::Found) -> Result<Option<Found>, WalkError> {
        let kind = match walked.kind {
            artifact::Kind::File { .. } => match self.identity(&walked.path) {
                Ok(Some(identity)) => Kind::File(identity),
                Ok(None) => return Ok(None),
                Err(source) => return Err(WalkError::Io { path: walked.path, source }),
            },
            artifact::Kind::Symlink => Kind::Symlink,
            artifact::Kind::EmptyDirectory => Kind::EmptyDirectory,
            artifact::Kind::Special => Kind::Special,
        };
        Ok(Some(Found { path: walked.path, kind }))
    }
}

/// Neither out of the directory, nor through a link.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

fn is_file(node: impl std::os::fd::AsFd) -> io::Result<bool> {
    let mode = fstat(node)?.st_mode;
    Ok(FileType::from_raw_mode(mode) == FileType::RegularFile)
}

/// A path as the system has it, of one that was escaped.
pub(super) fn system_path(escaped: &str) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(unescaped(escaped)))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn open(root: &Path) -> Directory {
        Directory::open(&LentTrees::default(), root.to_str().unwrap(), "").unwrap()
    }

    #[test]
    fn no_path_leads_out_of_the_directory() {
        let base = tempfile::tempdir().unwrap();
        let root = base.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(base.path().join("secret"), "").unwrap();
        symlink("../secret", root.join("link")).unwrap();
        symlink("..", root.join("up")).unwrap();
        let (trees, tree) = (LentTrees::default(), root.to_str().unwrap());
        assert!(Directory::open(&trees, tree, "..").is_err());
        assert!(Directory::open(&trees, tree, "up").is_err());
        assert!(Directory::open(&trees, tree, "/").is_err());
        let directory = open(&root);
        for path in ["../secret", "link", "up/secret"] {
            assert!(directory.open_file(Path::new(path)).is_err(), "{path}");
            assert!(!matches!(directory.identity(Path::new(path)), Ok(Some(_))), "{path}");
        }
    }

    #[test]
    fn an_empty_directory_has_nothing_in_it() {
        let base = tempfile::tempdir().unwrap();
        assert!(open(base.path()).walk().unwrap().is_empty());
    }

    #[test]
    fn everything_that_is_no_file_is_told_apart() {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir_all(base.path().join("a/b")).unwrap();
        fs::create_dir(base.path().join("empty")).unwrap();
        fs::write(base.path().join("a/b/file"), "x").unwrap();
        symlink("nowhere", base.path().join("link")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(base.path().join("socket")).unwrap());
        let mut found = open(base.path()).walk().unwrap();
        found.sort_by(|left, right| left.path.cmp(&right.path));
        let names: Vec<_> = found.iter().map(|found| found.path.to_str().unwrap()).collect();
        assert_eq!(names, ["a/b/file", "empty", "link", "socket"]);
        assert!(matches!(found[0].kind, Kind::File(identity) if identity.size == 1));
        assert_eq!(found[1].kind, Kind::EmptyDirectory);
        assert_eq!(found[2].kind, Kind::Symlink);
        assert_eq!(found[3].kind, Kind::Special);
    }

    #[test]
    fn a_file_has_the_same_identity_by_walking_and_by_name() {
        let base = tempfile::tempdir().unwrap();
        fs::write(base.path().join("x"), "x").unwrap();
        let directory = open(base.path());
        let named = directory.identity(Path::new("x")).unwrap().unwrap();
        assert_eq!(directory.walk().unwrap()[0].kind, Kind::File(named));
        let opened = directory.open_file(Path::new("x")).unwrap();
        assert_eq!(Identity::of(opened).unwrap(), named);
        assert_eq!(directory.identity(Path::new("y")).unwrap(), None);
        assert_eq!(directory.identity(Path::new("x/y")).unwrap(), None);
    }
}
