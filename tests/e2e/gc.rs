//! What is kept about content that is gone is freed, and nothing else.

use std::fs;

use serde_json::Value;

use crate::{
    evidence::attestations,
    lab::{ATTESTFS, Finish, Lab},
    needs,
};

/// Three checkpoints, of which the run keeps the newest two, as trainers do.
const ROTATION: &str = r#"
    for step in 1 2 3; do
        mkdir -p tree/model/step-$step
        head -c 100000 /dev/urandom > tree/model/step-$step/weights
        "$ATTESTFS" stage checkpoint tree/model/step-$step
    done
    rm -r tree/model/step-1"#;

fn rotate(lab: &Lab) {
    lab.directory("tree");
    let mut run = lab.run("train");
    run.args(["--dir", "tree", "--out", "model/step-3", "--", "sh", "-ec", ROTATION]).succeed();
}

fn collect(lab: &Lab, arguments: &[&str]) -> Value {
    let arguments = ["gc", "--json"].iter().chain(arguments);
    serde_json::from_str(&lab.attestfs(arguments).succeed()).unwrap()
}

/// How many attestations, and how many files altogether.
fn amounts(report: &Value) -> (u64, u64) {
    let files = |kind: &str| report[kind]["files"].as_u64().unwrap();
    let all = ["journals", "reports", "bundles", "manifests"].map(files);
    (files("bundles"), all.iter().sum())
}

#[test]
fn checkpoints_that_a_run_rotated_out_are_freed_exactly_and_once() {
    let Some(lab) = Lab::new() else { return };
    rotate(&lab);
    let removed = lab.path("tree/model/step-1");
    assert!(!removed.exists());
    let before = attestations(&lab.state()).len();

    let plan = collect(&lab, &["--bundles"]);
    assert_eq!(plan["freed"], false);
    assert_eq!(plan["gone"], serde_json::json!([removed.to_str().unwrap()]));
    assert_eq!(attestations(&lab.state()).len(), before, "a plan frees nothing");
    let freed = collect(&lab, &["--bundles", "--yes"]);
    assert_eq!(freed["freed"], true);
    assert_eq!(amounts(&freed), amounts(&plan));
    assert_eq!(amounts(&freed).0, 1);
    assert_eq!(attestations(&lab.state()).len(), before - 1);
    assert_eq!(fs::read_dir(lab.state().join("runs")).unwrap().count(), 0);

    assert_eq!(
        amounts(&collect(&lab, &["--bundles", "--yes"])),
        (0, 0),
        "the second time there is nothing"
    );
    for kept in ["tree/model/step-2", "tree/model/step-3"] {
        lab.verify(kept).succeed();
    }
    let latest = lab.attestfs(["lineage", "--latest", "tree/model"]).succeed();
    assert!(latest.contains("step-3"), "{latest}");
    let listed = lab.attestfs(["attestation", "list"]).succeed();
    assert!(listed.contains("step-1") && listed.contains("freed"), "{listed}");
}

/// No mount sees a copy being made.
#[test]
fn a_copy_keeps_its_attestation_until_attestations_are_to_be_freed() {
    let Some(lab) = Lab::new() else { return };
    let tree = lab.directory("tree");
    lab.shell("tree", "echo w > weights").succeed();
    fs::copy(tree.join("weights"), lab.directory("served").join("weights")).unwrap();
    lab.shell("tree", "rm weights").succeed();

    let freed = collect(&lab, &["--yes"]);
    assert_eq!((amounts(&freed).0, freed["spared"]["attestations"].as_u64()), (0, Some(1)));
    lab.verify("served/weights").succeed();
    let shown = lab.attestfs(["gc"]).succeed();
    assert!(shown.contains("attestfs gc --bundles"), "{shown}");
    assert_eq!(amounts(&collect(&lab, &["--bundles", "--yes"])).0, 1);
    let refused = lab.verify("served/weights").finish();
    assert_eq!(refused.code, Some(1), "{refused:?}");
}

