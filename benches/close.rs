//! What the end of a stage costs besides FUSE, on a tmpfs: `cargo bench --bench close`.
//!
//! The files are written and their digests told, as the mount tells them. What is timed is what then
//! lies between the order to end the stage and the answer: the journal is synced and taken in, the
//! outputs are frozen, the statement is signed, and bundle, indexes and claims are published. How long
//! `attestfs stage close` takes as a whole, with its process, the control socket and files that have to
//! come to rest, is row P6 of `data_path`.

#![expect(clippy::unwrap_used, reason = "a benchmark may stop at the first surprise")]

mod common;

use std::{
    fs::{self, File},
    sync::Arc,
};

use attestfs_attestation::{CommitKind, KeyHint, Outcome, SigningKey};
use attestfs_daemon::{
    commit::{Committer, LentTrees, NoAttester, Room},
    config::{Environment, StateDir},
    control::{ArtifactOrder, CommitOrder, CommitReport},
    journal::Journal,
    lineage::{CommitId, DiskStore, RunId},
    publication::{DurableFiles, Shelf},
    signer::{KeyFileError, Keyring, Signer},
};
use attestfs_digest::digests;
use attestfs_fs::{Fact, Identity, Process, Recorder, RunVersion, TreePath};
use divan::{Bencher, counter::ItemsCount};
use jiff::Timestamp;
use tempfile::TempDir;

use common::description;

const FILES: [u64; 3] = [1, 64, 1000];

fn main() {
    divan::main();
}

#[divan::bench(args = FILES, sample_count = 20, sample_size = 1)]
fn provenance(bencher: Bencher, files: u64) {
    end_stages(bencher, files, false);
}

#[divan::bench(
    name = "provenance and model.sig",
    args = FILES,
    sample_count = 20,
    sample_size = 1
)]
fn model(bencher: Bencher, files: u64) {
    end_stages(bencher, files, true);
}

/// Each stage is a run of its own, in the same store.
fn end_stages(bencher: Bencher<'_, '_>, files: u64, model_signature: bool) {
    let laboratory = Laboratory::new();
    let mut numbers = 0..;
    bencher
        .counter(ItemsCount::new(files))
        .with_inputs(|| laboratory.stage(numbers.next().unwrap(), files, model_signature))
        .bench_local_refs(|stage| stage.end(&laboratory.committer));
}

/// A tree, and a store as the daemon has it.
struct Laboratory {
    place: TempDir,
    state: StateDir,
    committer: Committer,
}

/// A run whose writers have closed.
struct Stage {
    journal: Journal,
    order: CommitOrder,
}

impl Laboratory {
    fn new() -> Self {
        let place = TempDir::with_prefix_in("attestfs-bench-", "/dev/shm").unwrap();
        let state = place.path().join("state");
        let state = StateDir::resolve(Some(&state), &Environment::default()).unwrap();
        state.prepare().unwrap();
        let committer = Committer::new(Room {
            store: Arc::new(DiskStore::open(&state.lineage()).unwrap()),
            files: Arc::new(DurableFiles),
            shelf: Shelf::of(&state),
            attester: Arc::new(NoAttester),
            keys: Arc::new(OneKey(Arc::new(SigningKey::generate().unwrap()))),
            trees: Arc::new(LentTrees::default()),
            state: state.clone(),
            stop_at: None,
        });
        committer.build_indexes().unwrap();
        Self { place, state, committer }
    }

    fn stage(&self, number: u64, files: u64, model_signature: bool) -> Stage {
        let run = RunId(format!("run-{number}"));
        let tree = self.place.path().to_str().unwrap();
        self.committer.room().store.begin(&description(&run, "train", tree)).unwrap();
        let stores = vec![File::open(tree).unwrap()];
        let journal = Journal::create(&self.state.run(&run.0), stores).unwrap();
        let output = format!("out-{number}");
        fs::create_dir(self.place.path().join(&output)).unwrap();
        for version in 1..=files {
            self.write(&journal, RunVersion(version), format!("{output}/part-{version:05}"));
        }
        let order = CommitOrder {
            id: CommitId(format!("{run}-end")),
            run,
            kind: CommitKind::StageEnd(Outcome::Success),
            finished: Timestamp::UNIX_EPOCH,
            journal_length: 0,
            artifacts: vec![ArtifactOrder {
                tree: 0,
                path: output,
                only: None,
                left_out: Vec::new(),
                model_signature,
            }],
            adopt: false,
            lock: None,
            signer: None,
        };
        Stage { journal, order }
    }

    /// The digests are known when the writer closes: of how many bytes, the rest does not notice.
    fn write(&self, journal: &Journal, version: RunVersion, path: String) {
        let location = self.place.path().join(&path);
        fs::write(&location, &path).unwrap();
        let file = File::open(&location).unwrap();
        let identity = Identity::of(&file).unwrap();
        let digests = digests(&file, identity.size).unwrap();
        let path = TreePath { tree: 0, path };
        let by = Process::default();
        journal.record(Fact::Written { version, file: identity.file, path: path.clone(), by });
        let (path, also) = (Some(path), Vec::new());
        journal.record(Fact::Sealed { version, identity, digests, path, also });
    }
}

impl Stage {
    /// # Panics
    /// When nothing was attested: that would be faster.
    fn end(&mut self, committer: &Committer) -> CommitReport {
        self.order.journal_length = self.journal.sync().unwrap();
        let report = committer.commit(&self.order).unwrap();
        assert!(report.artifacts[0].statement.is_some());
        report
    }
}

#[derive(Debug)]
struct OneKey(Arc<SigningKey>);

impl Keyring for OneKey {
    fn default_key(&self) -> Result<Arc<dyn Signer>, KeyFileError> {
        Ok(Arc::clone(&self.0) as _)
    }

    fn presented(&self, _hint: KeyHint) -> Option<Arc<dyn Signer>> {
        None
    }
}
