//! What a run says of itself.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use attestfs_attestation::{Executable, RunDescription, escaped};
use jiff::Timestamp;

use super::plan::Plan;
use crate::{config, redact};

/// Describes the run that `plan` is about to become. Secrets on the command line and in labels are
/// blotted out here, before anything is written down.
pub(super) fn describe(plan: &Plan, run_id: &str, started: Timestamp) -> RunDescription {
    let options = &plan.options;
    let words: Vec<String> = options.command.iter().map(|word| escaped(word.as_bytes())).collect();
    RunDescription {
        id: run_id.to_owned(),
        stage: options.stage.clone(),
        command: redact::command(&words),
        executable: options.command.first().and_then(|program| executable(program.as_ref())),
        working_directory: escaped(plan.working_directory.as_os_str().as_bytes()),
        uid: config::effective_user(),
        host: config::host_name(),
        kernel: kernel(),
        cgroup: fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| {
            text.lines()
                .last()
                .and_then(|line| line.rsplit_once(':'))
                .map(|(_, path)| path.to_owned())
        }),
        trees: plan.trees.iter().map(|tree| escaped(tree.path.as_os_str().as_bytes())).collect(),
        declared_inputs: plan.declared_inputs.iter().map(|path| plan.absolute(path)).collect(),
        declared_outputs: plan.outputs.iter().map(|path| plan.absolute(path)).collect(),
        inputs: options.inputs,
        labels: labels(&options.labels),
        started,
        attestfs_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn labels(given: &[(String, String)]) -> BTreeMap<String, String> {
    given.iter().map(|(name, value)| (name.clone(), redact::value(name, value))).collect()
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
