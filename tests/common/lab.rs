//! A directory of its own for each test: state, keys and whatever the test puts there.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, flock},
    net::sockopt::socket_peercred,
    process::{Pid, Signal, kill_process},
};
use tempfile::TempDir;

pub(crate) use crate::ended::{Ended, Finish, eventually};
use crate::needs;

/// The program under test.
pub(crate) const ATTESTFS: &str = env!("CARGO_BIN_EXE_attestfs");

/// A place for one test. When it goes, its daemon has ended.
pub(crate) struct Lab {
    directory: TempDir,
}

impl Lab {
    /// None, said in one line, where nobody may mount.
    pub(crate) fn new() -> Option<Self> {
        needs::mounting().then(Self::without_mounts)
    }

    /// For tests that mount nothing themselves.
    pub(crate) fn without_mounts() -> Self {
        let lab = Self { directory: TempDir::with_prefix("attestfs-e2e-").unwrap() };
        lab.directory("state");
        fs::set_permissions(lab.state(), fs::Permissions::from_mode(0o700)).unwrap();
        lab.directory("keys");
        lab.attestfs(["keygen", "--out", "keys"]).succeed();
        lab
    }

    /// A path in this lab.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A directory in this lab, made when it is not there.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path("state")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.path("keys/attestfs.key")
    }

    pub(crate) fn public_key(&self) -> PathBuf {
        self.path("keys/attestfs.pub")
    }

    /// `attestfs` with these arguments, in the lab's directory and with its state.
    pub(crate) fn attestfs<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = self.configured(ATTESTFS);
        command.args(arguments);
        command
    }

    /// A program that may start `attestfs`: in the lab's directory and with its state.
    pub(crate) fn configured(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.directory.path())
            .env("ATTESTFS_STATE", self.state())
            .env("ATTESTFS_IDLE_SECONDS", "1")
            .env_remove("ATTESTFS_STOP_AT")
            .env_remove("ATTESTFS_LOG")
            .env_remove("ATTESTFS_LOG_FORMAT")
            .env_remove("ATTESTFS_METRICS")
            .stdin(Stdio::null());
        command
    }

    /// `attestfs run` of a stage, signed by the lab's key. Directories, and the command after
    /// `--`, are to be added.
    pub(crate) fn run(&self, stage: &str) -> Command {
        let mut command = self.attestfs(["run", "--stage", stage, "--key", "keys/attestfs.key"]);
        command.env("ATTESTFS", ATTESTFS);
        command
    }

    /// Runs a shell script as a stage that observes the directory `tree` of the lab, which is its
    /// working directory.
    pub(crate) fn shell(&self, tree: &str, script: &str) -> Command {
        let mut command = self.run("shell");
        let enter = format!("cd {tree} && {script}");
        command.args(["--dir", tree, "--", "sh", "-ec", &enter]);
        command
    }

    /// `attestfs verify` with the lab's public key.
    pub(crate) fn verify(&self, path: impl AsRef<Path>) -> Command {
        let mut command = self.attestfs(["verify", "--key", "keys/attestfs.pub"]);
        command.arg(path.as_ref());
        command
    }

    /// Ends the daemon as systemd would, and waits until it has let go of the state.
    pub(crate) fn end_daemon(&self) {
        let Ok(lock) = File::open(self.state().join("daemon.lock")) else { return };
        for _ in 0..400 {
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                return;
            }
            if let Some(daemon) = self.daemon() {
                // It may end this moment by itself.
                kill_process(daemon, Signal::TERM).unwrap_or_default();
            }
            thread::sleep(Duration::from_millis(25));
        }
        println!("the daemon of {} does not end", self.state().display());
    }

    /// The process at the other end of the control socket.
    pub(crate) fn daemon(&self) -> Option<Pid> {
        let stream = UnixStream::connect(self.state().join("control.sock")).ok()?;
        Some(socket_peercred(&stream).ok()?.pid)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.end_daemon();
        if thread::panicking() {
            let log = fs::read_to_string(self.state().join("daemon.log")).unwrap_or_default();
            println!("the daemon's log:\n{log}");
        }
    }
}

/// A program that goes on while the test does, and is killed with it.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    /// Its exit code, when it ended by itself.
    pub(crate) fn code(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }

    /// As the kernel does it when memory is short.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}
