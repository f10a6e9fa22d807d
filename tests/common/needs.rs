//! What the tests here need of the machine.

#![expect(clippy::disallowed_methods, reason = "tests are configured by their environment")]

use std::{env, fs::File, path::PathBuf};

use crate::require::require;

/// Whether this process may mount.
pub(crate) fn mounting() -> bool {
    let device = File::options().read(true).write(true).open("/dev/fuse");
    require(device.is_ok() && rustix::process::geteuid().is_root(), "root and /dev/fuse")
}

/// Whether all of these programs can be started.
pub(crate) fn programs(names: &[&str]) -> bool {
    names.iter().all(|name| require(is_on_path(name), name))
}

/// The program that an environment variable names.
pub(crate) fn program_of(variable: &str) -> Option<PathBuf> {
    let program = env::var_os(variable).map(PathBuf::from).filter(|program| program.is_file());
    require(program.is_some(), &format!("a program that {variable} names"));
    program
}

fn is_on_path(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(name).is_file())
}
