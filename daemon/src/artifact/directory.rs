//! Looking through a directory, by descriptors: no symbolic link leads out of it.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Component, Path, PathBuf},
};

use attestfs_attestation::{Content, Entry, EntryKind, Followed, Needed};
use rustix::{
    fs::{
        AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, open, openat, openat2, readlinkat,
        statat,
    },
    io::Errno,
};

use super::{
    content::{ContentError, Watch},
    survey::Survey,
};

/// The most entries that are looked at below one directory. No model signature can name more.
const ENTRIES_MAX: usize = 1_000_000;

/// The longest path below the directory, in bytes: no program could name a longer one.
const PATH_BYTES_MAX: usize = 4096;

/// Links are followed, but not out of the directory.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

/// A directory that is signed or verified.
#[derive(Debug)]
pub struct Directory(File);

/// Something below it, other than a directory that holds something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Relative to the directory.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
}

/// What lies under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Bytes, when it was looked at.
        size: u64,
    },
    /// A symbolic link, whatever it points to.
    Symlink,
    /// A directory without entries.
    EmptyDirectory,
    /// A pipe, socket or device.
    Special,
}

impl Found {
    /// Bytes to hash.
    pub fn size(&self) -> u64 {
        match self.kind {
            Kind::File { size } => size,
            _ => 0,
        }
    }

    /// Whether it is a file that a statement can name.
    fn is_nameable_file(&self) -> bool {
        matches!(self.kind, Kind::File { .. }) && self.path.to_str().is_some()
    }

    /// `content` is asked of a file that can be named.
    fn entry(&self, content: impl FnOnce() -> Option<Content>) -> Entry {
        let name = self.path.to_string_lossy().into_owned();
        let kind = match self.kind {
            _ if self.path.to_str().is_none() => EntryKind::NotUtf8,
            Kind::File { .. } => EntryKind::File(content().expect("each of them was hashed")),
            Kind::Symlink => EntryKind::Symlink,
            Kind::EmptyDirectory => EntryKind::EmptyDirectory,
            Kind::Special => EntryKind::Special,
        };
        Entry { name, kind }
    }
}

impl From<File> for Directory {
    /// A directory that is open already; an `O_PATH` descriptor will do.
    fn from(file: File) -> Self {
        Self(file)
    }
}

/// Why a directory cannot be looked through.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// The system does not let us.
    #[error("'{}': {source}", path.display())]
    Io {
        /// Relative to the directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// More entries than are looked at.
    #[error("it holds more than {ENTRIES_MAX} files")]
    TooMany,
    /// Nested deeper than any program could follow.
    #[error("it holds a path of more than {PATH_BYTES_MAX} bytes")]
    TooDeep,
}

/// Why the files of a directory cannot all be hashed.
#[derive(Debug, thiserror::Error)]
#[error("'{}': {source}", path.display())]
pub struct SurveyError {
    /// Relative to the directory.
    pub path: PathBuf,
    /// Why not.
    pub source: ContentError,
}

