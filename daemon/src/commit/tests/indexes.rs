//! Under which names, and in which files, something was published: what the gates of all mounts read.

use std::{fs, sync::Arc};

use attestfs_attestation::{Bundle, CommitKind, LISTED_MAX, MODEL_SIGNATURE_FILE, Publications};
use attestfs_digest::Sha256;
use attestfs_fs::{BundleSource, Identity};

use super::{
    FAILED, SUCCESS,
    bench::{Bench, artifact, model},
};
use crate::{
    control::{CommitReport, ModelSignature},
    lineage::LineageStore,
    publication::{Published, ROOT},
    signer::Signer as _,
};

/// Contents and statements that were published under a name of the directory `model`.
pub(crate) fn history(bench: &Bench, name: &str) -> Vec<(Sha256, Sha256)> {
    history_below(bench, "model", name)
}

pub(crate) fn history_below(bench: &Bench, root: &str, name: &str) -> Vec<(Sha256, Sha256)> {
    let root = bench.path(root);
    let history = Published::of(&bench.state).history(root.to_str().unwrap(), name).unwrap();
    history.into_iter().map(|it| (it.content, it.statement)).collect()
}

fn identity(bench: &Bench, name: &str) -> Identity {
    Identity::of(fs::File::open(bench.path(name)).unwrap()).unwrap()
}

fn statement(report: &CommitReport) -> Sha256 {
    report.artifacts[0].statement.unwrap()
}

fn model_signature(bench: &Bench) -> Sha256 {
    Bundle::parse(&bench.read("model/model.sig")).unwrap().sha256()
}

#[test]
fn what_nobody_vouches_for_is_entered_nowhere() {
    let bench = Bench::new();
    bench.writes("model/weights", "w");
    bench.commit(FAILED, vec![model("model")]).unwrap();
    let published = Published::of(&bench.state);
    assert_eq!(history(&bench, "weights"), []);
    assert_eq!(history(&bench, ROOT), []);
    assert_eq!(published.published(&identity(&bench, "model/weights")).unwrap(), None);
}

#[test]
fn a_success_is_entered_by_name_and_by_file() {
    let bench = Bench::new();
    let digests = bench.writes("model/sub/weights", "w");
    let weights = identity(&bench, "model/sub/weights");
    let name = statement(&bench.commit(SUCCESS, vec![model("model")]).unwrap());
    assert_eq!(history(&bench, "sub/weights"), [(digests.sha256, name)]);
    assert_eq!(history(&bench, ROOT), [(name, name)]);
    assert_eq!(history(&bench, MODEL_SIGNATURE_FILE), [(model_signature(&bench), name)]);
    let published = Published::of(&bench.state).published(&weights).unwrap().unwrap();
    assert_eq!((published.content, published.digests), (digests.sha256, Some(digests)));
    assert_eq!((published.stage.as_str(), published.run), ("run", bench.run.0.clone()));
    assert_eq!(published.signer, bench.keys.default.hint().to_string());
}

#[test]
fn a_model_signature_that_is_not_written_is_not_entered() {
    let bench = Bench::new();
    bench.writes("model/weights", "w");
    fs::write(bench.path("model/foreign"), "f").unwrap();
    let name = statement(&bench.commit(SUCCESS, vec![model("model")]).unwrap());
    assert_eq!(history(&bench, ROOT), [(name, name)]);
    assert_eq!(history(&bench, MODEL_SIGNATURE_FILE), []);
}

#[test]
fn files_behind_a_manifest_are_entered_one_by_one() {
    let bench = Bench::new();
    let digests: Vec<_> = (0..=LISTED_MAX)
        .map(|number| bench.writes(&format!("model/{number}"), &number.to_string()))
        .collect();
    let name = statement(&bench.commit(SUCCESS, vec![artifact("model")]).unwrap());
    for (number, digests) in digests.iter().enumerate() {
        assert_eq!(history(&bench, &number.to_string()), [(digests.sha256, name)]);
    }
    let file = identity(&bench, "model/7");
    assert!(Published::of(&bench.state).published(&file).unwrap().is_some());
}

#[test]
fn the_next_publication_comes_after_the_one_before() {
    let bench = Bench::new();
    let first = bench.writes("model/weights", "1");
    let one = statement(
        &bench
            .committer()
            .commit(&bench.order("1", CommitKind::Checkpoint, vec![model("model")]))
            .unwrap(),
    );
    let old_model = model_signature(&bench);
    fs::remove_file(bench.path("model/weights")).unwrap();
    let second = bench.writes("model/weights", "2");
    let two = statement(&bench.commit(SUCCESS, vec![model("model")]).unwrap());
    assert_eq!(history(&bench, "weights"), [(first.sha256, one), (second.sha256, two)]);
    let models = [(old_model, one), (model_signature(&bench), two)];
    assert_eq!(history(&bench, MODEL_SIGNATURE_FILE), models);
}

