//! Gated mounts and runs: what nobody vouches for does not open, and everybody is told the same.

use std::{
    fs::{self, File},
    process::Command,
};

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::{
    guarded::{is_refused, policy},
    lab::{Finish, Lab, Running, eventually},
    mounted::{Mounted, attribute},
};

const VERDICT: &str = "user.attestfs.verdict";

#[test]
fn what_one_mount_attested_opens_through_another_and_nothing_else() {
    let Some(lab) = Lab::new() else { return };
    policy(&lab, "rehash");
    let training = Mounted::new(&lab, "tree", "training", &["--stage", "train", "--out", "model"]);
    let serving =
        Mounted::new(&lab, "tree", "serving", &["--read-only", "--policy", "policy.toml"]);
    fs::create_dir(training.path.join("model")).unwrap();
    fs::write(training.path.join("model/weights.bin"), "weights").unwrap();
    fs::write(training.path.join("stray.bin"), "nobody's").unwrap();
    let weights = serving.path.join("model/weights.bin");
    assert!(is_refused(&weights), "not attested yet");
    assert!(fs::metadata(&weights).is_ok(), "its name resolves");
    training.umount(&[]).succeed();
    assert_eq!(fs::read_to_string(&weights).unwrap(), "weights");
    assert_eq!(attribute(&weights, VERDICT).as_deref(), Some("admitted: rehash"));
    let explained = lab.attestfs(["explain"]).arg(&weights).succeed();
    assert!(explained.contains("admitted: rehash"), "{explained}");
    for wrong in ["not checked", "elsewhere"] {
        assert!(!explained.contains(wrong), "{wrong}: {explained}");
    }
    fs::write(lab.path("tree/readme.txt"), "in no rule").unwrap();
    let unguarded = lab.attestfs(["explain"]).arg(serving.path.join("readme.txt")).finish();
    assert_eq!(unguarded.code, Some(1), "{unguarded:?}");
    assert!(unguarded.stdout.contains("not guarded: no rule has it"), "{unguarded:?}");
    let mut at_rest = lab.attestfs(["explain", "--policy", "policy.toml", "--tree", "tree"]);
    at_rest.arg("tree/model/weights.bin").succeed();
    let mut at_rest = lab.attestfs(["explain", "--policy", "policy.toml", "--tree", "tree"]);
    assert_eq!(at_rest.arg("tree/stray.bin").finish().code, Some(1));
    assert!(is_refused(&serving.path.join("stray.bin")));
    fs::write(lab.path("tree/model/weights.bin"), "WEIGHTS").unwrap();
    assert!(is_refused(&weights), "changed below the mount");
}

#[test]
fn a_refusal_says_the_same_in_the_log_the_attribute_and_explain() {
    let Some(lab) = Lab::new() else { return };
    policy(&lab, "stat");
    fs::write(lab.directory("tree").join("weights.bin"), "nobody's").unwrap();
    fs::write(lab.path("tree/weights.pkl"), "pickle").unwrap();
    let mounted = Mounted::new(&lab, "tree", "mnt", &["--policy", "policy.toml"]);
    for name in ["weights.bin", "weights.pkl"] {
        let path = mounted.path.join(name);
        assert!(is_refused(&path));
        let verdict = attribute(&path, VERDICT).unwrap();
        let told = verdict.strip_prefix("refused: ").unwrap();
        let (reason, next_step) = told.split_once("\nnext: ").unwrap();
        let log = fs::read_dir(lab.state().join("mounts")).unwrap();
        let log =
            log.map(|entry| entry.unwrap().path()).find(|it| it.extension().unwrap() == "log");
        let log = log.unwrap();
        let explained = lab.attestfs(["explain", "--json"]).arg(&path).finish();
        assert_eq!(explained.code, Some(1), "{explained:?}");
        let explained: Value = serde_json::from_str(&explained.stdout).unwrap();
        assert_eq!(explained["verdict"], "refused", "{explained}");
        assert_eq!(explained["reason"]["message"], reason);
        assert_eq!(explained["reason"]["nextStep"], next_step);
        eventually("the log tells the same", || {
            let log = fs::read_to_string(&log).unwrap();
            log.contains(reason) && log.contains(next_step)
        });
    }
}

