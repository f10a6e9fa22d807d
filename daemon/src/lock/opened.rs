//! What a run has opened and not written, as its journal tells it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

use attestfs_attestation::Locked;
use attestfs_fs::{Fact, Identity, RunVersion, TreePath};

use crate::journal::{ReadError, pieces};

/// What was opened in each tree, by path.
pub(super) type Opened = Vec<BTreeMap<String, Locked>>;

/// Why what a run opened cannot be locked.
#[derive(Debug)]
pub(super) enum NotLockable {
    Journal(ReadError),
    NoDigest { path: String, reason: String },
    TwoContents { path: String },
}

/// Reads the first `length` bytes of a run's journal. `is_data` says which paths matter.
///
/// # Errors
/// A material without digest, or one path with two contents; or the journal cannot be read.
pub(super) fn opened(
    run_directory: &Path,
    length: u64,
    trees: usize,
    is_data: &dyn Fn(&TreePath) -> bool,
) -> Result<Opened, NotLockable> {
    let mut materials = Materials::default();
    for piece in pieces(run_directory, 0, length).map_err(NotLockable::Journal)? {
        for fact in piece.map_err(NotLockable::Journal)?.facts {
            materials.take(fact, is_data);
        }
    }
    materials.by_path(trees)
}

/// Contents that the run did not write, by their numbers within the run.
#[derive(Debug, Default)]
struct Materials(HashMap<RunVersion, Material>);

#[derive(Debug)]
struct Material {
    /// The names by which it was opened, as far as they are data.
    names: BTreeSet<TreePath>,
    identity: Identity,
    digest: Result<attestfs_digest::Sha256, String>,
}

impl Materials {
    fn take(&mut self, fact: Fact, is_data: &dyn Fn(&TreePath) -> bool) {
        match fact {
            Fact::Opened { version, identity, path, .. } => {
                let digest = Err("its hashing was broken off".to_owned());
                let names = Some(path).filter(is_data).into_iter().collect();
                self.0.insert(version, Material { names, identity, digest });
            }
            Fact::OpenedAs { version, path } if is_data(&path) => {
                if let Some(material) = self.0.get_mut(&version) {
                    material.names.insert(path);
                }
            }
            Fact::Hashed { version, digests, .. } => {
                if let Some(material) = self.0.get_mut(&version) {
                    material.digest = Ok(digests.sha256);
                }
            }
            Fact::NotHashed { version, unknown } => {
                if let Some(material) = self.0.get_mut(&version) {
                    material.digest = Err(unknown.to_string());
                }
            }
            _ => {}
        }
    }

    /// In the order of the versions, so that the same journal gives the same answer.
    fn by_path(self, trees: usize) -> Result<Opened, NotLockable> {
        let mut opened = vec![BTreeMap::new(); trees];
        let materials: BTreeMap<_, _> = self.0.into_iter().collect();
        for Material { names, identity, digest } in materials.into_values() {
            for TreePath { tree, path } in names {
                let Some(files) = opened.get_mut(usize::from(tree)) else { continue };
                let sha256 = match &digest {
                    Ok(sha256) => *sha256,
                    Err(reason) => {
                        return Err(NotLockable::NoDigest { path, reason: reason.clone() });
                    }
                };
                let locked = Locked { sha256, size: identity.size };
                if files.insert(path.clone(), locked).is_some_and(|other| other != locked) {
                    return Err(NotLockable::TwoContents { path });
                }
            }
        }
        Ok(opened)
    }
}

#[cfg(test)]
mod tests {
    use attestfs_digest::{Blake3, Digests, Sha256};
    use attestfs_fs::{FileKey, Process, Recorder, Unknown};

    use super::*;
    use crate::journal::Journal;

    fn identity(size: u64) -> Identity {
        let file = FileKey { filesystem: 1, inode: 2, born_ns: 3 };
        Identity { file, size, mtime_ns: 4, ctime_ns: 5 }
    }

