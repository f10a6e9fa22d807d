//! What the containers work on: data to train with, and models of which one is attested.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::Value;

use crate::{
    lab::{Finish, Lab},
    podman::Container,
};

/// What `train.py` fits a line to.
pub(crate) const DATA: &str = "1,3\n2,5\n3,7\n";

/// A script that lies beside this file.
pub(crate) fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/containers").join(name)
}

/// `store` with a model that is attested, one that is not, and a file that no rule guards; gives
/// the mount point `models`.
pub(crate) fn gated(lab: &Lab) -> PathBuf {
    lab.directory("store");
    lab.attested_model("store", "good", "good");
    lab.write("store/found/weights.bin", "unknown");
    lab.write("store/notes.txt", "anything");
    lab.directory("models")
}

/// What `load.py` says of each file below a directory of a container.
pub(crate) fn load(container: Container<'_>, directory: &str) -> BTreeMap<String, String> {
    let mut load =
        container.read_only(script("load.py"), "/load.py").run(["python3", "/load.py", directory]);
    by_file(directory, &load.succeed())
}

/// What `load.py` said, by the name of each file below `directory`.
pub(crate) fn by_file(directory: &str, said: &str) -> BTreeMap<String, String> {
    let lines = said.lines().map(|line| line.split_once(' ').unwrap());
    let below = |path: &str| path.strip_prefix(directory).unwrap().trim_matches('/').to_owned();
    lines.map(|(path, said)| (below(path), said.to_owned())).collect()
}

/// Of a [`gated`] directory, only the attested model loads.
pub(crate) fn check_gate(said: &BTreeMap<String, String>) {
    assert_eq!(said["good/weights.bin"], "loaded good");
    assert!(said["found/weights.bin"].starts_with("refused: no attestation"), "{said:#?}");
    assert!(said["found/weights.bin"].contains(" next: "), "{said:#?}");
    assert!(said["found/weights.bin"].ends_with(" of 7 bytes"), "{said:#?}");
    assert_eq!(said["notes.txt"], "loaded anything");
}

/// The facts of this kind about a path.
pub(crate) fn told<'a>(facts: &'a [Value], kind: &str, path: &str) -> Vec<&'a Value> {
    let is_it = |fact: &&Value| fact["fact"] == kind && fact["path"]["path"] == path;
    facts.iter().filter(is_it).collect()
}
