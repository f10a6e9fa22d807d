//! Policies, keys and state where those whom they judge can write.

use std::fs;

use crate::{
    guarded::policy,
    lab::{Finish, Lab},
    mounted::{is_mounted, mount, unmount_all_at},
};

/// Expects that neither a mount nor a run begins with these options, and that both name the cause.
fn check_refused(lab: &Lab, options: &[&str], told: &[&str]) {
    lab.directory("mnt");
    let served = mount(lab, "tree", "mnt", options).finish();
    let is_served = is_mounted(&lab.path("mnt"));
    unmount_all_at(&lab.path("mnt"));
    assert_eq!((served.code, is_served), (Some(3), false), "{served:?}");
    let mut run = lab.run("load");
    let run = run.args(options).args(["--dir", "tree", "--", "touch", "ran"]).finish();
    assert_eq!(run.code, Some(125), "{run:?}");
    for stderr in [served.stderr, run.stderr] {
        assert!(told.iter().all(|told| stderr.contains(told)), "{stderr}");
    }
    assert!(!lab.path("ran").exists());
}

// Stands on `Fields::of` (fs/attestation/src/policy/document.rs), which knows every key.
#[test]
fn a_policy_with_a_misspelt_word_guards_nothing_and_is_refused() {
    for (word, misspelt) in
        [("level", "levels"), ("signed_by", "signedby"), ("[[rule]]", "[[rules]]")]
    {
        let Some(lab) = Lab::new() else { return };
        lab.directory("tree");
        let path = policy(&lab, "rehash");
        let text = fs::read_to_string(&path).unwrap().replacen(word, misspelt, 1);
        fs::write(&path, text).unwrap();
        let name = misspelt.trim_matches(['[', ']']);
        check_refused(&lab, &["--policy", "policy.toml"], &["policy.toml", name]);
    }
}

// Stands on `refuse_policy_inside` (daemon/src/gate.rs).
#[test]
fn a_policy_that_those_can_change_whom_it_judges_is_refused() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    policy(&lab, "rehash");
    fs::rename(lab.path("policy.toml"), lab.path("tree/policy.toml")).unwrap();
    fs::copy(lab.path("trainer.pub"), lab.path("tree/trainer.pub")).unwrap();
    check_refused(&lab, &["--policy", "tree/policy.toml"], &["policy.toml", "lies below"]);
    // Also by another name.
    std::os::unix::fs::symlink("tree/policy.toml", lab.path("policy.toml")).unwrap();
    check_refused(&lab, &["--policy", "policy.toml"], &["policy.toml", "lies below"]);
}

// Stands on the same.
#[test]
fn a_signer_whose_key_those_can_change_whom_it_judges_is_refused() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    let path = policy(&lab, "rehash");
    fs::rename(lab.path("trainer.pub"), lab.path("tree/trainer.pub")).unwrap();
    let text = fs::read_to_string(&path).unwrap().replace("trainer.pub", "tree/trainer.pub");
    fs::write(&path, text).unwrap();
    check_refused(&lab, &["--policy", "policy.toml"], &["trainer.pub", "lies below"]);
}

// Stands on `open_key` and `state_for` (daemon/src/session/place.rs).
#[test]
fn a_key_or_a_state_that_those_can_change_whom_they_judge_is_refused() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree/state");
    check_refused(&lab, &["--state", "tree/state"], &["the state directory", "lies below"]);
}
