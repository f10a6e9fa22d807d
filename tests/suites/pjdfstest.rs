//! What POSIX asks of a filesystem: the store answers first, and then the mount in front of it.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use crate::{
    lab::{Finish, Lab},
    mounted::Mounted,
    needs,
};

#[test]
fn whatever_posix_asks_a_mount_answers_as_its_backing_store_does() {
    if !needs::programs(&["pjdfstest"]) {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    // Most questions are asked as users who own nothing here.
    fs::set_permissions(lab.path("."), Permissions::from_mode(0o755)).unwrap();
    let stored = answers(&lab, &lab.directory("store"));
    let mounted = Mounted::new(&lab, "tree", "mnt", &["--stage", "posix"]);
    let mut through = answers(&lab, &mounted.path);
    through.retain(|question, answer| stored[question] != *answer);
    assert!(through.is_empty(), "the store answers otherwise: {through:#?}");
    mounted.umount(&[]).succeed();
}

/// What came of each question, in a directory.
fn answers(lab: &Lab, directory: &Path) -> BTreeMap<String, Answer> {
    fs::write(lab.path("pjdfstest.toml"), CONFIGURATION).unwrap();
    let mut suite = lab.configured("pjdfstest");
    suite.args(["--configuration-file", "pjdfstest.toml", "--path"]).arg(directory);
    // A store may fail itself, which the suite tells by its exit code, too: Btrfs does not count directories as links.
    let ended = suite.env("NO_COLOR", "1").env("RUST_BACKTRACE", "0").finish();
    let mut answers: BTreeMap<_, _> = ended.stdout.lines().filter_map(answer).collect();
    assert_eq!(answers.len(), QUESTIONS, "of another version of the suite? {ended:?}");
    answers.retain(|question, _| !NOT_COMPARED.contains(&question.as_str()));
    answers
}

#[derive(Debug, PartialEq)]
enum Answer {
    Right,
    Wrong,
    NotAsked,
}

/// Of a line that tells of a question: its name and what came of it.
fn answer(line: &str) -> Option<(String, Answer)> {
    let (question, answer) = line.split_once(' ')?;
    let answer = match answer.trim() {
        "ok" => Answer::Right,
        "FAILED" => Answer::Wrong,
        "skipped" => Answer::NotAsked,
        _ => return None,
    };
    Some((question.to_owned(), answer))
}

/// Of version 0.2.2.
const QUESTIONS: usize = 398;

/// What does not depend on the answers of a mount alone.
///
/// How many links a file may have is asked of `pathconf`, which goes by the type of the filesystem and never asks it.
/// That a mount refuses as many as its store is tested in `tests/semantics`.
///
/// Whoever opens a running program for reading, and to empty it, is refused by the kernel, but only when we have emptied it:
/// it goes by what the open has done. The suite, which does so a moment after it starts the program, mostly sees the refusal,
/// and sometimes that the program has died of it.
const NOT_COMPARED: [&str; 2] = ["link::link_count_max", "open::etxtbsy"];

/// The longest tick of a kernel's clock is 10 ms.
const CONFIGURATION: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.02
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;
