//! What a commit promises, on real directories and with stores and disks that fail.

pub(crate) mod bench;
mod beside;
pub(crate) mod crash;
mod indexes;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use attestfs_attestation::{
    Bundle, CLAIMS_FILE, Claims, CommitKind, INCOMPLETE_TYPE, LeftOut, MODEL_SIGNATURE_FILE,
    ModelManifest, Outcome, PROVENANCE_TYPE, Provenance,
};

use attestfs_digest::Digests;
use attestfs_fs::TreePath;

use self::bench::{Bench, artifact, left_out, model, tree_path};
use super::CommitError;
use crate::{
    control::{ArtifactOrder, ArtifactReport, ModelSignature},
    lineage::{AttestationQuery, LineageStore, MaterialDigest, RunId},
};

const SUCCESS: CommitKind = CommitKind::StageEnd(Outcome::Success);
const FAILED: CommitKind =
    CommitKind::StageEnd(Outcome::Failed { exit_code: Some(1), signal: None });

#[test]
fn a_run_that_wrote_nothing_is_ended_and_not_attested() {
    let bench = Bench::new();
    let report = bench.commit(SUCCESS, vec![artifact("")]).unwrap();
    assert_eq!(report.artifacts[0].statement, None);
    assert!(report.artifacts[0].unattested.as_ref().unwrap().contains("wrote nothing"));
    assert!(bench.store.attestations(AttestationQuery::All, 9).unwrap().is_empty());
    let run = bench.store.run(&bench.run).unwrap().unwrap();
    assert_eq!(run.end.unwrap().outcome, Outcome::Success);
}

#[test]
fn an_order_that_leaves_its_tree_is_refused() {
    let bench = Bench::new();
    bench.writes("model/weights", "w");
    for path in ["..", "model/..", "/etc", "./model", "model//"] {
        let refusal = bench.commit(SUCCESS, vec![artifact(path)]).unwrap_err();
        assert!(matches!(refusal, CommitError::Order { .. }), "{path}: {refusal}");
    }
    let elsewhere = ArtifactOrder { tree: 2, ..artifact("model") };
    let refusal = bench.commit(SUCCESS, vec![elsewhere]).unwrap_err();
    assert!(matches!(refusal, CommitError::Order { tree: 2, .. }));
}

#[test]
fn a_directory_that_the_run_never_made_does_not_keep_the_others_from_being_attested() {
    let bench = Bench::new();
    bench.writes("model/weights", "w");
    symlink("model", bench.path("alias")).unwrap();
    let artifacts = vec![model("missing"), model("alias"), model("model/weights"), model("model")];
    let report = bench.commit(SUCCESS, artifacts).unwrap();
    for absent in &report.artifacts[..3] {
        assert_eq!(absent.statement, None);
        assert!(absent.unattested.as_ref().unwrap().contains("cannot be opened"));
        assert!(matches!(absent.model_signature, ModelSignature::Refused(_)));
    }
    assert_eq!(report.artifacts[3].model_signature, ModelSignature::Written);
    assert_eq!(report.artifacts[3].unattested, None);
}

#[test]
fn what_a_successful_run_wrote_is_attested_and_its_directory_signed() {
    let bench = Bench::new();
    let weights = bench.writes("model/weights", "w");
    bench.writes("model/sub/config", "c");
    bench.writes("elsewhere", "e");
    let report = bench.commit(SUCCESS, vec![model("model")]).unwrap();
    let artifact = &report.artifacts[0];
    assert_eq!(artifact.subjects, 2);
    assert_eq!(artifact.predicate_type.as_deref(), Some(PROVENANCE_TYPE));
    assert_eq!(artifact.model_signature, ModelSignature::Written);
    assert_eq!(artifact.left_out, []);

    let statement = artifact.statement.unwrap();
    let bundle = bench.bundle(statement);
    assert!(bench.public_key().verifies(&bundle.pae(), bundle.signature()));
    let names: Vec<_> = bundle
        .payload()
        .statement::<Provenance>()
        .unwrap()
        .subject
        .into_iter()
        .filter_map(|subject| subject.name)
        .collect();
    assert_eq!(names, ["sub/config", "weights"]);
    assert_eq!(bench.shelf().statements_of(weights.sha256).unwrap(), [statement]);

    let signature = Bundle::parse(&bench.read("model/model.sig")).unwrap();
    assert!(bench.public_key().verifies(&signature.pae(), signature.signature()));
    let manifest = ModelManifest::read(signature.payload()).unwrap();
    assert_eq!((manifest.name(), manifest.files()), ("model", 2));
    manifest.compare(&bench.entries("model")).unwrap();
    let claims = Claims::parse(&bench.read("model/claims.jsonl")).unwrap();
    assert_eq!(claims.bundles, [bundle]);
    assert!(bench.store.frozen().unwrap().is_empty());
}

