//! Stages that are opened and ended on a mount.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    evidence::{INCOMPLETE_RUN, PROVENANCE, attestations, check_digests, only_attestation},
    lab::{Ended, Finish, Lab, eventually},
    mounted::{Mounted, is_mounted, write_sealed},
};

fn stage(lab: &Lab, words: &[&str]) -> Ended {
    lab.attestfs(["stage"].iter().chain(words)).finish()
}

fn succeed(lab: &Lab, words: &[&str]) -> String {
    let ended = stage(lab, words);
    assert_eq!(ended.code, Some(0), "{words:?} {ended:?}");
    ended.stdout
}

/// The runs of the lab, newest first, each with its stage and how it is.
fn runs(lab: &Lab) -> Vec<(String, String)> {
    let listed: Value = serde_json::from_str(&succeed(lab, &["list", "--json"])).unwrap();
    let runs = listed["runs"].as_array().unwrap().iter();
    runs.map(|run| {
        let (stage, end) = (&run["run"]["description"]["stage"], &run["run"]["end"]);
        (stage.as_str().unwrap().to_owned(), end["outcome"].to_string())
    })
    .collect()
}

#[test]
fn what_is_read_and_written_while_a_stage_is_open_is_attested_and_nothing_else() {
    let Some(lab) = Lab::new() else { return };
    let mounted = Mounted::new(&lab, "tree", "mnt", &[]);
    let at = |name: &str| mounted.path.join(name);
    fs::create_dir(at("model")).unwrap();
    fs::write(at("raw"), "raw data").unwrap();
    fs::write(at("before"), "before").unwrap();
    fs::write(at("unread"), "not read by the stage").unwrap();
    succeed(&lab, &["open", "mnt", "--stage", "train", "--out", "model", "--label", "team=nlp"]);
    fs::copy(at("raw"), at("model/weights")).unwrap();
    let report = succeed(&lab, &["close", "mnt"]);
    fs::write(at("after"), "after").unwrap();
    assert!(report.contains("1 file"), "{report}");
    let attestation = only_attestation(&lab.state());
    assert_eq!((attestation.predicate_type(), attestation.stage()), (PROVENANCE, "train"));
    let tree = fs::canonicalize(lab.path("tree")).unwrap();
    let subjects = attestation.subjects(&lab.state());
    assert_eq!(subjects.keys().collect::<Vec<_>>(), [&tree.join("model/weights")]);
    check_digests(&subjects);
    let materials = attestation.materials();
    assert_eq!(materials.keys().collect::<Vec<_>>(), [&tree.join("raw")]);
    assert!(materials.values().all(Option::is_some), "{materials:?}");
    lab.verify("tree/model").succeed();
}

#[test]
fn the_whole_of_a_stage_on_a_mount_over_itself_is_signed_beside_the_content() {
    let Some(lab) = Lab::new() else { return };
    let mounted = Mounted::new(&lab, "tree", "tree", &[]);
    succeed(&lab, &["open", "tree", "--stage", "train", "--out", "model"]);
    fs::create_dir(mounted.path.join("model")).unwrap();
    fs::write(mounted.path.join("model/weights"), "weights").unwrap();
    succeed(&lab, &["close", "tree"]);
    assert!(mounted.path.join("model/model.sig").exists(), "seen through the mount");
    lab.verify("tree/model").succeed();
    mounted.umount(&[]).succeed();
    assert!(lab.path("tree/model/claims.jsonl").exists(), "and it lies in the directory below");
    lab.verify("tree/model").succeed();
}

#[test]
fn the_reports_of_a_stage_spell_their_fields_as_all_answers_to_programs_do() {
    let Some(lab) = Lab::new() else { return };
    let mounted = Mounted::new(&lab, "tree", "mnt", &[]);
    succeed(&lab, &["open", "mnt", "--stage", "train", "--out", "model"]);
    fs::create_dir(mounted.path.join("model")).unwrap();
    write_sealed(&mounted.path.join("model/weights"), "weights");
    for words in [["checkpoint", "mnt/model", "--json"], ["close", "mnt", "--json"]] {
        let report: Value = serde_json::from_str(&succeed(&lab, &words)).unwrap();
        let artifact = &report["artifacts"][0];
        let fields: Vec<_> = artifact.as_object().unwrap().keys().map(String::as_str).collect();
        let expected = [
            "leftOut",
            "modelSignature",
            "predicateType",
            "root",
            "statement",
            "subjects",
            "unattested",
        ];
        assert_eq!(fields, expected, "{words:?}");
        assert_eq!(artifact["predicateType"], PROVENANCE);
        assert_eq!(artifact["modelSignature"], "written");
    }
}

