//! What is freed, what stays, and what a crash in between leaves to the next time.

use std::{fs, sync::Arc};

use attestfs_attestation::{CommitKind, Outcome};
use attestfs_digest::Sha256;
use attestfs_fs::{BundleSource, Identity};

use super::{GarbageReport, GcError, Scope, collect};
use crate::{
    commit::{
        Committer,
        tests::{
            bench::{Bench, artifact, model},
            crash::{FailingFiles, faults},
        },
    },
    lineage::{
        AttestationQuery, LineageStore,
        testing::{FailingStore, Fault},
    },
    publication::{DurableFiles, Published},
};

const SUCCESS: CommitKind = CommitKind::StageEnd(Outcome::Success);

/// Attestations too, without which there is not much to choose from.
fn scope(paths: &[String]) -> Scope {
    Scope { paths: paths.to_vec(), bundles: true }
}

fn plan(committer: &Committer, paths: &[String]) -> GarbageReport {
    planned(committer, &scope(paths))
}

fn planned(committer: &Committer, scope: &Scope) -> GarbageReport {
    committer.alone(|room| collect(room, scope, None)).unwrap()
}

/// Says what can be freed, and frees it.
fn free(committer: &Committer, paths: &[String]) -> GarbageReport {
    let planned = plan(committer, paths);
    let report = free_planned(committer, paths, planned.plan).unwrap();
    assert_eq!(report, GarbageReport { freed: true, ..planned });
    report
}

fn free_planned(
    committer: &Committer,
    paths: &[String],
    agreed: Sha256,
) -> Result<GarbageReport, GcError> {
    committer.alone(|room| collect(room, &scope(paths), Some(agreed)))
}

fn checkpoint(bench: &Bench, id: &str, directory: &str) -> Sha256 {
    let order = bench.order(id, CommitKind::Checkpoint, vec![model(directory)]);
    let report = bench.committer().commit(&order).unwrap();
    report.artifacts[0].statement.unwrap()
}

fn path(bench: &Bench, name: &str) -> String {
    bench.path(name).to_str().unwrap().to_owned()
}

fn has_bundle(bench: &Bench, statement: Sha256) -> bool {
    bench.shelf().bundle(statement).unwrap().is_some()
}

/// A run that made two checkpoints and removed the first.
fn rotated() -> (Bench, [Sha256; 2]) {
    let bench = Bench::new();
    bench.writes("step-1/weights", "1");
    let first = checkpoint(&bench, "1", "step-1");
    bench.writes("step-2/weights", "2");
    let second = checkpoint(&bench, "2", "step-2");
    bench.removes("step-1/weights", 1);
    bench.ingest();
    (bench, [first, second])
}

#[test]
fn an_empty_state_has_nothing_to_free() {
    let bench = Bench::new();
    let report = plan(&bench.committer(), &[]);
    assert!(report.is_empty() && !report.freed);
    assert_eq!(report.unseen.attestations + report.away.attestations, 0);
}

#[test]
fn nothing_of_a_live_run_and_of_content_that_is_there_is_freed() {
    let bench = Bench::new();
    bench.writes("model/weights", "w");
    checkpoint(&bench, "1", "model");
    assert!(plan(&bench.committer(), &[]).is_empty());
    assert!(plan(&bench.committer(), &[path(&bench, "")]).is_empty());
}

#[test]
fn a_plan_frees_nothing_and_neither_does_another_ones_name() {
    let (bench, [first, _]) = rotated();
    let committer = bench.committer();
    let planned = plan(&committer, &[]);
    assert_eq!(planned.bundles.files, 1);
    let other = free_planned(&committer, &[], Sha256([0; 32])).unwrap();
    assert_eq!(other, planned);
    assert!(has_bundle(&bench, first));
}

#[test]
fn what_a_run_removed_is_freed_once_and_what_stays_is_as_it_was() {
    let (bench, [first, second]) = rotated();
    let report = free(&bench.committer(), &[]);
    assert_eq!((report.bundles.files, report.total().files), (1, 1));
    assert_eq!(report.gone, [path(&bench, "step-1")]);
    assert!(!has_bundle(&bench, first) && has_bundle(&bench, second));
    assert!(plan(&bench.committer(), &[]).is_empty());

    let known = bench.store.attestation(&first).unwrap().unwrap();
    assert!(known.freed, "it stays known, marked");
    let latest = bench.store.latest(&path(&bench, "")).unwrap();
    assert_eq!(latest.iter().map(|it| it.statement).collect::<Vec<_>>(), [second]);
}