#[test]
fn a_failed_run_gets_its_own_predicate_and_leaves_no_trace_beside_the_content() {
    let bench = Bench::new();
    bench.writes("model/weights", "w");
    let report = bench.commit(FAILED, vec![model("model")]).unwrap();
    let artifact = &report.artifacts[0];
    assert_eq!(artifact.predicate_type.as_deref(), Some(INCOMPLETE_TYPE));
    assert_eq!(artifact.model_signature, ModelSignature::NotAsked);
    assert_eq!(bench.names("model"), ["weights"]);
}

#[test]
fn a_later_failure_does_not_take_a_checkpoint_back() {
    let bench = Bench::new();
    bench.writes("step-1/weights", "w");
    let order = bench.order("checkpoint", CommitKind::Checkpoint, vec![model("step-1")]);
    let checkpoint = bench.committer().commit(&order).unwrap();
    let signature = bench.read("step-1/model.sig");
    bench.writes("step-2/weights", "v");
    let end = bench.commit(FAILED, vec![artifact("")]).unwrap();
    assert_eq!(bench.read("step-1/model.sig"), signature);
    let published = bench.store.attestations(AttestationQuery::All, 9).unwrap();
    let published: Vec<_> = published.iter().map(|it| Some(it.statement)).collect();
    assert_eq!(published, [end.artifacts[0].statement, checkpoint.artifacts[0].statement]);
}

#[test]
fn what_a_model_signature_cannot_protect_refuses_it_by_name() {
    let bench = Bench::new();
    bench.writes("model/weights", "w");
    fs::create_dir(bench.path("model/hollow")).unwrap();
    symlink("weights", bench.path("model/alias")).unwrap();
    fs::write(bench.path("model/foreign"), "f").unwrap();
    let report = bench.commit(SUCCESS, vec![model("model")]).unwrap();
    let ModelSignature::Refused(reason) = &report.artifacts[0].model_signature else {
        panic!("{report:?}");
    };
    for name in ["hollow", "alias", "foreign", "--adopt"] {
        assert!(reason.contains(name), "{name} is missing: {reason}");
    }
    assert!(report.artifacts[0].statement.is_some());
    let names = bench.names("model");
    assert!(!names.contains(&MODEL_SIGNATURE_FILE.to_owned()));
    assert!(names.contains(&CLAIMS_FILE.to_owned()));
}

#[test]
fn a_foreign_file_is_signed_when_it_is_adopted() {
    let bench = Bench::new();
    bench.writes("model/weights", "w");
    fs::write(bench.path("model/foreign"), "f").unwrap();
    let mut order = bench.order("end", SUCCESS, vec![model("model")]);
    order.adopt = true;
    let report = bench.committer().commit(&order).unwrap();
    assert_eq!(report.artifacts[0].model_signature, ModelSignature::Written);
    assert_eq!(report.artifacts[0].subjects, 1);
    let signature = Bundle::parse(&bench.read("model/model.sig")).unwrap();
    let manifest = ModelManifest::read(signature.payload()).unwrap();
    manifest.compare(&bench.entries("model")).unwrap();
}

