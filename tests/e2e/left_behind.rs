//! Who writes past the server, with `--capture reread`, and goes on when it would end.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::Duration,
};

use rustix::{
    mount::{MountFlags, UnmountFlags, mount, unmount},
    process::{Pid, Signal, kill_process},
};

use crate::{
    evidence::attestations,
    lab::{Finish, Lab, Running, eventually},
    mounted::{Mounted, is_mounted},
};

fn tell_to_end(mounted: &Mounted<'_>) {
    let pid = i32::try_from(mounted.pid()).ok().and_then(Pid::from_raw).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
}

/// Leaves a process behind that writes a line to `log`, and another one when `enough` is there.
const LEAVES_ONE: &str = "(exec > data/tree/log; echo one; touch begun; \
    for tick in $(seq 3000); do test -e enough && break; sleep 0.02; done; echo two) 2> /dev/null & \
    while ! test -e begun; do sleep 0.02; done";

fn saw(log: &Path, text: &str) -> bool {
    fs::read_to_string(log).is_ok_and(|log| log.contains(text))
}

#[test]
fn a_run_waits_for_who_writes_past_it() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("data/tree");
    let mut run = lab.run("train");
    run.args(["--capture", "reread", "--dir", "data/tree", "--commit-patience", "0"]);
    let told = lab.path("told");
    let console = OpenOptions::new().create(true).append(true).open(&told).unwrap();
    run.args(["--", "sh", "-c", LEAVES_ONE]).stderr(Stdio::from(console));
    let mut run = Running::start(&mut run);
    eventually("it says for whom it waits", || saw(&told, "still writes"));
    assert!(
        saw(&told, "tree/log: waiting until it has closed it"),
        "{}",
        fs::read_to_string(&told).unwrap()
    );
    thread::sleep(Duration::from_millis(300));
    assert!(!run.has_ended());
    fs::write(lab.path("enough"), "").unwrap();
    assert_eq!(run.code(), Some(0), "{}", fs::read_to_string(&told).unwrap());
    assert_eq!(fs::read_to_string(lab.path("data/tree/log")).unwrap(), "one\ntwo\n");
    assert!(!saw(&told, "lose the files"));
    assert!(attestations(&lab.state()).is_empty(), "what was open is attested by nobody");
}

#[test]
fn what_is_written_past_a_run_that_was_killed_is_served_when_it_is_closed() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("data/tree");
    lab.directory("beside");
    let mut run = lab.run("train");
    run.args(["--capture", "reread", "--dir", "data/tree", "--", "sh", "-c"]);
    run.arg(format!("{LEAVES_ONE}; sleep 0.2")).stderr(Stdio::null());
    let mut run = Running::start(&mut run);
    eventually("it writes", || lab.path("begun").exists());
    run.kill();
    for (command, tree) in [("run", "data/tree"), ("run", "data"), ("mount", "data/tree")] {
        let mut next = match command {
            "run" => lab.run("next"),
            _ => lab.attestfs(["mount", tree, "beside"]),
        };
        if command == "run" {
            next.args(["--dir", tree, "--", "true"]);
        }
        let refused = next.finish();
        assert_eq!(refused.code, Some(3), "{command} {tree}: {refused:?}");
        assert!(refused.stderr.contains("tree/log past an attestfs that has ended"), "{refused:?}");
        assert!(refused.stderr.contains("(sh -c "), "{refused:?}");
        assert!(refused.stderr.contains("wait until it has ended, or end it"), "{refused:?}");
    }
    lab.run("beside").args(["--dir", "beside", "--", "true"]).succeed();
    fs::write(lab.path("enough"), "").unwrap();
    eventually("it is closed", || {
        lab.run("next").args(["--dir", "data/tree", "--", "true"]).finish().code == Some(0)
    });
    assert_eq!(fs::read_to_string(lab.path("data/tree/log")).unwrap(), "one\ntwo\n");
}

#[test]
fn a_mount_that_is_told_to_end_waits_for_who_writes_past_it_and_is_told_once_more() {
    let Some(lab) = Lab::new() else { return };
    let mounted = Mounted::new(&lab, "tree", "mnt", &["--capture", "reread"]);
    let mut writer = File::create(mounted.path.join("log")).unwrap();
    tell_to_end(&mounted);
    eventually("it is taken away", || !is_mounted(&mounted.path));
    thread::sleep(Duration::from_millis(300));
    writer.write_all(b"goes on").unwrap();
    let refused = lab.run("next").args(["--dir", "tree", "--", "true"]).finish();
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(refused.stderr.contains("is served already"), "{refused:?}");
    tell_to_end(&mounted);
    mounted.wait_for_end();
    let refused = lab.run("next").args(["--dir", "tree", "--", "true"]).finish();
    assert!(refused.stderr.contains("past an attestfs that has ended"), "{refused:?}");
    drop(writer);
    lab.run("next").args(["--dir", "tree", "--", "true"]).succeed();
}

#[test]
fn what_is_mounted_in_a_tree_hides_nobody_who_was_left_behind_there() {
    let Some(lab) = Lab::new() else { return };
    let inner = lab.directory("data/tree");
    let mounted = Inner::new(&inner);
    let mut run = lab.run("train");
    run.args(["--capture", "reread", "--dir", "data", "--", "sh", "-c"]);
    run.arg(format!("{LEAVES_ONE}; sleep 0.2")).stderr(Stdio::null());
    let mut run = Running::start(&mut run);
    eventually("it writes", || lab.path("begun").exists());
    run.kill();
    let refused = lab.run("next").args(["--dir", "data", "--", "true"]).finish();
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(refused.stderr.contains("tree/log past an attestfs that has ended"), "{refused:?}");
    fs::write(lab.path("enough"), "").unwrap();
    eventually("it is closed", || {
        lab.run("next").args(["--dir", "data", "--", "true"]).finish().code == Some(0)
    });
    drop(mounted);
}

/// A filesystem of its own in a tree.
struct Inner(PathBuf);

impl Inner {
    fn new(place: &Path) -> Self {
        mount("inner", place, "tmpfs", MountFlags::empty(), None).unwrap();
        Self(place.to_owned())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}