/// `cp` is seen by no mount: only the attestation of the original says what the copy is.
#[test]
fn an_attestation_stays_until_it_or_its_place_is_asked_for() {
    let (bench, [first, _]) = rotated();
    let committer = bench.committer();
    let report = planned(&committer, &Scope::default());
    assert!(report.is_empty(), "{report:?}");
    assert_eq!(
        (report.spared.attestations, report.spared.roots),
        (1, vec![path(&bench, "step-1")])
    );
    let agreed = committer.alone(|room| collect(room, &Scope::default(), Some(report.plan)));
    assert!(agreed.unwrap().freed);
    assert!(has_bundle(&bench, first));

    let named = Scope { paths: vec![path(&bench, "step-1")], bundles: false };
    for scope in [named, scope(&[])] {
        let report = planned(&committer, &scope);
        assert_eq!((report.bundles.files, report.spared.attestations), (1, 0), "{scope:?}");
    }
}

#[test]
fn what_a_spared_attestation_was_made_from_is_spared_with_its_manifests() {
    let bench = Bench::new();
    let files = 0..=attestfs_attestation::LISTED_MAX;
    for number in files.clone() {
        bench.writes(&format!("model/{number}"), &number.to_string());
    }
    let statement = checkpoint(&bench, "1", "model");
    for number in files {
        bench.removes(&format!("model/{number}"), number as u64 + 1);
    }
    bench.ingest();
    let manifests = || bench.shelf().manifests().unwrap().len();
    assert_eq!(manifests(), 1);
    let committer = bench.committer();
    let report = planned(&committer, &Scope::default());
    assert_eq!((report.manifests.files, report.spared.attestations), (0, 1));
    assert!(has_bundle(&bench, statement));
    free(&committer, &[]);
    assert_eq!(manifests(), 0);
}

#[test]
fn what_was_agreed_to_be_freed_is_freed_though_only_the_next_time() {
    let (bench, [first, _]) = rotated();
    bench.store.free(&[first]).unwrap();
    let committer = bench.committer();
    let report = planned(&committer, &Scope::default());
    assert_eq!((report.bundles.files, report.spared.attestations), (1, 0));
}

#[test]
fn what_later_lines_of_the_indexes_say_again_is_left_out_and_no_history_changes() {
    let bench = Bench::new();
    bench.writes("model/same", "s");
    bench.writes("model/weights", "1");
    checkpoint(&bench, "1", "model");
    bench.removes("model/weights", 2);
    bench.writes("model/weights", "2");
    let second = checkpoint(&bench, "2", "model");
    let committer = bench.committer();
    let elsewhere = Scope { paths: vec![path(&bench, "elsewhere")], bundles: false };
    assert_eq!(planned(&committer, &elsewhere).repeated, 0);
    let report = planned(&committer, &Scope::default());
    assert!(report.repeated > 0 && !report.is_empty());
    committer.alone(|room| collect(room, &Scope::default(), Some(report.plan))).unwrap();
    assert!(planned(&committer, &Scope::default()).is_empty());
    let published = Published::of(&bench.state);
    let names = |name| published.names(&path(&bench, "model"), name).unwrap();
    assert_eq!(names("same").iter().map(|line| line.statement).collect::<Vec<_>>(), [second]);
    assert_eq!(names("weights").len(), 2);
}

#[test]
fn the_numbers_of_removed_files_are_forgotten_and_their_history_is_not() {
    let bench = Bench::new();
    bench.writes("step-1/weights", "1");
    let identity = Identity::of(fs::File::open(bench.path("step-1/weights")).unwrap()).unwrap();
    let statement = checkpoint(&bench, "1", "step-1");
    let published = Published::of(&bench.state);
    assert!(published.published(&identity).unwrap().is_some());
    bench.removes("step-1/weights", 1);
    bench.ingest();
    free(&bench.committer(), &[]);
    assert_eq!(published.published(&identity).unwrap(), None);
    let history = published.names(&path(&bench, "step-1"), "weights").unwrap();
    assert_eq!(history.iter().map(|line| line.statement).collect::<Vec<_>>(), [statement]);
}

