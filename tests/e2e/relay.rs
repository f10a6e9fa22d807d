//! What one stage has written, another one reads: what is attested of it, what the mount says of it and what `sha256sum`
//! says of the store are the same digests.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    evidence::{self, attestations, check_digests, files_below, only_attestation},
    lab::{Finish, Lab},
};

/// Runs a script in the directory `tree` as a stage, and another one as a second stage that may read only what is
/// attested: once as the kernel reads by itself, once with each read verified.
pub(crate) fn pass_on(lab: &Lab, write: &str, read: &str) {
    let written = write_attested(lab, write);
    for level in ["stat", "per-read"] {
        read_attested(lab, level, read, &written);
    }
}

/// Runs a script in the directory `tree` of a fresh lab as a stage. Afterwards every file there must be attested with
/// its digest.
pub(crate) fn write_attested(lab: &Lab, script: &str) -> BTreeMap<PathBuf, String> {
    let tree = lab.directory("tree");
    lab.shell("tree", script).succeed();
    let attestation = only_attestation(&lab.state());
    assert_eq!(attestation.predicate_type(), evidence::PROVENANCE);
    let subjects = attestation.subjects(&lab.state());
    assert!(!subjects.is_empty());
    assert_eq!(subjects.keys().cloned().collect::<Vec<_>>(), files_below(&tree));
    check_digests(&subjects);
    assert_eq!(stored_digests(lab), subjects, "the store has others than the statement");
    subjects
}

/// The SHA-256 of what the lab's only run left, as the store has it.
fn stored_digests(lab: &Lab) -> BTreeMap<PathBuf, String> {
    let run = fs::read_dir(lab.state().join("runs")).unwrap().next().unwrap().unwrap();
    let mut show = lab.attestfs(["stage", "show", "--json"]);
    let run: Value = serde_json::from_str(&show.arg(run.file_name()).succeed()).unwrap();
    let kept = run["outputs"]["kept"].as_array().unwrap().iter();
    kept.flat_map(|output| {
        let sha256 = output["state"]["sealed"]["digests"]["sha256"].as_str().unwrap();
        let names = output["also"].as_array().unwrap().iter().chain([&output["path"]]);
        names.map(move |name| {
            (lab.path("tree").join(name["path"].as_str().unwrap()), sha256.to_owned())
        })
    })
    .collect()
}

/// Runs a script where what was written, and nothing else below `tree`, may be read at this level.
fn read_attested(lab: &Lab, level: &str, script: &str, written: &BTreeMap<PathBuf, String>) {
    let stage = format!("read-{level}");
    let answers = lab.directory(&stage);
    fs::write(lab.path("policy.toml"), POLICY.replace("LEVEL", level)).unwrap();
    let mut run = lab.run(&stage);
    run.args(["--policy", "policy.toml", "--dir", "tree", "--dir", &stage, "--", "sh", "-ec"]);
    run.arg(format!("cd tree; {script}\n{TELL_DIGESTS} > ../{stage}/told")).succeed();
    assert_eq!(told_digests(&lab.path("tree"), &answers.join("told")), *written, "{level}");
    check_digests(written);
    let read = attestations(&lab.state()).into_iter().find(|made| made.stage() == stage).unwrap();
    let materials = read.materials();
    assert!(!materials.is_empty(), "{level}");
    for (path, digest) in materials {
        assert_eq!(digest.as_ref(), written.get(&path), "{level}: {}", path.display());
    }
}

const POLICY: &str = r#"
version = 1
[signers.writer]
key = "keys/attestfs.pub"
[[rule]]
paths = ["**"]
level = "LEVEL"
signed_by = ["writer"]
stages = ["shell"]
"#;

/// The digest that the mount knows of each file, in a line, and the file in the next one.
const TELL_DIGESTS: &str = "find . -type f -exec sh -ec '
    for file; do getfattr --only-values --name user.attestfs.sha256 \"$file\"; echo; echo \"$file\"; done' sh {} +";

fn told_digests(tree: &Path, told: &Path) -> BTreeMap<PathBuf, String> {
    let told = fs::read_to_string(told).unwrap();
    let lines: Vec<_> = told.lines().collect();
    let pairs = lines.chunks(2).map(|pair| (tree.join(pair[1]), pair[0].to_owned()));
    pairs.map(|(path, digest)| (path.components().collect(), digest)).collect()
}
