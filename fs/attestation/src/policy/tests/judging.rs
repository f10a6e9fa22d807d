//! Whose word counts, of which kind, and how many must agree.

use jiff::SignedDuration;

use crate::{
    run::{CommitKind, Outcome},
    verify::Verifier,
};

use super::*;

const FILE: &str = "/data/model/model.bin";
const ANY: &str = "";

#[test]
fn what_nobody_vouches_for_is_refused_under_the_name_it_has_in_the_mount() {
    refused(Bench::new().judge(ANY, FILE, "W"), 1, "'model/model.bin'");
}

#[test]
fn a_rule_that_refuses_says_why_whoever_signed() {
    let mut bench = Bench::new();
    bench.publish(&trained("W"), "trainer");
    let text = "version = 1\n[[rule]]\npaths = [\"**/*.bin\"]\nrefuse = \"it runs code\"";
    let policy = Policy::parse(text, &mut |_| Err(String::new())).unwrap();
    refused(
        bench.judge_by(&policy, FILE, "W"),
        11,
        "rule 1 refuses 'model/model.bin': it runs code",
    );
}

#[test]
fn provenance_in_the_store_admits_under_the_recorded_name() {
    let mut bench = Bench::new();
    let attestation = bench.publish(&trained("W"), "trainer");
    let admission = bench.judge(ANY, FILE, "W").unwrap();
    assert_eq!(admission.attestations, [attestation]);
    assert_eq!(admission.signers, ["trainer"]);
    assert_eq!(admission.stage.as_deref(), Some("train"));
    assert_eq!(admission.run.as_deref(), Some("train-1"));
    refused(bench.judge(ANY, FILE, "X"), 8, "'model/model.bin' was changed");
    refused(bench.judge(ANY, "/data/model/other", "X"), 1, "speaks of 'model/other'");
}

#[test]
fn a_content_that_lies_in_very_many_places_is_admitted_where_it_was_published_last() {
    let mut bench = Bench::new();
    let elsewhere = |number: usize| sha256(&number.to_le_bytes());
    bench.publish(&Commit { outputs: vec![output("copy.bin", "W")], ..commit("copy") }, "trainer");
    let naming = bench.store.index.get_mut(&sha256(b"W")).unwrap();
    naming.extend((1..Verifier::CANDIDATES_MAX).map(elsewhere));
    let attestation = bench.publish(&trained("W"), "trainer");
    assert_eq!(bench.judge(ANY, FILE, "W").unwrap().attestations, [attestation]);
    refused(bench.judge(ANY, "/data/model/other", "W"), 7, "attested as 'copy.bin'");
}

#[test]
fn two_attested_files_cannot_be_swapped() {
    let mut bench = Bench::new();
    let outputs = vec![output("model.bin", "W"), output("config.json", "{}")];
    bench.publish(&Commit { outputs, ..commit("train") }, "trainer");
    bench.judge(ANY, "/data/model/config.json", "{}").unwrap();
    refused(bench.judge(ANY, "/data/model/config.json", "W"), 8, "'model/config.json' was changed");
    refused(bench.judge(ANY, FILE, "{}"), 8, "'model/model.bin' was changed");
}

#[test]
fn claims_that_travel_admit_without_any_store() {
    let mut bench = Bench::new();
    let bundle = bench.bundle(&trained("W"), "trainer");
    bench.travels("/data/copied", vec![bundle]);
    bench.judge(ANY, "/data/copied/model.bin", "W").unwrap();
    refused(bench.judge(ANY, "/data/copied/model.bin", "X"), 8, "'copied/model.bin' was changed");
    refused(bench.judge(ANY, "/data/copied/other.bin", "W"), 7, "attested as 'model.bin'");
}

#[test]
fn below_the_recorded_root_the_whole_path_counts_even_beside_claims() {
    let mut bench = Bench::new();
    let outputs = vec![output("a/model.bin", "W")];
    let bundle = bench.bundle(&Commit { outputs, ..commit("train") }, "trainer");
    bench.travels("/data/model/a", vec![bundle]);
    bench.judge(ANY, "/data/model/a/model.bin", "W").unwrap();
    refused(bench.judge(ANY, "/data/model/a/a/model.bin", "W"), 7, "attested as 'a/model.bin'");
}

