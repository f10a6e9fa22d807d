//! What to do about what the system says, whoever asked it.

use std::{
    io::{Error, ErrorKind},
    path::Path,
};

use rustix::io::Errno;

/// What helps wherever it happens; none when that depends on what was asked.
pub(crate) fn cure(error: &Error) -> Option<&'static str> {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some("make room there"),
        _ if !Path::new("/proc/self").exists() => {
            Some("mount what is missing here: mount -t proc proc /proc")
        }
        _ if Errno::from_io_error(error) == Some(Errno::MFILE) => {
            Some("allow more open files: ulimit -n 65536")
        }
        _ => None,
    }
}

/// What helps where `/dev/fuse` cannot be opened.
#[cfg(feature = "mount")]
pub(crate) fn cure_of_device(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            "chmod 666 /dev/fuse, which is safe, or run as root; in a container: allow the device"
        }
        _ => cure(error).unwrap_or(
            "modprobe fuse; in a container: pass the device, as in docker run --device /dev/fuse",
        ),
    }
}
