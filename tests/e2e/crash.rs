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
    let first = lab.daemon().expect("it was started");
    kill_process(first, Signal::KILL).unwrap();
    eventually("the daemon is gone", || lab.daemon() != Some(first));
    fs::write(lab.path("enough"), "").unwrap();
    assert_eq!(run.code(), Some(0));
    assert_eq!(only_attestation(&lab.state()).subjects(&lab.state()).len(), 2);
    lab.verify("tree/model").succeed();
}

#[test]
fn a_checkpoint_from_inside_reaches_a_daemon_that_the_run_started_anew_outside() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    let script = "mkdir -p tree/model/step && echo 1 > tree/model/step/weights && touch begun \
        && while ! test -e enough; do sleep 0.02; done \
        && env -u ATTESTFS_RUN $ATTESTFS stage checkpoint tree/model/step \
        && $ATTESTFS stage list && touch checkpointed \
        && while ! test -e ended; do sleep 0.02; done";
    let mut run = lab.run("train");
    run.args(["--dir", "tree", "--out", "model", "--", "sh", "-ec", script]);
    let mut run = Running::start(&mut run);
    eventually("the command has begun", || lab.path("begun").exists());
    let first = lab.daemon().expect("it was started");
    kill_process(first, Signal::KILL).unwrap();
    eventually("the daemon is gone", || lab.daemon() != Some(first));
    fs::write(lab.path("enough"), "").unwrap();
    eventually("the checkpoint is made", || lab.path("checkpointed").exists());
    let second = lab.daemon().expect("the run started another one");
    assert_ne!(second, first);
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", second.as_raw_pid())).unwrap();
    assert!(!mounts.contains("fuse.attestfs attestfs "), "{mounts}");
    lab.verify("tree/model/step").succeed();
    fs::write(lab.path("ended"), "").unwrap();
    assert_eq!(run.code(), Some(0));
}

#[test]
fn no_daemon_is_started_inside_a_run() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    let elsewhere = lab.path("elsewhere");
    let script = format!(
        "env -u ATTESTFS_RUN $ATTESTFS daemon --foreground --state {0} && exit 1; \
         $ATTESTFS daemon --state {0} && exit 1; test ! -e {0}/control.sock",
        elsewhere.display()
    );
    let mut run = lab.run("nested");
    run.args(["--dir", "tree", "--", "sh", "-c", &script]);
    let ended = run.finish();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stderr.matches("inside a run none is started").count(), 2, "{ended:?}");
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

#[test]
fn a_run_whose_program_was_replaced_meanwhile_still_starts_its_daemon() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    let old = lab.path("attestfs-old");
    fs::copy(env!("CARGO_BIN_EXE_attestfs"), &old).unwrap();
    let script = "touch begun; until [ -e enough ]; do sleep 0.02; done; echo 1 > tree/file";
    let mut run = lab.configured(&old);
    run.args(["run", "--stage", "upgraded", "--dir", "tree", "--", "sh", "-ec", script]);
    let mut run = Running::start(&mut run);
    eventually("the command has begun", || lab.path("begun").exists());
    fs::remove_file(&old).unwrap();
    kill_process(lab.daemon().unwrap(), Signal::KILL).unwrap();
    fs::write(lab.path("enough"), "").unwrap();
    assert_eq!(run.code(), Some(0));
}
