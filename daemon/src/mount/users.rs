//! Who keeps a mount from being taken away.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::mounts::Mounted;

/// Bounds of the look at `/proc`: it is for a message.
const PROCESSES_MAX: usize = 8192;
const DESCRIPTORS_MAX: usize = 4096;
const SHOWN_MAX: usize = 8;

/// The processes that have something of the mount open, or live there, as far as this process may
/// see that: `python (1234), sh (1235)`. Empty when none is seen.
pub(super) fn users_of(mount: &Mounted) -> String {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let others = numbers.filter(|pid| *pid != std::process::id() && !asks_for_end(*pid));
    let others = others.take(PROCESSES_MAX);
    let mut users: Vec<_> =
        others.filter(|pid| uses(*pid, mount)).map(shown).take(SHOWN_MAX + 1).collect();
    if users.len() > SHOWN_MAX {
        users.truncate(SHOWN_MAX);
        users.push("..".to_owned());
    }
    users.join(", ")
}

/// Whether it is the one that asks, or has been started only for that, such as `timeout 9 attestfs umount`.
fn asks_for_end(pid: u32) -> bool {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    command.split(|byte| *byte == 0).any(|word| word == b"umount")
}

fn uses(pid: u32, mount: &Mounted) -> bool {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let lives_there = ["cwd", "root", "exe"].iter().any(|link| {
        fs::read_link(process.join(link)).is_ok_and(|path| path.starts_with(&mount.target))
    });
    lives_there || has_open(&process, mount.id) || has_mapped(&process, &mount.target)
}

fn has_open(process: &Path, mount: u64) -> bool {
    let descriptors = fs::read_dir(process.join("fdinfo")).into_iter().flatten().flatten();
    descriptors.take(DESCRIPTORS_MAX).any(|descriptor| {
        let info = fs::read_to_string(descriptor.path()).unwrap_or_default();
        let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
        id.and_then(|id| id.trim().parse().ok()) == Some(mount)
    })
}

fn has_mapped(process: &Path, target: &Path) -> bool {
    let maps = fs::read_to_string(process.join("maps")).unwrap_or_default();
    let paths = maps.lines().filter_map(|line| line.find('/').map(|start| &line[start..]));
    paths.into_iter().any(|path| Path::new(path).starts_with(target))
}

fn shown(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("{} ({pid})", name.trim())
}