#[test]
fn what_went_without_a_run_stays_until_its_place_is_named() {
    let bench = Bench::new();
    bench.writes("model/weights", "w");
    let statement = checkpoint(&bench, "1", "model");
    fs::rename(bench.path("model"), bench.path("moved")).unwrap();
    let report = plan(&bench.committer(), &[]);
    assert!(report.is_empty());
    assert_eq!((report.unseen.attestations, report.unseen.roots), (1, vec![path(&bench, "model")]));
    let elsewhere = [path(&bench, "mode"), path(&bench, "model/weights")];
    let report = plan(&bench.committer(), &elsewhere);
    assert!(report.is_empty() && report.unseen.attestations == 0);
    let report = free(&bench.committer(), &[path(&bench, "model")]);
    assert_eq!(report.bundles.files, 1);
    assert!(!has_bundle(&bench, statement));
}

#[test]
fn what_lies_on_a_file_system_that_is_not_there_stays_even_when_its_place_is_named() {
    let bench = Bench::new();
    let digests = bench.writes("model/weights", "w");
    let here = Identity::of(fs::File::open(bench.path("model/weights")).unwrap()).unwrap();
    let statement = checkpoint(&bench, "1", "model");
    // The same file, as if it had been seen on another file system.
    let elsewhere = bench.store.move_to_filesystem(&here, here.file.filesystem ^ 1);
    assert_eq!(elsewhere, digests);
    fs::remove_dir_all(bench.path("model")).unwrap();
    for paths in [vec![], vec![path(&bench, "model")]] {
        let report = plan(&bench.committer(), &paths);
        assert!(report.is_empty(), "{report:?}");
        assert_eq!(report.away.roots, [path(&bench, "model")]);
    }
    assert!(has_bundle(&bench, statement));
}

#[test]
fn one_file_that_is_left_keeps_the_attestation() {
    let bench = Bench::new();
    bench.writes("model/a", "a");
    bench.writes("model/b", "b");
    checkpoint(&bench, "1", "model");
    bench.removes("model/a", 1);
    bench.ingest();
    assert!(plan(&bench.committer(), &[path(&bench, "model")]).is_empty());
}

#[test]
fn a_file_of_the_same_size_in_its_place_may_be_it_unless_the_store_knows_better() {
    let (bench, _) = rotated();
    fs::write(bench.path("step-1/weights"), "12").unwrap();
    assert_eq!(plan(&bench.committer(), &[]).bundles.files, 1, "another size");
    fs::write(bench.path("step-1/weights"), "x").unwrap();
    assert!(plan(&bench.committer(), &[]).is_empty(), "it was not hashed");
    bench.reads("step-1/weights");
    bench.ingest();
    assert_eq!(plan(&bench.committer(), &[]).bundles.files, 1, "it is known to be another");
}

#[test]
fn what_something_that_stays_was_made_from_is_kept_with_its_manifests() {
    let clean = Bench::new();
    clean.writes("data/table", "t");
    let data = clean.commit(SUCCESS, vec![artifact("data")]).unwrap().artifacts[0].statement;
    let train = clean.next_run("train");
    train.reads("data/table");
    train.writes("model/weights", "w");
    let trained = checkpoint(&train, "1", "model");
    let (_after, _) = train.ends();
    let rotate = clean.next_run("rotate");
    rotate.removes_of_others("data/table");
    rotate.ingest();
    let report = plan(&clean.committer(), &[]);
    assert_eq!(report.bundles.files, 0, "the model was made from it");
    rotate.removes_of_others("model/weights");
    rotate.ingest();
    let report = free(&clean.committer(), &[]);
    assert_eq!(report.bundles.files, 2);
    assert!(!has_bundle(&clean, data.unwrap()) && !has_bundle(&clean, trained));
}

#[test]
fn what_a_live_run_has_read_is_kept_for_the_statement_it_will_make() {
    for is_taken_in in [false, true] {
        let clean = Bench::new();
        clean.writes("data/table", "t");
        checkpoint(&clean, "1", "data");
        let train = clean.next_run("train");
        train.reads("data/table");
        if is_taken_in {
            train.ingest();
        }
        let rotate = clean.next_run("rotate");
        rotate.removes_of_others("data/table");
        rotate.ingest();
        assert!(plan(&clean.committer(), &[]).is_empty(), "{is_taken_in}");
        // It leaves nothing that would name what it read.
        let (_after, _) = train.ends();
        assert_eq!(plan(&clean.committer(), &[]).bundles.files, 1, "{is_taken_in}");
    }
}