impl Directory {
    /// Opens the directory at `path`; symbolic links in the path itself are followed.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(File::from(open(path, flags, Mode::empty())?)))
    }

    /// The directory itself.
    pub fn file(&self) -> &File {
        &self.0
    }

    /// Everything below the directory, in the order of the paths.
    ///
    /// # Errors
    /// Each variant of [`WalkError`].
    pub fn walk(&self) -> Result<Vec<Found>, WalkError> {
        let mut walk = Walk::default();
        walk.waiting.push(PathBuf::new());
        while let Some(path) = walk.waiting.pop() {
            self.list(&path, &mut walk)?;
        }
        walk.found.sort_by(|left, right| left.path.cmp(&right.path));
        Ok(walk.found)
    }

    /// Opens the regular file at `path` below the directory for reading.
    ///
    /// # Errors
    /// It went away, or is something else by now.
    pub fn open_file(&self, path: &Path) -> Result<File, ContentError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(ContentError::Directory);
        };
        let parent = self.open_directory(parent)?;
        // NONBLOCK: a pipe that took the file's place must not hold us.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(&parent, name, flags, Mode::empty()).map_err(io::Error::from)?;
        let file = File::from(file);
        if file.metadata()?.is_file() { Ok(file) } else { Err(ContentError::NotAFile) }
    }

    /// The text of the symbolic link at `path` below the directory.
    ///
    /// # Errors
    /// It went away, or is something else by now.
    pub fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        let (parent, name) = (path.parent(), path.file_name());
        let (Some(parent), Some(name)) = (parent, name) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let text = readlinkat(self.open_directory(parent)?, name, Vec::new())?;
        Ok(OsString::from_vec(text.into_bytes()).into())
    }

    /// What is at the end of a path below the directory when every symbolic link on it is followed.
    pub fn follow(&self, path: &Path) -> Followed {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let place = |file: BorrowedFd<'_>| {
            fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()
        };
        match openat2(&self.0, path, flags, Mode::empty(), BENEATH) {
            Ok(end) => {
                let places = place(end.as_fd()).zip(place(self.0.as_fd()));
                let below =
                    places.and_then(|(end, root)| Some(end.strip_prefix(root).ok()?.into()));
                below.map_or(Followed::Elsewhere, Followed::To)
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Followed::Nowhere,
            Err(_) => Followed::Elsewhere,
        }
    }

    /// What was found, as a model signature speaks of it: every file with the digests that are needed of it.
    ///
    /// # Errors
    /// The first file that cannot be hashed.
    pub fn survey(
        &self,
        found: &[Found],
        needed: impl Fn(&Path) -> Needed,
        watch: &dyn Watch,
    ) -> Result<Vec<Entry>, SurveyError> {
        watch.expect(found.iter().map(Found::size).sum());
        let files = found.iter().filter(|found| found.is_nameable_file());
        let files = files.map(|found| (found, needed(&found.path))).collect();
        let mut contents = Survey { directory: self, files, watch }.contents()?.into_iter();
        Ok(found.iter().map(|found| found.entry(|| contents.next())).collect())
    }

    fn list(&self, path: &Path, walk: &mut Walk) -> Result<(), WalkError> {
        let failed = |source: io::Error| WalkError::Io { path: path.to_path_buf(), source };
        let directory = self.open_directory(path).map_err(failed)?;
        let mut is_empty = true;
        for entry in Dir::read_from(&directory).map_err(|errno| failed(errno.into()))? {
            let entry = entry.map_err(|errno| failed(errno.into()))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            is_empty = false;
            walk.add(&directory, path.join(name))?;
        }
        if is_empty && !path.as_os_str().is_empty() {
            walk.found.push(Found { path: path.to_path_buf(), kind: Kind::EmptyDirectory });
        }
        Ok(())
    }

    /// Step by step, so that a link that took a directory's place is not followed.
    fn open_directory(&self, path: &Path) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut directory = File::from(openat(&self.0, c".", flags, Mode::empty())?);
        for component in path.components() {
            let Component::Normal(name) = component else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            directory = File::from(openat(&directory, name, flags, Mode::empty())?);
        }
        Ok(directory)
    }
}

/// A look through a directory that is not done yet.
#[derive(Default)]
struct Walk {
    found: Vec<Found>,
    waiting: Vec<PathBuf>,
    entries: usize,
}

