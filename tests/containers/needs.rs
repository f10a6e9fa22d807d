//! What the tests here need of the machine.

#![expect(clippy::disallowed_methods, reason = "tests are configured by their environment")]

use std::{
    env,
    path::{Path, PathBuf},
};

use crate::require::require;

/// Whether this process may mount.
pub(crate) fn mounting() -> bool {
    let may = Path::new("/dev/fuse").exists() && rustix::process::geteuid().is_root();
    require(may, "root and /dev/fuse")
}

/// A root filesystem with Python for containers, where this machine runs containers.
pub(crate) fn root_filesystem() -> Option<PathBuf> {
    if !mounting() || !programs(&["podman", "runc"]) {
        return None;
    }
    let directory = env::var_os("ATTESTFS_ROOTFS").map(PathBuf::from);
    let directory = directory.filter(|directory| directory.join("usr/bin/python3").exists());
    require(directory.is_some(), "a root filesystem with Python, which ATTESTFS_ROOTFS names");
    directory
}

/// Whether the kernel lets a FUSE mount be mounted again with mapped user ids.
pub(crate) fn mapped_users_on_fuse() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    require(version >= (6, 12), "Linux 6.12")
}

/// The Python that has the packages of the tests.
pub(crate) fn python() -> Option<PathBuf> {
    let program = env::var_os("ATTESTFS_PYTHON").map(PathBuf::from).filter(|it| it.is_file());
    require(program.is_some(), "a Python that ATTESTFS_PYTHON names");
    program
}

/// Whether all of these programs can be started.
pub(crate) fn programs(names: &[&str]) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &&str| env::split_paths(&path).any(|place| place.join(name).is_file());
    names.iter().all(|name| require(is_there(name), name))
}
