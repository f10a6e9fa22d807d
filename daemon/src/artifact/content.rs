//! What a file holds, read through one descriptor.

use std::{
    fs::File,
    io,
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};

use attestfs_attestation::Content;
use attestfs_digest::{ReadAt, ReadError, digests};
use rustix::fs::{Mode, OFlags};

/// Is shown how far hashing is.
pub trait Watch {
    /// So many bytes more will be read.
    fn expect(&self, bytes: u64);

    /// So many bytes more were read.
    fn advance(&self, bytes: u64);
}

/// Nobody watches.
#[derive(Clone, Copy, Debug)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn expect(&self, _bytes: u64) {}

    fn advance(&self, _bytes: u64) {}
}

/// Why the content of a file is not known.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// It cannot be opened or looked at.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A directory has no content.
    #[error("Is a directory")]
    Directory,
    /// A pipe, socket or device.
    #[error("not a regular file")]
    NotAFile,
    /// It was written to meanwhile, or is longer than the system says (as files of `/proc` are).
    #[error("changed while it was read")]
    Changed,
    /// It cannot be read to its end.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Opens a regular file for reading. A symbolic link is followed; a pipe does not hold us.
///
/// # Errors
/// [`ContentError::Io`], [`ContentError::Directory`], [`ContentError::NotAFile`].
pub fn open_file(path: &Path) -> Result<File, ContentError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from)?);
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(ContentError::Directory);
    }
    if !metadata.is_file() {
        return Err(ContentError::NotAFile);
    }
    Ok(file)
}

/// Both digests and the size of the regular file at `path`, symbolic links followed.
///
/// # Errors
/// Each variant of [`ContentError`].
pub fn content_at(path: &Path, watch: &dyn Watch) -> Result<Content, ContentError> {
    let file = open_file(path)?;
    watch.expect(file.metadata()?.len());
    content(&file, watch)
}

/// Both digests and the size of the file that is open.
///
/// # Errors
/// [`ContentError::Changed`], [`ContentError::Read`], [`ContentError::Io`].
pub fn content(file: &File, watch: &dyn Watch) -> Result<Content, ContentError> {
    let (digests, size) = hash(file, watch, |content, length| digests(content, length))?;
    Ok(Content { digests, size })
}

/// What `hash` makes of the file that is open, and its size. A file that changes meanwhile has no
/// digest.
///
/// # Errors
/// As [`content`].
pub fn hash<T>(
    file: &File,
    watch: &dyn Watch,
    hash: impl FnOnce(&Watched<'_>, u64) -> Result<T, ReadError>,
) -> Result<(T, u64), ContentError> {
    let before = Stat::of(file)?;
    let digest = hash(&Watched { file, watch }, before.size)?;
    let beyond = FileExt::read_at(file, &mut [0], before.size)?;
    if beyond != 0 || Stat::of(file)? != before {
        return Err(ContentError::Changed);
    }
    Ok((digest, before.size))
}

/// A file whose reader wants to show how far it is.
#[expect(missing_debug_implementations, reason = "what watches need not be printable")]
pub struct Watched<'a> {
    file: &'a File,
    watch: &'a dyn Watch,
}

impl ReadAt for Watched<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let length = ReadAt::read_at(self.file, offset, buffer)?;
        self.watch.advance(length as u64);
        Ok(length)
    }

    fn data_from(&self, offset: u64, end: u64) -> io::Result<Range<u64>> {
        self.file.data_from(offset, end)
    }
}

/// What tells one content of a file from the next.
#[derive(PartialEq, Eq)]
struct Stat {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stat {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, fs};

    use attestfs_digest::{Sha256, sha256};

    use super::*;

    struct Advanced<F>(F);

    impl<F: Fn(u64)> Watch for Advanced<F> {
        fn expect(&self, _bytes: u64) {}

        fn advance(&self, bytes: u64) {
            self.0(bytes);
        }
    }

    #[test]
    fn only_regular_files_have_a_content() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(open_file(directory.path()), Err(ContentError::Directory)));
        assert!(matches!(open_file(Path::new("/dev/null")), Err(ContentError::NotAFile)));
        let missing = open_file(&directory.path().join("x"));
        assert!(matches!(missing, Err(ContentError::Io(_))));
    }

    #[test]
    fn a_file_that_is_longer_than_it_says_has_no_digest() {
        let Ok(file) = open_file(Path::new("/proc/version")) else {
            println!("skipped: there is no /proc here");
            return;
        };
        assert!(matches!(content(&file, &Unwatched), Err(ContentError::Changed)));
    }

    #[test]
    fn a_file_that_is_written_meanwhile_has_no_digest() {
        let path = tempfile::NamedTempFile::new().unwrap();
        fs::write(&path, "before").unwrap();
        let file = open_file(path.path()).unwrap();
        let writer = Advanced(|_| fs::write(&path, "after, and longer").unwrap());
        let changing = hash(&file, &writer, |content, length| sha256(content, length));
        assert!(matches!(changing, Err(ContentError::Changed)));
    }

    #[test]
    fn every_byte_is_counted_once() {
        let path = tempfile::NamedTempFile::new().unwrap();
        for size in [0_usize, 1, 65_537, 3 << 20] {
            let bytes = vec![7; size];
            fs::write(&path, &bytes).unwrap();
            let counted = Cell::new(0);
            let file = open_file(path.path()).unwrap();
            let content =
                content(&file, &Advanced(|more| counted.set(counted.get() + more))).unwrap();
            assert_eq!(content.size, size as u64);
            assert_eq!(counted.get(), size as u64);
            assert_eq!(content.digests.sha256, Sha256::of(&bytes));
        }
    }
}
