//! What goes wrong for users: one clear line on standard error, and the exit code of the contract.

use std::{
    fs::{self, File},
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::Path,
    process::{Command, Stdio},
};

use rustix::process::{Signal, kill_process};

use crate::{
    evidence::{INCOMPLETE_RUN, check_digests, only_attestation},
    lab::{ATTESTFS, Ended, Finish, Lab, Running, eventually},
    needs,
};

/// Runs, and expects one line on standard error, and perhaps what to do next, with all of `words` in
/// them, and this code.
fn check(command: &mut Command, code: i32, words: &[&str]) -> Ended {
    let ended = command.finish();
    assert_eq!(ended.code, Some(code), "{command:?}: {ended:?}");
    let said: Vec<_> = ended.stderr.lines().filter(|line| line.starts_with("attestfs: ")).collect();
    let [_line] = said.as_slice() else { panic!("not one line: {ended:?}") };
    for word in words {
        assert!(ended.stderr.contains(word), "{word:?} is missing in {ended:?}");
    }
    ended
}

/// A run of `true` that observes `tree`.
fn idle_run(lab: &Lab, tree: &Path) -> Command {
    let mut run = lab.run("idle");
    run.arg("--dir").arg(tree).args(["--", "true"]);
    run
}

#[test]
fn what_the_kernel_cannot_write_by_itself_is_not_written_otherwise_unasked() {
    let Some(lab) = Lab::new() else { return };
    let tree = lab.directory("tree");
    lab.directory("mnt");
    let mut forbidden = lab.run("idle");
    forbidden.arg("--dir").arg(&tree).args(["--capture=reread", "--", "true"]);
    forbidden.env("ATTESTFS_PASSTHROUGH", "off");
    let mut mount = lab.attestfs(["mount", "tree", "mnt", "--capture", "reread"]);
    mount.env("ATTESTFS_PASSTHROUGH", "off");
    let mut unable = lab.configured("setpriv");
    unable.args(["--bounding-set=-sys_admin", "--inh-caps=-sys_admin", ATTESTFS, "run"]);
    unable.args(["--stage", "idle", "--capture=reread", "--dir", "tree", "--", "true"]);
    let next = "leave --capture out";
    check(&mut mount, 3, &["--capture reread", "ATTESTFS_PASSTHROUGH=off", next]);
    check(&mut unable, 125, &["--capture reread", "CAP_SYS_ADMIN", next]);
    check(&mut forbidden, 125, &["--capture reread", "ATTESTFS_PASSTHROUGH=off", next]);
}

#[test]
fn a_machine_without_fuse_is_named() {
    let Some(lab) = Lab::new() else { return };
    if !needs::programs(&["unshare"]) {
        return;
    }
    let tree = lab.directory("tree");
    let mut unshared = lab.configured("unshare");
    let script = "mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec \"$@\"";
    unshared.args(["--mount", "sh", "-ec", script, "sh", ATTESTFS, "run", "--stage", "idle"]);
    unshared.arg("--dir").arg(&tree).args(["--", "true"]);
    check(&mut unshared, 125, &["/dev/fuse"]);
}

/// Commands as `$1 mount` and `$1 run`, and what makes them fail in a mount namespace of their own; how
/// they end; what is told, and what to do about it.
const MISSING: [(&str, i32, &str, &str); 13] = [
    (
        "mount -t tmpfs none /dev; mknod -m 666 /dev/null c 1 3; mount",
        3,
        "/dev/fuse",
        "modprobe fuse",
    ),
    (
        "mount -t tmpfs none /dev; mknod -m 666 /dev/null c 1 3; run",
        125,
        "/dev/fuse",
        "modprobe fuse",
    ),
    ("mount --bind /dev/null /dev/fuse; mount", 3, "mnt failed", "attestfs doctor"),
    ("mount --bind /dev/null /dev/fuse; run", 125, "tree failed", "attestfs doctor"),
    ("umount -l /proc; mount", 3, "/proc", "mount -t proc"),
    ("umount -l /proc; run", 125, "/proc", "mount -t proc"),
    ("mount -t tmpfs -o ro,mode=700 none state; mount", 3, "state", "--state DIR"),
    ("mount -t tmpfs -o ro,mode=700 none state; run", 125, "state", "--state DIR"),
    ("mount -t tmpfs -o size=8k,mode=700 none state; fill state/x; mount", 3, "state", "make room"),
    ("mkdir state/daemon.log; run", 125, "daemon.log", "attestfs daemon --foreground"),
    ("mount -t tmpfs -o size=8k,mode=700 none state; fill state/x; run", 125, "state", "next: "),
    ("ulimit -n 8; mount", 3, "Too many open files", "ulimit -n"),
    ("ulimit -n 8; run", 125, "Too many open files", "ulimit -n"),
];

