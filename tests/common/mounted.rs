//! Mounts that tests make, and that go with them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::mount::UnmountFlags;
use serde_json::Value;

use crate::lab::{Finish, Lab, eventually};

/// A mount that is served in the background. When it goes, nothing is mounted there any more and its
/// process has ended.
pub(crate) struct Mounted<'l> {
    lab: &'l Lab,
    pub(crate) path: PathBuf,
    pid: u32,
}

impl<'l> Mounted<'l> {
    /// `attestfs mount BACKING MOUNTPOINT` of two directories of the lab.
    pub(crate) fn new(lab: &'l Lab, backing: &str, mount_point: &str, options: &[&str]) -> Self {
        // Not where a dead mount is in the way.
        for path in [backing, mount_point].map(|name| lab.path(name)) {
            if !is_mounted(&path) {
                fs::create_dir_all(path).unwrap();
            }
        }
        Self::by(lab, mount_point, mount(lab, backing, mount_point, options).arg("--json"))
    }

    /// What this command mounts, which answers in JSON.
    pub(crate) fn by(lab: &'l Lab, mount_point: &str, command: &mut Command) -> Self {
        let printed = command.succeed();
        let served: Value = serde_json::from_str(&printed).unwrap();
        let pid = u32::try_from(served["pid"].as_u64().unwrap()).unwrap();
        Self { lab, path: fs::canonicalize(lab.path(mount_point)).unwrap(), pid }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// `attestfs umount`, with these options.
    pub(crate) fn umount(&self, options: &[&str]) -> Command {
        let mut umount = self.lab.attestfs(["umount"]);
        umount.args(options).arg(&self.path);
        umount
    }

    /// Waits until the process that serves it has ended.
    pub(crate) fn wait_for_end(&self) {
        eventually("the mount's process has ended", || !is_running(self.pid));
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        unmount_all_at(&self.path);
        self.wait_for_end();
    }
}

/// `attestfs mount` of two directories of the lab.
pub(crate) fn mount(lab: &Lab, backing: &str, mount_point: &str, options: &[&str]) -> Command {
    let mut command = lab.attestfs(["mount", "--key", "keys/attestfs.key"]);
    command.args(options).args([backing, mount_point]);
    command
}

/// Whether something of attestfs is mounted at this path.
pub(crate) fn is_mounted(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().any(|mount| {
        mount.contains(" - fuse.attestfs ") && mount.split(' ').nth(4) == path.to_str()
    })
}

/// Whether the process lives, and is no zombie of this one.
pub(crate) fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}

pub(crate) fn unmount_all_at(path: &Path) {
    while is_mounted(path) && rustix::mount::unmount(path, UnmountFlags::DETACH).is_ok() {}
}

/// What an extended attribute says; none when there is none.
pub(crate) fn attribute(path: &Path, name: &str) -> Option<String> {
    let mut value = vec![0; 4096];
    let length = rustix::fs::getxattr(path, name, &mut value).ok()?;
    value.truncate(length);
    Some(String::from_utf8(value).unwrap())
}

/// Writes a file through a mount, and waits until its digest is recorded.
pub(crate) fn write_sealed(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    eventually("it is sealed", || {
        attribute(path, "user.attestfs.state").as_deref() == Some("sealed")
    });
}