#[test]
fn a_file_that_was_only_read_needs_adopting_too() {
    let bench = Bench::new();
    bench.writes("model/weights", "w");
    fs::write(bench.path("model/foreign"), "f").unwrap();
    bench.reads("model/foreign");
    let report = bench.commit(SUCCESS, vec![model("model")]).unwrap();
    assert!(matches!(report.artifacts[0].model_signature, ModelSignature::Refused(_)));
}

#[test]
fn what_changed_below_the_mount_is_left_out_with_the_reason() {
    let bench = Bench::new();
    bench.writes("model/kept", "k");
    bench.writes("model/changed", "c");
    bench.writes("model/gone", "g");
    fs::write(bench.path("model/changed"), "something else").unwrap();
    fs::remove_file(bench.path("model/gone")).unwrap();
    let report = bench.commit(SUCCESS, vec![artifact("model")]).unwrap();
    assert_eq!(report.artifacts[0].subjects, 1);
    let names: Vec<_> = report.artifacts[0].left_out.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["changed", "gone"]);
}

#[test]
fn a_name_that_was_written_twice_is_what_lies_there_now() {
    let bench = Bench::new();
    bench.writes("model/weights", "first");
    let path = bench.path("model/weights");
    fs::remove_file(&path).unwrap();
    let second = bench.writes("model/weights", "second");
    let report = bench.commit(SUCCESS, vec![artifact("model")]).unwrap();
    assert_eq!((report.artifacts[0].subjects, report.artifacts[0].left_out.len()), (1, 0));
    let statement = report.artifacts[0].statement.unwrap();
    assert_eq!(bench.store.subjects(&statement).unwrap()[0].digests, second);
}

#[test]
fn a_hard_linked_file_is_a_subject_by_each_of_its_names() {
    let bench = Bench::new();
    let names = ["model/c", "model/sub/b", "model/a"].map(tree_path);
    let digests = bench.writes_linked(&names, "w");
    let report = bench.commit(SUCCESS, vec![model("model")]).unwrap();
    assert_eq!(report.artifacts[0].model_signature, ModelSignature::Written);
    assert_eq!(report.artifacts[0].left_out, []);

    let statement = report.artifacts[0].statement.unwrap();
    let subjects = bench.store.subjects(&statement).unwrap();
    let named: Vec<_> = subjects.iter().map(|it| (it.name.as_str(), it.digests)).collect();
    assert_eq!(named, ["a", "c", "sub/b"].map(|name| (name, digests)));
    let version = bench.store.outputs(&bench.run).unwrap().kept[0].version;
    assert!(subjects.iter().all(|subject| subject.version == Some(version)));
    assert_eq!(bench.shelf().statements_of(digests.sha256).unwrap(), [statement]);
}

#[test]
fn a_link_outside_of_an_artifact_does_not_take_the_file_out_of_it() {
    let bench = Bench::new();
    let names = ["archive/w1", "model/weights"].map(tree_path);
    let digests = bench.writes_linked(&names, "w");
    let report = bench.commit(SUCCESS, vec![model("model")]).unwrap();
    assert_eq!(report.artifacts[0].model_signature, ModelSignature::Written);
    assert_eq!(subjects(&bench, &report.artifacts[0]), [("weights".to_owned(), digests)]);
}

#[test]
fn a_file_is_attested_in_each_tree_that_it_has_a_name_in() {
    let bench = Bench::new();
    let here = tree_path("model/weights");
    let there = TreePath { tree: 1, path: "model/copy".to_owned() };
    let digests = bench.writes_linked(&[there, here], "w");
    let elsewhere = ArtifactOrder { tree: 1, ..model("model") };
    let report = bench.commit(SUCCESS, vec![model("model"), elsewhere]).unwrap();
    for (artifact, name) in report.artifacts.iter().zip(["weights", "copy"]) {
        assert_eq!(artifact.model_signature, ModelSignature::Written);
        assert_eq!(subjects(&bench, artifact), [(name.to_owned(), digests)]);
    }
}