#[test]
fn what_the_machine_lacks_is_told_with_what_to_do_about_it() {
    if !needs::programs(&["unshare", "mount", "umount", "mknod"]) {
        return;
    }
    for (script, code, told, next_step) in MISSING {
        let Some(lab) = Lab::new() else { return };
        lab.directory("tree");
        lab.directory("mnt");
        let (lacks, command) = script.rsplit_once("; ").unwrap();
        let lacks = lacks.replace("fill", "! head -c 65536 /dev/zero 2>/dev/null >");
        let command = match command {
            "run" => "run --stage idle --dir tree -- true",
            _ => "mount tree mnt",
        };
        let mut unshared = lab.configured("unshare");
        unshared.args(["--mount", "sh", "-ec"]);
        unshared.arg(format!("{lacks}; exec {ATTESTFS} {command}"));
        let ended = check(&mut unshared, code, &[told]);
        let next = ended.stderr.lines().find(|line| line.starts_with("  next: "));
        assert!(next.is_some_and(|next| next.contains(next_step)), "{script}: {ended:?}");
    }
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_cure() {
    let Some(lab) = Lab::new() else { return };
    let tree = lab.directory("tree");
    fs::set_permissions(lab.key(), fs::Permissions::from_mode(0o644)).unwrap();
    check(&mut idle_run(&lab, &tree), 125, &["attestfs.key", "chmod 600"]);
}

#[test]
fn a_key_that_is_none_or_missing_is_named() {
    let Some(lab) = Lab::new() else { return };
    let tree = lab.directory("tree");
    fs::write(lab.key(), "no key").unwrap();
    check(&mut idle_run(&lab, &tree), 125, &["attestfs.key"]);
    fs::remove_file(lab.key()).unwrap();
    check(&mut idle_run(&lab, &tree), 125, &["attestfs.key", "No such file"]);
}

#[test]
fn a_pipe_in_place_of_a_key_holds_nobody() {
    let Some(lab) = Lab::new() else { return };
    let tree = lab.directory("tree");
    fs::remove_file(lab.key()).unwrap();
    lab.configured("mkfifo").arg(lab.key()).succeed();
    check(&mut idle_run(&lab, &tree), 125, &["attestfs.key", "not a regular file"]);
}

#[test]
fn a_key_or_a_state_below_an_observed_directory_is_refused() {
    let Some(lab) = Lab::new() else { return };
    check(
        &mut idle_run(&lab, &lab.path("keys")),
        125,
        &["key", "lies below", "\n  next: keep it elsewhere"],
    );
    check(&mut idle_run(&lab, &lab.path("state")), 125, &["state", "lies below", "--state"]);
    check(&mut idle_run(&lab, &lab.path("")), 125, &["lies below"]);
}

#[test]
fn a_directory_that_is_missing_or_given_twice_is_named() {
    let Some(lab) = Lab::new() else { return };
    let tree = lab.directory("tree/below");
    check(&mut idle_run(&lab, &lab.path("absent")), 125, &["--dir", "absent"]);
    let mut twice = lab.run("idle");
    twice.args(["--dir", "tree", "--dir"]).arg(tree).args(["--", "true"]);
    check(&mut twice, 2, &["overlap"]);
}

#[test]
fn a_second_writable_mount_is_refused_and_the_first_is_named() {
    let Some(lab) = Lab::new() else { return };
    let tree = lab.directory("tree");
    let script = "touch ../begun; while ! test -e ../enough; do sleep 0.02; done";
    let mut first = Running::start(&mut lab.shell("tree", script));
    eventually("the first run has begun", || lab.path("begun").exists());
    let holder = first.pid().to_string();
    check(&mut idle_run(&lab, &tree), 3, &["tree", &holder]);
    let below = lab.directory("tree/below");
    check(&mut idle_run(&lab, &below), 3, &["tree", &holder]);
    fs::write(lab.path("enough"), "").unwrap();
    assert_eq!(first.code(), Some(0));
    idle_run(&lab, &tree).succeed();
}

#[test]
fn a_daemon_that_does_not_answer_is_named_before_the_command_runs() {
    let Some(lab) = Lab::new() else { return };
    let _mute = UnixListener::bind(lab.state().join("control.sock")).unwrap();
    lab.directory("tree");
    let mut run = lab.shell("tree", "touch ../begun");
    check(&mut run, 125, &["daemon"]);
    assert!(!lab.path("begun").exists());
}

#[test]
fn a_daemon_that_cannot_start_is_named_with_the_end_of_its_log() {
    let Some(lab) = Lab::new() else { return };
    let tree = lab.directory("tree");
    fs::write(lab.state().join("lineage"), "in the way").unwrap();
    check(&mut idle_run(&lab, &tree), 125, &["daemon", "lineage"]);
}

#[test]
fn a_wrong_key_is_refused_and_no_key_is_a_usage_error() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    lab.shell("tree", "echo 1 > file").succeed();
    lab.verify("tree/file").succeed();
    let other = Lab::without_mounts();
    let mut verify = lab.attestfs(["verify", "tree/file", "--key"]);
    assert_eq!(verify.arg(other.public_key()).finish().code, Some(1));
    check(&mut lab.attestfs(["verify", "tree/file"]), 2, &["public key"]);
}

