//! Filesystems of their own, on which the power can be cut.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
};

use rustix::{
    mount::{UnmountFlags, mount_bind},
    process::{Pid, Signal, kill_process},
};

use crate::ended::{Finish, eventually};

/// All can be told to end as when the power is cut; what keeps no journal need not come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ext4,
    Ext4WithoutJournal,
    Xfs,
}

/// Whether a file, which is made for that, can be a disk.
pub(crate) fn are_possible(image: &Path) -> bool {
    fs::File::create(image).unwrap().set_len(1 << 20).unwrap();
    let attached = attach(image).finish();
    if attached.code == Some(0) {
        detach(attached.stdout.trim()).succeed();
    }
    attached.code == Some(0)
}

fn attach(image: &Path) -> Command {
    let mut losetup = Command::new("losetup");
    losetup.args(["--find", "--show"]).arg(image);
    losetup
}

fn detach(device: &str) -> Command {
    let mut losetup = Command::new("losetup");
    losetup.args(["--detach", device]);
    losetup
}

/// A filesystem in a file, whose directories are seen elsewhere. When it goes, nothing of it is mounted any more.
#[derive(Debug)]
pub(crate) struct Disk {
    device: String,
    path: PathBuf,
    /// Each directory of it, and where it is seen.
    binds: Vec<(PathBuf, PathBuf)>,
}

impl Disk {
    /// A new one, mounted at `path`. Of its directories, which are made, each is seen at the second path.
    pub(crate) fn new(kind: Kind, path: PathBuf, binds: &[(&str, PathBuf)]) -> Self {
        let image = path.with_extension("img");
        fs::File::create(&image).unwrap().set_len(BYTES).unwrap();
        match kind {
            Kind::Ext4 => Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).succeed(),
            Kind::Ext4WithoutJournal => Command::new("mkfs.ext4")
                .args(["-q", "-F", "-O", "^has_journal"])
                .arg(&image)
                .succeed(),
            Kind::Xfs => Command::new("mkfs.xfs").args(["-q", "-f"]).arg(&image).succeed(),
        };
        let device = attach(&image).succeed();
        fs::create_dir_all(&path).unwrap();
        let binds = binds.iter().map(|(name, seen)| (path.join(name), seen.clone())).collect();
        let disk = Self { device: device.trim().to_owned(), path, binds };
        Command::new("mount").arg(&disk.device).arg(&disk.path).succeed();
        for (directory, seen) in &disk.binds {
            fs::create_dir_all(directory).unwrap();
            fs::create_dir_all(seen).unwrap();
            let mode = fs::metadata(seen).unwrap().permissions();
            fs::set_permissions(directory, mode).unwrap();
        }
        disk.sync();
        disk.show();
        disk
    }

    /// Writes everything down, as the kernel does it when it likes.
    pub(crate) fn sync(&self) {
        if let Ok(root) = fs::File::open(&self.path) {
            // It may have been cut.
            rustix::fs::syncfs(root).unwrap_or_default();
        }
    }

    /// Nothing reaches the disk from now on: neither what the pages have nor what the journal has not written yet.
    pub(crate) fn cut(&self) {
        // Not by `xfs_io`, which looks at every mount there is, those that hang, too.
        Command::new("python3").args(["-I", "-S", "-c", SHUTDOWN]).arg(&self.path).succeed();
    }

    /// Takes it away. Whoever still uses it is killed.
    pub(crate) fn take_away(&self) {
        for path in self.binds.iter().map(|(_, seen)| seen).chain([&self.path]) {
            eventually("a disk is unmounted", || {
                kill_who_uses(path);
                rustix::mount::unmount(path, UnmountFlags::empty()).is_ok() || !is_mounted(path)
            });
        }
    }

    /// Mounts it again: its journal is replayed.
    pub(crate) fn come_back(&self) {
        eventually("a disk that was cut is mounted anew", || {
            // What was copied along into the mounts of others is the one that was cut, until they have gone.
            Command::new("mount").arg(&self.device).arg(&self.path).succeed();
            let mark = self.path.join("is-back");
            let is_back = fs::write(&mark, "").and_then(|()| fs::remove_file(&mark)).is_ok();
            if !is_back {
                self.take_away();
            }
            is_back
        });
        self.show();
    }

    fn show(&self) {
        for (directory, seen) in &self.binds {
            mount_bind(directory, seen).unwrap();
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for path in self.binds.iter().map(|(_, seen)| seen).chain([&self.path]) {
            rustix::mount::unmount(path, UnmountFlags::DETACH).unwrap_or_default();
        }
        detach(&self.device).finish();
    }
}

/// `EXT4_IOC_SHUTDOWN`, which XFS calls `XFS_IOC_GOINGDOWN`, with `NOLOGFLUSH`.
const SHUTDOWN: &str = "
import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))
";

/// The least that `mkfs.xfs` takes.
const BYTES: u64 = 320 << 20;

fn is_mounted(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().any(|mount| mount.split(' ').nth(4) == path.to_str())
}

/// Ends every process that has something open below a directory of this test.
pub(crate) fn kill_who_uses(path: &Path) {
    for entry in fs::read_dir("/proc").unwrap() {
        let directory = entry.unwrap().path();
        let pid = directory.file_name().and_then(|name| name.to_str()?.parse().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else { continue };
        let is_own = pid.as_raw_nonzero().get().cast_unsigned() == process::id();
        if !is_own && uses(&directory, path) {
            // It may have ended this moment.
            kill_process(pid, Signal::KILL).unwrap_or_default();
        }
    }
}

fn uses(process: &Path, path: &Path) -> bool {
    let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    let links = descriptors.map(|entry| entry.path()).chain([process.join("cwd")]);
    links.filter_map(|link| fs::read_link(link).ok()).any(|target| target.starts_with(path))
}
