//! Files that processes write past a server which has ended.

use std::{
    fmt,
    fs::{self, read_dir},
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::{DirEntryExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use attestfs_fs::left_behind;
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::{SessionError, Tree, lock::Holder};

/// Refuses to serve a tree as long as somebody may write to files in it past a server that has ended, was killed as a
/// rule: of what is written so nobody would know.
///
/// # Errors
/// [`SessionError::LeftBehind`]; [`SessionError::Directory`] when it cannot be found out.
pub(crate) fn refuse_left_behind(Tree { path, root }: &Tree) -> Result<(), SessionError> {
    let failed = |source| SessionError::Directory { path: path.clone(), source };
    let inodes = left_behind(root).map_err(failed)?;
    if inodes.is_empty() {
        return Ok(());
    }
    // On this filesystem, but where? Rare enough to look through all of the tree.
    let Some(file) = find(path, root, &inodes).map_err(failed)? else { return Ok(()) };
    Err(SessionError::LeftBehind(LeftBehind { file, holder: holder(&inodes) }))
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

/// The first file of the tree that has one of these numbers.
fn find(path: &Path, root: impl AsFd, inodes: &[u64]) -> io::Result<Option<PathBuf>> {
    let top = PathBuf::from(format!("/proc/self/fd/{}", root.as_fd().as_raw_fd()));
    let device = fs::metadata(&top)?.dev();
    let mut directories = vec![top.clone()];
    while let Some(directory) = directories.pop() {
        let entries = match read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_file() && inodes.contains(&entry.ino()) {
                let found = entry.path();
                return Ok(Some(
                    found.strip_prefix(&top).map_or(found.clone(), |it| path.join(it)),
                ));
            }
            if kind.is_dir() && entry.metadata().is_ok_and(|it| it.dev() == device) {
                directories.push(entry.path());
            }
        }
    }
    Ok(None)
}

/// Somebody who has a file of such a number open for writing, on a filesystem without device: what a mount shows of a file
/// has its number.
fn holder(inodes: &[u64]) -> Option<Holder> {
    let processes = read_dir("/proc").into_iter().flatten().flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let has_one = |pid: &u32| {
        let descriptors = read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        descriptors.map(|it| it.path()).any(|path| is_one(&path, inodes))
    };
    pids.find(has_one).map(Holder::of_process)
}

/// Asks no server, for there is none.
fn is_one(descriptor: &Path, inodes: &[u64]) -> bool {
    let found = statx(CWD, descriptor, AtFlags::STATX_DONT_SYNC, StatxFlags::INO);
    let is_open = found.is_ok_and(|it| it.stx_dev_major == 0 && inodes.contains(&it.stx_ino));
    let writes =
        || fs::symlink_metadata(descriptor).map(|link| link.permissions().mode() & 0o200 != 0);
    is_open && writes().unwrap_or(false)
}