/// Its key was away: the statement is as old as its freezing, and does not replace what was made and
/// published since.
#[test]
fn a_commit_that_waited_is_older_than_what_was_made_meanwhile() {
    for crashed_while_publishing in [false, true] {
        let bench = Bench::new();
        let first = bench.writes("model/weights", "1");
        let order = bench.order("waits", CommitKind::Checkpoint, vec![model("model")]);
        if crashed_while_publishing {
            // Of all its effects only the last one is missing.
            let store = super::crash::before_publish(&bench);
            bench.committer_with(store, super::crash::disk()).commit(&order).unwrap_err();
        } else {
            bench.keys.fail_next();
            bench.committer().commit(&order).unwrap_err();
        }
        fs::remove_file(bench.path("model/weights")).unwrap();
        let second = bench.writes("model/weights", "2");
        let mut later = bench.order("later", CommitKind::Checkpoint, vec![model("model")]);
        later.finished += jiff::SignedDuration::from_secs(1);
        let two = statement(&bench.committer().commit(&later).unwrap());
        let newest = model_signature(&bench);

        assert!(bench.committer().resume().unwrap().is_empty());
        let report = bench.committer().commit(&order).unwrap();
        let one = statement(&report);
        assert_eq!(history(&bench, "weights"), [(first.sha256, one), (second.sha256, two)]);
        assert_eq!(history(&bench, ROOT), [(one, one), (two, two)]);
        let models = history(&bench, MODEL_SIGNATURE_FILE);
        assert_eq!(models.last(), Some(&(newest, two)));
        assert_eq!(model_signature(&bench), newest, "what lies there speaks of what is there");
        let ModelSignature::Refused(reason) = &report.artifacts[0].model_signature else {
            panic!("{report:?}");
        };
        assert!(reason.contains("made later"), "{reason}");
    }
}

/// A path has one history: whoever publishes under it, and as a part of which directory.
#[test]
fn a_commit_that_waited_is_older_than_what_another_artifact_published_under_its_paths() {
    for (waits, later) in [("all/model", "all"), ("all", "all/model")] {
        let bench = Bench::new();
        let first = bench.writes("all/model/weights", "1");
        let order = bench.order("waits", CommitKind::Checkpoint, vec![model(waits)]);
        bench.keys.fail_next();
        bench.committer().commit(&order).unwrap_err();
        fs::remove_file(bench.path("all/model/weights")).unwrap();
        let second = bench.writes("all/model/weights", "2");
        let mut later = bench.order("later", CommitKind::Checkpoint, vec![artifact(later)]);
        later.finished += jiff::SignedDuration::from_secs(1);
        let two = statement(&bench.committer().commit(&later).unwrap());

        assert!(bench.committer().resume().unwrap().is_empty());
        let report = bench.committer().commit(&order).unwrap();
        let published = [(first.sha256, statement(&report)), (second.sha256, two)];
        assert_eq!(history_below(&bench, "all/model", "weights"), published, "{waits}");
        assert_eq!(history_below(&bench, waits, MODEL_SIGNATURE_FILE), [], "{waits}");
        let signature = &report.artifacts[0].model_signature;
        assert!(matches!(signature, ModelSignature::Refused(_)), "{waits}: {signature:?}");
    }
}

/// From the moment on at which a new signature lies there, an old one is known to be old.
#[test]
fn a_model_signature_is_entered_before_it_lies_beside_the_content() {
    let mut seen = 0;
    for fault in super::crash::faults() {
        let bench = Bench::new();
        bench.writes("model/weights", "1");
        bench.writes("model/config", "c");
        let order = bench.order("1", CommitKind::Checkpoint, vec![model("model")]);
        bench.committer().commit(&order).unwrap();
        let old = model_signature(&bench);
        fs::remove_file(bench.path("model/weights")).unwrap();
        bench.writes("model/weights", "2");
        let order = bench.order("2", CommitKind::Checkpoint, vec![model("model")]);
        let committer = bench.committer_with(
            Arc::clone(&bench.store) as _,
            Arc::new(super::crash::FailingFiles::new(fault)),
        );
        let is_done = committer.commit(&order).is_ok();
        let now = model_signature(&bench);
        if now != old {
            seen += 1;
            let newest = history(&bench, MODEL_SIGNATURE_FILE).last().map(|it| it.0);
            assert_eq!(newest, Some(now), "{fault:?}");
        }
        if is_done {
            break;
        }
    }
    assert!(seen > 1, "it lay there without the commit being done");
}

#[test]
fn a_state_of_an_older_program_gets_its_indexes_once() {
    let bench = Bench::new();
    let first = bench.writes("model/weights", "1");
    bench.writes("model/config", "c");
    let order = bench.order("1", CommitKind::Checkpoint, vec![model("model")]);
    let one = statement(&bench.committer().commit(&order).unwrap());
    fs::remove_file(bench.path("model/weights")).unwrap();
    let second = bench.writes("model/weights", "2");
    let weights = identity(&bench, "model/weights");
    let two = statement(&bench.commit(SUCCESS, vec![model("model")]).unwrap());
    let failed = bench.next_run("failed");
    failed.writes("model/half", "h");
    failed.commit(FAILED, vec![artifact("model")]).unwrap();

    let expected: Vec<_> =
        ["weights", "config", ROOT].map(|name| history(&bench, name)).into_iter().collect();
    let index = |name: &str| bench.state.attestations().join(name);
    for name in ["names.index", "files.index"] {
        fs::remove_file(index(name)).unwrap();
    }
    bench.committer().build_indexes().unwrap();
    let built = ["weights", "config", ROOT].map(|name| history(&bench, name));
    assert_eq!(built.to_vec(), expected);
    assert_eq!(built[0], [(first.sha256, one), (second.sha256, two)]);
    assert_eq!(history(&bench, "half"), []);
    assert_eq!(history(&bench, MODEL_SIGNATURE_FILE), [(model_signature(&bench), two)]);
    let published = Published::of(&bench.state).published(&weights).unwrap().unwrap();
    assert_eq!(published.digests, Some(second));

    let before = fs::read(index("names.index")).unwrap();
    bench.committer().build_indexes().unwrap();
    assert_eq!(fs::read(index("names.index")).unwrap(), before);
}

#[test]
fn a_new_state_gets_empty_indexes() {
    let bench = Bench::new();
    bench.committer().build_indexes().unwrap();
    let index = |name: &str| fs::read(bench.state.attestations().join(name)).unwrap();
    assert_eq!((index("names.index"), index("files.index")), (Vec::new(), Vec::new()));
    assert!(bench.store.frozen().unwrap().is_empty());
}
