//! Files of a pipeline that have the names of ours.

use std::fs;

use crate::lab::{Finish, Lab};

const MINE: &str = "{\"claim\": \"my own\"}\n";

#[test]
fn a_file_that_a_stage_calls_claims_jsonl_is_kept_and_the_signature_refused_by_name() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    let script = format!(
        "mkdir -p tree/out && echo w > tree/out/weights \
        && printf '%s' '{MINE}' > tree/out/claims.jsonl"
    );
    let mut run = lab.run("claims");
    let ended = run.args(["--dir", "tree", "--out", "out", "--", "sh", "-ec", &script]).finish();
    assert_eq!(ended.code, Some(125), "{ended:?}");
    for words in ["claims.jsonl was written by the run: rename it", "left out claims.jsonl"] {
        assert!(ended.stderr.contains(words), "{words:?} is missing in {ended:?}");
    }
    assert_eq!(fs::read_to_string(lab.path("tree/out/claims.jsonl")).unwrap(), MINE);
    assert!(!lab.path("tree/out/model.sig").exists());
    lab.verify("tree/out/weights").succeed();
}

#[test]
fn without_an_output_it_is_kept_left_out_and_named() {
    let Some(lab) = Lab::new() else { return };
    let tree = lab.directory("tree");
    let mut run = lab.shell("tree", "echo w > weights && echo mine > model.sig");
    let ended = run.finish();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("left out model.sig"), "{ended:?}");
    assert_eq!(fs::read_to_string(tree.join("model.sig")).unwrap(), "mine\n");
    lab.verify("tree/weights").succeed();
}

#[test]
fn a_publication_of_a_stranger_above_refuses_no_good_artifact() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("work/tree");
    let mut run = lab.run("make");
    run.args(["--dir", "work/tree", "--out", "out", "--", "sh", "-ec"]);
    run.arg("mkdir work/tree/out && echo w > work/tree/out/weights").succeed();
    let stranger = Lab::without_mounts();
    fs::write(stranger.directory("other").join("file"), "x").unwrap();
    stranger.attestfs(["sign", "other", "--key", "keys/attestfs.key"]).succeed();
    fs::copy(stranger.path("other/model.sig"), lab.path("work/tree/model.sig")).unwrap();
    fs::write(lab.path("work/claims.jsonl"), "garbage").unwrap();
    lab.verify("work/tree/out").succeed();
    lab.verify("work/tree/out/weights").succeed();
    let bare = lab.directory("work/tree/bare");
    fs::copy(lab.path("work/tree/out/weights"), bare.join("weights")).unwrap();
    let said = lab.verify("work/tree/bare/weights").succeed();
    assert!(said.contains("passed over: "), "{said}");
}
