//! Outputs that lie in each other.

use std::fs;

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use serde_json::Value;

use crate::{
    evidence::{check_digests, only_attestation},
    lab::{Finish, Lab},
    mounted::Mounted,
};

#[test]
fn each_output_that_holds_an_open_file_names_it_as_left_out() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    let script = "mkdir -p tree/all/part && echo 1 > tree/all/weights && echo 2 > tree/all/part/weights \
        && (exec 8> tree/all/part/log && echo open >&8 && touch opened \
            && while ! test -e enough; do sleep 0.02; done) > /dev/null 2>&1 & \
        while ! test -e opened; do sleep 0.02; done";
    let mut run = lab.run("nested");
    run.args(["--json", "--dir", "tree", "--out", "all", "--out", "all/part"]);
    run.args(["--commit-patience", "0", "--", "sh", "-c", script]);
    let ended = run.finish();
    fs::write(lab.path("enough"), "").unwrap();
    let commit = ended.stderr.lines().find(|line| line.starts_with("{\"commit\"")).unwrap();
    let commit: Value = serde_json::from_str(commit).unwrap();
    let artifacts = commit["commit"]["artifacts"].as_array().unwrap();
    let left_out: Vec<_> = artifacts
        .iter()
        .map(|artifact| (artifact["leftOut"][0]["name"].as_str(), artifact["subjects"].as_u64()))
        .collect();
    assert_eq!(left_out, [(Some("part/log"), Some(2)), (Some("log"), Some(1))], "{ended:?}");
}

/// No system call can name it, and no line of a journal has room for it.
#[test]
fn an_output_whose_path_is_too_long_is_left_out_and_the_run_goes_on() {
    let Some(lab) = Lab::new() else { return };
    let mounted = Mounted::new(&lab, "tree", "mnt", &["--stage", "deep"]);
    let directory = "d".repeat(250);
    // Programs that other tests start meanwhile inherit nothing of it.
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, &mounted.path, flags, Mode::empty()).unwrap();
    let deepest = (0..600).fold(root, |above, _| {
        mkdirat(&above, &directory, Mode::RWXU).unwrap();
        openat(&above, &directory, flags, Mode::empty()).unwrap()
    });
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    drop(openat(&deepest, "file", flags, Mode::RUSR).unwrap());
    drop(deepest);
    fs::write(mounted.path.join("weights"), "weights").unwrap();
    mounted.umount(&[]).succeed();
    let bundle = only_attestation(&lab.state());
    assert_eq!(
        bundle.subjects(&lab.state()).into_keys().collect::<Vec<_>>(),
        [lab.path("tree/weights")]
    );
    let parameters = &bundle.statement["predicate"]["buildDefinition"]["internalParameters"];
    let left_out = &parameters["leftOut"][0];
    assert!(left_out["name"].as_str().unwrap().ends_with("ddd/…/file"), "{left_out}");
    assert_eq!(left_out["reason"], "its path is too long to be recorded");
    lab.verify("tree/weights").succeed();
}

#[test]
fn who_runs_again_without_out_is_told_what_to_name() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("data");
    let run = |options: &[&str]| {
        let mut run = lab.run("again");
        run.args(["--dir", "data"]).args(options);
        run.args(["--", "sh", "-ec", "date +%N > data/copy.csv"]).finish()
    };
    assert_eq!(run(&["--out", "copy.csv"]).code, Some(0));
    let ended = run(&[]);
    assert_ne!(ended.code, Some(0));
    assert!(ended.stderr.contains("Operation not permitted"), "{}", ended.stderr);
    let told = "refused: 'copy.csv' is what attestation ";
    assert!(ended.stderr.contains(told), "{}", ended.stderr);
    assert!(ended.stderr.contains("next: to replace it, name it with --out"), "{}", ended.stderr);
    assert_eq!(run(&["--out", "copy.csv"]).code, Some(0));
}

#[test]
fn a_model_that_the_kernel_wrote_by_itself_is_signed_with_true_digests() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    let script = "mkdir tree/model && head -c 9000000 /dev/urandom > tree/model/a.bin \
        && cp tree/model/a.bin tree/model/b.bin && printf patched | dd of=tree/model/b.bin conv=notrunc \
        && for n in $(seq 50); do echo $n > tree/model/$n.json; done";
    let mut run = lab.run("train");
    run.args(["--capture", "reread", "--dir", "tree", "--out", "model"]);
    let ended = run.args(["--", "sh", "-ec", script]).finish();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let subjects = only_attestation(&lab.state()).subjects(&lab.state());
    assert_eq!(subjects.len(), 52);
    check_digests(&subjects);
    lab.verify("tree/model").succeed();
}
