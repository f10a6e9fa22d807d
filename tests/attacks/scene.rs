//! A model that was trained and published, and the mount that guards it.

use std::{
    fs::{self, File, FileTimes},
    path::Path,
};

use crate::{
    guarded::{is_refused, policy},
    lab::{Finish, Lab},
    mounted::{Mounted, attribute},
};

/// The files that a stage publishes, by name.
pub(crate) type Files<'a> = &'a [(&'a str, &'a str)];

/// The stage `train` publishes these files as `tree/<model>`.
pub(crate) fn train(lab: &Lab, model: &str, files: Files<'_>) {
    let fresh = lab.directory("fresh");
    for (name, content) in files {
        fs::write(fresh.join(name), content).unwrap();
    }
    lab.directory("tree");
    let mut run = lab.run("train");
    run.args(["--dir", "tree", "--out", model, "--"]);
    run.args(["sh", "-ec", "mkdir -p tree/$0 && cp fresh/* tree/$0/", model]).succeed();
    fs::remove_dir_all(fresh).unwrap();
}

/// Serves `tree` to whoever wants to load what is in it, at this level.
pub(crate) fn serve<'l>(lab: &'l Lab, level: &str) -> Mounted<'l> {
    policy(lab, level);
    Mounted::new(lab, "tree", "mnt", &["--read-only", "--policy", "policy.toml"])
}

/// A lab with one published model of one file, `tree/model/weights.bin`.
pub(crate) fn with_model() -> Option<Lab> {
    let lab = Lab::new()?;
    train(&lab, "model", &[("weights.bin", "weights")]);
    Some(lab)
}

/// Why a file is refused. It must be.
pub(crate) fn refusal(path: &Path) -> String {
    assert!(is_refused(path), "{} is open", path.display());
    let verdict = attribute(path, "user.attestfs.verdict").unwrap();
    verdict.strip_prefix("refused: ").unwrap().to_owned()
}

/// Asserts that a file is refused for this reason.
pub(crate) fn assert_refused(path: &Path, why: &str) {
    let refusal = refusal(path);
    assert!(refusal.contains(why), "{}: {refusal}", path.display());
}

/// Asserts that a file can be read and holds this.
pub(crate) fn assert_holds(path: &Path, content: &str) {
    let read = fs::read_to_string(path);
    assert_eq!(read.ok().as_deref(), Some(content), "{}", path.display());
}

/// Writes into a file, and puts its time of modification back.
pub(crate) fn change_quietly(path: &Path, change: impl FnOnce(&File)) {
    let file = File::options().write(true).open(path).unwrap();
    let times = FileTimes::new().set_modified(file.metadata().unwrap().modified().unwrap());
    change(&file);
    file.set_times(times).unwrap();
}

/// Copies a directory with all that belongs to it.
pub(crate) fn copy(lab: &Lab, from: &Path, to: &Path) {
    lab.configured("cp").arg("-a").arg(from).arg(to).succeed();
}