#[test]
fn a_link_that_went_away_is_not_missed_while_another_name_holds() {
    let bench = Bench::new();
    let names = ["model/sub/link", "model/weights"].map(tree_path);
    let digests = bench.writes_linked(&names, "w");
    // Taken away with its directory, because a link that goes alone changes the file's ctime.
    fs::rename(bench.path("model/sub"), bench.path("sub")).unwrap();
    let report = bench.commit(SUCCESS, vec![artifact("model")]).unwrap();
    assert_eq!(report.artifacts[0].left_out, []);
    assert_eq!(subjects(&bench, &report.artifacts[0]), [("weights".to_owned(), digests)]);
}

#[test]
fn a_hard_linked_file_is_left_out_by_each_of_its_names_when_none_holds() {
    let bench = Bench::new();
    bench.writes("model/kept", "k");
    bench.writes_linked(&["model/weights", "model/link"].map(tree_path), "w");
    fs::write(bench.path("model/link"), "something else").unwrap();
    let report = bench.commit(SUCCESS, vec![artifact("model")]).unwrap();
    assert_eq!(report.artifacts[0].subjects, 1);
    let names: Vec<_> = report.artifacts[0].left_out.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["link", "weights"]);
}

#[test]
fn a_hard_linked_file_that_is_still_open_is_left_out_wherever_it_has_a_name() {
    let bench = Bench::new();
    bench.writes("model/kept", "k");
    bench.leaves_open(&["archive/w1", "model/weights"].map(tree_path));
    let report = bench.commit(SUCCESS, vec![model("model")]).unwrap();
    let open = left_out("weights", "still open for writing");
    assert_eq!(report.artifacts[0].left_out, [open]);
    let ModelSignature::Refused(reason) = &report.artifacts[0].model_signature else {
        panic!("{report:?}");
    };
    assert!(reason.contains("weights") && reason.contains("still open"), "{reason}");
}

fn subjects(bench: &Bench, artifact: &ArtifactReport) -> Vec<(String, Digests)> {
    let subjects = bench.store.subjects(&artifact.statement.unwrap()).unwrap();
    subjects.into_iter().map(|subject| (subject.name, subject.digests)).collect()
}

#[test]
fn what_is_still_being_written_is_left_out_whatever_was_sealed_before() {
    let bench = Bench::new();
    bench.writes("model/weights", "w");
    bench.writes("model/log", "l");
    let order = ArtifactOrder {
        left_out: vec![left_out("log", "still open for writing")],
        ..model("model")
    };
    let report = bench.commit(SUCCESS, vec![order]).unwrap();
    assert_eq!(report.artifacts[0].subjects, 1);
    assert_eq!(report.artifacts[0].left_out, [left_out("log", "still open for writing")]);
}

#[test]
fn only_the_named_files_of_a_directory_are_subjects() {
    let bench = Bench::new();
    bench.writes("report.json", "r");
    bench.writes("scratch", "s");
    let only = Some(vec!["report.json".to_owned()]);
    let report = bench.commit(SUCCESS, vec![ArtifactOrder { only, ..artifact("") }]).unwrap();
    assert_eq!(report.artifacts[0].subjects, 1);
}

#[test]
fn publications_that_a_run_copied_are_no_subjects() {
    let bench = Bench::new();
    bench.writes("model/weights", "w");
    bench.writes("model/base/model.sig", "old");
    bench.writes("model/base/claims.jsonl", "old");
    bench.writes("model/base/weights", "b");
    let report = bench.commit(SUCCESS, vec![model("model")]).unwrap();
    assert_eq!(report.artifacts[0].subjects, 2);
    assert_eq!(report.artifacts[0].model_signature, ModelSignature::Written);
    assert_eq!(bench.read("model/base/model.sig"), b"old");
}

#[test]
fn a_signed_directory_within_a_signed_directory_breaks_neither_signature() {
    for order in [["", "a/model"], ["a/model", ""]] {
        let bench = Bench::new();
        bench.writes("a/model/weights", "w");
        bench.writes("b", "b");
        let report = bench.commit(SUCCESS, order.map(model).into()).unwrap();
        for (path, artifact) in order.iter().zip(&report.artifacts) {
            assert_eq!(artifact.model_signature, ModelSignature::Written);
            let signature = fs::read(bench.path(path).join(MODEL_SIGNATURE_FILE)).unwrap();
            let signature = Bundle::parse(&signature).unwrap();
            let manifest = ModelManifest::read(signature.payload()).unwrap();
            manifest.compare(&bench.entries(path)).unwrap();
        }
    }
}

