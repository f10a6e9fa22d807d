//! What a run says of itself.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use attestfs_attestation::{Executable, LockUse, RunDescription, escaped};
use attestfs_fs::TreePath;
use jiff::Timestamp;

use super::{orders::Assignment, trees::Trees};
use crate::{config, redact};

/// What a run is told of itself, beside its assignment.
#[derive(Debug)]
pub(crate) struct Description {
    pub(crate) id: String,
    pub(crate) stage: String,
    /// The program and its arguments; empty when nobody said what is executed.
    pub(crate) command: Vec<OsString>,
    /// Whether the program is one that can be looked at here, and is going to be started.
    pub(crate) starts_command: bool,
    pub(crate) working_directory: PathBuf,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) lock: Option<LockUse>,
    pub(crate) started: Timestamp,
}

impl Description {
    /// Describes the run. Secrets on the command line and in labels are blotted out here, before
    /// anything is written down.
    pub(crate) fn of(self, assignment: &Assignment) -> RunDescription {
        let words: Vec<String> = self.command.iter().map(|word| escaped(word.as_bytes())).collect();
        let program = self.command.first().filter(|_| self.starts_command);
        let trees = &assignment.trees;
        RunDescription {
            id: self.id,
            stage: self.stage,
            command: redact::command(&words),
            executable: program.and_then(|program| executable(program.as_ref())),
            working_directory: escaped(self.working_directory.as_os_str().as_bytes()),
            uid: config::effective_user(),
            host: config::host_name(),
            kernel: kernel(),
            cgroup: cgroup(),
            trees: trees.whole().map(|tree| trees.absolute(&tree)).collect(),
            declared_inputs: absolute(trees, &assignment.declared_inputs),
            declared_outputs: absolute(trees, &assignment.outputs),
            inputs: assignment.inputs,
            labels: labels(&self.labels),
            started: self.started,
            lock: self.lock,
            attestfs_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

fn absolute(trees: &Trees, places: &[TreePath]) -> Vec<String> {
    places.iter().map(|place| trees.absolute(place)).collect()
}

fn labels(given: &[(String, String)]) -> BTreeMap<String, String> {
    given.iter().map(|(name, value)| (name.clone(), redact::value(name, value))).collect()
}

fn cgroup() -> Option<String> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    text.lines().last()?.rsplit_once(':').map(|(_, path)| path.to_owned())
}

fn kernel() -> String {
    let name = rustix::system::uname();
    let parts = [name.sysname(), name.release(), name.version()];
    parts.map(|part| part.to_string_lossy().into_owned()).join(" ")
}

fn executable(program: &Path) -> Option<Executable> {
    let path = fs::canonicalize(on_path(program)?).ok()?;
    let sha256 = File::open(&path).ok().and_then(|file| {
        let length = file.metadata().ok()?.len();
        attestfs_digest::sha256(&file, length).ok()
    });
    Some(Executable { path: escaped(path.as_os_str().as_bytes()), sha256 })
}

/// As `execvp` finds a program.
fn on_path(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 || program.is_absolute() {
        return Some(program.to_owned());
    }
    let path = config::search_path();
    path.iter().map(|directory| directory.join(program)).find(|candidate| candidate.is_file())
}