#[test]
fn journals_and_reports_of_runs_that_have_ended_are_freed_and_the_lineage_stays() {
    let bench = Bench::new();
    bench.writes("model/weights", "w");
    bench.commit(SUCCESS, vec![artifact("model")]).unwrap();
    assert!(plan(&bench.committer(), &[]).is_empty(), "its process lives");
    let (bench, journal) = bench.dies();
    let report = free(&bench.committer(), &[]);
    assert_eq!((report.journals.files, report.reports.files, report.bundles.files), (1, 1, 0));
    assert!(!journal.parent().unwrap().exists());
    assert_eq!(bench.store.outputs(&bench.run).unwrap().kept.len(), 1);
    assert_eq!(bench.store.attestations(AttestationQuery::All, 9).unwrap().len(), 1);
}

#[test]
fn a_journal_that_tells_more_than_the_store_knows_stays() {
    let bench = Bench::new();
    bench.writes("model/weights", "w");
    bench.commit(SUCCESS, vec![artifact("model")]).unwrap();
    bench.writes("model/later", "l");
    let (bench, journal) = bench.dies();
    let report = free(&bench.committer(), &[]);
    assert_eq!((report.journals.files, report.reports.files), (0, 1));
    assert!(journal.exists());
}

#[test]
fn a_run_of_which_a_commit_waits_keeps_everything() {
    let bench = Bench::new();
    bench.writes("model/weights", "w");
    let store = FailingStore::new(Arc::clone(&bench.store) as _, Fault::Before(3));
    let committer = bench.committer_with(Arc::new(store), Arc::new(DurableFiles));
    committer.commit(&bench.order("end", SUCCESS, vec![artifact("model")])).unwrap_err();
    assert_eq!(bench.store.frozen().unwrap().len(), 1);
    let (bench, journal) = bench.dies();
    assert!(plan(&bench.committer(), &[]).is_empty());
    assert!(journal.exists());
}

#[test]
fn a_manifest_that_no_commit_froze_is_freed() {
    let bench = Bench::new();
    let orphan = Sha256::of(b"text");
    let shelf = bench.shelf();
    shelf.put_manifest(&DurableFiles, orphan, b"text").unwrap();
    assert!(plan(&bench.committer(), &[path(&bench, "")]).is_empty(), "nobody knows its place");
    assert_eq!(free(&bench.committer(), &[]).manifests.files, 1);
    assert_eq!(shelf.manifest(orphan).unwrap(), None);
}

/// Fails at each effect in turn, and frees all of it the next time. Gives how many effects failed.
fn failures(faulty: impl Fn(&Bench, Fault) -> Committer) -> usize {
    let mut failed = 0;
    for fault in faults() {
        let (bench, [first, second]) = rotated();
        let (bench, _) = bench.ends();
        let committer = bench.committer();
        let agreed = plan(&committer, &[]).plan;
        if free_planned(&faulty(&bench, fault), &[], agreed).is_ok() {
            break;
        }
        failed += 1;
        if !plan(&committer, &[]).is_empty() {
            free(&committer, &[]);
        }
        assert!(plan(&committer, &[]).is_empty(), "{fault:?}");
        assert!(!has_bundle(&bench, first) && has_bundle(&bench, second), "{fault:?}");
        assert_eq!(fs::read_dir(bench.state.runs()).unwrap().count(), 1, "{fault:?}");
    }
    failed
}

#[test]
fn what_a_crash_leaves_is_freed_the_next_time() {
    let on_disk = failures(|bench, fault| {
        let files = Arc::new(FailingFiles::new(fault));
        bench.committer_with(Arc::clone(&bench.store) as _, files)
    });
    assert!((6..100).contains(&on_disk), "{on_disk} effects on the disk failed");
    let in_store = failures(|bench, fault| {
        let store = FailingStore::new(Arc::clone(&bench.store) as _, fault);
        bench.committer_with(Arc::new(store), Arc::new(DurableFiles))
    });
    assert!((2..100).contains(&in_store), "{in_store} effects on the store failed");
}

#[test]
fn of_a_run_that_is_named_only_what_lies_there_is_freed() {
    let bench = Bench::new();
    bench.writes("model/weights", "w");
    bench.commit(SUCCESS, vec![artifact("model")]).unwrap();
    let (bench, _) = bench.dies();
    let tree = path(&bench, "").trim_end_matches('/').to_owned();
    assert!(plan(&bench.committer(), &[format!("{tree}/model")]).is_empty());
    assert_eq!(plan(&bench.committer(), &[tree]).journals.files, 1);
}