#[test]
fn above_a_thousand_files_the_statement_names_a_manifest() {
    let bench = Bench::new();
    let digests = (0..1001).map(|n| bench.writes(&format!("data/{n}"), &n.to_string()));
    let last = digests.last().unwrap();
    let report = bench.commit(SUCCESS, vec![model("data")]).unwrap();
    assert_eq!(report.artifacts[0].subjects, 1001);
    let statement = report.artifacts[0].statement.unwrap();
    let subjects = bench.bundle(statement).payload().statement::<Provenance>().unwrap().subject;
    let manifest = subjects[0].digest.sha256().unwrap();
    assert_eq!(subjects.len(), 1);
    assert!(bench.shelf().manifest(manifest).unwrap().is_some());
    for digest in [manifest, last.sha256] {
        assert_eq!(bench.shelf().statements_of(digest).unwrap(), [statement]);
    }
    let claims = Claims::parse(&bench.read("data/claims.jsonl")).unwrap();
    assert!(claims.manifest(manifest).is_some());
}

#[test]
fn the_attestations_of_ancestors_travel_with_the_artifact() {
    let clean = Bench::new();
    clean.writes("clean/table", "t");
    let first = clean.commit(SUCCESS, vec![model("clean")]).unwrap();
    let train = clean.next_run("train");
    train.reads("clean/table");
    train.writes("model/weights", "w");
    let second = train.commit(SUCCESS, vec![model("model")]).unwrap();
    let evaluate = train.next_run("evaluate");
    evaluate.reads("model/weights");
    evaluate.writes("report/score", "s");
    let third = evaluate.commit(SUCCESS, vec![model("report")]).unwrap();
    let claims = Claims::parse(&evaluate.read("report/claims.jsonl")).unwrap();
    let travelling: Vec<_> = claims.bundles.iter().map(|it| Some(it.sha256())).collect();
    let expected = [&third, &second, &first].map(|report| report.artifacts[0].statement);
    assert_eq!(travelling, expected);
}

#[test]
fn a_directory_that_cannot_be_written_is_attested_all_the_same() {
    let bench = Bench::new();
    bench.writes("model/weights", "w");
    fs::create_dir_all(bench.path("model/claims.jsonl/in-the-way")).unwrap();
    let report = bench.commit(SUCCESS, vec![model("model")]).unwrap();
    assert!(matches!(report.artifacts[0].model_signature, ModelSignature::Refused(_)));
    assert!(bench.store.attestation(&report.artifacts[0].statement.unwrap()).unwrap().is_some());
}

#[test]
fn another_directory_that_took_the_place_gets_no_signature() {
    let bench = Bench::new();
    bench.writes("model/weights", "w");
    bench.keys.withdraw();
    let key = bench.keys.present();
    let mut order = bench.order("end", SUCCESS, vec![model("model")]);
    order.signer = Some(key);
    bench.keys.fail_next();
    bench.committer().commit(&order).unwrap_err();
    fs::rename(bench.path("model"), bench.path("moved")).unwrap();
    fs::create_dir(bench.path("model")).unwrap();
    let report = bench.committer().commit(&order).unwrap();
    assert!(matches!(report.artifacts[0].model_signature, ModelSignature::Refused(_)));
    assert_eq!(bench.names("model"), Vec::<String>::new());
}

#[test]
fn nothing_is_frozen_for_a_key_that_is_not_there() {
    let bench = Bench::new();
    bench.writes("model/weights", "w");
    let mut order = bench.order("end", SUCCESS, vec![model("model")]);
    order.signer = Some(bench.keys.stranger());
    let refusal = bench.committer().commit(&order).unwrap_err();
    assert!(matches!(refusal, CommitError::KeyAbsent { .. }));
    assert!(bench.store.frozen().unwrap().is_empty());
    assert!(bench.store.run(&bench.run).unwrap().unwrap().end.is_none());
}

