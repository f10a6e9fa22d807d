//! A run on a real directory, as its mount would tell it.

use std::{
    cell::Cell,
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use attestfs_attestation::{
    Bundle, CommitKind, Content, Entry, EntryKind, KeyHint, LeftOut, Outcome, SigningError,
    SigningKey, VerifyingKey,
};
use attestfs_digest::{Digests, Sha256, digests};
use attestfs_fs::{Fact, Identity, Process, Recorder, RunVersion, TreePath, Unsealed};
use jiff::Timestamp;
use parking_lot::Mutex;

use crate::{
    commit::{CommitError, Committer, NoAttester, Room, beneath::system_path},
    config::{Environment, StateDir},
    control::{ArtifactOrder, CommitOrder, CommitReport},
    journal::Journal,
    lineage::{
        CommitId, LineageStore, RunEnd, RunId,
        testing::{MemoryStore, description},
    },
    publication::{DurableFiles, Files, Shelf},
    signer::{KeyFileError, Keyring, Signer},
};

/// The trees of each run. Most happens in the first.
const TREES: [&str; 2] = ["tree", "other"];

pub(crate) struct Bench {
    pub(crate) base: Arc<tempfile::TempDir>,
    pub(crate) state: StateDir,
    pub(crate) run: RunId,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) keys: Arc<TestKeys>,
    journal: Journal,
    versions: Cell<u64>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let base = Arc::new(tempfile::tempdir().unwrap());
        for tree in TREES {
            fs::create_dir(base.path().join(tree)).unwrap();
        }
        let state = base.path().join("state");
        let state = StateDir::resolve(Some(&state), &Environment::default()).unwrap();
        state.prepare().unwrap();
        let bench = Self::begin(base, state, "run", Arc::default(), Arc::default());
        // As the daemon does when it starts.
        bench.committer().build_indexes().unwrap();
        bench
    }

    /// Another run over the same tree, in the same store.
    pub(crate) fn next_run(&self, id: &str) -> Self {
        let (base, state) = (Arc::clone(&self.base), self.state.clone());
        Self::begin(base, state, id, Arc::clone(&self.store), Arc::clone(&self.keys))
    }

    fn begin(
        base: Arc<tempfile::TempDir>,
        state: StateDir,
        id: &str,
        store: Arc<MemoryStore>,
        keys: Arc<TestKeys>,
    ) -> Self {
        let mut description = description(id);
        let tree = |name| base.path().join(name).to_str().unwrap().to_owned();
        let stores = TREES.map(|name| File::open(base.path().join(name)).unwrap());
        description.trees = TREES.map(tree).to_vec();
        store.begin(&description).unwrap();
        Self {
            journal: Journal::create(&state.run(id), stores.into()).unwrap(),
            run: RunId(id.to_owned()),
            versions: Cell::new(0),
            base,
            state,
            store,
            keys,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.base.path().join("tree").join(name)
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    pub(crate) fn names(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(directory)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub(crate) fn journal_path(&self) -> PathBuf {
        self.state.run(&self.run.0).join("journal.jsonl")
    }

    /// The run writes a file.
    pub(crate) fn writes(&self, name: &str, content: &str) -> Digests {
        self.writes_escaped(name, content)
    }

    /// The run writes a file whose name is given as in a [`TreePath`].
    pub(crate) fn writes_escaped(&self, name: &str, content: &str) -> Digests {
        self.writes_linked(&[tree_path(name)], content)
    }

    /// The run writes a file and gives it several names, of which the first is seen last.
    pub(crate) fn writes_linked(&self, names: &[TreePath], content: &str) -> Digests {
        let paths: Vec<_> = names.iter().map(|name| self.system_path(name)).collect();
        for (number, path) in paths.iter().enumerate() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match number {
                0 => fs::write(path, content).unwrap(),
                _ => fs::hard_link(&paths[0], path).unwrap(),
            }
        }
        let (identity, digests) = stat(&paths[0]);
        let version = self.next_version();
        self.journal.record(Fact::Written {
            version,
            file: identity.file,
            path: names[0].clone(),
            by: Process::default(),
        });
        self.journal.record(Fact::Sealed {
            version,
            identity,
            digests,
            path: Some(names[0].clone()),
            also: names[1..].to_vec(),
        });
        digests
    }

    /// The run gives the file that it wrote last another mode, which is told.
    pub(crate) fn protects(&self, name: &str) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o400)).unwrap();
        let (identity, digests) = stat(&self.path(name));
        self.journal.record(Fact::Sealed {
            version: RunVersion(self.versions.get()),
            identity,
            digests,
            path: Some(tree_path(name)),
            also: Vec::new(),
        });
    }

    /// How the stores were mounted is not what it was.
    pub(crate) fn is_mounted_anew(&self) {
        fs::write(self.mounted_path(), "otherwise\n").unwrap();
    }

    pub(crate) fn mounted_path(&self) -> PathBuf {
        self.journal_path().with_file_name("mounted")
    }

    /// The digests that a run would find of this file.
    pub(crate) fn known(&self, name: &str) -> Option<Digests> {
        let (identity, _) = stat(&self.path(name));
        self.store.digests_of(&[identity]).unwrap()[0]
    }

    /// The run leaves a file with these names that somebody still writes.
    pub(crate) fn leaves_open(&self, names: &[TreePath]) {
        self.writes_linked(names, "half");
        self.journal.record(Fact::Unsealed {
            version: RunVersion(self.versions.get()),
            unsealed: Unsealed::Open,
            path: Some(names[0].clone()),
            also: names[1..].to_vec(),
        });
    }

    fn system_path(&self, name: &TreePath) -> PathBuf {
        self.base.path().join(TREES[usize::from(name.tree)]).join(system_path(&name.path))
    }

    /// The run reads a file that was there before.
    pub(crate) fn reads(&self, name: &str) {
        let (identity, digests) = stat(&self.path(name));
        let version = self.next_version();
        self.journal.record(Fact::Opened {
            version,
            identity,
            path: tree_path(name),
            by: Process::default(),
        });
        self.journal.record(Fact::Hashed { version, identity, digests });
    }

    /// The run removes the only name of a file that it wrote as this version.
    pub(crate) fn removes(&self, name: &str, version: u64) {
        fs::remove_file(self.path(name)).unwrap();
        self.journal.record(Fact::Gone { version: RunVersion(version) });
    }

    /// The run removes the only name of a file that another run published.
    pub(crate) fn removes_of_others(&self, name: &str) {
        let (identity, _) = stat(&self.path(name));
        fs::remove_file(self.path(name)).unwrap();
        let (file, path) = (identity.file, tree_path(name));
        self.journal.record(Fact::Removed { file, path, by: Process::default() });
    }

    /// The store takes in what the run has told.
    pub(crate) fn ingest(&self) {
        let id = format!("ingest-{}", self.journal.length());
        let order = self.order(&id, CommitKind::Checkpoint, Vec::new());
        self.committer().commit(&order).unwrap();
    }

    /// The process of the run ends, whatever is known of that. Gives the bench, on which another run
    /// lives now, and where the journal of this one lies.
    pub(crate) fn dies(self) -> (Self, PathBuf) {
        let (next, journal) = (self.next_run("after"), self.journal_path());
        let run = self.run.clone();
        drop(self);
        (Self { run, ..next }, journal)
    }

    /// The run ends well and leaves nothing to attest.
    pub(crate) fn ends(self) -> (Self, PathBuf) {
        let end = RunEnd { outcome: Outcome::Success, finished: noon() };
        self.committer().end(&self.run, self.journal.sync().unwrap(), &end).unwrap();
        self.dies()
    }

    fn next_version(&self) -> RunVersion {
        self.versions.set(self.versions.get() + 1);
        RunVersion(self.versions.get())
    }

    /// As the run says it when its journal or its store has failed.
    pub(crate) fn is_over(&self, committer: &Committer) {
        let end = RunEnd { outcome: Outcome::Unknown, finished: noon() };
        committer.end(&self.run, self.journal.length(), &end).unwrap();
    }

    pub(crate) fn watched(&self) -> Committer {
        let committer = self.committer();
        let trees = self.store.run(&self.run).unwrap().unwrap().description.trees;
        committer.watch(&self.run, &trees);
        committer
    }

    pub(crate) fn order(
        &self,
        id: &str,
        kind: CommitKind,
        artifacts: Vec<ArtifactOrder>,
    ) -> CommitOrder {
        CommitOrder {
            id: CommitId(format!("{}-{id}", self.run)),
            run: self.run.clone(),
            kind,
            finished: noon(),
            journal_length: self.journal.sync().unwrap(),
            artifacts,
            adopt: false,
            lock: None,
            signer: None,
        }
    }

    pub(crate) fn commit(
        &self,
        kind: CommitKind,
        artifacts: Vec<ArtifactOrder>,
    ) -> Result<CommitReport, CommitError> {
        self.committer().commit(&self.order("end", kind, artifacts))
    }

    /// A daemon that has just started.
    pub(crate) fn committer(&self) -> Committer {
        self.committer_with(Arc::clone(&self.store) as _, Arc::new(DurableFiles))
    }

    pub(crate) fn committer_with(
        &self,
        store: Arc<dyn LineageStore>,
        files: Arc<dyn Files>,
    ) -> Committer {
        Committer::new(Room {
            store,
            files,
            shelf: self.shelf(),
            attester: Arc::new(NoAttester),
            keys: Arc::clone(&self.keys) as _,
            trees: Arc::default(),
            state: self.state.clone(),
            stop_at: None,
        })
    }

    pub(crate) fn shelf(&self) -> Shelf {
        Shelf::of(&self.state)
    }

    pub(crate) fn bundle(&self, statement: Sha256) -> Bundle {
        let bytes = self.shelf().bundle(statement).unwrap().unwrap();
        Bundle::parse(&bytes).unwrap()
    }

    pub(crate) fn public_key(&self) -> VerifyingKey {
        self.keys.default.verifying_key()
    }

    /// The directory as somebody sees it who verifies its model signature.
    pub(crate) fn entries(&self, directory: &str) -> Vec<Entry> {
        let root = self.path(directory);
        let mut waiting = vec![root.clone()];
        let mut entries = Vec::new();
        while let Some(directory) = waiting.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    waiting.push(path);
                    continue;
                }
                let (identity, digests) = stat(&path);
                entries.push(Entry {
                    name: path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(),
                    kind: EntryKind::File(Content::new(digests, identity.size)),
                });
            }
        }
        entries
    }
}

