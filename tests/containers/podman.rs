//! Containers, as podman makes them with runc: crun refuses the control groups of some machines on
//! which this has to run.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::lab::{ATTESTFS, Finish, Lab, Running, USER, eventually};

/// User 0 of a user namespace, as the host knows it.
pub(crate) const MAPPED: u32 = 100_000;

/// A container that is to be run: as [`USER`], without any capability and without network, unless
/// told otherwise.
pub(crate) struct Container<'a> {
    lab: &'a Lab,
    name: String,
    options: Vec<OsString>,
    privileged: bool,
}

/// A container that runs until this goes.
pub(crate) struct RunningContainer<'a> {
    lab: &'a Lab,
    pub(crate) name: String,
    pub(crate) process: Running,
}

impl<'a> Container<'a> {
    pub(crate) fn new(lab: &'a Lab) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(1);
        let name = format!("attestfs-test-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        Self { lab, name, options: Vec::new(), privileged: false }
    }

    /// With the program under test in it.
    pub(crate) fn with_attestfs(self) -> Self {
        let quiet = self.option("--env").option("ATTESTFS_LOG=error");
        quiet.read_only(ATTESTFS, "/usr/bin/attestfs")
    }

    /// Bind-mounts `outside` at `inside`, with its later mounts (`rslave`, in Kubernetes
    /// `HostToContainer`).
    pub(crate) fn volume(self, outside: impl AsRef<Path>, inside: &str) -> Self {
        self.bind(outside.as_ref(), inside, "rslave")
    }

    /// The same, not to be written to.
    pub(crate) fn read_only(self, outside: impl AsRef<Path>, inside: &str) -> Self {
        self.bind(outside.as_ref(), inside, "ro,rslave")
    }

    /// Bind-mounts with these options of podman.
    pub(crate) fn bind(self, outside: &Path, inside: &str, options: &str) -> Self {
        let mut volume = outside.as_os_str().to_owned();
        volume.push(format!(":{inside}:{options}"));
        self.option("--volume").option(volume)
    }

    /// In a user namespace whose user 0 is [`MAPPED`].
    pub(crate) fn in_user_namespace(self) -> Self {
        let mapping = format!("0:{MAPPED}:65536");
        let mapped = self.option("--uidmap").option(&mapping).option("--gidmap").option(&mapping);
        // Its root may not make in the root filesystem what podman mounts files of its own on.
        mapped.option("--no-hosts").option("--tmpfs").option("/run")
    }

    /// An option of `podman run`.
    pub(crate) fn option(mut self, option: impl Into<OsString>) -> Self {
        self.options.push(option.into());
        self
    }

    /// With all capabilities and all devices, as root.
    pub(crate) fn privileged(mut self) -> Self {
        self.privileged = true;
        self
    }

    /// The command that runs a program in the container, to its end.
    pub(crate) fn run<A: AsRef<OsStr>>(self, program: impl IntoIterator<Item = A>) -> Command {
        let mut command = podman(self.lab);
        command.args(["run", "--rm", "--interactive", "--runtime", "runc", "--network", "none"]);
        // Who may not raise limits cannot take those over that podman has by default.
        command.args(["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]);
        command.args(["--name", &self.name, "--log-driver", "none"]);
        if self.privileged {
            command.arg("--privileged");
        } else {
            command.args(["--cap-drop", "all", "--security-opt", "no-new-privileges"]);
            command.arg("--user").arg(USER.to_string());
        }
        command.args(&self.options).arg("--rootfs");
        // Each container has a layer of its own above the root filesystem.
        let mut root_filesystem = self.lab.root_filesystem().as_os_str().to_owned();
        root_filesystem.push(":O");
        command.arg(root_filesystem).args(program).stdin(Stdio::null());
        command
    }

    /// Runs a program in the container while the test goes on. Its input is a pipe.
    pub(crate) fn start<A: AsRef<OsStr>>(
        self,
        program: impl IntoIterator<Item = A>,
    ) -> RunningContainer<'a> {
        let (lab, name) = (self.lab, self.name.clone());
        let mut command = self.run(program);
        let process = Running::start(command.stdin(Stdio::piped()));
        let container = RunningContainer { lab, name, process };
        eventually("the container runs", || container.state("Running") == "true");
        container
    }
}

impl RunningContainer<'_> {
    /// The process id of its first process, as the host sees it.
    pub(crate) fn pid(&self) -> u32 {
        self.state("Pid").parse().unwrap()
    }

    pub(crate) fn id(&self) -> String {
        self.inspect("{{.Id}}")
    }

    /// The command that runs another program in the container.
    pub(crate) fn execute<A: AsRef<OsStr>>(&self, program: impl IntoIterator<Item = A>) -> Command {
        let mut command = podman(self.lab);
        command.args(["exec", "--user", &USER.to_string(), &self.name]).args(program);
        command
    }

    pub(crate) fn signal(&self, signal: &str) {
        podman(self.lab).args(["kill", "--signal", signal, &self.name]).succeed();
    }

    fn state(&self, field: &str) -> String {
        self.inspect(&format!("{{{{.State.{field}}}}}"))
    }

    fn inspect(&self, template: &str) -> String {
        let ended = podman(self.lab).args(["inspect", "--format", template, &self.name]).finish();
        ended.stdout.trim().to_owned()
    }
}

impl Drop for RunningContainer<'_> {
    fn drop(&mut self) {
        podman(self.lab).args(["rm", "--force", "--time", "0", "--ignore", &self.name]).finish();
    }
}

/// Podman with a memory of its own, below the lab.
fn podman(lab: &Lab) -> Command {
    let place = |name: &str| PathBuf::from("podman").join(name);
    let mut command = Command::new("podman");
    command.current_dir(lab.path(""));
    command.arg("--root").arg(lab.path(place("root")));
    command.arg("--runroot").arg(lab.path(place("run")));
    command.arg("--tmpdir").arg(lab.path(place("tmp")));
    command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"]);
    command.args(["--events-backend", "file"]);
    command
}
