//! What the kernel lets this user do.

use std::{
    fs::{self, OpenOptions},
    io,
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use rustix::process::{Resource, getrlimit};

use super::Finding;
use crate::{cli::output::complain, passthrough, run};

/// The first argument by which this program knows that it is to try out a mount and end. No user
/// types it.
pub(in crate::cli) const HIDDEN_COMMAND: &str = "__rehearse";

/// So many files few stages have open at a time.
const OPEN_FILES_ENOUGH: u64 = 4096;

/// The process that serves has open what the command has open, and holds another one by which it reaches the file.
const DESCRIPTORS_OF_AN_OPEN_FILE: u64 = 2;

pub(super) fn findings() -> Vec<Finding> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    vec![
        Finding::ok("kernel", format!("Linux {release}")),
        device(),
        mount(),
        open_files(),
        passthrough(),
        cgroup(),
        gpu(),
        tee(),
    ]
}

/// Tries out what a run begins with, in a process that has no other purpose.
pub(in crate::cli) fn rehearsal() -> ExitCode {
    match run::rehearse(&std::env::temp_dir()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            complain(&reason);
            ExitCode::FAILURE
        }
    }
}

fn device() -> Finding {
    const SUBJECT: &str = "/dev/fuse";
    match OpenOptions::new().read(true).write(true).open(SUBJECT) {
        Ok(_) => Finding::ok(SUBJECT, "can be opened"),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Finding::missing(
            SUBJECT,
            error.to_string(),
            "chmod 666 /dev/fuse, which is safe, or run as root",
        ),
        Err(error) => Finding::missing(
            SUBJECT,
            error.to_string(),
            "modprobe fuse; in a container: pass the device, as in docker run --device /dev/fuse",
        ),
    }
}

fn mount() -> Finding {
    const SUBJECT: &str = "mounting";
    let is_root = rustix::process::geteuid().is_root();
    let how = if is_root { "in a mount namespace" } else { "in a user namespace" };
    let tried = Command::new("/proc/self/exe")
        .arg(HIDDEN_COMMAND)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output();
    match tried {
        Ok(tried) if tried.status.success() => Finding::ok(SUBJECT, format!("tried out, {how}")),
        Ok(tried) => {
            let reason = String::from_utf8_lossy(&tried.stderr);
            let reason = reason.trim().trim_start_matches("attestfs: ");
            Finding::missing(SUBJECT, format!("{how}: {reason}"), what_to_do(is_root))
        }
        Err(error) => Finding::missing(SUBJECT, error.to_string(), what_to_do(is_root)),
    }
}

/// The process that serves a run raises its own soft limit to the hard one.
fn open_files() -> Finding {
    const SUBJECT: &str = "open files";
    match getrlimit(Resource::Nofile).maximum {
        None => Finding::ok(SUBJECT, "no hard limit"),
        Some(limit) => {
            let files = limit / DESCRIPTORS_OF_AN_OPEN_FILE;
            let bounded =
                format!("hard limit {limit}: one run can have {files} files open at a time");
            let next = "raise it (ulimit -Hn, LimitNOFILE=) if stages have more files open";
            let next_step = (files < OPEN_FILES_ENOUGH).then(|| next.to_owned());
            Finding { next_step, ..Finding::ok(SUBJECT, bounded) }
        }
    }
}

/// The switches of this machine that commonly stand in the way.
fn what_to_do(is_root: bool) -> String {
    let switch = |path: &str, closed: &str, order: &str| {
        let value = fs::read_to_string(path).unwrap_or_default();
        (value.trim() == closed).then(|| order.to_owned())
    };
    let switches = [
        switch("/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"),
        switch(
            "/proc/sys/kernel/unprivileged_userns_clone",
            "0",
            "sysctl kernel.unprivileged_userns_clone=1",
        ),
        switch(
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for attestfs",
        ),
    ];
    let found: Vec<_> = switches.into_iter().flatten().collect();
    match (is_root, found.is_empty()) {
        (true, _) => "give this container CAP_SYS_ADMIN, as in docker run --cap-add SYS_ADMIN \
                      --security-opt apparmor=unconfined"
            .to_owned(),
        (false, false) => format!("as root: {}", found.join("; ")),
        (false, true) => {
            "run as root; or let this user make user namespaces (in a container, its seccomp \
             profile decides)"
                .to_owned()
        }
    }
}

fn passthrough() -> Finding {
    const SUBJECT: &str = "passthrough";
    match passthrough::lacking() {
        None => Finding::ok(SUBJECT, "what is sealed is read at the speed of the store"),
        Some(lacking) => Finding::unused(SUBJECT, format!("{lacking}: reads go through attestfs")),
    }
}

fn cgroup() -> Finding {
    const SUBJECT: &str = "cgroup";
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::"));
    match own {
        Some(path) => Finding::ok(SUBJECT, format!("version 2, {path}: recorded with each run")),
        None => Finding::unused(SUBJECT, "no version 2: runs are recorded without it"),
    }
}

fn gpu() -> Finding {
    let devices = ["/dev/nvidiactl", "/dev/kfd"];
    let found = devices.into_iter().find(|device| Path::new(device).exists());
    let found = found.unwrap_or("none found");
    Finding::unused("GPU", format!("{found}; not used yet: hashing is done by the CPU"))
}

fn tee() -> Finding {
    let devices = ["/dev/sev-guest", "/dev/tdx_guest", "/dev/tsm"];
    let found = devices.into_iter().find(|device| Path::new(device).exists());
    let found = found.unwrap_or("none found");
    Finding::unused("TEE", format!("{found}; not used yet: attestations claim none"))
}
