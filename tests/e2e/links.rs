//! A file with several names is one content, attested by each name that lies in an artifact.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::{
    evidence::{
        Bundle, attestations, check_digests, check_model_signature, files_below, only_attestation,
    },
    lab::{Finish, Lab},
    mounted::Mounted,
    needs,
};

/// Runs a script in the directory `tree` as a stage whose output is `tree/model`, which must get a
/// model signature, and gives the one attestation there is.
fn attest_model(lab: &Lab, script: &str) -> Bundle {
    lab.directory("tree");
    let mut run = lab.run("train");
    let enter = format!("cd tree && {script}");
    run.args(["--dir", "tree", "--out", "model", "--", "sh", "-ec", &enter]).succeed();
    check_model(lab);
    only_attestation(&lab.state())
}

fn check_model(lab: &Lab) {
    let model = lab.path("tree/model");
    lab.verify(&model).succeed();
    if let Some(model_signing) = needs::program_of("ATTESTFS_MODEL_SIGNING") {
        check_model_signature(&model_signing, &model, &lab.public_key());
    }
}

/// The subjects are these files and no others, with the digests that `sha256sum` says.
fn check_subjects(lab: &Lab, bundle: &Bundle, files: &[PathBuf]) {
    let subjects = bundle.subjects(&lab.state());
    assert_eq!(subjects.keys().cloned().collect::<Vec<_>>(), files);
    check_digests(&subjects);
    for file in files {
        lab.verify(file).succeed();
    }
}

#[test]
fn each_name_of_a_hard_linked_file_is_attested_and_verified() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    lab.shell("tree", "echo x > a; ln a b; mkdir sub; ln a sub/c").succeed();
    let bundle = only_attestation(&lab.state());
    let files = ["tree/a", "tree/b", "tree/sub/c"].map(|name| lab.path(name));
    check_subjects(&lab, &bundle, &files);
    let lineage = lab.attestfs(["lineage", "tree/b"]).succeed();
    assert!(lineage.contains("(+2 names)"), "{lineage}");
}

/// More than one line of a journal has room for.
#[test]
fn each_of_very_many_names_of_a_file_is_attested() {
    let Some(lab) = Lab::new() else { return };
    let mounted = Mounted::new(&lab, "tree", "mnt", &["--stage", "link"]);
    let name = |number: usize| format!("{number:0>150}");
    fs::write(mounted.path.join(name(0)), "x").unwrap();
    for number in 1..1000 {
        fs::hard_link(mounted.path.join(name(0)), mounted.path.join(name(number))).unwrap();
    }
    mounted.umount(&[]).succeed();
    let subjects = only_attestation(&lab.state()).subjects(&lab.state());
    let files: Vec<_> = (0..1000).map(|number| lab.path("tree").join(name(number))).collect();
    assert_eq!(subjects.into_keys().collect::<Vec<_>>(), files);
    lab.verify("tree").succeed();
}

#[test]
fn a_link_outside_of_an_output_leaves_the_output_signed() {
    let Some(lab) = Lab::new() else { return };
    let script = "mkdir model archive; echo w > model/weights; ln model/weights archive/w1";
    let bundle = attest_model(&lab, script);
    check_subjects(&lab, &bundle, &[lab.path("tree/model/weights")]);
}

#[test]
fn a_link_to_an_output_that_is_one_file_leaves_it_attested() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    let script =
        "cd tree; mkdir model archive; echo w > model/weights; ln model/weights archive/w1";
    let mut run = lab.run("train");
    run.args(["--dir", "tree", "--out", "model/weights", "--", "sh", "-ec", script]).succeed();
    check_subjects(&lab, &only_attestation(&lab.state()), &[lab.path("tree/model/weights")]);
}

#[test]
fn a_file_that_lies_in_two_trees_is_attested_in_both() {
    let Some(lab) = Lab::new() else { return };
    let (one, two) = (lab.directory("one"), lab.directory("two"));
    fs::write(one.join("weights"), "old").unwrap();
    fs::hard_link(one.join("weights"), two.join("link")).unwrap();
    let mut run = lab.run("train");
    let script = "cat two/link; echo new > one/weights";
    run.args(["--dir", "one", "--dir", "two", "--", "sh", "-ec", script]).succeed();
    let subjects = attestations(&lab.state()).into_iter().flat_map(|bundle| {
        let subjects = bundle.subjects(&lab.state());
        check_digests(&subjects);
        subjects.into_keys()
    });
    let subjects: BTreeSet<_> = subjects.collect();
    assert_eq!(subjects, BTreeSet::from([one.join("weights"), two.join("link")]));
}

#[test]
fn a_name_that_the_run_took_away_again_is_nowhere_missed() {
    let Some(lab) = Lab::new() else { return };
    let script = "mkdir model; echo w > model/new; ln model/new model/weights; rm model/new; \
        ln model/weights model/old; mv model/old model/kept; ln model/kept gone; rm gone";
    let bundle = attest_model(&lab, script);
    check_subjects(
        &lab,
        &bundle,
        &["tree/model/kept", "tree/model/weights"].map(|it| lab.path(it)),
    );
    assert!(left_out(&bundle).is_empty());
}

#[test]
fn a_change_by_one_name_is_a_change_of_all() {
    let Some(lab) = Lab::new() else { return };
    let script = "mkdir model; echo w > model/a; ln model/a model/b; echo more >> model/b; \
        ln model/b model/c; chmod 0600 model/a";
    let bundle = attest_model(&lab, script);
    check_subjects(&lab, &bundle, &files_below(&lab.path("tree/model")));
    fs::write(lab.path("tree/model/a"), "evil\n").unwrap();
    for name in ["a", "b", "c"] {
        let refused = lab.verify(Path::new("tree/model").join(name)).finish();
        assert_eq!(refused.code, Some(1), "{name}: {}", refused.stderr);
    }
}

fn left_out(bundle: &Bundle) -> Vec<String> {
    let parameters = &bundle.statement["predicate"]["buildDefinition"]["internalParameters"];
    let left_out = parameters["leftOut"].as_array().into_iter().flatten();
    left_out.map(|it| it["name"].as_str().unwrap().to_owned()).collect()
}