#[test]
fn a_signer_whom_the_policy_does_not_know_is_named() {
    let mut bench = Bench::new();
    bench.publish(&trained("W"), "stranger");
    let hint = bench.key("stranger").verifying_key().hint();
    let verdict = bench.judge(ANY, FILE, "W");
    refused(verdict.clone(), 3, &format!("signed by {hint}, which this policy does not know"));
    assert!(verdict.unwrap_err().next_step().contains("add it under [signers]"));
}

#[test]
fn what_a_stranger_signed_about_another_file_is_no_news() {
    let mut bench = Bench::new();
    bench.publish(&trained("W"), "stranger");
    refused(bench.judge(ANY, "/data/model/other.bin", "W"), 1, "no attestation");
}

#[test]
fn a_signer_of_the_policy_whom_the_rule_does_not_name_does_not_count() {
    let mut bench = Bench::new();
    bench.publish(&trained("W"), "hub");
    let rule = r#"signed_by = ["alice", "trainer"]"#;
    refused(
        bench.judge(rule, FILE, "W"),
        11,
        "signed by 'hub', and rule 1 wants one of 'alice', 'trainer'",
    );
    bench.judge(r#"signed_by = ["hub"]"#, FILE, "W").unwrap();
}

#[test]
fn a_forged_signature_of_somebody_known_is_refused() {
    let mut bench = Bench::new();
    let genuine = bench.bundle(&trained("W"), "trainer");
    let forged = bench.bundle(&trained("EVIL"), "trainer");
    let mut json: serde_json::Value = serde_json::from_slice(&forged.to_json()).unwrap();
    let other: serde_json::Value = serde_json::from_slice(&genuine.to_json()).unwrap();
    json["dsseEnvelope"]["signatures"] = other["dsseEnvelope"]["signatures"].clone();
    let forged = Bundle::parse(json.to_string().as_bytes()).unwrap();
    bench.travels("/data/model", vec![forged]);
    refused(bench.judge(ANY, FILE, "EVIL"), 4, "does not fit");
}

#[test]
fn what_a_failed_run_left_behind_is_refused_and_a_checkpoint_is_not() {
    let mut bench = Bench::new();
    let failed = CommitKind::StageEnd(Outcome::Failed { exit_code: Some(1), signal: None });
    bench.publish(&Commit { kind: failed, ..trained("W") }, "trainer");
    refused(bench.judge(ANY, FILE, "W"), 6, "failed");
    bench.publish(&Commit { kind: CommitKind::Checkpoint, ..trained("W") }, "trainer");
    bench.judge(ANY, FILE, "W").unwrap();
}

#[test]
fn a_stage_that_the_rule_does_not_name_does_not_count() {
    let mut bench = Bench::new();
    bench.publish(&trained("W"), "trainer");
    let rule = r#"stages = ["quantize", "convert"]"#;
    refused(bench.judge(rule, FILE, "W"), 11, "made by the stage 'train', and rule 1 wants one of");
    bench.judge(r#"stages = ["train"]"#, FILE, "W").unwrap();
}

#[test]
fn a_model_signature_admits_what_it_lists_and_nothing_else() {
    let mut bench = Bench::new();
    let attestation = bench.signs("/data/hub", &[("a.bin", "A"), ("sub/b.bin", "B")], "hub");
    let admission = bench.judge(ANY, "/data/hub/sub/b.bin", "B").unwrap();
    assert_eq!(admission.attestations, [attestation]);
    assert_eq!((admission.signers, admission.stage), (vec!["hub".to_owned()], None));
    refused(bench.judge(ANY, "/data/hub/a.bin", "B"), 8, "'hub/a.bin' was changed");
    refused(bench.judge(ANY, "/data/hub/c.bin", "A"), 1, "no attestation");
}

#[test]
fn a_model_signature_names_no_stage_and_is_no_provenance() {
    let mut bench = Bench::new();
    bench.signs("/data/model", &[("model.bin", "W")], "trainer");
    refused(bench.judge(r#"stages = ["train"]"#, FILE, "W"), 11, "names no stage");
    let rule = r#"kinds = ["slsa-provenance"]"#;
    refused(
        bench.judge(rule, FILE, "W"),
        11,
        "vouched for by a model signature, and rule 1 wants SLSA",
    );
    bench.judge(r#"kinds = ["model-signing"]"#, FILE, "W").unwrap();
}

#[test]
fn provenance_is_no_model_signature() {
    let (mut published, mut kept) = (Bench::new(), Bench::new());
    published.publish(&trained("W"), "trainer");
    kept.keep(&trained("W"), "trainer");
    let words = "vouched for by SLSA provenance, and rule 1 wants a model";
    for bench in [published, kept] {
        refused(bench.judge(r#"kinds = ["model-signing"]"#, FILE, "W"), 11, words);
    }
}

#[test]
fn the_nearest_model_signature_that_counts_and_lists_the_file_decides() {
    let mut bench = Bench::new();
    let rule = r#"kinds = ["model-signing"]"#;
    bench.signs("/data", &[("model/model.bin", "OLD")], "trainer");
    bench.signs("/data/model", &[("model.bin", "W")], "hub");
    bench.judge(rule, FILE, "W").unwrap();
    refused(bench.judge(rule, FILE, "OLD"), 8, "was changed");
    // The nearer one of a stranger, or of somebody who does not count here, is passed over.
    bench.judge(r#"signed_by = ["trainer"]"#, FILE, "OLD").unwrap();
    bench.signs("/data/model", &[("model.bin", "W")], "stranger");
    bench.judge(rule, FILE, "OLD").unwrap();
    bench.signs("/data/model", &[("other.bin", "W")], "hub");
    bench.judge(rule, FILE, "OLD").unwrap();
}

#[test]
fn a_model_signature_of_a_stranger_is_told() {
    let mut bench = Bench::new();
    bench.signs("/data/model", &[("model.bin", "W")], "stranger");
    refused(bench.judge(ANY, FILE, "W"), 3, "which this policy does not know");
    bench.around.insert("/data/model".to_owned(), Beside::parse(Some(b"{"), None).into());
    refused(bench.judge(ANY, FILE, "W"), 1, "cannot be read");
}

#[test]
fn provenance_does_not_admit_what_the_model_signature_contradicts_unless_it_is_the_newest() {
    let mut bench = Bench::new();
    bench.signs("/data/model", &[("model.bin", "NEW")], "trainer");
    bench.keep(&trained("OLD"), "trainer");
    refused(bench.judge(ANY, FILE, "OLD"), 8, "was changed");
    bench.judge(r#"kinds = ["slsa-provenance"]"#, FILE, "OLD").unwrap();
    bench.publish(&trained("NEWEST"), "trainer");
    bench.judge(ANY, FILE, "NEWEST").unwrap();
}

#[test]
fn all_of_wants_each_and_one_signer_counts_once() {
    let mut bench = Bench::new();
    let rule = r#"all_of = ["alice", "bob"]"#;
    bench.publish(&trained("W"), "alice");
    refused(
        bench.judge(rule, FILE, "W"),
        11,
        "vouched for by 'alice', and rule 1 wants 2 of 'alice', 'bob'",
    );
    bench.publish(&Commit { outputs: trained("W").outputs, ..commit("review") }, "alice");
    bench.publish(&trained("W"), "hub");
    refused(bench.judge(rule, FILE, "W"), 11, "vouched for by 'alice'");
    // The same statement, signed by another one.
    bench.publish(&trained("W"), "bob");
    assert_eq!(bench.judge(rule, FILE, "W").unwrap().signers, ["alice", "bob"]);
}

#[test]
fn all_of_counts_signers_of_different_runs() {
    let mut bench = Bench::new();
    bench.publish(&trained("W"), "alice");
    bench.publish(&Commit { outputs: trained("W").outputs, ..commit("review") }, "bob");
    let admission = bench.judge(r#"all_of = ["alice", "bob"]"#, FILE, "W").unwrap();
    assert_eq!((admission.signers.len(), admission.attestations.len()), (2, 2));
    // Where one is enough, no other one is asked.
    assert_eq!(bench.judge(ANY, FILE, "W").unwrap().attestations.len(), 1);
}

#[test]
fn the_run_is_told_also_where_a_model_signature_is_enough() {
    let mut bench = Bench::new();
    bench.publish(&trained("W"), "trainer");
    bench.signs("/data/model", &[("model.bin", "W")], "hub");
    let admission = bench.judge(ANY, FILE, "W").unwrap();
    assert_eq!(admission.stage.as_deref(), Some("train"));
    assert_eq!(admission.attestations.len(), 2);
}

#[test]
fn a_threshold_counts_signers_of_either_kind() {
    let mut bench = Bench::new();
    let rule = "signed_by = [\"alice\", \"bob\", \"hub\"]\nthreshold = 2";
    bench.publish(&trained("W"), "alice");
    refused(bench.judge(rule, FILE, "W"), 11, "wants 2 of 'alice', 'bob', 'hub'");
    bench.signs("/data/model", &[("model.bin", "W")], "trainer");
    refused(bench.judge(rule, FILE, "W"), 11, "vouched for by 'alice'");
    bench.signs("/data/model", &[("model.bin", "W")], "hub");
    assert_eq!(bench.judge(rule, FILE, "W").unwrap().signers, ["alice", "hub"]);
}

#[test]
fn an_attestation_of_the_wrong_content_does_not_count_for_anybody() {
    let mut bench = Bench::new();
    let rule = r#"all_of = ["alice", "bob"]"#;
    bench.publish(&trained("W"), "alice");
    let other = bench.bundle(&trained("X"), "bob");
    bench.travels("/data/model", vec![other]);
    refused(bench.judge(rule, FILE, "W"), 11, "vouched for by 'alice'");
}

#[test]
fn what_is_remembered_admits_and_never_refuses() {
    let mut bench = Bench::new();
    let policy = bench.policy(r#"all_of = ["alice", "bob"]"#);
    bench.publish(&trained("W"), "alice");
    refused(bench.judge_by(&policy, FILE, "W"), 11, "vouched for by 'alice'");
    bench.publish(&trained("W"), "bob");
    bench.judge_by(&policy, FILE, "W").unwrap();
    // Nothing was looked up again.
    bench.store.published.bundles.iter_mut().for_each(|bundle| *bundle = bench_garbage(bundle));
    bench.judge_by(&policy, FILE, "W").unwrap();
}

/// The same payload under a signature that fits nothing.
fn bench_garbage(bundle: &Bundle) -> Bundle {
    let mut json: serde_json::Value = serde_json::from_slice(&bundle.to_json()).unwrap();
    json["dsseEnvelope"]["signatures"][0]["sig"] = "AAAA".into();
    Bundle::parse(json.to_string().as_bytes()).unwrap()
}

#[test]
fn what_is_remembered_is_checked_again_after_a_minute() {
    let mut bench = Bench::new();
    let policy = bench.policy("");
    bench.publish(&trained("W"), "trainer");
    bench.judge_by(&policy, FILE, "W").unwrap();
    bench.store.published.bundles[0] = bench_garbage(&bench.store.published.bundles[0]);
    let now: Timestamp = NOW.parse().unwrap();
    for (seconds, is_admitted) in [(60, true), (61, false), (-1, false)] {
        let then = now + SignedDuration::from_secs(seconds);
        let verdict = bench.judge_at(then, &policy, FILE, "W");
        assert_eq!(verdict.is_ok(), is_admitted, "{seconds}: {verdict:?}");
    }
}