#[test]
fn a_run_is_told_while_it_goes_on_what_its_command_may_not_open() {
    let Some(lab) = Lab::new() else { return };
    policy(&lab, "stat");
    fs::write(lab.directory("tree").join("weights.bin"), "nobody's").unwrap();
    let script = "cat tree/weights.bin && exit 9; until [ -e told ]; do sleep 0.02; done; \
        echo own > tree/own.bin; cat tree/own.bin";
    for (json, told) in [(None, "attestfs: refused: "), (Some("--json"), "{\"refused\":")] {
        let (out, err) = (lab.path("out"), lab.path("err"));
        let mut run = lab.run("load");
        run.args(["--policy", "policy.toml", "--dir", "tree"]).args(json);
        run.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        let mut run = Running::start(run.args(["--", "sh", "-c", script]));
        eventually("the refusal is told", || {
            let lines = fs::read_to_string(&err).unwrap();
            lines.lines().any(|line| line.starts_with(told) && line.contains("weights.bin"))
        });
        fs::write(lab.path("told"), "").unwrap();
        assert_eq!(run.code(), Some(0), "{:?}", fs::read_to_string(&err));
        assert!(fs::read_to_string(&err).unwrap().contains("Permission denied"));
        let own = fs::read_to_string(&out).unwrap();
        assert_eq!(own, "own\n", "what it wrote itself it may read");
        fs::remove_file(lab.path("told")).unwrap();
    }
}

#[test]
fn a_policy_that_cannot_work_is_refused_before_the_command_starts() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    fs::write(lab.path("unknown.toml"), "version = 1\nmood = \"enforce\"\n").unwrap();
    for (policy, told) in [("unknown.toml", "mood"), ("none.toml", "none.toml")] {
        let mut run = lab.run("load");
        run.args(["--policy", policy, "--dir", "tree", "--", "touch", "started"]);
        let refused = run.finish();
        assert_eq!(refused.code, Some(125), "{refused:?}");
        assert!(refused.stderr.contains(told), "{refused:?}");
    }
    assert!(!lab.path("started").exists());
}

#[test]
fn what_was_renamed_into_place_opens_to_others_as_soon_as_its_stage_is_closed() {
    let Some(lab) = Lab::new() else { return };
    policy(&lab, "rehash");
    let mounted = Mounted::new(&lab, "tree", "mnt", &["--policy", "policy.toml"]);
    let at = |name: &str| mounted.path.join(name);
    lab.attestfs(["stage", "open", "mnt", "--stage", "train", "--out", "model"]).succeed();
    fs::create_dir_all(at("model/tmp-checkpoint-1")).unwrap();
    fs::write(at("model/tmp-checkpoint-1/weights.bin"), "of a directory").unwrap();
    fs::write(at("model/a.bin"), "of a file").unwrap();
    fs::rename(at("model/tmp-checkpoint-1"), at("model/checkpoint-1")).unwrap();
    fs::rename(at("model/a.bin"), at("model/b.bin")).unwrap();
    lab.attestfs(["stage", "close", "mnt"]).succeed();
    for (name, content) in
        [("model/b.bin", "of a file"), ("model/checkpoint-1/weights.bin", "of a directory")]
    {
        let shown = Command::new("cat").arg(at(name)).output().unwrap();
        assert_eq!(String::from_utf8(shown.stdout).unwrap(), content, "{name}");
    }
}

