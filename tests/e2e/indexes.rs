//! What was published under which name and in which file can be read without a daemon.

use std::{fs, path::PathBuf};

use rustix::process::{Signal, kill_process};

use crate::lab::{Finish, Lab, eventually};

fn index(lab: &Lab, name: &str) -> PathBuf {
    lab.state().join("attestations").join(name)
}

fn lines(lab: &Lab, name: &str) -> Vec<String> {
    let text = fs::read_to_string(index(lab, name)).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn only_what_succeeded_is_entered_a_line_for_each_name_and_file() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    let failed = lab.shell("tree", "echo 1 > half; exit 3").finish();
    assert_eq!(failed.code, Some(3));
    let entered = |name: &str| fs::read_to_string(index(&lab, name)).unwrap_or_default();
    assert_eq!((entered("names.index"), entered("files.index")), Default::default());
    lab.shell("tree", "echo 1 > a; echo 2 > b; ln a c").succeed();
    // a, b, c, and the tree itself.
    assert_eq!(lines(&lab, "names.index").len(), 4);
    assert_eq!(lines(&lab, "files.index").len(), 3);
}

#[test]
fn a_state_of_an_earlier_program_has_its_indexes_as_soon_as_the_daemon_answers() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    lab.shell("tree", "echo 1 > a").succeed();
    let (names, files) = (lines(&lab, "names.index"), lines(&lab, "files.index"));
    if let Some(daemon) = lab.daemon() {
        kill_process(daemon, Signal::TERM).unwrap();
    }
    eventually("the daemon has ended", || lab.daemon().is_none());
    for name in ["names.index", "files.index"] {
        fs::remove_file(index(&lab, name)).unwrap();
    }
    lab.attestfs(["stage", "list"]).succeed();
    assert_eq!(lines(&lab, "names.index"), names);
    assert_eq!(lines(&lab, "files.index"), files);
}
