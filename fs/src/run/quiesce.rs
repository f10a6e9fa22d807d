//! Bringing a run, or a part of its files, to rest, so that it can be committed.

use std::time::Duration;

use super::{content::State, run::Run, tracked::Tracked};
use crate::fact::{TreePath, Unsealed};

/// Which files are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All files of the run.
    Run,
    /// The file or directory at this path, and what lies below it.
    Below(TreePath),
}

impl Scope {
    fn covers(&self, tracked: &Tracked) -> bool {
        match self {
            Self::Run => true,
            Self::Below(root) => tracked.paths().iter().any(|path| root.covers(path)),
        }
    }
}

impl TreePath {
    /// Whether `other` is this path or lies below it.
    pub fn covers(&self, other: &Self) -> bool {
        self.tree == other.tree
            && (self.path.is_empty()
                || other
                    .path
                    .strip_prefix(self.path.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }
}

/// A file that the run wrote and that has no digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Where it is.
    pub path: TreePath,
    /// Why it has no digest.
    pub unsealed: Unsealed,
}

impl Run {
    /// Waits until every file in `scope` that the run changed has lost its writers and has its
    /// digest, no longer than `patience`; then tells where all of them are now. Answers with those
    /// that have no digest, by path.
    ///
    /// Other files go on being written meanwhile.
    pub fn quiesce(&self, scope: &Scope, patience: Duration) -> Vec<LeftOut> {
        let _at_rest = self.activity.wait(patience, |tracked| scope.covers(tracked));
        let mut left_out: Vec<LeftOut> = self
            .tracked_files()
            .iter()
            .filter(|tracked| scope.covers(tracked))
            .filter_map(|tracked| self.tell_where(tracked))
            .collect();
        left_out.sort_by(|one, other| one.path.cmp(&other.path));
        left_out
    }

    /// Tells the file's name if it changed since it was last told. Answers with the file when the
    /// run wrote it and it has no digest.
    fn tell_where(&self, tracked: &Tracked) -> Option<LeftOut> {
        let mut content = tracked.content();
        let version = content.own_version()?;
        let paths = tracked.paths();
        let identity = content.identity();
        let unsealed = match &content.state {
            // It has got a guarded name since it was sealed.
            State::Sealed { .. } if self.keeps_back(tracked, &content) => {
                let unsealed = Unsealed::NotAdmitted;
                content.state = State::Unsealed { version, unsealed: unsealed.clone(), identity };
                unsealed
            }
            State::Sealed { .. } => {
                if paths != content.told_paths {
                    self.tell_again(tracked, &mut content);
                }
                return None;
            }
            State::Unsealed { unsealed, .. } => unsealed.clone(),
            _ => Unsealed::Open,
        };
        self.tell_unsealed(tracked, &mut content, version, unsealed.clone());
        drop(content);
        paths.into_iter().next().map(|path| LeftOut { path, unsealed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(tree: u16, path: &str) -> TreePath {
        TreePath { tree, path: path.to_owned() }
    }

    #[test]
    fn a_path_covers_itself_and_what_lies_below() {
        let model = path(0, "model");
        assert!(model.covers(&model));
        assert!(model.covers(&path(0, "model/a/b")));
        assert!(!model.covers(&path(0, "model2/a")));
        assert!(!model.covers(&path(0, "mode")));
        assert!(!model.covers(&path(1, "model/a")));
        assert!(path(0, "").covers(&model));
    }
}
