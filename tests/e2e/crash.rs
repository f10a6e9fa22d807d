//! The daemon dies at each arrow of a commit; the run starts another one, and there is one publication.

use std::{collections::BTreeSet, fs};

use rustix::process::{Signal, kill_process};

use crate::{
    evidence::{PROVENANCE, check_digests, only_attestation},
    lab::{Finish, Lab, Running, eventually},
};

/// The arrows at which a debug build can be told to kill itself.
const ARROWS: [&str; 6] = ["frozen", "quoted", "signed", "bundles", "claims", "published"];

#[test]
fn a_daemon_killed_at_any_arrow_leaves_one_publication() {
    for arrow in ARROWS {
        let Some(lab) = Lab::new() else { return };
        lab.directory("tree");
        let mut run = lab.run("train");
        run.env("ATTESTFS_STOP_AT", arrow);
        run.args(["--dir", "tree", "--out", "model", "--", "sh", "-ec"]);
        run.arg("mkdir tree/model && seq 1000 > tree/model/weights");
        run.succeed();
        check_one_publication(&lab, arrow);
    }
}

#[test]
fn a_daemon_killed_while_the_command_runs_is_replaced() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    let script = "mkdir tree/model && seq 1000 > tree/model/weights && touch begun \
        && while ! test -e enough; do sleep 0.02; done && seq 2000 > tree/model/more";
    let mut run = lab.run("train");
    run.args(["--dir", "tree", "--out", "model", "--", "sh", "-ec", script]);
    let mut run = Running::start(&mut run);
    eventually("the command has begun", || lab.path("begun").exists());
    kill_process(lab.daemon().expect("it was started"), Signal::KILL).unwrap();
    eventually("the daemon is gone", || lab.daemon().is_none());
    fs::write(lab.path("enough"), "").unwrap();
    assert_eq!(run.code(), Some(0));
    assert_eq!(only_attestation(&lab.state()).subjects(&lab.state()).len(), 2);
    lab.verify("tree/model").succeed();
}

fn check_one_publication(lab: &Lab, arrow: &str) {
    assert!(lab.state().join("stopped").exists(), "nobody died at {arrow}");
    let attestation = only_attestation(&lab.state());
    assert_eq!(attestation.predicate_type(), PROVENANCE, "{arrow}");
    attestation.check_signature(&lab.public_key());
    check_digests(&attestation.subjects(&lab.state()));
    let index = fs::read_to_string(lab.state().join("attestations/subjects.index")).unwrap();
    assert_eq!(index.lines().collect::<BTreeSet<_>>().len(), 1, "{arrow}: {index}");
    let listed = lab.attestfs(["attestation", "list", "--json"]).succeed();
    assert_eq!(listed.matches("\"statement\"").count(), 1, "{arrow}: {listed}");
    lab.verify("tree/model").succeed();
    let mut left: Vec<_> = fs::read_dir(lab.path("tree/model"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["claims.jsonl", "model.sig", "weights"], "{arrow}");
}
