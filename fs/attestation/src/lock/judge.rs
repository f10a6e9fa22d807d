//! What a lock says of a content.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use attestfs_digest::Sha256;
use jiff::Timestamp;

use super::entry::{Locked, MANIFESTS_SUFFIX, manifest_name, spelt};
use crate::{name::is_publication, oms::Content, verify::Refusal};

/// What a run may open, and with which content. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    sha256: Sha256,
    trees: Arc<[BTreeMap<String, Sha256>]>,
    manifests: Arc<BTreeSet<Sha256>>,
    /// The files of the lock itself that lie below a tree, and what they hold.
    own: Arc<BTreeMap<(u16, String), Sha256>>,
}

/// In what a lock differs from what was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockDifference {
    /// It was opened and is not in the lock.
    NotLocked {
        /// As the lock would name it.
        path: String,
    },
    /// It was opened with another content.
    Changed {
        /// As the lock names it.
        path: String,
        /// The content in the lock.
        locked: Sha256,
        /// What was opened.
        found: Sha256,
    },
    /// It is in the lock and was not opened.
    NotOpened {
        /// As the lock names it.
        path: String,
    },
}

impl Lock {
    pub(super) fn new(
        sha256: Sha256,
        trees: Vec<BTreeMap<String, Sha256>>,
        manifests: BTreeSet<Sha256>,
    ) -> Self {
        Self { sha256, trees: trees.into(), manifests: manifests.into(), own: Arc::default() }
    }

    /// The same lock, lying at this path below tree number `tree`. There it may be opened, and so may
    /// the manifests that it names, each with the content that this lock was read from: not what
    /// else lies in the directory of its manifests.
    #[must_use]
    pub fn lying_at(self, tree: u16, path: &str) -> Self {
        let manifest =
            |sha256: &Sha256| format!("{path}{MANIFESTS_SUFFIX}/{}", manifest_name(*sha256));
        let manifests = self.manifests.iter().map(|sha256| ((tree, manifest(sha256)), *sha256));
        let own = manifests.chain([((tree, path.to_owned()), self.sha256)]).collect();
        Self { own: Arc::new(own), ..self }
    }

    /// Whether this path is one of the lock's own, and no data that it is about.
    pub fn is_own(&self, tree: u16, path: &str) -> bool {
        self.own_content(tree, path).is_some()
    }

    /// Of its file; the manifests that belong to it are named there by theirs.
    pub fn sha256(&self) -> Sha256 {
        self.sha256
    }

    /// How many trees (`--dir`) it is about.
    pub fn trees(&self) -> usize {
        self.trees.len()
    }

    /// Every file that it names: its tree, its path there as [`crate::escaped`] spells it, and its
    /// digest.
    pub fn files(&self) -> impl Iterator<Item = (u16, &str, Sha256)> {
        (0..).zip(self.trees.iter()).flat_map(|(tree, files)| {
            files.iter().map(move |(path, sha256)| (tree, path.as_str(), *sha256))
        })
    }

    /// Whether it names this path.
    pub fn has(&self, tree: u16, path: &str) -> bool {
        self.locked(tree, path).is_some()
    }

    /// A path as the lock's lines name it; with the section where there are several.
    pub fn label(&self, tree: u16, path: &str) -> String {
        match self.trees.len() {
            0 | 1 => spelt(path),
            _ => format!("[dir {}] {}", u32::from(tree) + 1, spelt(path)),
        }
    }

    /// Check 13. Attestations beside the content always open: commits replace them. The lock's own
    /// files have to be what it was read from.
    ///
    /// # Errors
    /// [`Refusal::NotLocked`]; [`Refusal::LockMismatch`], which tells the people when the content
    /// `changed`.
    pub fn check(
        &self,
        tree: u16,
        path: &str,
        content: &Content,
        changed: Timestamp,
    ) -> Result<(), Refusal> {
        if is_publication(path) {
            return Ok(());
        }
        let found = content.sha256();
        match self.own_content(tree, path).or_else(|| self.locked(tree, path)) {
            None => Err(Refusal::NotLocked { path: self.label(tree, path) }),
            Some(locked) if locked == found => Ok(()),
            Some(locked) => {
                let path = self.label(tree, path);
                Err(Refusal::LockMismatch { path, locked, found, changed })
            }
        }
    }

    /// In what the lock differs from what a run has opened in each tree, in the order of the lock.
    pub fn differences(&self, opened: &[BTreeMap<String, Locked>]) -> Vec<LockDifference> {
        let (nothing_locked, nothing_opened) = (BTreeMap::new(), BTreeMap::new());
        let count = self.trees.len().max(opened.len());
        let trees = (0..=u16::MAX).take(count);
        trees
            .flat_map(|tree| {
                let index = usize::from(tree);
                let locked = self.trees.get(index).unwrap_or(&nothing_locked);
                self.differences_of(tree, locked, opened.get(index).unwrap_or(&nothing_opened))
            })
            .collect()
    }

    fn differences_of(
        &self,
        tree: u16,
        locked: &BTreeMap<String, Sha256>,
        opened: &BTreeMap<String, Locked>,
    ) -> Vec<LockDifference> {
        let paths: BTreeSet<_> = locked.keys().chain(opened.keys()).collect();
        let difference = |path: &String| {
            let label = self.label(tree, path);
            match (locked.get(path), opened.get(path)) {
                (Some(locked), Some(opened)) if *locked == opened.sha256 => None,
                (Some(&locked), Some(opened)) => {
                    Some(LockDifference::Changed { path: label, locked, found: opened.sha256 })
                }
                (Some(_), None) => Some(LockDifference::NotOpened { path: label }),
                (None, _) => Some(LockDifference::NotLocked { path: label }),
            }
        };
        paths.into_iter().filter_map(difference).collect()
    }

    fn locked(&self, tree: u16, path: &str) -> Option<Sha256> {
        self.trees.get(usize::from(tree))?.get(path).copied()
    }

    fn own_content(&self, tree: u16, path: &str) -> Option<Sha256> {
        self.own.get(&(tree, path.to_owned())).copied()
    }
}

impl fmt::Display for LockDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLocked { path } => write!(f, "{path}: opened, not in the lock"),
            Self::Changed { path, locked, found } => {
                write!(f, "{path}: locked {}, is {}", short(*locked), short(*found))
            }
            Self::NotOpened { path } => write!(f, "{path}: locked, not opened"),
        }
    }
}

/// Enough of a digest for a person to recognise it.
pub(crate) fn short(digest: Sha256) -> String {
    format!("{}..", &digest.to_string()[..SHORT])
}

const SHORT: usize = 12;
