//! What the user asked for, checked before anything is touched.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::{Component, Path, PathBuf},
    time::Duration,
};

use attestfs_attestation::{Inputs, escaped, unescaped};
use attestfs_fs::TreePath;
use rustix::fs::{Mode, OFlags};

use super::{console::Console, descriptors, failure::RunError};
use crate::{
    config::{Environment, StateDir},
    signer,
};

/// The command line of `attestfs run`.
#[derive(Clone, Debug)]
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
    /// `--key`.
    pub(crate) key: Option<PathBuf>,
    /// `--state`.
    pub(crate) state: Option<PathBuf>,
    /// `--inputs`.
    pub(crate) inputs: Inputs,
    /// `--adopt`: sign files in an output directory that no run of this store wrote.
    pub(crate) adopt: bool,
    /// `--checkpoint-rule`: commit a checkpoint whenever one is complete.
    pub(crate) checkpoint_rule: bool,
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
    pub(super) options: Options,
    pub(super) console: Console,
    pub(super) state: StateDir,
    pub(super) key: Option<File>,
    pub(super) trees: Vec<Tree>,
    pub(super) declared_inputs: Vec<TreePath>,
    pub(super) outputs: Vec<TreePath>,
    /// The file that this process writes to when it speaks to the user, when it lies below a tree.
    pub(super) own_error: Option<TreePath>,
    pub(super) working_directory: PathBuf,
}

/// One `--dir`.
#[derive(Debug)]
pub(super) struct Tree {
    /// Absolute, without symbolic links.
    pub(super) path: PathBuf,
    /// `O_PATH`, taken before anything is mounted on it.
    pub(super) root: OwnedFd,
}

impl Plan {
    /// # Errors
    /// Whatever is wrong with the options.
    pub(super) fn new(options: Options, environment: &Environment) -> Result<Self, RunError> {
        let trees = open_trees(&options.dirs)?;
        let is_below = |path: &Path| containing(path, &trees).is_some();
        descriptors::refuse_inherited(is_below)?;
        let own_error = descriptors::own_error(is_below);
        let own_error = own_error.and_then(|path| tree_path("", &path, &trees).ok());
        File::options().read(true).write(true).open("/dev/fuse").map_err(RunError::NoFuse)?;
        let state = StateDir::resolve(options.state.as_deref(), environment)?;
        refuse_state_inside(&state, &trees)?;
        state.prepare()?;
        let key = options.key.as_deref().map(|key| open_key(key, &trees)).transpose()?;
        let below = |option, paths: &[PathBuf]| {
            paths.iter().map(|path| tree_path(option, path, &trees)).collect::<Result<Vec<_>, _>>()
        };
        let declared_inputs = below("--in", &options.inputs_declared)?;
        let outputs = below("--out", &options.outputs)?;
        let working_directory =
            std::env::current_dir().map_err(RunError::system("the working directory"))?;
        refuse_misplaced(&options.outputs, &working_directory, &trees)?;
        let console = Console::new(options.json);
        Ok(Self {
            options,
            console,
            state,
            key,
            trees,
            declared_inputs,
            outputs,
            own_error,
            working_directory,
        })
    }

    /// The absolute path of a path below one of the trees.
    pub(super) fn absolute(&self, path: &TreePath) -> String {
        let root = escaped(self.trees[usize::from(path.tree)].path.as_os_str().as_encoded_bytes());
        match (root.as_str(), path.path.as_str()) {
            (_, "") => root,
            ("/", below) => format!("/{below}"),
            (_, below) => format!("{root}/{below}"),
        }
    }

    /// The same as the system calls want it.
    pub(super) fn path_of(&self, path: &TreePath) -> PathBuf {
        let below = OsString::from_vec(unescaped(&path.path));
        self.trees[usize::from(path.tree)].path.join(below)
    }

    /// Where an absolute path lies.
    pub(super) fn tree_path(&self, path: &Path) -> Option<TreePath> {
        tree_path("", path, &self.trees).ok()
    }
}

