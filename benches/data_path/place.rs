//! A directory on which is measured, with its keys, policies and state.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, flock},
    net::sockopt::socket_peercred,
    process::{Pid, Signal, kill_process},
};
use tempfile::TempDir;

use crate::command::finish;

/// What is measured.
pub(crate) const ATTESTFS: &str = env!("CARGO_BIN_EXE_attestfs");

/// A directory on which is measured. When it goes, its daemon has ended.
#[derive(Debug)]
pub(crate) struct Place {
    directory: TempDir,
    /// `--capture`, for whoever writes.
    pub(crate) capture: String,
}

impl Place {
    pub(crate) fn new(below: &Path, capture: &str) -> Self {
        let directory = TempDir::with_prefix_in("attestfs-bench-", below).unwrap();
        let place = Self { directory, capture: capture.to_owned() };
        finish(place.attestfs(["keygen", "--out"]).arg(place.directory("keys")));
        place
    }

    /// A path in this place.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A directory in this place, made when it is not there.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.path("keys/attestfs.key")
    }

    pub(crate) fn public_key(&self) -> PathBuf {
        self.path("keys/attestfs.pub")
    }

    /// `attestfs` with these arguments and the place's state.
    pub(crate) fn attestfs<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = Command::new(ATTESTFS);
        command.args(arguments);
        command.env("ATTESTFS_STATE", self.path("state")).env("ATTESTFS_IDLE_SECONDS", "3");
        command
    }

    /// A policy that guards what is called `*.bin`, at this level, and believes the place's key.
    pub(crate) fn policy(&self, level: &str) -> PathBuf {
        let path = self.path(&format!("{level}.toml"));
        let rule = format!(
            "version = 1\n\n[signers.bench]\nkey = \"keys/attestfs.pub\"\n\n\
             [[rule]]\npaths = [\"**/*.bin\"]\nlevel = \"{level}\"\nsigned_by = [\"bench\"]\n"
        );
        fs::write(&path, rule).unwrap();
        path
    }

    /// Ends the daemon as systemd would, and waits until it has let go of the state.
    fn end_daemon(&self) {
        let Ok(lock) = File::open(self.path("state/daemon.lock")) else { return };
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
        eprintln!("the daemon of {} does not end", self.path("state").display());
    }

    /// The process at the other end of the control socket.
    fn daemon(&self) -> Option<Pid> {
        let stream = UnixStream::connect(self.path("state/control.sock")).ok()?;
        Some(socket_peercred(&stream).ok()?.pid)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.end_daemon();
    }
}
