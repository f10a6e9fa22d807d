//! What the user asked for, checked before anything is touched.

use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use attestfs_attestation::Inputs;
use attestfs_fs::{Capture, Gate, TreePath};
use uuid::Uuid;

use super::{descriptors, failure::RunError};
use crate::{
    clock::{Clock, SystemClock},
    config::{Environment, StateDir},
    gate::gate,
    lock::{DataLock, LockOptions},
    metrics::{Address, wanted},
    passthrough,
    session::{
        Assignment, Console, Description, SessionError, Tree, Trees, normal, open_key,
        refuse_misplaced, refuse_mounted, resolved, state_for,
    },
};

/// The command line of `attestfs run`.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct Options {
    /// `--stage`.
    pub(crate) stage: String,
    /// `--dir`, at least one.
    pub(crate) dirs: Vec<PathBuf>,
    /// `--in`, relative to the first tree or absolute.
    pub(crate) inputs_declared: Vec<PathBuf>,
    /// `--out`, likewise.
    pub(crate) outputs: Vec<PathBuf>,
    /// `--label KEY=VALUE`.
    pub(crate) labels: Vec<(String, String)>,
    /// `--policy`.
    pub(crate) policy: Option<PathBuf>,
    /// `--lock`, `--locked`, `--lock-update`.
    pub(crate) lock: Option<LockOptions>,
    /// `--reuse`.
    pub(crate) reuse: bool,
    /// `--key`.
    pub(crate) key: Option<PathBuf>,
    /// `--state`.
    pub(crate) state: Option<PathBuf>,
    /// `--metrics`.
    pub(crate) metrics: Option<Address>,
    /// `--inputs`.
    pub(crate) inputs: Inputs,
    /// `--adopt`: sign files in an output directory that no run of this store wrote.
    pub(crate) adopt: bool,
    /// `--checkpoint-rule`: commit a checkpoint whenever one is complete.
    pub(crate) checkpoint_rule: bool,
    /// `--capture`.
    pub(crate) capture: Capture,
    /// How long a commit waits for writers.
    pub(crate) patience: Duration,
    /// `--json`: what is said on standard error is for programs.
    pub(crate) json: bool,
    /// The command and its arguments, at least one.
    pub(crate) command: Vec<OsString>,
}

/// A run that may begin.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) stage: String,
    pub(super) labels: Vec<(String, String)>,
    pub(super) command: Vec<OsString>,
    pub(super) working_directory: PathBuf,
    pub(super) state: StateDir,
    pub(super) key: Option<File>,
    pub(super) lock: Option<DataLock>,
    pub(super) reuse: bool,
    pub(super) gate: Arc<Gate>,
    pub(super) metrics: Option<Address>,
    pub(super) passthrough: bool,
    pub(super) capture: Capture,
    pub(super) assignment: Assignment,
}

impl Plan {
    /// # Errors
    /// Whatever is wrong with the options.
    pub(super) fn new(
        options: Options,
        environment: &Environment,
        console: Console,
    ) -> Result<Self, RunError> {
        passthrough::check(options.capture, environment)?;
        let trees = open_trees(&options.dirs)?;
        let is_below = |path: &Path| trees.containing(path).is_some();
        descriptors::refuse_inherited(is_below)?;
        let own_error = descriptors::own_error(is_below);
        let own_error = own_error.and_then(|path| trees.place(&resolved(&normal(&path))));
        File::options().read(true).write(true).open("/dev/fuse").map_err(RunError::NoFuse)?;
        let state = state_for(&trees, options.state.as_deref(), environment)?;
        let key = options.key.as_deref().map(|key| open_key(key, &trees)).transpose()?;
        let below = |option, paths: &[PathBuf]| {
            paths.iter().map(|path| place(option, path, &trees)).collect::<Result<Vec<_>, _>>()
        };
        let declared_inputs = below("--in", &options.inputs_declared)?;
        let outputs = below("--out", &options.outputs)?;
        let lock = options.lock.as_ref();
        let lock = lock.map(|lock| DataLock::prepare(lock, &trees, &outputs, options.inputs));
        let lock = lock.transpose()?;
        let enforced = lock.as_ref().and_then(DataLock::enforced).cloned();
        let gate = gate(options.policy.as_deref(), enforced, &state, &trees);
        let gate = gate.map_err(SessionError::Policy)?;
        let working_directory =
            std::env::current_dir().map_err(RunError::system("the working directory"))?;
        if let Some(first) = trees.first() {
            let is_below = |path: &Path| trees.containing(path).is_some();
            refuse_misplaced(&options.outputs, &first.path, &working_directory, is_below)?;
        }
        Ok(Self {
            stage: options.stage,
            labels: options.labels,
            command: options.command,
            working_directory,
            state,
            key,
            lock,
            reuse: options.reuse,
            gate,
            metrics: wanted(options.metrics, environment)?,
            passthrough: !environment.no_passthrough,
            capture: options.capture,
            assignment: Assignment {
                trees,
                declared_inputs,
                outputs,
                inputs: options.inputs,
                adopt: options.adopt,
                checkpoint_rule: options.checkpoint_rule,
                patience: options.patience,
                own_error,
                console,
            },
        })
    }

