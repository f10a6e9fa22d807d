//! Descriptors that are named by their numbers (`/dev/fd/N`), and the FUSE device among them.

use std::{
    fs,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    path::Path,
};

use filedescriptor::FileDescriptor;
use rustix::fs::FileType;

use super::failure::ServeError;

/// Of `/dev/fuse`.
const FUSE_DEVICE: (u32, u32) = (10, 229);

/// The number in `/dev/fd/N`.
pub(super) fn number(path: &Path) -> Option<RawFd> {
    path.strip_prefix("/dev/fd").ok()?.to_str()?.parse().ok()
}

/// Takes over a descriptor that this process has inherited. The original stays
/// open until it is [closed](close_inherited).
pub(super) fn inherited(number: RawFd) -> Result<OwnedFd, ServeError> {
    let not_open = |error: filedescriptor::Error| ServeError::NoDescriptor {
        number,
        reason: error.to_string(),
    };
    let descriptor = FileDescriptor::dup(&number).map_err(not_open)?;
    let file = descriptor.as_file().map_err(not_open)?;
    Ok(file.into())
}

/// Closes what was inherited, once it is taken over: processes that this one starts would keep the
/// filesystem alive. Standard input, output and error stay.
pub(super) fn close_inherited(path: &Path) {
    if let Some(number) = number(path).filter(|number| *number > 2)
        && let Err(error) = nix::unistd::close(number)
    {
        tracing::debug!(%error, number, "an inherited descriptor is not closed");
    }
}

/// Whether a descriptor is open on `/dev/fuse`.
pub(super) fn is_fuse(device: impl AsFd) -> bool {
    rustix::fs::fstat(device).is_ok_and(|stat| {
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        FileType::from_raw_mode(stat.st_mode).is_char_device() && (major, minor) == FUSE_DEVICE
    })
}

/// What a descriptor is open on, for messages.
pub(super) fn shown(descriptor: impl AsFd) -> String {
    let link = format!("/proc/self/fd/{}", descriptor.as_fd().as_raw_fd());
    fs::read_link(link).unwrap_or_default().display().to_string()
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::MetadataExt};

    use super::*;

    #[test]
    fn only_whole_numbers_below_dev_fd_name_a_descriptor() {
        assert_eq!(number(Path::new("/dev/fd/3")), Some(3));
        for other in ["/dev/fd", "/dev/fd/", "/dev/fd/x", "/dev/fd/3/a", "/dev/fuse", "fd/3", ""] {
            assert_eq!(number(Path::new(other)), None, "{other}");
        }
    }

    #[test]
    fn only_the_fuse_device_is_one() {
        let null = File::open("/dev/null").unwrap();
        assert!(!is_fuse(&null));
        assert_eq!(shown(&null), "/dev/null");
        assert!(!is_fuse(tempfile::tempfile().unwrap()));
    }

    #[test]
    fn a_descriptor_is_taken_over_by_its_number() {
        let directory = tempfile::tempdir().unwrap();
        let file = File::open(directory.path()).unwrap();
        let taken = inherited(file.as_raw_fd()).unwrap();
        let (taken, file) = (File::from(taken).metadata().unwrap(), file.metadata().unwrap());
        assert_eq!(taken.ino(), file.ino());
        assert!(matches!(inherited(99_999), Err(ServeError::NoDescriptor { number: 99_999, .. })));
    }
}
