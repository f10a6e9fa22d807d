//! One writable mount of a tree at a time.

use std::{
    fmt,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::failure::RunError;

/// Holds the lock on a tree, as long as this process lives: a BSD lock on the directory itself, so
/// that it holds for all users and all state directories of this host.
#[derive(Debug)]
pub(super) struct TreeLock {
    _directory: File,
}

impl TreeLock {
    /// # Errors
    /// [`RunError::Served`], with the process that holds it where the kernel says who that is.
    pub(super) fn take(tree: &Path) -> Result<Self, RunError> {
        refuse_overlap(tree)?;
        let failed = |source: io::Error| RunError::Directory { path: tree.to_owned(), source };
        let directory = File::open(tree).map_err(failed)?;
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _directory: directory }),
            Err(Errno::WOULDBLOCK) => {
                let holder = Lock::on(&directory);
                let holder = holder.map_or_else(|| "another process".to_owned(), |l| l.to_string());
                Err(RunError::Served { tree: tree.to_owned(), holder })
            }
            Err(errno) => Err(failed(errno.into())),
        }
    }
}

/// A mount of a directory above serves this tree too, and a mount below is a part of it; inside a
/// run, the same path leads to its mount. Of other users' mounts this cannot be seen; of the very
/// same directory the lock itself tells.
fn refuse_overlap(tree: &Path) -> Result<(), RunError> {
    for lock in Lock::all() {
        let Some(served) = lock.is_ours().then(|| lock.path()).flatten() else { continue };
        if served.starts_with(tree) || tree.starts_with(&served) {
            return Err(RunError::Served { tree: served, holder: lock.to_string() });
        }
    }
    Ok(())
}

/// An exclusive BSD lock, as `/proc/locks` lists it.
#[derive(Debug, PartialEq, Eq)]
struct Lock {
    pid: u32,
    /// `<major>:<minor>:<inode>`, the first two in hexadecimal.
    file: String,
}

impl Lock {
    fn all() -> Vec<Self> {
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        locks.lines().filter_map(Self::parse).collect()
    }

    fn on(file: &File) -> Option<Self> {
        let name = name_of(&file.metadata().ok()?);
        Self::all().into_iter().find(|lock| lock.file == name)
    }

    /// `1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF`
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_whitespace().skip(1);
        let (kind, _, access) = (fields.next()?, fields.next()?, fields.next()?);
        let (pid, file) = (fields.next()?.parse().ok()?, fields.next()?.to_owned());
        (kind == "FLOCK" && access == "WRITE").then_some(Self { pid, file })
    }

    /// Whether the holder is this program.
    fn is_ours(&self) -> bool {
        let program = |process: &str| {
            fs::metadata(format!("/proc/{process}/exe")).map(|exe| (exe.dev(), exe.ino())).ok()
        };
        let name = fs::read_to_string(format!("/proc/{}/comm", self.pid)).unwrap_or_default();
        name.trim() == "attestfs" || program(&self.pid.to_string()) == program("self")
    }

    /// The locked file, as the holder has it open.
    fn path(&self) -> Option<PathBuf> {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", self.pid)).ok()?;
        let is_it = |path: &PathBuf| fs::metadata(path).is_ok_and(|it| name_of(&it) == self.file);
        let link = descriptors.flatten().map(|entry| entry.path()).find(is_it)?;
        fs::read_link(link).ok()
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let command = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        write!(f, "process {} ({})", self.pid, command.trim())
    }
}

fn name_of(file: &fs::Metadata) -> String {
    let (major, minor) = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
    format!("{major:02x}:{minor:02x}:{}", file.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_served_once_and_the_holder_is_named() {
        let tree = tempfile::tempdir().unwrap();
        let held = TreeLock::take(tree.path()).unwrap();
        let error = TreeLock::take(tree.path()).unwrap_err();
        let own = format!("process {}", std::process::id());
        assert!(error.to_string().contains(&own), "{error}");
        drop(held);
        TreeLock::take(tree.path()).unwrap();
    }

    #[test]
    fn neither_a_part_of_a_served_tree_is_served_nor_what_holds_one() {
        let tree = tempfile::tempdir().unwrap();
        let (middle, part) = (tree.path().join("a"), tree.path().join("a/b"));
        fs::create_dir_all(&part).unwrap();
        let held = TreeLock::take(&middle).unwrap();
        assert!(matches!(TreeLock::take(&part), Err(RunError::Served { .. })));
        assert!(matches!(TreeLock::take(tree.path()), Err(RunError::Served { .. })));
        drop(held);
        TreeLock::take(&part).unwrap();
    }

    #[test]
    fn only_exclusive_bsd_locks_count() {
        let lock = Lock::parse("1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF");
        assert_eq!(lock, Some(Lock { pid: 1234, file: "fe:00:5678".to_owned() }));
        for other in [
            "2: POSIX  ADVISORY  WRITE 1234 fe:00:5678 0 EOF",
            "3: FLOCK  ADVISORY  READ 1234 fe:00:5678 0 EOF",
            "3: FLOCK  ADVISORY",
            "",
        ] {
            assert_eq!(Lock::parse(other), None, "{other}");
        }
    }
}