    fn found(version: u64, tree: u16, path: &str) -> Fact {
        Fact::Opened {
            version: RunVersion(version),
            identity: identity(7),
            path: TreePath { tree, path: path.to_owned() },
            by: Process::default(),
        }
    }

    fn found_as(version: u64, tree: u16, path: &str) -> Fact {
        Fact::OpenedAs {
            version: RunVersion(version),
            path: TreePath { tree, path: path.to_owned() },
        }
    }

    fn hashed(version: u64, content: &[u8]) -> Fact {
        let digests = Digests { sha256: Sha256::of(content), blake3: Blake3::of(content) };
        Fact::Hashed { version: RunVersion(version), identity: identity(7), digests }
    }

    fn of(facts: &[Fact]) -> Result<Opened, NotLockable> {
        let base = tempfile::tempdir().unwrap();
        let directory = base.path().join("run");
        let journal = Journal::create(&directory, Vec::new()).unwrap();
        for fact in facts {
            journal.record(fact.clone());
        }
        let is_data = |path: &TreePath| path.path != "attestfs.lock";
        opened(&directory, journal.sync().unwrap(), 2, &is_data)
    }

    #[test]
    fn a_run_that_opened_nothing_locks_nothing() {
        assert_eq!(of(&[]).unwrap(), vec![BTreeMap::new(); 2]);
    }

    #[test]
    fn what_has_no_digest_is_named_with_the_reason() {
        let unknown = Unknown::Unreadable("it is gone".to_owned());
        let not_hashed = Fact::NotHashed { version: RunVersion(2), unknown };
        let facts = [found(1, 0, "a"), hashed(1, b"1"), found(2, 1, "b"), not_hashed];
        let Err(NotLockable::NoDigest { path, reason }) = of(&facts) else { panic!() };
        assert_eq!(path, "b");
        assert!(reason.contains("it is gone"), "{reason}");
        let Err(NotLockable::NoDigest { path, reason }) = of(&[found(1, 0, "a")]) else { panic!() };
        assert_eq!((path.as_str(), reason.as_str()), ("a", "its hashing was broken off"));
    }

    #[test]
    fn a_path_with_two_contents_is_refused() {
        let facts = [found(1, 0, "a"), hashed(1, b"1"), found(2, 0, "a"), hashed(2, b"2")];
        assert!(matches!(of(&facts), Err(NotLockable::TwoContents { path }) if path == "a"));
        let facts = [found(1, 0, "a"), hashed(1, b"1"), found(2, 0, "a"), hashed(2, b"1")];
        assert_eq!(of(&facts).unwrap()[0].len(), 1);
    }

    #[test]
    fn a_material_is_locked_by_each_name_that_is_data() {
        let facts = [
            found(1, 0, "attestfs.lock"),
            found_as(1, 0, "b"),
            found_as(1, 0, "a"),
            hashed(1, b"1"),
            found_as(1, 1, "c"),
        ];
        let opened = of(&facts).unwrap();
        assert_eq!(opened[0].keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(opened[1].keys().collect::<Vec<_>>(), ["c"]);
        let only_own = [found(1, 0, "attestfs.lock")];
        assert_eq!(of(&only_own).unwrap(), vec![BTreeMap::new(); 2], "it needs no digest");
        let two = [&facts[..], &[found(2, 0, "a"), hashed(2, b"2")]].concat();
        assert!(matches!(of(&two), Err(NotLockable::TwoContents { path }) if path == "a"));
    }

    #[test]
    fn each_tree_has_what_was_opened_in_it_but_not_what_is_no_data() {
        let facts = [
            found(1, 0, "a"),
            found(2, 1, "a"),
            found(3, 0, "attestfs.lock"),
            hashed(2, b"2"),
            hashed(1, b"1"),
            hashed(1, b"1"),
        ];
        let opened = of(&facts).unwrap();
        let locked = |content| Locked { sha256: Sha256::of(content), size: 7 };
        assert_eq!(opened[0], BTreeMap::from([("a".to_owned(), locked(b"1"))]));
        assert_eq!(opened[1], BTreeMap::from([("a".to_owned(), locked(b"2"))]));
    }
}
