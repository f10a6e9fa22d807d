//! Filesystems that a test mounts for itself, and that go with it.

use std::{
    ffi::CString,
    path::{Path, PathBuf},
};

use rustix::mount::{MountFlags, UnmountFlags};

/// Something that is mounted.
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// In memory, of so many bytes at most.
    pub(crate) fn in_memory(at: &Path, bytes_max: u64) -> Self {
        let options = CString::new(format!("size={bytes_max},mode=700")).unwrap();
        rustix::mount::mount("tmpfs", at, "tmpfs", MountFlags::empty(), options.as_c_str())
            .unwrap();
        Self(at.to_owned())
    }

    /// What somebody else has mounted.
    pub(crate) fn mounted(at: &Path) -> Self {
        Self(at.to_owned())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let whole = rustix::mount::unmount(&self.0, UnmountFlags::empty());
        whole.or_else(|_in_use| rustix::mount::unmount(&self.0, UnmountFlags::DETACH)).unwrap();
    }
}