impl Walk {
    fn add(&mut self, directory: &File, path: PathBuf) -> Result<(), WalkError> {
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            return Err(WalkError::TooMany);
        }
        if path.as_os_str().len() > PATH_BYTES_MAX {
            return Err(WalkError::TooDeep);
        }
        let name = path.file_name().unwrap_or_default();
        let stat = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            // It went away since the directory was read.
            Err(Errno::NOENT) => return Ok(()),
            result => result
                .map_err(|errno| WalkError::Io { path: path.clone(), source: errno.into() })?,
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                self.waiting.push(path);
                return Ok(());
            }
            FileType::RegularFile => {
                Kind::File { size: stat.st_size.try_into().unwrap_or_default() }
            }
            FileType::Symlink => Kind::Symlink,
            _ => Kind::Special,
        };
        self.found.push(Found { path, kind });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use super::*;
    use crate::artifact::Unwatched;

    fn names(directory: &Directory) -> Vec<PathBuf> {
        directory.walk().unwrap().into_iter().map(|found| found.path).collect()
    }

    #[test]
    fn an_empty_directory_has_nothing_in_it() {
        let base = tempfile::tempdir().unwrap();
        assert_eq!(Directory::open(base.path()).unwrap().walk().unwrap(), []);
    }

    #[test]
    fn everything_is_told_apart_and_sorted() {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir_all(base.path().join("a/b")).unwrap();
        fs::create_dir(base.path().join("empty")).unwrap();
        fs::write(base.path().join("a/b/file"), "xy").unwrap();
        symlink("a", base.path().join("link")).unwrap();
        let socket = UnixListener::bind(base.path().join("socket")).unwrap();
        let found = Directory::open(base.path()).unwrap().walk().unwrap();
        drop(socket);
        let kinds: Vec<_> = found.iter().map(|it| (it.path.to_str().unwrap(), it.kind)).collect();
        let expected = [
            ("a/b/file", Kind::File { size: 2 }),
            ("empty", Kind::EmptyDirectory),
            ("link", Kind::Symlink),
            ("socket", Kind::Special),
        ];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn no_link_leads_out() {
        let base = tempfile::tempdir().unwrap();
        let root = base.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(base.path().join("secret"), "x").unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink("../secret", root.join("link")).unwrap();
        let directory = Directory::open(&root).unwrap();
        for path in ["up/secret", "link", "../secret", ".", "", "/etc/passwd"] {
            assert!(directory.open_file(Path::new(path)).is_err(), "{path}");
        }
        assert_eq!(names(&directory), [Path::new("link"), Path::new("up")]);
    }

    #[test]
    fn a_name_that_is_not_utf8_is_an_entry_of_its_own_kind() {
        let base = tempfile::tempdir().unwrap();
        let name = OsString::from_vec(b"x\xff".to_vec());
        fs::write(base.path().join(&name), "x").unwrap();
        let directory = Directory::open(base.path()).unwrap();
        let found = directory.walk().unwrap();
        assert_eq!(found[0].path.as_os_str(), name);
        let entries = directory.survey(&found, |_| Needed::Both, &Unwatched).unwrap();
        assert_eq!(entries[0].kind, EntryKind::NotUtf8);
    }

    #[test]
    fn a_file_that_went_away_is_named() {
        let base = tempfile::tempdir().unwrap();
        fs::write(base.path().join("x"), "x").unwrap();
        let directory = Directory::open(base.path()).unwrap();
        let found = directory.walk().unwrap();
        fs::remove_file(base.path().join("x")).unwrap();
        let error = directory.survey(&found, |_| Needed::Both, &Unwatched).unwrap_err();
        assert!(error.to_string().starts_with("'x': No such file"), "{error}");
    }

    #[test]
    fn nesting_has_a_bound() {
        let base = tempfile::tempdir().unwrap();
        let name = "d".repeat(250);
        let mut deep = File::open(base.path()).unwrap();
        for _ in 0..17 {
            rustix::fs::mkdirat(&deep, &*name, Mode::RWXU).unwrap();
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            deep = File::from(openat(&deep, &*name, flags, Mode::empty()).unwrap());
        }
        let error = Directory::open(base.path()).unwrap().walk().unwrap_err();
        assert!(matches!(error, WalkError::TooDeep), "{error}");
    }
}
