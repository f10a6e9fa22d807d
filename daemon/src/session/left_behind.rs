//! Files that processes write past a server which has ended.

use std::{
    collections::BTreeSet,
    fmt,
    fs::{self, read_dir},
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::{DirEntryExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use attestfs_fs::{is_written_past_others, numbers_left_behind};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, statx};

use super::{SessionError, Tree, lock::Holder};

/// Refuses to serve a tree as long as somebody may write to files in it past a server that has ended, was killed as a
/// rule: of what is written so nobody would know.
///
/// # Errors
/// [`SessionError::LeftBehind`]; [`SessionError::Directory`] when it cannot be found out.
pub(crate) fn refuse_left_behind(Tree { path, root }: &Tree) -> Result<(), SessionError> {
    let failed = |source| SessionError::Directory { path: path.clone(), source };
    let numbers = numbers_left_behind().map_err(failed)?;
    if numbers.is_empty() {
        return Ok(());
    }
    // But where? Rare enough to look through all of the tree.
    let Some(file) = find(path, root, &numbers).map_err(failed)? else { return Ok(()) };
    Err(SessionError::LeftBehind(LeftBehind { file, holder: holder(&numbers) }))
}

/// A file that somebody may write to past a server that has ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LeftBehind {
    file: PathBuf,
    /// One who has such a file open, where that can be seen.
    holder: Option<Holder>,
}

impl fmt::Display for LeftBehind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.holder {
            Some(holder) => holder.fmt(f)?,
            None => f.write_str("a process that cannot be seen")?,
        }
        let file = self.file.display();
        write!(f, " may still write {file} past an attestfs that has ended (--capture reread)")
    }
}

/// The first such file of the tree, and of what is mounted in it. What cannot be looked at is passed over: nobody is admitted to
/// read what is written so, nor is it hashed.
fn find(path: &Path, root: impl AsFd, numbers: &BTreeSet<u64>) -> io::Result<Option<PathBuf>> {
    let top = PathBuf::from(format!("/proc/self/fd/{}", root.as_fd().as_raw_fd()));
    let mut directories = vec![top.clone()];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = read_dir(&directory) else { continue };
        for entry in entries {
            let entry = entry?;
            let (kind, found) = (entry.file_type()?, entry.path());
            if kind.is_dir() {
                directories.push(found);
            } else if kind.is_file() && numbers.contains(&entry.ino()) && is_written(&found) {
                let name = found.strip_prefix(&top).map(|name| path.join(name));
                return Ok(Some(name.unwrap_or(found)));
            }
        }
    }
    Ok(None)
}

fn is_written(file: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(file, flags, Mode::empty()).is_ok_and(is_written_past_others)
}

/// Somebody who has a file of such a number open for writing, on a filesystem without device: what a mount shows of a file
/// has its number.
fn holder(inodes: &BTreeSet<u64>) -> Option<Holder> {
    let processes = read_dir("/proc").into_iter().flatten().flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let has_one = |pid: &u32| {
        let descriptors = read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        descriptors.map(|it| it.path()).any(|path| is_one(&path, inodes))
    };
    pids.find(has_one).map(Holder::of_process)
}

/// Asks no server, for there is none.
fn is_one(descriptor: &Path, inodes: &BTreeSet<u64>) -> bool {
    let found = statx(CWD, descriptor, AtFlags::STATX_DONT_SYNC, StatxFlags::INO);
    let is_open = found.is_ok_and(|it| it.stx_dev_major == 0 && inodes.contains(&it.stx_ino));
    let writes =
        || fs::symlink_metadata(descriptor).map(|link| link.permissions().mode() & 0o200 != 0);
    is_open && writes().unwrap_or(false)
}
