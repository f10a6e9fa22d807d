//! A checkpoint is vouched for while its run goes on, and stays so when the run is killed.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{
    evidence::{self, Bundle, INCOMPLETE_RUN, PROVENANCE, attestations, check_digests},
    lab::{Finish, Lab, Running, eventually},
    needs,
};

/// A training that makes a checkpoint and goes on beside it until its writes fail: when its run is
/// killed, it ends by itself.
const TRAINING: &str = r#"
    mkdir -p tree/model/step-1/shards tree/model/step-2
    head -c 300000 /dev/urandom > tree/model/step-1/shards/weights
    echo 1 > tree/model/step-1/step
    exec 8> tree/model/step-2/half
    echo open >&8
    "$ATTESTFS" stage checkpoint tree/model/step-1
    touch checkpointed
    while echo more >&8; do sleep 0.02; done 2> /dev/null"#;

/// Starts the training and comes back when its checkpoint is made.
fn train(lab: &Lab) -> Running {
    lab.directory("tree");
    let mut run = lab.run("train");
    run.args(["--dir", "tree", "--out", "model", "--", "sh", "-ec", TRAINING]);
    let run = Running::start(&mut run);
    eventually("a checkpoint is made", || lab.path("checkpointed").exists());
    run
}

fn kinds(lab: &Lab) -> Vec<String> {
    let bundles = attestations(&lab.state());
    let mut kinds: Vec<_> =
        bundles.iter().map(|bundle| bundle.predicate_type().to_owned()).collect();
    kinds.sort();
    kinds
}

#[test]
fn a_checkpoint_is_vouched_for_while_the_run_goes_on() {
    let Some(lab) = Lab::new() else { return };
    let mut run = train(&lab);
    assert!(!run.has_ended());
    lab.verify("tree/model/step-1").succeed();
    if let Some(model_signing) = needs::program_of("ATTESTFS_MODEL_SIGNING") {
        let directory = lab.path("tree/model/step-1");
        evidence::check_model_signature(&model_signing, &directory, &lab.public_key());
    }
    assert_eq!(kinds(&lab), [PROVENANCE]);
    run.kill();
}

#[test]
fn a_killed_run_does_not_take_its_checkpoint_back() {
    let Some(lab) = Lab::new() else { return };
    let mut run = train(&lab);
    run.kill();
    eventually("the rest is attested as incomplete", || {
        kinds(&lab) == [INCOMPLETE_RUN, PROVENANCE]
    });
    lab.verify("tree/model/step-1").succeed();
    assert!(!lab.path("tree/model/model.sig").exists());
    assert!(!lab.path("tree/model/step-2/model.sig").exists());
    assert_ne!(lab.verify("tree/model/step-2").finish().code, Some(0));
    for bundle in attestations(&lab.state()) {
        check(&lab, &bundle);
    }
    assert_eq!(outcome(&lab), "unknown");
}

/// The checkpoint names all of its files; nothing vouches for the torn one.
fn check(lab: &Lab, bundle: &Bundle) {
    bundle.check_signature(&lab.public_key());
    let subjects = bundle.subjects(&lab.state());
    check_digests(&subjects);
    let torn = lab.path("tree/model/step-2/half");
    assert!(!subjects.contains_key(&torn), "{subjects:?}");
    if bundle.predicate_type() == PROVENANCE {
        let files = evidence::files_below(&lab.path("tree/model/step-1"));
        assert_eq!(subjects.into_keys().collect::<Vec<_>>(), files);
    }
}

/// The outcome of the lab's only run, as the store has it.
fn outcome(lab: &Lab) -> String {
    let printed = lab.attestfs(["stage", "list", "--json"]).succeed();
    let stages: Value = serde_json::from_str(&printed).unwrap();
    let outcomes = strings_of(&stages, "outcome");
    outcomes.concat()
}

/// The values of a field, wherever it stands.
fn strings_of(value: &Value, field: &str) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().flat_map(|item| strings_of(item, field)).collect(),
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| match value {
                Value::String(text) if name == field => vec![text.clone()],
                value => strings_of(value, field),
            })
            .collect(),
        _ => Vec::new(),
    }
}

#[test]
fn a_complete_model_is_a_checkpoint_by_rule() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    let script = r"
        mkdir -p tree/model/epoch-1.tmp
        echo weights > tree/model/epoch-1.tmp/weights
        mv tree/model/epoch-1.tmp tree/model/epoch-1
        touch renamed
        while ! test -e enough; do sleep 0.02; done
        exit 3";
    let mut run = lab.run("train");
    run.args(["--dir", "tree", "--out", "model", "--checkpoint-rule", "--", "sh", "-ec", script]);
    let mut run = Running::start(&mut run);
    let signature = lab.path("tree/model/epoch-1/model.sig");
    eventually("the rule has made a checkpoint", || Path::exists(&signature));
    lab.verify("tree/model/epoch-1").succeed();
    fs::write(lab.path("enough"), "").unwrap();
    assert_eq!(run.code(), Some(3));
    lab.verify("tree/model/epoch-1").succeed();
    assert_eq!(kinds(&lab), [INCOMPLETE_RUN, PROVENANCE]);
}

#[test]
fn a_sharded_model_is_a_checkpoint_once_every_file_of_its_index_is_there() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    let script = r#"mkdir tree/hf && cd tree/hf
        echo '{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}' > model.safetensors.index.json
        echo 1 > 1.safetensors; sleep 0.5; test ! -e model.sig
        echo 2 > 2.safetensors; i=0; until [ -e model.sig ]; do i=$((i+1)); [ $i -lt 200 ]; sleep 0.05; done
        exit 3"#;
    let mut run = lab.run("train");
    run.args(["--dir", "tree", "--out", "hf", "--checkpoint-rule", "--", "sh", "-ec", script]);
    let ended = run.finish();
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert_eq!(ended.stderr.matches("3 files attested").count(), 1, "{ended:?}");
    assert_eq!(lab.verify("tree/hf").finish().code, Some(0));
}
