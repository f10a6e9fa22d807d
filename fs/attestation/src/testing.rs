//! What the tests of several rooms need: small contents, and a commit to change.

use std::collections::BTreeMap;

use attestfs_digest::{Blake3, Digests};

use crate::{
    oms::Content,
    run::{
        ArtifactRoot, Commit, CommitKind, Executable, Inputs, Material, MaterialDigests, Outcome,
        Output, RunDescription,
    },
    statement::sha256,
};

/// The content `text`.
pub(crate) fn content(text: &str) -> Content {
    Content::new(digests(text), text.len() as u64)
}

/// Those of the content `text`. Its BLAKE3 is made up: nothing here computes one.
pub(crate) fn digests(text: &str) -> Digests {
    Digests {
        sha256: sha256(text.as_bytes()),
        blake3: Blake3(sha256(format!("blake3 {text}").as_bytes()).0),
    }
}

pub(crate) fn output(name: &str, text: &str) -> Output {
    Output { name: name.to_owned(), digests: digests(text), size: text.len() as u64 }
}

pub(crate) fn material(name: &str, text: &str) -> Material {
    Material {
        name: name.to_owned(),
        uri: format!("file://node/data/{name}"),
        digests: MaterialDigests::Known(digests(text)),
        size: text.len() as u64,
        declared: true,
        attestation: None,
    }
}

/// A stage that ended well and wrote nothing yet.
pub(crate) fn commit(stage: &str) -> Commit {
    Commit {
        run: run(stage),
        root: ArtifactRoot { name: "model".to_owned(), path: "/data/model".to_owned() },
        kind: CommitKind::StageEnd(Outcome::Success),
        finished: "2026-01-02T03:05:00Z".parse().unwrap(),
        outputs: Vec::new(),
        left_out: Vec::new(),
        materials: Vec::new(),
    }
}

fn run(stage: &str) -> RunDescription {
    RunDescription {
        id: format!("{stage}-1"),
        stage: stage.to_owned(),
        command: vec!["python".to_owned(), format!("{stage}.py")],
        executable: Some(Executable {
            path: "/usr/bin/python 3".to_owned(),
            sha256: Some(sha256(b"python")),
        }),
        working_directory: "/data".to_owned(),
        uid: 1000,
        host: "node".to_owned(),
        kernel: "Linux 6.18.0".to_owned(),
        cgroup: None,
        trees: vec!["/data".to_owned()],
        declared_inputs: Vec::new(),
        declared_outputs: vec!["/data/model".to_owned()],
        inputs: Inputs::Opened,
        labels: BTreeMap::from([("seed".to_owned(), "1".to_owned())]),
        started: "2026-01-02T03:04:05.678Z".parse().unwrap(),
        lock: None,
        attestfs_version: "0.1.0".to_owned(),
    }
}