fn open_trees(directories: &[PathBuf]) -> Result<Vec<Tree>, RunError> {
    let mut trees: Vec<Tree> = Vec::with_capacity(directories.len());
    for directory in directories {
        let failed = |source| RunError::Directory { path: directory.clone(), source };
        let path = fs::canonicalize(directory).map_err(failed)?;
        let overlapping =
            trees.iter().find(|tree| tree.path.starts_with(&path) || path.starts_with(&tree.path));
        if let Some(tree) = overlapping {
            return Err(RunError::Overlap { one: tree.path.clone(), other: path });
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            rustix::fs::open(&path, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
        trees.push(Tree { path, root });
    }
    Ok(trees)
}

fn refuse_state_inside(state: &StateDir, trees: &[Tree]) -> Result<(), RunError> {
    let path = resolved(state.root());
    match containing(&path, trees) {
        Some(tree) => Err(RunError::StateInside { state: path, tree: tree.path.clone() }),
        None => Ok(()),
    }
}

/// Opens the key here, with the rights of the user who named it; the daemon gets the descriptor.
fn open_key(key: &Path, trees: &[Tree]) -> Result<File, RunError> {
    let path = resolved(key);
    if let Some(tree) = containing(&path, trees) {
        return Err(RunError::KeyInside { key: path, tree: tree.path.clone() });
    }
    let file = signer::open_key(key)?;
    drop(signer::key_from_file(&file, &key.display().to_string())?);
    Ok(file)
}

/// The path with symbolic links resolved as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut existing = absolute.as_path();
    loop {
        if let Ok(resolved) = fs::canonicalize(existing) {
            let rest = absolute.strip_prefix(existing).unwrap_or(Path::new(""));
            return resolved.join(rest);
        }
        match existing.parent() {
            Some(parent) => existing = parent,
            None => return absolute,
        }
    }
}

fn containing<'trees>(path: &Path, trees: &'trees [Tree]) -> Option<&'trees Tree> {
    trees.iter().find(|tree| path.starts_with(&tree.path))
}

/// Relative paths are relative to the first tree. What they name need not exist yet.
fn tree_path(option: &'static str, path: &Path, trees: &[Tree]) -> Result<TreePath, RunError> {
    let outside = || RunError::OutsideTrees { option, path: path.to_owned() };
    let relative_to_first = || trees.first().map(|tree| tree.path.join(path));
    let absolute = if path.is_absolute() { Some(path.to_owned()) } else { relative_to_first() };
    let absolute = resolved(&normal(&absolute.ok_or_else(outside)?));
    let (index, tree) = trees
        .iter()
        .enumerate()
        .find(|(_, tree)| absolute.starts_with(&tree.path))
        .ok_or_else(outside)?;
    let below = absolute.strip_prefix(&tree.path).ok().ok_or_else(outside)?;
    Ok(TreePath {
        tree: u16::try_from(index).ok().ok_or_else(outside)?,
        path: escaped(below.as_os_str().as_encoded_bytes()),
    })
}

/// An output that can only be meant relative to where the user is: better to say so now than after
/// hours of training.
fn refuse_misplaced(
    outputs: &[PathBuf],
    working_directory: &Path,
    trees: &[Tree],
) -> Result<(), RunError> {
    let Some(first) = trees.first() else { return Ok(()) };
    for given in outputs.iter().filter(|output| output.is_relative()) {
        let taken = normal(&first.path.join(given));
        let meant = resolved(&normal(&working_directory.join(given)));
        let impossible = taken.parent().is_some_and(|parent| !parent.exists());
        if impossible && meant != taken && containing(&meant, trees).is_some() {
            return Err(RunError::Misplaced { given: given.clone(), taken, meant });
        }
    }
    Ok(())
}

/// Without `.` and `..`, by the letters of the path.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

impl Tree {
    /// A second descriptor of the root.
    pub(super) fn open_again(&self) -> io::Result<OwnedFd> {
        Ok(rustix::io::fcntl_dupfd_cloexec(self.root.as_fd(), 0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trees(paths: &[&Path]) -> Result<Vec<Tree>, RunError> {
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
        let place =
            |path: &Path| tree_path("--out", path, &trees).map(|path| (path.tree, path.path));
        assert_eq!(place(Path::new("model")).unwrap(), (0, "model".to_owned()));
        assert_eq!(place(Path::new("a/../model/.")).unwrap(), (0, "model".to_owned()));
        assert_eq!(place(Path::new(".")).unwrap(), (0, String::new()));
        let second = fs::canonicalize(two.path()).unwrap().join("data");
        assert_eq!(place(&second).unwrap(), (1, "data".to_owned()));
        assert!(place(Path::new("../elsewhere")).is_err());
        assert!(place(Path::new("/etc")).is_err());
    }

    #[test]
    fn an_output_that_is_meant_relative_to_the_working_directory_is_told() {
        let here = tempfile::tempdir().unwrap();
        let here = fs::canonicalize(here.path()).unwrap();
        fs::create_dir(here.join("data")).unwrap();
        let trees = trees(&[&here.join("data")]).unwrap();
        let check = |output: &str| refuse_misplaced(&[PathBuf::from(output)], &here, &trees);
        let error = check("data/clean").unwrap_err().to_string();
        assert!(error.contains("give --out") && error.contains("data/clean"), "{error}");
        check("clean").unwrap();
        fs::create_dir(here.join("data/data")).unwrap();
        check("data/clean").unwrap();
    }

    #[test]
    fn the_state_may_not_lie_below_a_tree() {
        let top = tempfile::tempdir().unwrap();
        let trees = trees(&[top.path()]).unwrap();
        let inside = top.path().join("not/yet/there");
        let environment = Environment::default();
        let state = StateDir::resolve(Some(&inside), &environment).unwrap();
        assert!(matches!(refuse_state_inside(&state, &trees), Err(RunError::StateInside { .. })));
    }
}