#[test]
fn a_refusal_by_the_name_that_a_file_had_a_moment_ago_says_so() {
    let Some(lab) = Lab::new() else { return };
    policy(&lab, "rehash");
    let mounted = Mounted::new(&lab, "tree", "mnt", &["--policy", "policy.toml"]);
    let at = |name: &str| mounted.path.join(name);
    lab.attestfs(["stage", "open", "mnt", "--stage", "train"]).succeed();
    fs::write(at("a.bin"), "weights").unwrap();
    lab.attestfs(["stage", "close", "mnt"]).succeed();
    fs::rename(at("a.bin"), at("a.txt")).unwrap();
    fs::rename(at("a.txt"), at("b.bin")).unwrap();
    fs::rename(at("b.bin"), at("a.bin")).unwrap();
    assert!(is_refused(&at("a.bin")));
    let told = attribute(&at("a.bin"), VERDICT).unwrap();
    let reason = "it was called 'b.bin' a moment ago, and nobody vouches for that name";
    assert!(told.contains(reason) && told.contains("next: try again in 3 seconds"), "{told}");
    eventually("that name counts no more", || !is_refused(&at("a.bin")));
}

/// Writes a checkpoint, has it committed, and goes on with a second one that it never completes.
const TRAINING: &str = r#"
    mkdir -p tree/model/step-1 tree/model/step-2
    echo whole > tree/model/step-1/weights.bin
    cat tree/model/step-1/weights.bin > own
    "$ATTESTFS" stage checkpoint tree/model/step-1
    exec 8> tree/model/step-2/weights.bin
    echo half >&8
    touch checkpointed
    while echo more >&8; do sleep 0.02; done 2> /dev/null"#;

#[test]
fn a_checkpoint_opens_to_others_from_its_commit_on_and_outlives_the_job_that_was_killed() {
    let Some(lab) = Lab::new() else { return };
    policy(&lab, "rehash");
    lab.directory("tree");
    let serving =
        Mounted::new(&lab, "tree", "serving", &["--read-only", "--policy", "policy.toml"]);
    let mut run = lab.run("train");
    run.args(["--policy", "policy.toml", "--dir", "tree", "--out", "model"]);
    let mut run = Running::start(run.args(["--", "sh", "-ec", TRAINING]));
    eventually("a checkpoint is made", || lab.path("checkpointed").exists());
    assert_eq!(fs::read_to_string(lab.path("own")).unwrap(), "whole\n", "open to itself at once");
    let (whole, torn) = ("model/step-1/weights.bin", "model/step-2/weights.bin");
    assert_eq!(fs::read_to_string(serving.path.join(whole)).unwrap(), "whole\n");
    assert!(is_refused(&serving.path.join(torn)));
    kill_process(run.pid(), Signal::KILL).unwrap();
    assert_eq!(run.code(), None);
    eventually("the run is known to be lost", || {
        lab.attestfs(["stage", "list"]).succeed().contains("unknown end")
    });
    assert_eq!(fs::read_to_string(serving.path.join(whole)).unwrap(), "whole\n");
    assert!(is_refused(&serving.path.join(torn)));
    let latest = lab.attestfs(["lineage", "--latest", "tree/model"]).succeed();
    assert!(latest.contains("model/step-1") && latest.contains("weights.bin"), "{latest}");
    assert!(!latest.contains("step-2"), "{latest}");
}

#[test]
fn published_content_is_not_written_to_through_a_mount_unless_the_stage_replaces_it() {
    let Some(lab) = Lab::new() else { return };
    let mounted = Mounted::new(&lab, "tree", "mnt", &[]);
    let weights = mounted.path.join("model/weights.bin");
    let stage = |words: &[&str]| lab.attestfs(["stage"].iter().chain(words)).succeed();
    stage(&["open", "mnt", "--stage", "train", "--out", "model"]);
    fs::create_dir(mounted.path.join("model")).unwrap();
    fs::write(&weights, "first").unwrap();
    stage(&["close", "mnt"]);
    let refused = fs::write(&weights, "overwritten").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(1), "EPERM: {refused}");
    assert_eq!(fs::read_to_string(lab.path("tree/model/weights.bin")).unwrap(), "first");
    stage(&["open", "mnt", "--stage", "train", "--out", "model"]);
    fs::write(&weights, "second").unwrap();
    stage(&["close", "mnt"]);
    lab.verify("tree/model").succeed();
    fs::remove_file(&weights).unwrap();
}
