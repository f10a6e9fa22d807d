//! A place of its own for each test: state, key, and what the test mounts there.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        fs::{PermissionsExt, chown},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use rustix::{
    mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount},
    net::sockopt::socket_peercred,
    process::{Pid, Signal, kill_process},
};
use tempfile::TempDir;

pub(crate) use crate::ended::{Finish, eventually};
use crate::needs;

/// The program under test.
pub(crate) const ATTESTFS: &str = env!("CARGO_BIN_EXE_attestfs");

/// Whom containers run as, without any privilege.
pub(crate) const USER: u32 = 1000;

/// When it goes, so do the mounts below it, and everybody who works in it.
pub(crate) struct Lab {
    directory: TempDir,
    root_filesystem: Option<PathBuf>,
}

impl Lab {
    /// None, said in one line, where nobody may mount.
    pub(crate) fn new() -> Option<Self> {
        needs::mounting().then(|| Self::place(None))
    }

    /// None, said in one line, on a machine without containers.
    pub(crate) fn with_containers() -> Option<Self> {
        needs::root_filesystem().map(|directory| Self::place(Some(directory)))
    }

    /// The lab is a mount of its own, shared with its copies as `/` is where systemd runs: what is
    /// mounted in it later is seen in containers too.
    fn place(root_filesystem: Option<PathBuf>) -> Self {
        let directory = TempDir::with_prefix("attestfs-containers-").unwrap();
        mount_bind(directory.path(), directory.path()).unwrap();
        mount_change(directory.path(), MountPropagationFlags::SHARED).unwrap();
        let lab = Self { directory, root_filesystem };
        fs::set_permissions(lab.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(lab.directory("state"), fs::Permissions::from_mode(0o700)).unwrap();
        lab.directory("keys");
        lab.attestfs(["keygen", "--out", "keys"]).succeed();
        lab
    }

    /// What containers see as their root.
    pub(crate) fn root_filesystem(&self) -> &Path {
        self.root_filesystem.as_deref().expect("a lab with containers has one")
    }

    /// A path in this lab.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A directory in this lab, made when it is not there.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// A directory in this lab that belongs to the user of containers.
    pub(crate) fn directory_of_user(&self, name: &str) -> PathBuf {
        let path = self.directory(name);
        chown(&path, Some(USER), Some(USER)).unwrap();
        path
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// `attestfs` with these arguments, in the lab's directory and with its state.
    pub(crate) fn attestfs<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = Command::new(ATTESTFS);
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .env("ATTESTFS_STATE", self.path("state"))
            .env("ATTESTFS_IDLE_SECONDS", "1")
            .env("ATTESTFS_LOG", "error")
            .stdin(Stdio::null());
        command
    }

    /// A policy by which the lab's key alone admits models, beside its public key.
    pub(crate) fn policy(&self) -> PathBuf {
        fs::copy(self.path("keys/attestfs.pub"), self.path("trainer.pub")).unwrap();
        self.write("policy.toml", POLICY)
    }

    /// Has a run write this model and sign it with the lab's key: `<directory>/weights.bin`.
    pub(crate) fn attested_model(&self, tree: &str, directory: &str, content: &str) {
        let script = format!(
            "mkdir {tree}/{directory} && printf %s \"$0\" > {tree}/{directory}/weights.bin"
        );
        self.attestfs(["run", "--stage", "train", "--key", "keys/attestfs.key", "--dir", tree])
            .args(["--out", directory, "--", "sh", "-ec", &script, content])
            .succeed();
    }

    /// Each fact that the runs of this state wrote down, as JSON.
    pub(crate) fn facts(&self, state: &str) -> Vec<serde_json::Value> {
        let runs = fs::read_dir(self.path(state).join("runs")).unwrap();
        let journals = runs.map(|run| run.unwrap().path().join("journal.jsonl"));
        let text: String = journals.map(|path| fs::read_to_string(path).unwrap()).collect();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Mounts below the lab, innermost first.
    pub(crate) fn mounts(&self) -> Vec<PathBuf> {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
        let mut mounts: Vec<_> =
            points.filter(|path| path.starts_with(self.directory.path())).collect();
        mounts.reverse();
        mounts
    }

    /// The command lines of processes that work in the lab.
    fn processes(&self) -> Vec<String> {
        let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
        let command = |process: PathBuf| fs::read(process.join("cmdline")).ok();
        let commands = processes.filter_map(command);
        let place = self.directory.path().to_str().unwrap();
        commands
            .map(|command| String::from_utf8_lossy(&command).replace('\0', " "))
            .filter(|command| command.contains(place))
            .collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for mount in self.mounts() {
            unmount(&mount, UnmountFlags::DETACH).unwrap_or_default();
        }
        end_daemon(&self.path("state"));
        // Servers end with their mounts, and podman tidies up behind its containers.
        for _ in 0..400 {
            if self.processes().is_empty() {
                return;
            }
            thread::sleep(Duration::from_millis(25));
        }
        println!("these do not end: {:#?}", self.processes());
    }
}

/// Ends the daemon as systemd would.
fn end_daemon(state: &Path) {
    for _ in 0..400 {
        let Ok(stream) = UnixStream::connect(state.join("control.sock")) else { return };
        if let Ok(peer) = socket_peercred(&stream) {
            // It may end this moment by itself.
            kill_process(peer.pid, Signal::TERM).unwrap_or_default();
        }
        thread::sleep(Duration::from_millis(25));
    }
    println!("the daemon of {} does not end", state.display());
}

const POLICY: &str = r#"version = 1
mode = "enforce"
[signers.trainer]
key = "trainer.pub"
[[rule]]
paths = ["**/*.bin"]
level = "rehash"
signed_by = ["trainer"]
"#;

/// A program that goes on while the test does, and is killed with it.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Its exit code, when it ended by itself.
    pub(crate) fn code(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }

    pub(crate) fn terminate(&self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}
