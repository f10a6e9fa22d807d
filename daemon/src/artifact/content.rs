//! What a file holds, read through one descriptor.

use std::{
    fs::File,
    io,
    num::NonZero,
    ops::{ControlFlow, Range},
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    thread,
};

use attestfs_attestation::{Content, Known, Needed};
use attestfs_digest::{ReadAt, ReadError, Sha256, blake3_of, digests_parallel, sha256_many};
use rustix::fs::{Mode, OFlags};

/// Is shown how far hashing is, by each thread that hashes.
pub trait Watch: Sync {
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
    content_at_as_needed(path, &Needed::Both, watch)
}

/// The same, with the digests that are needed.
///
/// # Errors
/// Each variant of [`ContentError`].
pub(super) fn content_at_as_needed(
    path: &Path,
    needed: &Needed,
    watch: &dyn Watch,
) -> Result<Content, ContentError> {
    let file = open_file(path)?;
    watch.expect(file.metadata()?.len());
    content_as_needed(&file, needed, threads(), watch)
}

/// Both digests and the size of the file that is open.
///
/// # Errors
/// [`ContentError::Changed`], [`ContentError::Read`], [`ContentError::Io`].
pub fn content(file: &File, watch: &dyn Watch) -> Result<Content, ContentError> {
    content_as_needed(file, &Needed::Both, threads(), watch)
}

/// The digests that are needed of the file that is open, on so many threads, and its size.
///
/// # Errors
/// As [`content`].
pub(super) fn content_as_needed(
    file: &File,
    needed: &Needed,
    threads: usize,
    watch: &dyn Watch,
) -> Result<Content, ContentError> {
    let known = |content: &Watched<'_>, length| match needed {
        Needed::Sha256 => content.sha256(length),
        Needed::Blake3(pairs) => {
            let (blake3, _outboard) = blake3_of(content, length, threads, &mut go_on)?;
            if let Some(pair) = pairs.iter().find(|pair| pair.blake3 == blake3) {
                return Ok(Known::Blake3(*pair));
            }
            // It is read once more.
            watch.expect(length);
            content.both(length, threads)
        }
        Needed::Both => content.both(length, threads),
    };
    let (digests, size) = hash(file, watch, known)?;
    Ok(Content { digests, size })
}

/// The SHA-256 and the size of each of the files that are open, on all threads, several at a time on each.
pub fn sha256_of_each(
    files: &[&File],
    watch: &dyn Watch,
) -> Vec<Result<(Sha256, u64), ContentError>> {
    let before: Vec<_> = files.iter().map(|file| Stat::of(file)).collect();
    let length = |stat: &io::Result<Stat>| stat.as_ref().map_or(0, |stat| stat.size);
    let watched = files.iter().map(|file| Watched { file, watch });
    let items: Vec<_> = watched.zip(before.iter().map(length)).collect();
    let digests = sha256_many(&items, |item| Ok(*item), threads(), &mut go_on);
    let check = |((file, before), digest): ((&&File, io::Result<Stat>), _)| {
        let before = before?;
        let digest = digest?;
        before.check(file)?;
        Ok((digest, before.size))
    };
    files.iter().zip(before).zip(digests).map(check).collect()
}

/// How many threads this machine runs at once.
pub fn threads() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
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
    before.check(file)?;
    Ok((digest, before.size))
}

/// A file whose reader wants to show how far it is.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "what watches need not be printable")]
pub struct Watched<'a> {
    file: &'a File,
    watch: &'a dyn Watch,
}

impl Watched<'_> {
    fn sha256(&self, length: u64) -> Result<Known, ReadError> {
        Ok(Known::Sha256 { sha256: attestfs_digest::sha256(self, length)? })
    }

    fn both(&self, length: u64, threads: usize) -> Result<Known, ReadError> {
        let (digests, _outboard) = digests_parallel(self, length, threads, &mut go_on)?;
        Ok(Known::Both(digests))
    }
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
    /// That the file is still this one, and nothing lies beyond what was hashed.
    fn check(&self, file: &File) -> Result<(), ContentError> {
        let beyond = FileExt::read_at(file, &mut [0], self.size)?;
        if beyond != 0 || Self::of(file)? != *self {
            return Err(ContentError::Changed);
        }
        Ok(())
    }

    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// Whoever watches is told by each read, and does not stop.
fn go_on(_bytes: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        sync::atomic::{AtomicU64, Ordering},
    };

    use attestfs_digest::sha256;

    use super::*;

    struct Advanced<F>(F);

    impl<F: Fn(u64) + Sync> Watch for Advanced<F> {
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
    fn of_several_files_only_the_one_that_is_written_meanwhile_has_no_digest() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let names = ["quiet", "changing", "empty"];
        for name in names {
            fs::write(path(name), if name == "empty" { "" } else { name }).unwrap();
        }
        let files = names.map(|name| open_file(&path(name)).unwrap());
        let writer = Advanced(|_| fs::write(path("changing"), "other and longer").unwrap());
        let hashed = sha256_of_each(&files.each_ref(), &writer);
        assert_eq!(*hashed[0].as_ref().unwrap(), (Sha256::of(b"quiet"), 5));
        assert!(matches!(hashed[1], Err(ContentError::Changed)));
        assert_eq!(*hashed[2].as_ref().unwrap(), (Sha256::of(b""), 0));
    }

    #[test]
    fn every_byte_is_counted_once() {
        let path = tempfile::NamedTempFile::new().unwrap();
        for size in [0_usize, 1, 65_537, 3 << 20] {
            let bytes = vec![7; size];
            fs::write(&path, &bytes).unwrap();
            let counted = AtomicU64::new(0);
            let count = |more| {
                counted.fetch_add(more, Ordering::Relaxed);
            };
            let file = open_file(path.path()).unwrap();
            let content = content(&file, &Advanced(count)).unwrap();
            assert_eq!(content.size, size as u64);
            assert_eq!(counted.load(Ordering::Relaxed), size as u64);
            assert_eq!(content.sha256(), Sha256::of(&bytes));
        }
    }
}
