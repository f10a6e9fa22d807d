//! Making what nobody vouches for look like one's own.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use crate::{
    guarded::{is_refused, policy},
    lab::{Ended, Finish, Lab},
    mounted::Mounted,
    scene::{assert_holds, with_model},
};

/// A lab with an `evil.bin` that nobody vouches for.
fn with_evil() -> Option<Lab> {
    let lab = Lab::new()?;
    fs::write(lab.directory("tree").join("evil.bin"), "evil\n").unwrap();
    policy(&lab, "rehash");
    Some(lab)
}

/// A gated run of this script, with `tree` as its working directory.
fn run(lab: &Lab, script: &str) -> Ended {
    let mut run = lab.run("launder");
    run.args(["--policy", "policy.toml", "--dir", "tree", "--"]);
    run.args(["sh", "-c", &format!("cd tree; {script}")]).finish()
}

// Stands on `Content::build_on` (fs/src/run/content.rs): what a run builds on what was not admitted is
// not its own.
#[test]
fn an_unattested_file_that_the_job_appends_to_is_still_not_read() {
    let Some(lab) = with_evil() else { return };
    let ended = run(&lab, "echo mine >> evil.bin; cat evil.bin > copy");
    assert!(ended.stderr.contains("evil.bin: Permission denied"), "{ended:?}");
    assert_eq!(fs::read_to_string(lab.path("tree/copy")).unwrap(), "");
}

// Stands on the same.
#[test]
fn an_unattested_file_that_the_job_changes_in_the_middle_is_still_not_read() {
    for script in [
        "printf E | dd of=evil.bin conv=notrunc 2> /dev/null; cat evil.bin > copy",
        "mv evil.bin x; echo mine >> x; mv x evil.bin; cat evil.bin > copy",
        "ln evil.bin x; echo mine >> x; cat evil.bin > copy",
    ] {
        let Some(lab) = with_evil() else { return };
        let ended = run(&lab, script);
        assert!(ended.stderr.contains("evil.bin: Permission denied"), "{script}: {ended:?}");
        assert_eq!(fs::read_to_string(lab.path("tree/copy")).unwrap(), "", "{script}");
    }
}

// Stands on `Vfs::open_inode` and `Vfs::set_attributes` (fs/src/vfs), which ask the gate.
#[test]
fn an_unattested_file_is_neither_opened_for_both_nor_cut_to_what_the_job_wants_of_it() {
    let Some(lab) = with_evil() else { return };
    let ended = run(&lab, "cat 1<> evil.bin; perl -e 'truncate(\"evil.bin\", 2) or die \"$!\"'");
    let denied = ended.stderr.matches("ermission denied").count();
    assert!(denied >= 2, "{ended:?}");
    assert_eq!(fs::read_to_string(lab.path("tree/evil.bin")).unwrap(), "evil\n");
}

// Stands on `Run::keeps_back` (fs/src/run/seal.rs): what the run may not read itself it does not vouch
// for, whenever the file got its guarded name.
#[test]
fn an_unattested_file_that_the_job_appends_to_is_not_attested_as_its_output() {
    for script in [
        "echo mine >> evil.bin",
        "echo mine >> evil.bin; mv evil.bin model.bin",
        "mv evil.bin x; echo mine >> x; sleep 0.3; mv x evil.bin",
        "mv evil.bin x; echo mine >> x; sleep 0.3; ln x evil.bin",
    ] {
        let Some(lab) = with_evil() else { return };
        let ended = run(&lab, script);
        assert!(ended.stderr.contains("not admitted"), "{script}: {ended:?}");
        let mounted =
            Mounted::new(&lab, "tree", "mnt", &["--read-only", "--policy", "policy.toml"]);
        let name = if script.contains("model.bin") { "model.bin" } else { "evil.bin" };
        assert!(is_refused(&mounted.path.join(name)), "laundered by: {script}");
    }
    let Some(lab) = with_evil() else { return };
    run(&lab, ": > evil.bin; echo mine > evil.bin; echo text > log; echo more >> log");
    let mounted = Mounted::new(&lab, "tree", "mnt", &["--read-only", "--policy", "policy.toml"]);
    assert_holds(&mounted.path.join("evil.bin"), "mine\n");
    lab.verify("tree/log").succeed();
}

// Stands on the same, which looks at the links that lead to a file as well.
#[test]
fn an_unattested_file_that_a_guarded_link_leads_to_is_not_attested_as_the_output_of_the_job() {
    let Some(lab) = with_evil() else { return };
    fs::write(lab.path("tree/blob"), "evil\n").unwrap();
    symlink("blob", lab.path("tree/link.bin")).unwrap();
    let ended = run(&lab, "cat link.bin; echo mine >> blob");
    assert!(ended.stderr.contains("not admitted"), "{ended:?}");
    let mounted = Mounted::new(&lab, "tree", "mnt", &["--read-only", "--policy", "policy.toml"]);
    assert!(is_refused(&mounted.path.join("link.bin")));
}

// Stands on `Wanted::is_own` (fs/src/gate/wanted.rs): in nobody's run nothing is own.
#[test]
fn content_that_was_never_published_is_not_read_when_its_stage_is_over() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    policy(&lab, "rehash");
    let mounted = Mounted::new(&lab, "tree", "mnt", &["--policy", "policy.toml"]);
    let stage = |words: &[&str]| lab.attestfs(["stage"].iter().chain(words)).succeed();
    stage(&["open", "mnt", "--stage", "train"]);
    let weights = mounted.path.join("weights.bin");
    fs::write(&weights, "half").unwrap();
    assert_holds(&weights, "half");
    stage(&["abort", "mnt"]);
    assert!(is_refused(&weights));
    fs::write(mounted.path.join("other.bin"), "nobody's").unwrap();
    assert!(is_refused(&mounted.path.join("other.bin")));
    // Nor by a stage that did not write it.
    stage(&["open", "mnt", "--stage", "serve"]);
    assert!(is_refused(&weights));
    stage(&["abort", "mnt"]);
}

// Stands on the gate's place in `Vfs::open`: to execute is to open.
#[test]
fn an_unattested_program_is_not_executed() {
    let Some(lab) = with_model() else { return };
    let tool = lab.path("tree/tool.bin");
    fs::copy("/bin/true", &tool).unwrap();
    policy(&lab, "rehash");
    let mounted = Mounted::new(&lab, "tree", "mnt", &["--policy", "policy.toml"]);
    let started = Command::new(mounted.path.join("tool.bin")).status();
    assert_eq!(started.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    assert!(runs(&tool), "it would run");
}

fn runs(program: &Path) -> bool {
    Command::new(program).status().unwrap().success()
}
