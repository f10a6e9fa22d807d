//! The policies in `contrib/policies`, as they lie there.

use super::*;
use crate::{
    certificate::testing::Holder,
    policy::{Level, Rule},
};

const TRAINING: &str = include_str!("../../../../../contrib/policies/training.toml");
const SERVING: &str = include_str!("../../../../../contrib/policies/serving.toml");
const REVIEW: &str = include_str!("../../../../../contrib/policies/review.toml");

/// The policy with `NAME.pub` of the bench and `hub-ca.pem` beside it.
fn ready(text: &str, bench: &Bench, ca: &Holder) -> Policy {
    Policy::parse(text, &mut |file| match file.strip_suffix(".pub") {
        Some(name) => Ok(bench.key(name).verifying_key().to_pem().into_bytes()),
        None if file == "hub-ca.pem" => Ok(ca.pem()),
        None => Err("not there".to_owned()),
    })
    .unwrap()
}

fn of_stage(stage: &str, name: &str, text: &str) -> Commit {
    Commit { outputs: vec![output(name, text)], ..commit(stage) }
}

#[test]
fn training_admits_what_our_own_stages_made() {
    let mut bench = Bench::new();
    let policy = ready(TRAINING, &bench, &Holder::root("CA"));
    assert_eq!(policy.warnings(), []);
    bench.publish(&of_stage("train", "step-1/model.safetensors", "W"), "trainer");
    bench.judge_by(&policy, "/data/model/step-1/model.safetensors", "W").unwrap();
    bench.publish(&of_stage("clean", "a.parquet", "D"), "trainer");
    bench.judge_by(&policy, "/data/model/a.parquet", "D").unwrap();
    assert!(policy.rule_for("model/log.txt").is_none());
}

#[test]
fn training_refuses_other_signers_stages_and_kinds() {
    let mut bench = Bench::new();
    let policy = ready(TRAINING, &bench, &Holder::root("CA"));
    bench.publish(&of_stage("train", "model.pt", "W"), "hub");
    refused(bench.judge_by(&policy, "/data/model/model.pt", "W"), 3, "does not know");
    bench.publish(&of_stage("train", "a.parquet", "D"), "trainer");
    refused(bench.judge_by(&policy, "/data/model/a.parquet", "D"), 11, "made by the stage 'train'");
    bench.signs("/data/model", &[("signed.pt", "S")], "trainer");
    refused(bench.judge_by(&policy, "/data/model/signed.pt", "S"), 11, "wants SLSA provenance");
}

#[test]
fn serving_admits_our_pipeline_and_the_hub_by_its_certificate() {
    let (mut bench, ca) = (Bench::new(), Holder::root("Hub CA"));
    let policy = ready(SERVING, &bench, &ca);
    assert_eq!(policy.warnings(), []);
    bench.publish(&of_stage("train", "model.safetensors", "W"), "trainer");
    bench.judge_by(&policy, "/data/model/model.safetensors", "W").unwrap();
    let signature = ca.signer().sign(model(&[("config.json", "{}")]), &[]);
    bench.lies("/data/hub", &signature);
    let admission = bench.judge_by(&policy, "/data/hub/config.json", "{}").unwrap();
    assert_eq!(admission.signers, ["hub"]);
}

#[test]
fn serving_refuses_an_unattested_file_of_any_name() {
    let bench = Bench::new();
    let policy = ready(SERVING, &bench, &Holder::root("CA"));
    for name in [
        "model.safetensors",
        "model.safetensors.index.json",
        "model.PT",
        "model.pth",
        "model.ckpt",
        "model.h5",
        "model.keras",
        "model.npz",
        "model.msgpack",
        "MODEL.PKL",
        "model",
        ".hidden",
        "deep/below/x",
        "\\xff",
    ] {
        refused(bench.judge_by(&policy, &format!("/data/{name}"), "W"), 1, "no attestation");
    }
}

#[test]
fn serving_refuses_pickles_other_authorities_and_other_names() {
    let (mut bench, ca) = (Bench::new(), Holder::root("Hub CA"));
    let policy = ready(SERVING, &bench, &ca);
    bench.publish(&of_stage("train", "model.pkl", "W"), "trainer");
    refused(bench.judge_by(&policy, "/data/model/model.pkl", "W"), 11, "convert it to safetensors");
    let files = model(&[("config.json", "{}")]);
    let mut refused_at = |signature: Bundle, words: &str| {
        bench.lies("/data/hub", &signature);
        refused(bench.judge_by(&policy, "/data/hub/config.json", "{}"), 3, words);
    };
    refused_at(Holder::root("Other CA").signer().sign(files.clone(), &[]), "Other CA");
    let other = "spiffe://hub.example/people/mallory";
    let other = ca.signer_but(|params| {
        params.subject_alt_names = vec![crate::certificate::testing::uri(other)];
    });
    refused_at(other.sign(files, &[]), "people/mallory");
}

#[test]
fn review_admits_what_the_pipeline_made_and_a_reviewer_signed() {
    let mut bench = Bench::new();
    let policy = ready(REVIEW, &bench, &Holder::root("CA"));
    let levels: Vec<_> = policy.rules().iter().map(Rule::level).collect();
    assert_eq!(levels, [Some(Level::PerRead), Some(Level::Rehash)]);
    for (directory, reviewer) in [("release", "alice"), ("candidate", "bob")] {
        let root = format!("/data/{directory}/llm");
        let mut made = of_stage("train", "model.gguf", "W");
        made.root.path.clone_from(&root);
        bench.publish(&made, "trainer");
        bench.signs(&root, &[("model.gguf", "W")], reviewer);
        let file = format!("{root}/model.gguf");
        assert_eq!(bench.judge_by(&policy, &file, "W").unwrap().signers.len(), 2);
    }
}

#[test]
fn review_refuses_what_only_one_of_them_vouches_for() {
    let mut bench = Bench::new();
    let policy = ready(REVIEW, &bench, &Holder::root("CA"));
    for (directory, reviewer) in [("release", "bob"), ("candidate", "stranger")] {
        let root = format!("/data/{directory}/llm");
        let mut made = of_stage("train", "model.gguf", "W");
        made.root.path.clone_from(&root);
        bench.publish(&made, "trainer");
        bench.signs(&root, &[("model.gguf", "W")], reviewer);
        let file = format!("{root}/model.gguf");
        refused(bench.judge_by(&policy, &file, "W"), 11, "vouched for by 'trainer', and rule");
    }
    // Signed by the reviewer, and made by nobody.
    bench.signs("/data/release/other", &[("model.gguf", "X")], "alice");
    let file = "/data/release/other/model.gguf";
    refused(bench.judge_by(&policy, file, "X"), 11, "vouched for by 'alice', and rule 1 wants 2");
}

#[test]
fn each_says_the_same_when_it_is_written_down_with_what_lies_beside_it() {
    let (bench, ca) = (Bench::new(), Holder::root("CA"));
    for text in [TRAINING, SERVING, REVIEW] {
        let policy = ready(text, &bench, &ca);
        let written = policy.to_string();
        let again = Policy::parse(&written, &mut |_| Err("all is within".to_owned())).unwrap();
        assert_eq!((again.to_string(), again.mode()), (written, policy.mode()));
        assert!(again.signers().eq(policy.signers()));
    }
}