/// A directory that becomes a statement.
pub(crate) fn artifact(path: &str) -> ArtifactOrder {
    ArtifactOrder {
        tree: 0,
        path: path.to_owned(),
        only: None,
        left_out: Vec::new(),
        model_signature: false,
    }
}

/// A directory that becomes a statement and gets a model signature.
pub(crate) fn model(path: &str) -> ArtifactOrder {
    ArtifactOrder { model_signature: true, ..artifact(path) }
}

pub(crate) fn left_out(name: &str, reason: &str) -> LeftOut {
    LeftOut { name: name.to_owned(), reason: reason.to_owned() }
}

pub(crate) fn noon() -> Timestamp {
    "2026-01-02T12:00:00Z".parse().unwrap()
}

fn stat(path: &Path) -> (Identity, Digests) {
    let file = File::open(path).unwrap();
    let identity = Identity::of(&file).unwrap();
    let digests = digests(&file, identity.size).unwrap();
    (identity, digests)
}

pub(crate) fn tree_path(name: &str) -> TreePath {
    TreePath { tree: 0, path: name.to_owned() }
}

/// A default key, another one that comes and goes, and either may fail once.
#[derive(Debug)]
pub(crate) struct TestKeys {
    pub(crate) default: Arc<SigningKey>,
    other: Arc<SigningKey>,
    presented: Mutex<bool>,
    fails: Arc<Mutex<bool>>,
}