#[test]
fn an_output_is_relative_to_the_mount_wherever_its_opener_stands() {
    let Some(lab) = Lab::new() else { return };
    let mounted = Mounted::new(&lab, "tree", "mnt", &[]);
    let words = ["stage", "open", "../mnt", "--stage", "train", "--out", "model"];
    lab.attestfs(words).current_dir(lab.path("tree")).succeed();
    fs::create_dir(mounted.path.join("model")).unwrap();
    fs::write(mounted.path.join("model/weights"), "weights").unwrap();
    let report = succeed(&lab, &["close", "mnt"]);
    assert!(report.contains("model  1 file"), "{report}");
}

#[test]
fn a_second_stage_is_refused_and_the_open_one_is_named() {
    let Some(lab) = Lab::new() else { return };
    let mounted = Mounted::new(&lab, "tree", "mnt", &[]);
    succeed(&lab, &["open", "mnt", "--stage", "train"]);
    let refused = stage(&lab, &["open", "mnt", "--stage", "evaluate"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("'train' is open here"), "{refused:?}");
    let busy = mounted.umount(&[]).finish();
    assert_eq!(busy.code, Some(1), "{busy:?}");
    assert!(busy.stderr.contains("'train' is open there"), "{busy:?}");
    let cure = format!("attestfs stage close {}", mounted.path.display());
    assert!(busy.stderr.contains(&cure), "{busy:?}");
    assert!(is_mounted(&mounted.path));
    fs::write(mounted.path.join("file"), "of the first").unwrap();
    succeed(&lab, &["close", "mnt"]);
    succeed(&lab, &["open", "mnt", "--stage", "evaluate"]);
    fs::write(mounted.path.join("other"), "of the second").unwrap();
    succeed(&lab, &["close", "mnt"]);
    let mut stages: Vec<_> =
        attestations(&lab.state()).iter().map(|bundle| bundle.stage().to_owned()).collect();
    stages.sort();
    assert_eq!(stages, ["evaluate", "train"]);
}

#[test]
fn nothing_is_ended_where_no_stage_is_open_and_nothing_opened_where_no_mount_is() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("elsewhere");
    let _mounted = Mounted::new(&lab, "tree", "mnt", &[]);
    for words in [["close", "mnt"], ["abort", "mnt"]] {
        let refused = stage(&lab, &words);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains("no stage is open"), "{refused:?}");
    }
    let refused = stage(&lab, &["open", "elsewhere", "--stage", "train"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("no mount is served"), "{refused:?}");
    let outside = stage(&lab, &["open", "mnt", "--stage", "train", "--out", "../elsewhere"]);
    assert_eq!(outside.code, Some(1), "{outside:?}");
    assert!(outside.stderr.contains("is not below"), "{outside:?}");
    assert!(outside.stderr.contains("\n  next: give it relative to"), "{outside:?}");
    for wrong in [["a\nb", "model"], ["train", "mnt/model"]] {
        let usage = stage(&lab, &["open", "mnt", "--stage", wrong[0], "--out", wrong[1]]);
        assert_eq!(usage.code, Some(2), "{usage:?}");
    }
    assert!(runs(&lab).is_empty());
}

#[test]
fn an_aborted_stage_is_recorded_and_nobody_vouches_for_it() {
    let Some(lab) = Lab::new() else { return };
    let mounted = Mounted::new(&lab, "tree", "mnt", &[]);
    succeed(&lab, &["open", "mnt", "--stage", "train", "--out", "model"]);
    fs::create_dir(mounted.path.join("model")).unwrap();
    fs::write(mounted.path.join("model/weights"), "half").unwrap();
    let told = succeed(&lab, &["abort", "mnt"]);
    assert!(told.contains("vouched for by nobody"), "{told}");
    assert_eq!(only_attestation(&lab.state()).predicate_type(), INCOMPLETE_RUN);
    let explained = lab.attestfs(["explain", "tree/model/weights"]).finish();
    assert_eq!(explained.code, Some(1), "{explained:?}");
    let first = explained.stdout.lines().next().unwrap();
    assert!(first.contains("a run that did not end well"), "{explained:?}");
    assert!(!lab.path("tree/model/model.sig").exists());
    let [(stage, outcome)] = &runs(&lab)[..] else { panic!("one run") };
    assert_eq!(stage, "train");
    assert!(outcome.contains("failed"), "{outcome}");
}

#[test]
fn a_checkpoint_of_a_stage_is_vouched_for_while_it_goes_on_and_after_it_was_aborted() {
    let Some(lab) = Lab::new() else { return };
    let mounted = Mounted::new(&lab, "tree", "mnt", &[]);
    succeed(&lab, &["open", "mnt", "--stage", "train", "--out", "model"]);
    let step = mounted.path.join("model/step-1");
    fs::create_dir_all(&step).unwrap();
    fs::write(step.join("weights"), "weights").unwrap();
    succeed(&lab, &["checkpoint", "mnt/model/step-1"]);
    lab.verify("tree/model/step-1").succeed();
    fs::write(mounted.path.join("model/torn"), "half").unwrap();
    succeed(&lab, &["abort", "mnt"]);
    lab.verify("tree/model/step-1").succeed();
    assert_ne!(lab.verify("tree/model/torn").finish().code, Some(0));
}

