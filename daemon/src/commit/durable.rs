//! What counts of the journal of a run that could not make sure that all of it is on the disk.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io,
    sync::Arc,
};

use attestfs_digest::Digests;
use attestfs_fs::{Fact, FileKey, Identity, Unknown, Unsealed};
use parking_lot::Mutex;

use super::LentTrees;
use crate::{
    journal,
    lineage::{OutputState, RunId, RunOutputs},
};

/// The trees of runs that began under this daemon, open since then. The kernel tells a descriptor of what could not be
/// written from when it was opened, and what is mounted there does not go away.
#[derive(Debug, Default)]
pub(super) struct Watched(Mutex<BTreeMap<RunId, Arc<Vec<File>>>>);

impl Watched {
    /// A run begins. Trees that cannot be opened here are none to be sure of later.
    pub(super) fn begin(&self, run: &RunId, lent: &LentTrees, trees: &[String]) {
        match open(lent, trees) {
            Ok(stores) => drop(self.0.lock().insert(run.clone(), Arc::new(stores))),
            Err(error) => tracing::debug!(%run, %error, "a tree cannot be watched"),
        }
    }

    pub(super) fn of(&self, run: &RunId) -> Option<Arc<Vec<File>>> {
        self.0.lock().get(run).cloned()
    }

    pub(super) fn end(&self, run: &RunId) {
        self.0.lock().remove(run);
    }
}

/// The trees, to be synced.
pub(super) fn open(lent: &LentTrees, trees: &[String]) -> io::Result<Vec<File>> {
    trees.iter().map(|tree| lent.open(tree).map(File::from)).collect()
}

/// The bytes of a run that are known to be on the disk.
#[derive(Debug)]
pub(super) struct Durable {
    /// Of these filesystems all.
    filesystems: Vec<u64>,
    /// What was taken in before, and not written to since: it was synced then.
    before: HashMap<FileKey, Digests>,
}

impl Durable {
    /// All that lies on the filesystems of these directories, if they can be synced.
    pub(super) fn sync(stores: &[File]) -> io::Result<Vec<u64>> {
        journal::sync_stores(stores)?;
        stores.iter().map(|store| Ok(Identity::of(store)?.file.filesystem)).collect()
    }

    pub(super) fn new(filesystems: Vec<u64>, outputs: RunOutputs) -> Self {
        let sealed = outputs.kept.into_iter().filter_map(|output| match output.state {
            OutputState::Sealed { identity, digests } => Some((identity.file, digests)),
            OutputState::Unsealed { .. } => None,
        });
        Self { filesystems, before: sealed.collect() }
    }

    /// A fact as it counts; the facts of a journal in their order.
    pub(super) fn told(&mut self, fact: Fact) -> Fact {
        match fact {
            Fact::Sealed { version, identity, digests, path, also }
                if !self.holds(&identity, &digests) =>
            {
                Fact::Unsealed { version, unsealed: Unsealed::Unproven, path, also }
            }
            Fact::Hashed { version, identity, .. } if !self.is_synced(&identity) => {
                Fact::NotHashed { version, unknown: Unknown::Unproven }
            }
            Fact::Written { file, .. } => {
                self.before.remove(&file);
                fact
            }
            fact => fact,
        }
    }

    fn holds(&self, identity: &Identity, digests: &Digests) -> bool {
        self.is_synced(identity) || self.before.get(&identity.file) == Some(digests)
    }

    fn is_synced(&self, identity: &Identity) -> bool {
        self.filesystems.contains(&identity.file.filesystem)
    }
}

#[cfg(test)]
mod tests {
    use attestfs_digest::{Blake3, Sha256};
    use attestfs_fs::{Process, RunVersion, TreePath};

    use super::*;
    use crate::lineage::{Output, VersionId};

    const ELSEWHERE: u64 = 7;

    fn digests(content: &[u8]) -> Digests {
        Digests { sha256: Sha256::of(content), blake3: Blake3::of(content) }
    }

    fn identity(filesystem: u64) -> Identity {
        let file = FileKey { filesystem, inode: 1, born_ns: 0 };
        Identity { file, size: 1, mtime_ns: 0, ctime_ns: 0 }
    }

    fn sealed(version: u64, filesystem: u64, content: &[u8]) -> Fact {
        Fact::Sealed {
            version: RunVersion(version),
            identity: identity(filesystem),
            digests: digests(content),
            path: None,
            also: Vec::new(),
        }
    }

    fn written(version: u64, filesystem: u64) -> Fact {
        Fact::Written {
            version: RunVersion(version),
            file: identity(filesystem).file,
            path: TreePath { tree: 0, path: "file".to_owned() },
            by: Process::default(),
        }
    }

    fn unproven(version: u64) -> Fact {
        let version = RunVersion(version);
        Fact::Unsealed { version, unsealed: Unsealed::Unproven, path: None, also: Vec::new() }
    }

    #[test]
    fn only_what_lies_on_a_filesystem_that_was_synced_counts() {
        let mut durable = Durable::new(vec![1, 2], RunOutputs::default());
        assert_eq!(durable.told(sealed(1, 2, b"a")), sealed(1, 2, b"a"));
        assert_eq!(durable.told(sealed(1, ELSEWHERE, b"a")), unproven(1));
        let hashed = |filesystem| Fact::Hashed {
            version: RunVersion(1),
            identity: identity(filesystem),
            digests: digests(b"a"),
        };
        assert_eq!(durable.told(hashed(1)), hashed(1));
        let not_hashed = Fact::NotHashed { version: RunVersion(1), unknown: Unknown::Unproven };
        assert_eq!(durable.told(hashed(ELSEWHERE)), not_hashed);
    }

    #[test]
    fn what_was_synced_before_counts_until_it_is_written_to() {
        let state = OutputState::Sealed { identity: identity(1), digests: digests(b"a") };
        let output = Output { version: VersionId(1), path: None, also: Vec::new(), state };
        let outputs = RunOutputs { kept: vec![output], gone: Vec::new() };
        let mut durable = Durable::new(Vec::new(), outputs);
        assert_eq!(durable.told(sealed(1, 1, b"b")), unproven(1));
        assert_eq!(durable.told(sealed(1, 1, b"a")), sealed(1, 1, b"a"));
        assert_eq!(durable.told(written(2, 1)), written(2, 1));
        assert_eq!(durable.told(sealed(2, 1, b"a")), unproven(2));
    }
}
