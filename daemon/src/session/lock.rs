//! One writable mount of a tree at a time.

use std::{
    fmt,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, StatxFlags, flock, openat, statx},
    io::Errno,
};

use super::{SessionError, Tree};
use crate::mount::mounts;

/// Holds the lock on a tree, as long as this process lives: a BSD lock on the directory itself, so
/// that it holds for all users and all state directories of this host.
#[derive(Debug)]
pub(crate) struct TreeLock {
    _directory: File,
}

impl TreeLock {
    /// # Errors
    /// [`SessionError::Served`], with the process that holds it where the kernel says who that is.
    pub(crate) fn take(Tree { path: tree, root }: &Tree) -> Result<Self, SessionError> {
        refuse_overlap(tree)?;
        let failed = |source: io::Error| SessionError::Directory { path: tree.clone(), source };
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(root, ".", flags, Mode::empty());
        let directory = File::from(directory.map_err(|errno| failed(errno.into()))?);
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _directory: directory }),
            Err(Errno::WOULDBLOCK) => {
                let holder = Lock::on(&directory).map_or(Holder::Unknown, |lock| lock.holder(tree));
                Err(SessionError::Served { tree: tree.clone(), holder })
            }
            Err(errno) => Err(failed(errno.into())),
        }
    }
}

/// A mount of a directory above serves this tree too, and a mount below is a part of it; inside a
/// run, the same path leads to its mount. Of other users' mounts this cannot be seen; of the very
/// same directory the lock itself tells.
fn refuse_overlap(tree: &Path) -> Result<(), SessionError> {
    for lock in Lock::all() {
        let Some(served) = lock.is_ours().then(|| lock.path()).flatten() else { continue };
        if served.starts_with(tree) || tree.starts_with(&served) {
            let holder = lock.holder(&served);
            return Err(SessionError::Served { tree: served, holder });
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

    /// Who holds it on `tree`, and where that is seen when it is a mount.
    fn holder(self, tree: &Path) -> Holder {
        let Self { pid, .. } = self;
        let mut mounts = mounts::all().into_iter();
        let mount = mounts.find(|it| it.is_ours() && !it.is_of_a_run() && it.source == tree);
        if let Some(mount) = mount {
            return Holder::Mount { pid, mount_point: mount.target };
        }
        Holder::of_process(pid)
    }

    /// The locked file, as the holder has it open.
    fn path(&self) -> Option<PathBuf> {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", self.pid)).ok()?;
        let is_it = |path: &PathBuf| name_at(path).is_some_and(|name| name == self.file);
        let link = descriptors.flatten().map(|entry| entry.path()).find(is_it)?;
        fs::read_link(link).ok()
    }
}

/// Who serves a tree already.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// The kernel does not say who.
    Unknown,
    /// A mount of this program, at this place.
    Mount { pid: u32, mount_point: PathBuf },
    /// Another process, a run as a rule.
    Process { pid: u32, command: String },
}

impl Holder {
    pub(super) fn of_process(pid: u32) -> Self {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ").trim().to_owned();
        Self::Process { pid, command }
    }

    /// How it is ended.
    pub(super) fn next_step(&self) -> String {
        match self {
            Self::Mount { mount_point, .. } => {
                format!("attestfs umount {}", mount_point.display())
            }
            Self::Process { .. } | Self::Unknown => "wait until it has ended, or end it".to_owned(),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("another process"),
            Self::Mount { pid, mount_point } => {
                write!(f, "the mount at {}, process {pid}", mount_point.display())
            }
            Self::Process { pid, command } => write!(f, "process {pid} ({command})"),
        }
    }
}

/// Asks no server: some of what the holder has open may be served by a process that does not answer.
fn name_at(path: &Path) -> Option<String> {
    let found = statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::INO).ok()?;
    let (major, minor) = (found.stx_dev_major, found.stx_dev_minor);
    Some(format!("{major:02x}:{minor:02x}:{}", found.stx_ino))
}

fn name_of(file: &fs::Metadata) -> String {
    let (major, minor) = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
    format!("{major:02x}:{minor:02x}:{}", file.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(path: &Path) -> Result<TreeLock, SessionError> {
        TreeLock::take(&Tree::open(path.to_owned()).unwrap())
    }

    #[test]
    fn a_tree_is_served_once_and_the_holder_is_named() {
        let tree = tempfile::tempdir().unwrap();
        let held = take(tree.path()).unwrap();
        let error = take(tree.path()).unwrap_err();
        let own = format!("process {}", std::process::id());
        assert!(error.to_string().contains(&own), "{error}");
        drop(held);
        take(tree.path()).unwrap();
    }

    #[test]
    fn neither_a_part_of_a_served_tree_is_served_nor_what_holds_one() {
        let tree = tempfile::tempdir().unwrap();
        let (middle, part) = (tree.path().join("a"), tree.path().join("a/b"));
        fs::create_dir_all(&part).unwrap();
        let held = take(&middle).unwrap();
        assert!(matches!(take(&part), Err(SessionError::Served { .. })));
        assert!(matches!(take(tree.path()), Err(SessionError::Served { .. })));
        drop(held);
        take(&part).unwrap();
    }

    #[test]
    fn who_serves_a_tree_is_named_with_what_ends_it() {
        let command = "python train.py".to_owned();
        let process = Holder::Process { pid: 7, command };
        assert_eq!(process.to_string(), "process 7 (python train.py)");
        let mount = Holder::Mount { pid: 7, mount_point: PathBuf::from("/mnt") };
        assert_eq!(mount.to_string(), "the mount at /mnt, process 7");
        assert_eq!(mount.next_step(), "attestfs umount /mnt");
        assert!(!process.next_step().is_empty() && !Holder::Unknown.next_step().is_empty());
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