#[test]
fn a_commit_whose_key_went_away_waits_for_it() {
    let bench = Bench::new();
    bench.writes("model/weights", "w");
    let key = bench.keys.present();
    let mut order = bench.order("end", SUCCESS, vec![model("model")]);
    order.signer = Some(key);
    bench.keys.fail_next();
    bench.committer().commit(&order).unwrap_err();
    bench.keys.withdraw();

    let pending = bench.committer().resume().unwrap();
    assert_eq!((pending.len(), pending[0].signer), (1, key));
    assert!(pending[0].waits_for.contains(&key.to_string()), "{pending:?}");
    assert_eq!(bench.committer().pending().unwrap(), pending);

    assert_eq!(bench.keys.present(), key);
    assert!(bench.committer().resume().unwrap().is_empty());
    let published = bench.store.attestations(AttestationQuery::All, 9).unwrap();
    assert_eq!((published.len(), &published[0].signer), (1, &key.to_string()));
}

#[test]
fn a_run_whose_process_is_gone_is_attested_as_unknown() {
    let bench = Bench::new();
    bench.writes("model/weights", "w");
    let mut journal = fs::read(bench.journal_path()).unwrap();
    journal.extend(b"{\"fact\":\"seal");
    fs::write(bench.journal_path(), journal).unwrap();
    for _ in 0..2 {
        bench.committer().bury(&bench.run, bench::noon(), None).unwrap();
    }
    let published = bench.store.attestations(AttestationQuery::All, 9).unwrap();
    assert_eq!(published.len(), 1);
    assert_eq!(published[0].predicate_type, INCOMPLETE_TYPE);
    assert_eq!(published[0].subjects, 1);
    let run = bench.store.run(&bench.run).unwrap().unwrap();
    assert_eq!(run.end.unwrap().outcome, Outcome::Unknown);
    assert_eq!(bench.names("model"), ["weights"]);
}

#[test]
fn what_a_lost_run_has_sealed_counts_only_if_its_store_was_not_mounted_anew() {
    for (is_anew, digests) in [(false, 1), (true, 0)] {
        let bench = Bench::new();
        fs::write(bench.path("data"), "d").unwrap();
        bench.reads("data");
        bench.writes("model/weights", "w");
        if is_anew {
            bench.is_mounted_anew();
        }
        bench.committer().bury(&bench.run, bench::noon(), None).unwrap();
        let attested = bench.store.attestations(AttestationQuery::All, 9).unwrap();
        assert_eq!(attested.iter().map(|it| it.subjects).sum::<u64>(), digests);
        let materials = bench.store.materials(&bench.run).unwrap();
        let is_known = matches!(materials[0].digest, MaterialDigest::Known { .. });
        assert_eq!((materials.len(), is_known), (1, digests > 0));
        assert_eq!(bench.mounted_path().exists(), digests > 0);
        let run = bench.store.run(&bench.run).unwrap().unwrap();
        assert_eq!(run.end.unwrap().outcome, Outcome::Unknown);
    }
}

#[test]
fn a_daemon_that_saw_a_lost_run_begin_need_not_know_how_its_store_is_mounted() {
    let bench = Bench::new();
    let committer = bench.watched();
    bench.writes("model/weights", "w");
    bench.is_mounted_anew();
    committer.bury(&bench.run, bench::noon(), None).unwrap();
    let attested = bench.store.attestations(AttestationQuery::All, 9).unwrap();
    assert_eq!((attested.len(), attested[0].subjects), (1, 1));
}

#[test]
fn what_a_run_could_not_sync_is_known_to_nobody_when_it_has_said_that_it_ended() {
    for is_synced in [true, false] {
        let bench = Bench::new();
        bench.writes("weights", "w");
        if !is_synced {
            fs::remove_file(bench.mounted_path()).unwrap();
        }
        bench.is_over(&bench.committer());
        assert_eq!(bench.known("weights").is_some(), is_synced);
    }
}