    /// What the run is told of itself, from now on.
    pub(super) fn description(&self) -> Description {
        Description {
            id: Uuid::now_v7().to_string(),
            stage: self.stage.clone(),
            command: self.command.clone(),
            starts_command: true,
            working_directory: self.working_directory.clone(),
            labels: self.labels.clone(),
            lock: self.lock.as_ref().and_then(DataLock::enforced_use),
            started: SystemClock.now(),
        }
    }
}

fn open_trees(directories: &[PathBuf]) -> Result<Trees, RunError> {
    let mut trees: Vec<Tree> = Vec::with_capacity(directories.len());
    for directory in directories {
        let failed = |source| RunError::Directory { path: directory.clone(), source };
        let path = fs::canonicalize(directory).map_err(failed)?;
        let overlapping =
            trees.iter().find(|tree| tree.path.starts_with(&path) || path.starts_with(&tree.path));
        if let Some(tree) = overlapping {
            return Err(RunError::Overlap { one: tree.path.clone(), other: path });
        }
        refuse_mounted(&path)?;
        trees.push(Tree::open(path).map_err(failed)?);
    }
    Ok(Trees::new(trees))
}

/// Relative paths are relative to the first tree. What they name need not exist yet.
fn place(option: &'static str, path: &Path, trees: &Trees) -> Result<TreePath, RunError> {
    let absolute = match trees.first() {
        Some(first) if path.is_relative() => first.path.join(path),
        _ => path.to_owned(),
    };
    let outside = || RunError::OutsideTrees { option, path: path.to_owned() };
    trees.place(&resolved(&normal(&absolute))).ok_or_else(outside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trees(paths: &[&Path]) -> Result<Trees, RunError> {
        open_trees(&paths.iter().map(|path| path.to_path_buf()).collect::<Vec<_>>())
    }

    #[test]
    fn overlapping_trees_are_refused() {
        let top = tempfile::tempdir().unwrap();
        let below = top.path().join("below");
        fs::create_dir(&below).unwrap();
        assert!(matches!(trees(&[top.path(), &below]), Err(RunError::Overlap { .. })));
        assert!(matches!(trees(&[&below, top.path()]), Err(RunError::Overlap { .. })));
        assert!(matches!(trees(&[&below, &below]), Err(RunError::Overlap { .. })));
        assert!(trees(&[&below]).is_ok());
    }

    #[test]
    fn a_missing_tree_is_named() {
        let error = trees(&[Path::new("/no/such/tree")]).unwrap_err();
        assert!(error.to_string().starts_with("--dir /no/such/tree: "), "{error}");
    }

    #[test]
    fn outputs_are_relative_to_the_first_tree_and_stay_inside() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let trees = trees(&[one.path(), two.path()]).unwrap();
        let taken = |path: &Path| place("--out", path, &trees).map(|path| (path.tree, path.path));
        assert_eq!(taken(Path::new("model")).unwrap(), (0, "model".to_owned()));
        assert_eq!(taken(Path::new("a/../model/.")).unwrap(), (0, "model".to_owned()));
        assert_eq!(taken(Path::new(".")).unwrap(), (0, String::new()));
        let second = fs::canonicalize(two.path()).unwrap().join("data");
        assert_eq!(taken(&second).unwrap(), (1, "data".to_owned()));
        assert!(taken(Path::new("../elsewhere")).is_err());
        assert!(taken(Path::new("/etc")).is_err());
    }
}
