//! What a crash leaves behind, and what an open refuses.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use crate::lineage::{
    AttestationQuery, CommitId, DiskStore, LineageError, LineageStore, Output, OutputState, RunId,
    testing::{Content, FailingStore, Fault, MemoryStore, Story, attested, description},
};

#[test]
fn a_store_in_use_names_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let _owner = DiskStore::open(folder.path()).unwrap();
    let refusal = DiskStore::open(folder.path()).unwrap_err();
    assert!(matches!(&refusal, LineageError::Locked { .. }), "{refusal:?}");
    assert!(refusal.to_string().contains("another daemon owns it"));
}

#[test]
fn a_store_of_another_schema_is_refused() {
    for (found, spelt) in [(&1_u32.to_be_bytes()[..], "schema 1"), (b"?", "of no known kind")] {
        let folder = tempfile::tempdir().unwrap();
        drop(DiskStore::open(folder.path()).unwrap());
        let database = sled::open(folder.path()).unwrap();
        database.insert([0], found).unwrap();
        drop(database);
        let refusal = DiskStore::open(folder.path()).unwrap_err();
        assert!(matches!(&refusal, LineageError::Schema { .. }), "{refusal:?}");
        assert!(refusal.to_string().contains(spelt), "{refusal}");
    }
}

#[test]
fn a_database_of_somebody_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let database = sled::open(folder.path()).unwrap();
    database.insert("theirs", "data").unwrap();
    drop(database);
    assert!(matches!(DiskStore::open(folder.path()), Err(LineageError::Schema { .. })));
}

/// As sled leaves them on a full disk, and cannot read them.
#[test]
fn a_store_that_could_not_be_made_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (path, begun) = (folder.path().join("lineage"), folder.path().join("lineage.new"));
    fs::create_dir(&begun).unwrap();
    fs::write(begun.join("conf"), "").unwrap();
    Story::begin(&DiskStore::open(&path).unwrap(), "train");
    assert!(!begun.exists());
    assert_eq!(DiskStore::open(&path).unwrap().runs(2).unwrap().len(), 1);
}

#[test]
fn what_was_frozen_survives_a_crash_with_all_that_was_ingested_before() {
    let folder = tempfile::tempdir().unwrap();
    let store = DiskStore::open(folder.path()).unwrap();
    let mut story = Story::begin(&store, "train");
    for number in 1..50 {
        story.writes(Content::of(number, 1));
    }
    store.freeze(&commit(), b"statement").unwrap();

    let crashed = image_of(folder.path());
    let restarted = DiskStore::open(crashed.path()).unwrap();
    assert_eq!(restarted.frozen().unwrap()[0].bytes, b"statement");
    assert_eq!(restarted.ingested(&story.run).unwrap(), 98);
    assert_eq!(restarted.outputs(&story.run).unwrap(), store.outputs(&story.run).unwrap());
}

/// The disk got the beginning of the log and nothing behind it.
#[test]
fn wherever_the_log_is_torn_whole_operations_are_left() {
    const BATCHES: u64 = 8;
    const FILES_PER_BATCH: u64 = 40;
    let folder = tempfile::tempdir().unwrap();
    let store = DiskStore::open(folder.path()).unwrap();
    let mut story = Story::begin(&store, "train");
    for batch in 0..BATCHES {
        let names = batch * FILES_PER_BATCH..(batch + 1) * FILES_PER_BATCH;
        let facts = names
            .map(|name| [Content::of(name, 1).written(name), Content::of(name, 1).sealed(name)]);
        story.tell(&facts.flatten().collect::<Vec<_>>());
    }
    store.freeze(&commit(), b"statement").unwrap();

    let log = fs::read(folder.path().join("db")).unwrap();
    let mut survivors = BTreeSet::new();
    for tear in 0..TEARS {
        let crashed = image_of(folder.path());
        let mut torn = log.clone();
        torn[log.len() * tear / TEARS..].fill(0);
        fs::write(crashed.path().join("db"), torn).unwrap();

        let restarted = DiskStore::open(crashed.path()).unwrap();
        let Ok(ingested) = restarted.ingested(&story.run) else {
            continue;
        };
        let kept = restarted.outputs(&story.run).unwrap().kept;
        assert_eq!(kept.len() as u64 * 2, ingested, "torn at {tear}/{TEARS}");
        assert_eq!(ingested % (FILES_PER_BATCH * 2), 0, "torn at {tear}/{TEARS}");
        let has_digest = |output: &Output| matches!(output.state, OutputState::Sealed { .. });
        assert!(kept.iter().all(has_digest));
        survivors.insert(ingested);
    }
    assert!(survivors.len() > 4, "the tears were meant to fall between and into: {survivors:?}");
}

const TEARS: usize = 40;

/// A commit as the daemon does it, over and over until it succeeds.
#[test]
fn whichever_effect_fails_the_second_try_gives_the_same_store() {
    for number in 0.. {
        let mut effects = 0;
        for fault in [Fault::Before(number), Fault::After(number)] {
            let folder = tempfile::tempdir().unwrap();
            let disk: Arc<dyn LineageStore> = Arc::new(DiskStore::open(folder.path()).unwrap());
            let failing = FailingStore::new(Arc::clone(&disk), fault);
            let failed = train(&failing).is_err();
            effects = failing.effects();
            assert_eq!(failed, number < effects, "{fault:?}");
            train(disk.as_ref()).unwrap();

            let expected = MemoryStore::default();
            train(&expected).unwrap();
            assert_eq!(told(disk.as_ref()), told(&expected), "{fault:?}");
        }
        if number >= effects {
            break;
        }
    }
}

fn train(store: &dyn LineageStore) -> Result<(), LineageError> {
    let run = RunId("train".to_owned());
    let (raw, model) = (Content::of(1, 1), Content::of(2, 2));
    store.begin(&description("train"))?;
    store.ingest(&run, 0..2, &[raw.opened(1), raw.hashed(1)])?;
    store.ingest(&run, 2..4, &[model.written(2), model.sealed(2)])?;
    if store.published(&commit())?.is_none() {
        store.freeze(&commit(), b"statement")?;
        let version = store.version_of(&model.identity())?.expect("the model was sealed");
        store.publish(&commit(), &[attested(&run, 9, "/lab", &[(version, model)])])?;
    }
    store.end(&run, &crate::lineage::testing::succeeded())
}

fn told(store: &dyn LineageStore) -> String {
    let run = RunId("train".to_owned());
    format!(
        "{:?}",
        (
            store.run(&run).unwrap(),
            store.ingested(&run).unwrap(),
            store.materials(&run).unwrap(),
            store.outputs(&run).unwrap(),
            store.frozen().unwrap(),
            store.attestations(AttestationQuery::All, 9).unwrap(),
        )
    )
}

fn commit() -> CommitId {
    CommitId("commit".to_owned())
}

/// The files as another process would find them if this one were killed now.
fn image_of(folder: &Path) -> tempfile::TempDir {
    let image = tempfile::tempdir().unwrap();
    copy(folder, image.path());
    image
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