#[test]
fn a_command_that_is_not_there_or_not_executable_has_the_codes_of_the_shell() {
    let Some(lab) = Lab::new() else { return };
    let tree = lab.directory("tree");
    fs::write(tree.join("text"), "#!/bin/sh\n").unwrap();
    for (command, code) in
        [("no-such-command", 127), ("tree/absent", 127), ("tree/text", 126), ("./tree", 126)]
    {
        let mut run = lab.run("idle");
        check(run.args(["--dir", "tree", "--", command]), code, &[command]);
    }
}

#[test]
fn the_exit_code_of_the_command_is_passed_on_and_its_outputs_are_not_vouched_for() {
    let Some(lab) = Lab::new() else { return };
    let tree = lab.directory("tree");
    let mut run = lab.run("fails");
    run.args(["--dir", "tree", "--out", "model", "--", "sh", "-c"]);
    run.arg("mkdir tree/model && echo half > tree/model/weights; exit 7");
    assert_eq!(run.finish().code, Some(7));
    let attestation = only_attestation(&lab.state());
    assert_eq!(attestation.predicate_type(), INCOMPLETE_RUN);
    assert_eq!(attestation.statement["predicate"]["exitCode"], 7);
    check_digests(&attestation.subjects(&lab.state()));
    assert_eq!(fs::read_dir(tree.join("model")).unwrap().count(), 1);
    assert_eq!(lab.verify("tree/model/weights").finish().code, Some(1));
}

#[test]
fn a_command_that_a_signal_killed_gives_128_and_the_signal() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    let ended = lab.shell("tree", "echo half > file; kill -9 $$").finish();
    assert_eq!(ended.code, Some(128 + 9), "{ended:?}");
    let attestation = only_attestation(&lab.state());
    assert_eq!(attestation.predicate_type(), INCOMPLETE_RUN);
    assert_eq!(attestation.statement["predicate"]["signal"], 9);
}

#[test]
fn an_inherited_writer_past_the_mount_is_refused() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    let mut shell = lab.configured("sh");
    shell.args(["-ec", "exec 7>> tree/log; exec \"$@\"", "sh", ATTESTFS]);
    shell.args(["run", "--stage", "idle", "--dir", "tree", "--", "true"]);
    check(&mut shell, 125, &["descriptor 7", "tree/log"]);
}

#[test]
fn redirected_output_below_an_observed_directory_is_attested() {
    let Some(lab) = Lab::new() else { return };
    let tree = lab.directory("tree");
    fs::write(tree.join("words"), "one\ntwo\n").unwrap();
    fs::write(tree.join("log"), "before\n").unwrap();
    let mut run = lab.run("count");
    run.stdin(File::open(tree.join("words")).unwrap());
    run.stdout(File::options().append(true).open(tree.join("log")).unwrap());
    run.stderr(Stdio::inherit());
    run.args(["--dir", "tree", "--", "wc", "-l"]);
    assert!(run.status().unwrap().success());
    assert_eq!(fs::read_to_string(tree.join("log")).unwrap(), "before\n2\n");
    let attestation = only_attestation(&lab.state());
    let subjects = attestation.subjects(&lab.state());
    assert_eq!(subjects.keys().collect::<Vec<_>>(), [&tree.join("log")]);
    check_digests(&subjects);
    assert!(attestation.materials().contains_key(&tree.join("words")));
}

#[test]
fn a_termination_is_passed_on_to_the_command() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    let script = "trap 'echo saved > state; exit 5' TERM; touch ../begun; \
        while :; do sleep 0.02; done";
    let mut run = Running::start(&mut lab.shell("tree", script));
    eventually("the command has begun", || lab.path("begun").exists());
    kill_process(run.pid(), Signal::TERM).unwrap();
    assert_eq!(run.code(), Some(5));
    check_digests(&only_attestation(&lab.state()).subjects(&lab.state()));
}
