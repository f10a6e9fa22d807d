//! A real pipeline over two directories: clean, train, quantise, evaluate.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::{
    evidence::{self, Bundle, attestations, check_digests, check_model_signature, files_below},
    lab::{Finish, Lab},
    needs,
};

/// The directories that the stages leave, relative to the lab.
const ARTIFACTS: [&str; 5] =
    ["data/clean", "work/model", "work/checkpoints", "work/quantised", "work/metrics"];

/// A lab in which the whole pipeline has run.
struct Pipeline {
    lab: Lab,
    python: PathBuf,
}

impl Pipeline {
    fn run() -> Option<Self> {
        let python = needs::program_of("ATTESTFS_PYTHON")?;
        let pipeline = Self { lab: Lab::new()?, python };
        pipeline.lab.directory("work");
        let raw = pipeline.lab.directory("data/raw");
        pipeline.lab.configured(&pipeline.python).arg(program("raw")).arg(raw).succeed();
        pipeline.stage("clean", &["data/raw"], &["data/clean"]);
        pipeline.stage("train", &["data/clean"], &["work/model", "work/checkpoints"]);
        pipeline.stage("quantise", &["work/model"], &["work/quantised"]);
        pipeline.stage("evaluate", &["data/clean", "work/quantised"], &["work/metrics"]);
        Some(pipeline)
    }

    /// Runs a program that takes the paths of its inputs and then of its outputs.
    fn stage(&self, stage: &str, inputs: &[&str], outputs: &[&str]) {
        let mut run = self.lab.run(stage);
        run.args(["--dir", "data", "--dir", "work"]);
        for input in inputs {
            run.arg("--in").arg(self.lab.path(input));
        }
        for output in outputs {
            run.arg("--out").arg(self.lab.path(output));
        }
        run.arg("--").arg(&self.python).arg(program(stage)).args(inputs).args(outputs);
        run.succeed();
    }

    fn attestations(&self) -> Vec<Bundle> {
        attestations(&self.lab.state())
    }

    fn model_signature(&self, artifact: &str) -> Bundle {
        Bundle::read(&self.lab.path(artifact).join("model.sig"))
    }
}

fn program(stage: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/e2e/{stage}.py"))
}

#[test]
fn every_model_signature_is_verified_by_the_reference_implementation() {
    let Some(model_signing) = needs::program_of("ATTESTFS_MODEL_SIGNING") else { return };
    let Some(pipeline) = Pipeline::run() else { return };
    for artifact in ARTIFACTS {
        let directory = pipeline.lab.path(artifact);
        check_model_signature(&model_signing, &directory, &pipeline.lab.public_key());
        pipeline.lab.verify(&directory).succeed();
    }
}

#[test]
fn every_signature_and_every_digest_is_what_openssl_and_sha256sum_say() {
    if !needs::programs(&["openssl", "sha256sum", "b3sum"]) {
        return;
    }
    let Some(pipeline) = Pipeline::run() else { return };
    let bundles = pipeline.attestations();
    let stages: Vec<_> = bundles.iter().map(Bundle::stage).collect();
    assert_eq!(bundles.len(), ARTIFACTS.len(), "{stages:?}");
    for bundle in &bundles {
        assert_eq!(bundle.predicate_type(), evidence::PROVENANCE);
        bundle.check_signature(&pipeline.lab.public_key());
        check_digests(&bundle.subjects(&pipeline.lab.state()));
        check_materials(bundle);
        evidence::check_blake3(&bundle.blake3());
    }
    for artifact in ARTIFACTS {
        pipeline.model_signature(artifact).check_signature(&pipeline.lab.public_key());
    }
    check_nothing_is_missing(&pipeline, &bundles);
}

fn check_materials(bundle: &Bundle) {
    let materials = bundle.materials();
    let known: BTreeMap<_, _> = materials
        .iter()
        .filter_map(|(path, digest)| Some((path.clone(), digest.clone()?)))
        .collect();
    assert_eq!(known.len(), materials.len(), "a digest is unknown: {materials:?}");
    check_digests(&known);
}

/// Every file that the pipeline left is a subject, and each stage says what it was made from.
fn check_nothing_is_missing(pipeline: &Pipeline, bundles: &[Bundle]) {
    let subjects: BTreeSet<_> = bundles
        .iter()
        .flat_map(|bundle| bundle.subjects(&pipeline.lab.state()).into_keys())
        .collect();
    let left: BTreeSet<_> =
        ARTIFACTS.iter().flat_map(|name| files_below(&pipeline.lab.path(name))).collect();
    assert_eq!(subjects, left);
    for (stage, inputs) in [
        ("clean", &["data/raw"][..]),
        ("train", &["data/clean/train.npz"]),
        ("quantise", &["work/model/model.safetensors"]),
        ("evaluate", &["data/clean/test-features.npy", "work/quantised/model.gguf"]),
    ] {
        let bundle = bundles.iter().find(|bundle| bundle.stage() == stage).expect("it has run");
        let materials = bundle.materials();
        for input in inputs {
            let path = pipeline.lab.path(input);
            let named = materials.keys().any(|material| material.starts_with(&path));
            assert!(named, "{stage}: {input} is not among {materials:?}");
        }
    }
}

#[test]
fn a_poisoned_raw_file_is_followed_to_the_final_metrics() {
    let Some(pipeline) = Pipeline::run() else { return };
    let lineage =
        |path: &str, more: &[&str]| pipeline.lab.attestfs(["lineage", path]).args(more).succeed();
    let descendants = lineage("data/raw/part-2.csv", &["--descendants"]);
    for touched in
        ["train.npz", "epoch-3/weights.npz", "model.safetensors", "model.gguf", "metrics.json"]
    {
        assert!(descendants.contains(touched), "{touched} is missing in:\n{descendants}");
    }
    assert!(!descendants.contains("part-1.csv"), "{descendants}");
    let ancestors = lineage("work/metrics/metrics.json", &["--format", "json"]);
    for source in ["part-0.csv", "part-1.csv", "part-2.csv", "part-3.csv"] {
        assert!(ancestors.contains(source), "{source} is missing in:\n{ancestors}");
    }
}

#[test]
fn a_copied_model_is_verified_where_nothing_is_known_of_it() {
    let Some(pipeline) = Pipeline::run() else { return };
    let elsewhere = Lab::without_mounts();
    for artifact in ARTIFACTS {
        let copy = elsewhere.path(&artifact.replace('/', "-"));
        let mut cp = pipeline.lab.configured("cp");
        cp.arg("-a").arg(pipeline.lab.path(artifact)).arg(&copy).succeed();
        let mut verify = elsewhere.attestfs(["verify", "--key"]);
        verify.arg(pipeline.lab.public_key()).arg(&copy).succeed();
    }
    assert_eq!(fs::read_dir(elsewhere.state()).map(Iterator::count).ok(), Some(0));
}
