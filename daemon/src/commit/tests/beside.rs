//! Files of users that have the names of publications.

use attestfs_attestation::{Bundle, CLAIMS_FILE, MODEL_SIGNATURE_FILE};

use super::{
    SUCCESS,
    bench::{Bench, artifact, model},
};
use crate::{
    commit::CommitError,
    control::{ArtifactReport, ModelSignature},
};

fn refusal(artifact: &ArtifactReport) -> &str {
    match &artifact.model_signature {
        ModelSignature::Refused(reason) => reason,
        other => panic!("{other:?}"),
    }
}

fn left_out(artifact: &ArtifactReport) -> Vec<&str> {
    artifact.left_out.iter().map(|it| it.name.as_str()).collect()
}

#[test]
fn a_file_that_the_run_named_like_a_publication_stays_and_refuses_the_signature_by_name() {
    for name in [CLAIMS_FILE, MODEL_SIGNATURE_FILE] {
        let bench = Bench::new();
        bench.writes("model/weights", "w");
        let theirs = format!("model/{name}");
        bench.writes(&theirs, "{\"claim\": \"my own\"}\n");
        let report = bench.commit(SUCCESS, vec![model("model")]).unwrap();
        let artifact = &report.artifacts[0];
        assert_eq!(refusal(artifact), format!("{name} was written by the run: rename it"));
        assert_eq!((artifact.subjects, left_out(artifact)), (1, vec![name]));
        assert_eq!(bench.read(&theirs), b"{\"claim\": \"my own\"}\n");
    }
}

#[test]
fn attestations_that_the_run_copied_along_are_replaced_and_no_matter_of_their_own() {
    let bench = Bench::new();
    bench.writes("base/weights", "w");
    bench.commit(SUCCESS, vec![model("base")]).unwrap();
    let signature = String::from_utf8(bench.read("base/model.sig")).unwrap();
    let next = bench.next_run("copies");
    next.writes("model/weights", "v");
    next.writes("model/model.sig", &signature);
    next.writes("model/part/model.sig", &signature);
    let report = next.commit(SUCCESS, vec![model("model")]).unwrap();
    let artifact = &report.artifacts[0];
    assert_eq!(artifact.model_signature, ModelSignature::Written);
    assert!(left_out(artifact).is_empty(), "{artifact:?}");
    assert_ne!(next.read("model/model.sig"), signature.as_bytes());
    Bundle::parse(&next.read("model/model.sig")).unwrap();
}

#[test]
fn what_an_earlier_run_named_like_a_publication_stays_too() {
    let bench = Bench::new();
    bench.writes("model/claims.jsonl", "mine");
    bench.commit(SUCCESS, vec![artifact("")]).unwrap();
    let next = bench.next_run("next");
    next.writes("model/weights", "w");
    let report = next.commit(SUCCESS, vec![model("model")]).unwrap();
    assert!(refusal(&report.artifacts[0]).contains("claims.jsonl"));
    assert_eq!(next.read("model/claims.jsonl"), b"mine");
}

#[test]
fn without_a_signature_too_a_file_named_like_a_publication_is_named_as_left_out() {
    let bench = Bench::new();
    bench.writes("weights", "w");
    bench.writes("sub/claims.jsonl", "mine");
    let report = bench.commit(SUCCESS, vec![artifact("")]).unwrap();
    assert_eq!(left_out(&report.artifacts[0]), ["sub/claims.jsonl"]);
}

#[test]
fn a_file_that_took_the_place_between_freeze_and_publication_stays() {
    let bench = Bench::new();
    bench.writes("model/weights", "w");
    let order = bench.order("end", SUCCESS, vec![model("model")]);
    bench.keys.fail_next();
    let error = bench.committer().commit(&order).unwrap_err();
    assert!(!matches!(error, CommitError::Order { .. }), "{error}");
    std::fs::write(bench.path("model/claims.jsonl"), "mine").unwrap();
    let report = bench.committer().commit(&order).unwrap();
    let reason = "claims.jsonl is there and is no attestation: rename it";
    assert_eq!(refusal(&report.artifacts[0]), reason);
    assert_eq!(bench.read("model/claims.jsonl"), b"mine");
    assert_eq!(bench.names("model"), ["claims.jsonl", "weights"]);
}

#[test]
fn a_file_named_like_a_temporary_one_is_signed_like_any_other() {
    let bench = Bench::new();
    bench.writes("model/weights", "w");
    bench.writes("model/.claims.jsonl.attestfs-new", "mine");
    let report = bench.commit(SUCCESS, vec![model("model")]).unwrap();
    assert_eq!(report.artifacts[0].model_signature, ModelSignature::Written);
    assert_eq!(report.artifacts[0].subjects, 2);
    assert_eq!(bench.read("model/.claims.jsonl.attestfs-new"), b"mine");
    let names = [".claims.jsonl.attestfs-new", "claims.jsonl", "model.sig", "weights"];
    assert_eq!(bench.names("model"), names);
}
