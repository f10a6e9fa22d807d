//! Where things that nobody who writes to a tree may touch are allowed to lie.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use super::{SessionError, normal, resolved, trees::Trees};
use crate::{
    config::{Environment, StateDir},
    mount::mounts,
    signer,
};

/// The state directory, made where it is missing, outside of the trees.
///
/// # Errors
/// It lies below a tree, or is unusable.
pub(crate) fn state_for(
    trees: &Trees,
    option: Option<&Path>,
    environment: &Environment,
) -> Result<StateDir, SessionError> {
    let state = StateDir::resolve(option, environment)?;
    refuse_state_inside(&state, trees)?;
    state.prepare()?;
    Ok(state)
}

/// Refuses a directory that is seen through a mount of ours: what is served there is hashed already, and
/// files have other identities.
///
/// # Errors
/// [`SessionError::Mounted`].
pub(crate) fn refuse_mounted(path: &Path) -> Result<(), SessionError> {
    match mounts::seen_through(path) {
        Some(_) => {
            let behind = mounts::origin(path);
            Err(SessionError::Mounted { path: path.to_owned(), behind })
        }
        None => Ok(()),
    }
}

/// An output that can only be meant relative to where the user is, and is taken relative to another
/// directory.
#[derive(Debug, thiserror::Error)]
#[error(
    "--out {} is relative to {}, which makes it {}: if you mean {}, give --out with that path",
    given.display(), base.display(), taken.display(), meant.display()
)]
pub(crate) struct Misplaced {
    given: PathBuf,
    base: PathBuf,
    taken: PathBuf,
    meant: PathBuf,
}

/// Refuses such an output: better to say so now than after hours of training. What is meant must lie
/// where `is_below` says.
///
/// # Errors
/// [`Misplaced`].
pub(crate) fn refuse_misplaced(
    outputs: &[PathBuf],
    base: &Path,
    working_directory: &Path,
    is_below: impl Fn(&Path) -> bool,
) -> Result<(), Misplaced> {
    for given in outputs.iter().filter(|output| output.is_relative()) {
        let taken = normal(&base.join(given));
        let meant = resolved(&normal(&working_directory.join(given)));
        let impossible = taken.parent().is_some_and(|parent| !parent.exists());
        if impossible && meant != taken && is_below(&meant) {
            let (given, base) = (given.clone(), base.to_owned());
            return Err(Misplaced { given, base, taken, meant });
        }
    }
    Ok(())
}

/// Opens a key here, with the rights of the user who named it; the daemon gets the descriptor.
///
/// # Errors
/// It lies below a tree, or is no key that only its user can read.
pub(crate) fn open_key(key: &Path, trees: &Trees) -> Result<File, SessionError> {
    let path = resolved(key);
    if let Some(tree) = trees.containing(&path) {
        return Err(SessionError::KeyInside { key: path, tree: tree.path.clone() });
    }
    let file = signer::open_key(key)?;
    drop(signer::key_from_file(&file, &key.display().to_string())?);
    Ok(file)
}

fn refuse_state_inside(state: &StateDir, trees: &Trees) -> Result<(), SessionError> {
    let path = resolved(state.root());
    match trees.containing(&path) {
        Some(tree) => Err(SessionError::StateInside { state: path, tree: tree.path.clone() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::session::Tree;

    fn trees(directory: &Path) -> Trees {
        Trees::new(vec![Tree::open(fs::canonicalize(directory).unwrap()).unwrap()])
    }

    #[test]
    fn the_state_may_not_lie_below_a_tree() {
        let top = tempfile::tempdir().unwrap();
        let inside = top.path().join("not/yet/there");
        let state = state_for(&trees(top.path()), Some(&inside), &Environment::default());
        assert!(matches!(state, Err(SessionError::StateInside { .. })));
        assert!(!top.path().join("not").exists());
    }

    #[test]
    fn what_lies_below_a_tree_that_is_called_otherwise_lies_below_it() {
        let top = tempfile::tempdir().unwrap();
        let mut tree = Tree::open(fs::canonicalize(top.path()).unwrap()).unwrap();
        tree.path = "/called/otherwise".into();
        let trees = Trees::new(vec![tree]);
        let inside = top.path().join("not/yet/there");
        let state = state_for(&trees, Some(&inside), &Environment::default());
        assert!(matches!(state, Err(SessionError::StateInside { .. })));
        assert!(matches!(open_key(&inside, &trees), Err(SessionError::KeyInside { .. })));
    }

    #[test]
    fn a_key_may_not_lie_below_a_tree() {
        let top = tempfile::tempdir().unwrap();
        let key = open_key(&top.path().join("attestfs.key"), &trees(top.path()));
        assert!(matches!(key, Err(SessionError::KeyInside { .. })));
    }

    #[test]
    fn an_output_that_is_meant_relative_to_the_working_directory_is_told() {
        let here = tempfile::tempdir().unwrap();
        let here = fs::canonicalize(here.path()).unwrap();
        let data = here.join("data");
        fs::create_dir(&data).unwrap();
        let check = |output: &str| {
            let is_below = |path: &Path| path.starts_with(&data);
            refuse_misplaced(&[PathBuf::from(output)], &data, &here, is_below)
        };
        let error = check("data/clean").unwrap_err().to_string();
        assert!(error.contains("give --out") && error.contains("data/clean"), "{error}");
        check("clean").unwrap();
        check("/data/clean").unwrap();
        fs::create_dir(here.join("data/data")).unwrap();
        check("data/clean").unwrap();
    }
}
