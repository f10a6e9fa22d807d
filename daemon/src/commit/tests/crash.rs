//! Between any two effects of a commit the daemon may die, and the next one goes on.

use std::{
    fs::{self, File},
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use attestfs_attestation::{Bundle, CommitKind, ModelManifest};
use attestfs_digest::Sha256;

use super::{
    SUCCESS,
    bench::{Bench, artifact, model},
    indexes::history_below,
};
use crate::{
    commit::record::Record,
    control::{CommitOrder, CommitReport, ModelSignature},
    lineage::{
        AttestationQuery, LineageStore,
        testing::{FailingStore, Fault},
    },
    publication::{DurableFiles, Files},
};

/// A disk on which one effect fails, before or after it happened.
#[derive(Debug)]
pub(crate) struct FailingFiles {
    fault: Fault,
    effects: AtomicUsize,
}

impl FailingFiles {
    pub(crate) fn new(fault: Fault) -> Self {
        Self { fault, effects: AtomicUsize::new(0) }
    }

    fn effect(&self, effect: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let number = self.effects.fetch_add(1, Ordering::SeqCst);
        if self.fault == Fault::Before(number) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        effect()?;
        if self.fault == Fault::After(number) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl Files for FailingFiles {
    fn replace(&self, directory: &File, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.effect(|| DurableFiles.replace(directory, name, bytes))
    }

    fn append(&self, directory: &File, name: &str, lines: &str) -> io::Result<()> {
        self.effect(|| DurableFiles.append(directory, name, lines))
    }

    fn remove(&self, directory: &File, names: &[String]) -> io::Result<()> {
        self.effect(|| DurableFiles.remove(directory, names))
    }
}

/// The store as it is, on which the publication of the next checkpoint fails.
pub(super) fn before_publish(bench: &Bench) -> Arc<dyn LineageStore> {
    // Ingest, freeze, publish.
    Arc::new(FailingStore::new(Arc::clone(&bench.store) as _, Fault::Before(2)))
}

/// A disk on which everything goes well.
pub(super) fn disk() -> Arc<dyn Files> {
    Arc::new(DurableFiles)
}

/// More effects than any commit below has.
const EFFECTS_MAX: usize = 100;

pub(crate) fn faults() -> impl Iterator<Item = Fault> {
    (0..EFFECTS_MAX).flat_map(|n| [Fault::Before(n), Fault::After(n)])
}

fn bench() -> (Bench, CommitOrder) {
    let bench = Bench::new();
    bench.writes("model/weights", "w");
    bench.writes("model/config", "c");
    bench.writes("logs/loss", "l");
    let order = bench.order("end", SUCCESS, vec![model("model"), artifact("logs")]);
    (bench, order)
}

/// What the commit is bound to say from now on, when it is frozen. The world goes on meanwhile: a
/// commit that looked again would say something else.
fn frozen_statements(bench: &Bench) -> Option<Vec<Option<Sha256>>> {
    let frozen = bench.store.frozen().unwrap();
    let record = Record::parse(frozen.first()?).unwrap();
    fs::write(bench.path("logs/loss"), "something else").unwrap();
    let statements = record.artifacts.iter().map(|artifact| artifact.statement.as_ref());
    Some(statements.map(|it| it.map(|it| it.payload.0.sha256())).collect())
}

fn statements(report: &CommitReport) -> Vec<Option<Sha256>> {
    report.artifacts.iter().map(|artifact| artifact.statement).collect()
}

/// Everything there is to see of the commit is there once, and says what was reported.
fn assert_published_once(bench: &Bench, order: &CommitOrder, report: &CommitReport) {
    let mut published: Vec<_> = bench
        .store
        .attestations(AttestationQuery::All, 9)
        .unwrap()
        .iter()
        .map(|attestation| Some(attestation.statement))
        .collect();
    let mut reported = statements(report);
    published.sort();
    reported.sort();
    assert_eq!(published, reported);
    assert!(bench.store.frozen().unwrap().is_empty());
    assert!(bench.store.run(&order.run).unwrap().unwrap().end.is_some());
    let shelf = fs::read_dir(bench.state.attestations()).unwrap();
    let mut shelf: Vec<_> =
        shelf.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    let mut expected: Vec<_> = reported
        .iter()
        .map(|statement| format!("{}.sigstore.json", statement.unwrap()))
        .chain(["subjects", "names", "files"].map(|index| format!("{index}.index")))
        .collect();
    shelf.sort();
    expected.sort();
    assert_eq!(shelf, expected);
    for attestation in &reported {
        for subject in bench.store.subjects(&attestation.unwrap()).unwrap() {
            let found = bench.shelf().statements_of(subject.digests.sha256).unwrap();
            assert_eq!(found, [attestation.unwrap()]);
        }
    }
    for (root, name) in [
        ("model", "weights"),
        ("model", ""),
        ("model", "model.sig"),
        ("logs", "loss"),
        ("logs", ""),
    ] {
        assert_eq!(history_below(bench, root, name).len(), 1, "{root}/{name}");
    }
    assert_eq!(report.artifacts[0].model_signature, ModelSignature::Written);
    assert_eq!(bench.names("model"), ["claims.jsonl", "config", "model.sig", "weights"]);
    let signature = Bundle::parse(&bench.read("model/model.sig")).unwrap();
    let manifest = ModelManifest::read(signature.payload()).unwrap();
    manifest.compare(&bench.entries("model")).unwrap();
    assert_eq!(&bench.committer().commit(order).unwrap(), report);
}

/// Fails, restarts, and has the client ask again; and the same with a daemon that goes on by
/// itself before the client asks.
fn assert_recovers(bench: &Bench, order: &CommitOrder, resumes: bool) {
    let bound = frozen_statements(bench);
    if resumes {
        assert!(bench.committer().resume().unwrap().is_empty());
    }
    let report = bench.committer().commit(order).unwrap();
    if let Some(bound) = bound {
        assert_eq!(statements(&report), bound);
    }
    assert_published_once(bench, order, &report);
}

#[test]
fn whichever_effect_on_the_store_fails_there_is_one_publication_in_the_end() {
    for resumes in [false, true] {
        let mut failed = 0;
        for fault in faults() {
            let (bench, order) = bench();
            let store = Arc::new(FailingStore::new(Arc::clone(&bench.store) as _, fault));
            let committer = bench.committer_with(Arc::clone(&store) as _, Arc::new(DurableFiles));
            if committer.commit(&order).is_ok() {
                break;
            }
            failed += 1;
            assert_recovers(&bench, &order, resumes);
        }
        assert!((6..2 * EFFECTS_MAX).contains(&failed), "{failed} effects failed");
    }
}

#[test]
fn whichever_effect_on_the_disk_fails_there_is_one_publication_in_the_end() {
    for resumes in [false, true] {
        let mut failed = 0;
        for fault in faults() {
            let (bench, order) = bench();
            let files = Arc::new(FailingFiles::new(fault));
            let committer = bench.committer_with(Arc::clone(&bench.store) as _, files);
            if committer.commit(&order).is_ok() {
                break;
            }
            failed += 1;
            assert_recovers(&bench, &order, resumes);
        }
        assert!((12..2 * EFFECTS_MAX).contains(&failed), "{failed} effects failed");
    }
}

#[test]
fn a_signature_that_fails_leaves_the_commit_frozen() {
    for resumes in [false, true] {
        let (bench, order) = bench();
        bench.keys.fail_next();
        bench.committer().commit(&order).unwrap_err();
        assert!(frozen_statements(&bench).is_some());
        assert_recovers(&bench, &order, resumes);
    }
}

#[test]
fn the_end_of_a_run_is_known_as_soon_as_it_is_frozen() {
    let (bench, order) = bench();
    bench.keys.fail_next();
    bench.committer().commit(&order).unwrap_err();
    assert!(bench.store.unfinished().unwrap().is_empty());
}

#[test]
fn a_checkpoint_that_is_interrupted_does_not_end_the_run() {
    let (bench, _) = bench();
    let order = bench.order("checkpoint", CommitKind::Checkpoint, vec![model("model")]);
    bench.keys.fail_next();
    bench.committer().commit(&order).unwrap_err();
    bench.committer().resume().unwrap();
    assert_eq!(bench.store.unfinished().unwrap().len(), 1);
    assert_eq!(bench.store.attestations(AttestationQuery::All, 9).unwrap().len(), 1);
}