#[test]
fn what_was_opened_before_a_stage_is_no_part_of_it() {
    let Some(lab) = Lab::new() else { return };
    let mounted = Mounted::new(&lab, "tree", "mnt", &[]);
    let mut early = File::create(mounted.path.join("early")).unwrap();
    succeed(&lab, &["open", "mnt", "--stage", "train"]);
    fs::write(mounted.path.join("own"), "own").unwrap();
    early.write_all(b"written by nobody's process").unwrap();
    drop(early);
    succeed(&lab, &["close", "mnt"]);
    let subjects = only_attestation(&lab.state()).subjects(&lab.state());
    let names: Vec<_> = subjects.keys().map(|path| path.file_name().unwrap()).collect();
    assert_eq!(names, ["own"]);
}

#[test]
fn an_output_that_nobody_made_is_told_when_the_stage_is_closed() {
    let Some(lab) = Lab::new() else { return };
    let mounted = Mounted::new(&lab, "tree", "mnt", &[]);
    succeed(&lab, &["open", "mnt", "--stage", "train", "--out", "model", "--out", "metrics.json"]);
    fs::write(mounted.path.join("metrics.json"), "{}").unwrap();
    let closed = stage(&lab, &["close", "mnt"]);
    assert_eq!(closed.code, Some(1), "{closed:?}");
    assert!(closed.stdout.contains("tree/model  not attested: there is nothing"), "{closed:?}");
    assert_eq!(only_attestation(&lab.state()).subjects(&lab.state()).len(), 1);
}

#[test]
fn a_stage_goes_on_with_another_daemon_when_its_daemon_is_killed() {
    let Some(lab) = Lab::new() else { return };
    let mounted = Mounted::new(&lab, "tree", "mnt", &[]);
    succeed(&lab, &["open", "mnt", "--stage", "train"]);
    fs::write(mounted.path.join("first"), "1").unwrap();
    let daemon = lab.daemon().unwrap();
    kill_process(daemon, Signal::KILL).unwrap();
    eventually("the daemon is gone", || lab.daemon() != Some(daemon));
    fs::write(mounted.path.join("second"), "2").unwrap();
    succeed(&lab, &["close", "mnt"]);
    assert_eq!(only_attestation(&lab.state()).subjects(&lab.state()).len(), 2);
    mounted.umount(&[]).succeed();
}

#[test]
fn a_stage_whose_mount_is_killed_has_an_unknown_outcome() {
    let Some(lab) = Lab::new() else { return };
    let mounted = Mounted::new(&lab, "tree", "tree", &[]);
    succeed(&lab, &["open", "tree", "--stage", "train"]);
    write_sealed(&mounted.path.join("weights"), "half");
    let pid = Pid::from_raw(i32::try_from(mounted.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    eventually("what it wrote is recorded", || attestations(&lab.state()).len() == 1);
    let attestation = only_attestation(&lab.state());
    assert_eq!(attestation.predicate_type(), INCOMPLETE_RUN);
    let written = attestation.subjects(&lab.state());
    assert_eq!(written.keys().collect::<Vec<_>>(), [&mounted.path.join("weights")]);
    assert!(runs(&lab)[0].1.contains("unknown"), "{:?}", runs(&lab));
}

#[test]
fn secrets_of_a_stage_are_blotted_out() {
    let Some(lab) = Lab::new() else { return };
    let mounted = Mounted::new(&lab, "tree", "mnt", &[]);
    succeed(&lab, &["open", "mnt", "--stage", "train", "--label", "api_key=hunter2"]);
    fs::write(mounted.path.join("file"), "").unwrap();
    succeed(&lab, &["close", "mnt"]);
    let payload = String::from_utf8(only_attestation(&lab.state()).payload).unwrap();
    assert!(payload.contains("api_key") && !payload.contains("hunter2"), "{payload}");
}

#[test]
fn lineage_knows_a_file_by_its_path_through_the_mount() {
    let Some(lab) = Lab::new() else { return };
    let mounted = Mounted::new(&lab, "tree", "mnt", &[]);
    succeed(&lab, &["open", "mnt", "--stage", "train", "--out", "model"]);
    fs::create_dir(mounted.path.join("model")).unwrap();
    fs::write(mounted.path.join("model/weights"), "weights").unwrap();
    succeed(&lab, &["close", "mnt"]);
    for path in ["mnt/model/weights", "tree/model/weights"] {
        let told = lab.attestfs(["lineage", path]).succeed();
        assert!(told.contains("train"), "{path}: {told}");
    }
    let latest = lab.attestfs(["lineage", "--latest", "mnt/model"]).succeed();
    assert!(latest.contains("weights"), "{latest}");
    assert!(Path::new(&mounted.path).exists());
}