impl Default for TestKeys {
    fn default() -> Self {
        Self {
            default: Arc::new(SigningKey::generate().unwrap()),
            other: Arc::new(SigningKey::generate().unwrap()),
            presented: Mutex::default(),
            fails: Arc::default(),
        }
    }
}

impl TestKeys {
    /// The other key is here from now on.
    pub(crate) fn present(&self) -> KeyHint {
        *self.presented.lock() = true;
        self.other.hint()
    }

    /// The other key is gone.
    pub(crate) fn withdraw(&self) {
        *self.presented.lock() = false;
    }

    /// The next signature is not made.
    pub(crate) fn fail_next(&self) {
        *self.fails.lock() = true;
    }

    /// A key that nobody has.
    #[expect(clippy::unused_self, reason = "reads as a question to the keys")]
    pub(crate) fn stranger(&self) -> KeyHint {
        SigningKey::generate().unwrap().hint()
    }

    fn may_fail(&self, key: &Arc<SigningKey>) -> Arc<dyn Signer> {
        Arc::new(MayFail { key: Arc::clone(key), fails: Arc::clone(&self.fails) })
    }
}

impl Keyring for TestKeys {
    fn default_key(&self) -> Result<Arc<dyn Signer>, KeyFileError> {
        Ok(self.may_fail(&self.default))
    }

    fn presented(&self, hint: KeyHint) -> Option<Arc<dyn Signer>> {
        let here = *self.presented.lock() && hint == self.other.hint();
        here.then(|| self.may_fail(&self.other))
    }
}

#[derive(Debug)]
struct MayFail {
    key: Arc<SigningKey>,
    fails: Arc<Mutex<bool>>,
}

impl Signer for MayFail {
    fn hint(&self) -> KeyHint {
        self.key.hint()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        if std::mem::take(&mut *self.fails.lock()) {
            return Err(SigningError);
        }
        self.key.sign(message)
    }
}