#[test]
fn the_chain_behind_what_is_kept_verifies_after_its_data_was_removed_and_freed_for() {
    let Some(lab) = Lab::new() else { return };
    let tree = lab.directory("tree");
    lab.shell("tree", "mkdir data && seq 100 > data/table").succeed();
    let mut train = lab.run("train");
    let script = "mkdir tree/model && wc tree/data/table > tree/model/weights";
    train.args(["--dir", "tree", "--out", "model", "--", "sh", "-ec", script]).succeed();
    lab.shell("tree", "echo 1 > scratch").succeed();
    lab.shell("tree", "rm -r data scratch").succeed();
    assert!(!tree.join("data").exists());

    let freed = collect(&lab, &["--bundles", "--yes"]);
    assert_eq!(amounts(&freed).0, 1, "{freed}");
    // What travels with the model would have it, too: only the state is to answer.
    for beside in ["claims.jsonl", "model.sig"] {
        fs::remove_file(tree.join("model").join(beside)).unwrap();
    }
    let verified = lab.verify("tree/model/weights").succeed();
    assert!(verified.contains("data/table") && !verified.contains("not at hand"), "{verified}");
    let lineage = lab.attestfs(["lineage", "tree/model/weights"]).succeed();
    assert!(lineage.contains("table") && lineage.contains("removed"), "{lineage}");
}

#[test]
fn what_was_moved_without_a_run_is_kept_and_named() {
    let Some(lab) = Lab::new() else { return };
    let tree = lab.directory("tree");
    lab.shell("tree", "mkdir model && echo w > model/weights").succeed();
    fs::rename(tree.join("model"), lab.path("archive")).unwrap();
    let freed = collect(&lab, &["--bundles", "--yes"]);
    assert_eq!(amounts(&freed).0, 0);
    assert_eq!(freed["unseen"]["attestations"], 1);
    lab.verify("archive/weights").finish();
    let shown = lab.attestfs(["gc"]).succeed();
    assert!(shown.contains("nothing to free") && shown.contains("attestfs gc PATH"), "{shown}");
    let freed = collect(&lab, &["--yes", "tree"]);
    assert_eq!(amounts(&freed).0, 1);
}

#[test]
fn without_a_terminal_and_without_yes_nothing_is_freed_and_that_is_said() {
    let Some(lab) = Lab::new() else { return };
    rotate(&lab);
    let before = attestations(&lab.state()).len();
    let ended = lab.attestfs(["gc", "--bundles"]).finish();
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stdout.contains("can be freed") && ended.stdout.contains("1 attestation"));
    assert!(ended.stdout.contains("copies"), "{ended:?}");
    assert!(ended.stderr.contains("attestfs gc --yes"), "{ended:?}");
    assert_eq!(attestations(&lab.state()).len(), before);
}

#[test]
fn at_a_terminal_it_asks_and_takes_only_yes_for_yes() {
    if !needs::programs(&["python3"]) {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    rotate(&lab);
    let before = attestations(&lab.state()).len();
    for (answer, code, left) in [("", 1, before), ("yes!", 1, before), ("y", 0, before - 1)] {
        let mut asked = lab.configured("python3");
        let shown = asked.args(["-c", AT_TERMINAL, ATTESTFS, answer]).finish();
        assert_eq!(shown.code, Some(code), "{shown:?}");
        assert!(shown.stdout.contains("free this? [y/N]"), "{shown:?}");
        assert_eq!(attestations(&lab.state()).len(), left, "{answer}");
    }
}

/// Runs `gc` on a terminal of its own, and answers what it asks.
const AT_TERMINAL: &str = r#"
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], [sys.argv[1], "gc", "--bundles"])
shown = b""
answered = False
try:
    while piece := os.read(terminal, 4096):
        shown += piece
        if b"[y/N]" in shown and not answered:
            answered = True
            os.write(terminal, sys.argv[2].encode() + b"\n")
except OSError:
    pass
print(shown.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;
