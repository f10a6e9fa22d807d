//! `attestfs mount`, as long as it is measured.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    command::{finish, timed},
    place::Place,
};

/// Directory `backing` of a place, seen through attestfs at another one. When it goes, nothing is
/// mounted there and its process has ended, also after a panic.
#[derive(Debug)]
pub(crate) struct Mounted<'p> {
    place: &'p Place,
    /// Where it is seen.
    pub(crate) path: PathBuf,
    /// The process that serves it.
    pub(crate) server: u32,
}

/// Who reads a file that was sealed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reads {
    /// The kernel by itself, past the server, where it can.
    AsEver,
    /// The server, and the kernel keeps what it was given.
    ThroughTheServer,
}

/// What a stage attests.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outputs<'n> {
    /// All that is written.
    All,
    /// A directory, which gets a `model.sig`.
    Below(&'n str),
}

impl<'p> Mounted<'p> {
    /// For writing, with these options more.
    pub(crate) fn new(place: &'p Place, backing: &Path, options: &[&str]) -> Self {
        let options = [&["--capture", &place.capture], options].concat();
        Self::reading(place, backing, &options, Reads::AsEver)
    }

    fn reading(place: &'p Place, backing: &Path, options: &[&str], reads: Reads) -> Self {
        let path = unused_mount_point(place);
        let mut mount = place.attestfs(["mount", "--json", "--key"]);
        mount.arg(place.key()).args(options).arg(backing).arg(&path);
        if matches!(reads, Reads::ThroughTheServer) {
            mount.env("ATTESTFS_PASSTHROUGH", "off");
        }
        let answer: Value = serde_json::from_str(&finish(&mut mount)).unwrap();
        let server = answer["pid"].as_u64().unwrap().try_into().unwrap();
        Self { place, path, server }
    }

    /// For reading what the policy admits at this level.
    pub(crate) fn guarded(place: &'p Place, backing: &Path, level: &str, reads: Reads) -> Self {
        let policy = place.policy(level);
        let options = ["--read-only", "--policy", policy.to_str().unwrap()];
        Self::reading(place, backing, &options, reads)
    }

    /// For reading whatever lies there.
    pub(crate) fn unguarded(place: &'p Place, backing: &Path, reads: Reads) -> Self {
        Self::reading(place, backing, &["--read-only"], reads)
    }

    /// From now on what is written is hashed and recorded; `outputs` are what is attested of it.
    pub(crate) fn open_stage(&self, outputs: Outputs<'_>) {
        let mut open = self.place.attestfs(["stage", "open", "--stage", "bench"]);
        if let Outputs::Below(directory) = outputs {
            open.args(["--out", directory]);
        }
        finish(open.arg(&self.path));
    }

    /// Ends the stage: how long until what it wrote is attested.
    pub(crate) fn close_stage(&self) -> Duration {
        timed(self.place.attestfs(["stage", "close"]).arg(&self.path))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.place.attestfs(words);
        command.arg(&self.path);
        command
    }

    fn has_ended(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.server)).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('Z'))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // There may be no stage that is open.
        let _aborted = self.command(&["stage", "abort"]).output();
        for options in [&["umount"][..], &["umount", "--lazy"][..]] {
            if self.command(options).output().is_ok_and(|output| output.status.success()) {
                break;
            }
        }
        for _ in 0..1200 {
            if self.has_ended() {
                return;
            }
            thread::sleep(Duration::from_millis(25));
        }
        eprintln!("process {} still serves {}", self.server, self.path.display());
    }
}

/// A directory of the place on which nothing was mounted so far.
pub(crate) fn unused_mount_point(place: &Place) -> PathBuf {
    let name = (0..).map(|number| format!("seen-{number}"));
    place.directory(&name.into_iter().find(|name| !place.path(name).exists()).unwrap())
}