#[test]
fn what_a_checkpoint_has_synced_is_not_taken_back_when_the_run_is_lost() {
    let bench = Bench::new();
    let digests = bench.writes("weights", "w");
    bench.ingest();
    bench.protects("weights");
    bench.is_mounted_anew();
    bench.committer().bury(&bench.run, bench::noon(), None).unwrap();
    assert_eq!(bench.known("weights"), Some(digests));
}

#[test]
fn a_run_that_has_ended_is_not_buried_and_does_not_end_otherwise() {
    let bench = Bench::new();
    bench.writes("model/weights", "w");
    bench.commit(SUCCESS, vec![artifact("model")]).unwrap();
    bench.committer().bury(&bench.run, bench::noon(), None).unwrap();
    let failed = bench.order("again", FAILED, vec![artifact("model")]);
    assert!(matches!(bench.committer().commit(&failed), Err(CommitError::Lineage(_))));
    let late = bench.order("late", CommitKind::Checkpoint, vec![artifact("model")]);
    assert!(matches!(bench.committer().commit(&late), Err(CommitError::Lineage(_))));
    let published = bench.store.attestations(AttestationQuery::All, 9).unwrap();
    assert_eq!(published.len(), 1);
    assert!(bench.store.frozen().unwrap().is_empty());
}

#[test]
fn a_lost_run_with_an_unreadable_journal_is_ended_all_the_same() {
    for journal in [None, Some("nonsense\n")] {
        let bench = Bench::new();
        bench.writes("model/weights", "w");
        match journal {
            None => fs::remove_file(bench.journal_path()).unwrap(),
            Some(text) => fs::write(bench.journal_path(), text).unwrap(),
        }
        bench.committer().bury(&bench.run, bench::noon(), None).unwrap();
        assert!(bench.store.unfinished().unwrap().is_empty());
        assert!(bench.store.attestations(AttestationQuery::All, 9).unwrap().is_empty());
    }
}

#[test]
fn a_commit_of_a_run_that_never_began_is_refused() {
    let bench = Bench::new();
    let mut order = bench.order("end", SUCCESS, vec![artifact("")]);
    order.run = RunId("nobody".to_owned());
    assert!(matches!(bench.committer().commit(&order), Err(CommitError::Lineage(_))));
}

#[test]
fn a_name_that_is_not_utf8_is_attested_escaped_and_refuses_the_signature() {
    let bench = Bench::new();
    bench.writes_escaped(r"model/a\xff", "a");
    bench.writes_escaped(r"model/b\\c", "b");
    let report = bench.commit(SUCCESS, vec![model("model")]).unwrap();
    let statement = report.artifacts[0].statement.unwrap();
    let subjects = bench.store.subjects(&statement).unwrap();
    let names: Vec<_> = subjects.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, [r"a\xff", r"b\\c"]);
    let ModelSignature::Refused(reason) = &report.artifacts[0].model_signature else {
        panic!("{report:?}");
    };
    assert!(reason.contains("UTF-8"), "{reason}");
    assert!(!reason.contains("b\\c"), "{reason}");
}

#[test]
fn files_beside_the_content_can_be_read_by_whoever_reads_the_directory() {
    let bench = Bench::new();
    bench.writes("model/weights", "w");
    fs::set_permissions(bench.path("model"), fs::Permissions::from_mode(0o755)).unwrap();
    bench.commit(SUCCESS, vec![model("model")]).unwrap();
    for name in ["model/model.sig", "model/claims.jsonl"] {
        let mode = fs::metadata(bench.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644, "{name}");
    }
}

#[test]
fn left_out_names_are_part_of_what_is_signed() {
    let bench = Bench::new();
    bench.writes("model/weights", "w");
    let expected: Vec<LeftOut> = vec![left_out("log", "still open for writing")];
    let order = ArtifactOrder { left_out: expected.clone(), ..artifact("model") };
    let report = bench.commit(SUCCESS, vec![order]).unwrap();
    let bundle = bench.bundle(report.artifacts[0].statement.unwrap());
    let text = String::from_utf8(bundle.payload().bytes().to_vec()).unwrap();
    assert!(text.contains("still open for writing"), "{text}");
}
