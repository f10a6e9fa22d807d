//! Putting a filesystem on a directory and taking it away again, in the mount namespace of this
//! process.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use attestfs_fs::{Attachment, MountError, raise_readahead};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    mount::UnmountFlags,
};

use super::{
    failure::ServeError,
    mounts::{self, Mounted},
};

/// Dead mounts on one directory that are taken away at a time: more have not been left by accident.
const DEAD_MAX: usize = 16;

/// The directory to mount on, without symbolic links. A mount there whose process is gone is taken
/// away first, and that is said in the log.
///
/// # Errors
/// There is no such directory.
pub(super) fn mount_point(path: &Path) -> Result<PathBuf, ServeError> {
    let failed = |source| ServeError::MountPoint { path: path.to_owned(), source };
    for _ in 0..DEAD_MAX {
        let seen = mounts::at(&location(path).map_err(failed)?);
        let Some(dead) = seen.filter(|mount| mount.is_ours() && is_dead(mount)) else { break };
        unmount(&dead, true).map_err(|errno| failed(errno.into()))?;
        let path = dead.target.display();
        tracing::warn!(%path, "a mount whose process is gone was taken away");
    }
    let real = std::fs::canonicalize(path).map_err(failed)?;
    if !real.is_dir() {
        return Err(failed(Errno::NOTDIR.into()));
    }
    Ok(real)
}

/// What a mount of this program shows that is seen at `path` already, and that another mount there
/// would cover.
pub(crate) fn covered(path: &Path) -> Option<PathBuf> {
    let seen = mounts::at(&location(path).ok()?).filter(|mount| mount.is_ours() && !is_dead(mount));
    seen.map(|mount| mount.source)
}

/// Whether nobody answers there any more. The kernel still tells what it knows of the root, so it is
/// asked for something that it does not keep.
pub(super) fn is_dead(mount: &Mounted) -> bool {
    rustix::fs::statfs(&mount.target).is_err_and(|errno| errno == Errno::NOTCONN)
}

/// Where a path is without symbolic links, although nobody may answer there.
///
/// # Errors
/// The directory above is not there.
pub(super) fn location(path: &Path) -> io::Result<PathBuf> {
    std::fs::canonicalize(path).or_else(|_unreachable| location_unasked(path))
}

/// The same of what is mounted at the end of the path, without a question to who serves that: it may hang.
///
/// # Errors
/// The directory above is not there.
pub(super) fn location_unasked(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    match (path.parent(), path.file_name()) {
        (Some(above), Some(name)) => Ok(std::fs::canonicalize(above)?.join(name)),
        _ => Ok(path),
    }
}

/// Mounts, and gives the descriptor through which the mount is to be served.
///
/// # Errors
/// [`ServeError::NoRights`], [`ServeError::Mount`].
pub(super) fn attach(
    target: &Path,
    attachment: &Attachment,
) -> Result<(OwnedFd, Mounted), ServeError> {
    let device = attestfs_fs::attach(target, attachment).map_err(|error| match error {
        MountError::Mount { errno: Errno::PERM | Errno::ACCESS, .. } => ServeError::NoRights,
        error => error.into(),
    })?;
    let mount = mounts::at(target).filter(Mounted::is_ours);
    let unseen = || ServeError::MountPoint { path: target.to_owned(), source: unseen() };
    Ok((device, mount.ok_or_else(unseen)?))
}

/// Takes the mount away, and never another one that was put over it. Lazily, those who use it may
/// go on.
///
/// # Errors
/// What `umount2(2)` says; EINVAL when it is gone already, EBUSY when something lies over it.
pub(super) fn unmount(mount: &Mounted, lazily: bool) -> Result<(), Errno> {
    take_away(mount, if lazily { UnmountFlags::DETACH } else { UnmountFlags::empty() })
}

/// Takes the mount away and breaks its connection off: whoever waits there is told an error, and nobody who serves it is
/// waited for.
///
/// # Errors
/// As those of [`unmount`], but never that it is in use.
pub(super) fn break_off(mount: &Mounted) -> Result<(), Errno> {
    take_away(mount, UnmountFlags::FORCE | UnmountFlags::DETACH)
}

fn take_away(mount: &Mounted, flags: UnmountFlags) -> Result<(), Errno> {
    match mounts::at(&mount.target) {
        Some(seen) if seen.id == mount.id => {}
        Some(_) => return Err(Errno::BUSY),
        None => return Err(Errno::INVAL),
    }
    rustix::mount::unmount(&mount.target, flags | UnmountFlags::NOFOLLOW)
}

fn unseen() -> io::Error {
    io::Error::other("what was mounted there is not in the list of mounts")
}

/// Lets the kernel read ahead as far as streaming wants, once the mount is served.
pub(super) fn tune(target: &Path) {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(target, flags, Mode::empty()) {
        Ok(root) => raise_readahead(root),
        Err(error) => tracing::debug!(%error, "readahead stays as it is"),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_mount_point_is_a_directory_that_is_there() {
        let base = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(base.path()).unwrap();
        fs::write(real.join("file"), "").unwrap();
        symlink(&real, real.join("link")).unwrap();
        assert_eq!(mount_point(&real.join("link")).unwrap(), real);
        for wrong in ["file", "nothing"] {
            let error = mount_point(&real.join(wrong)).unwrap_err();
            assert!(matches!(error, ServeError::MountPoint { .. }), "{error}");
        }
    }

    #[test]
    fn a_path_that_cannot_be_looked_at_has_a_location() {
        let base = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(base.path()).unwrap();
        symlink(&real, real.join("link")).unwrap();
        assert_eq!(location(&real.join("link/nothing")).unwrap(), real.join("nothing"));
        assert_eq!(location(&real.join("link")).unwrap(), real);
        assert!(location(&real.join("a/b")).is_err());
        assert_eq!(location(Path::new("/")).unwrap(), Path::new("/"));
    }
}
