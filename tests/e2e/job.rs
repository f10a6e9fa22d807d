//! What surrounds a command in a batch job: limits, umask, signals, redirected output.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use attestfs_fs::Identity;
use rustix::process::{Signal, kill_process};

use crate::{
    evidence::{check_digests, only_attestation},
    lab::{ATTESTFS, Ended, Finish, Lab, Running, eventually},
    needs,
};

/// A shell that runs `script`, where `"$@"` is a run that observes `tree` and executes `command`
/// in a shell there.
fn around(lab: &Lab, script: &str, command: &str) -> Command {
    lab.directory("tree");
    let mut shell = lab.configured("sh");
    shell.args(["-ec", script, "sh", ATTESTFS, "run", "--key", "keys/attestfs.key"]);
    shell.args(["--stage", "job", "--dir", "tree", "--", "sh", "-ec"]);
    shell.arg(format!("cd tree && {command}"));
    shell
}

fn attested(lab: &Lab) -> BTreeSet<PathBuf> {
    let subjects = only_attestation(&lab.state()).subjects(&lab.state());
    check_digests(&subjects);
    subjects.into_keys().collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn more_files_are_used_than_the_soft_limit_allows_and_the_command_keeps_its_limit() {
    let Some(lab) = Lab::new() else { return };
    let tree = lab.directory("tree");
    fs::create_dir(tree.join("raw")).unwrap();
    for number in 0..700 {
        fs::write(tree.join(format!("raw/{number}")), number.to_string()).unwrap();
    }
    let script = "ulimit -Sn 256; exec \"$@\"";
    let command = "ulimit -Sn > limit; cat raw/* > all; cp -r raw copy; ls -l copy raw > listed";
    around(&lab, script, command).succeed();
    assert_eq!(fs::read_to_string(tree.join("limit")).unwrap(), "256\n");
    assert_eq!(attested(&lab).len(), 700 + 3);
    assert_eq!(only_attestation(&lab.state()).materials().len(), 700);
}

#[test]
fn more_files_are_used_than_the_hard_limit_allows() {
    let Some(lab) = Lab::new() else { return };
    let tree = lab.directory("tree");
    if Identity::of(File::open(&tree).unwrap()).unwrap().file.born_ns == 0 {
        println!("skipped: this file system keeps no time of birth, so that nothing is let go");
        return;
    }
    fs::create_dir(tree.join("raw")).unwrap();
    for number in 0..2000 {
        fs::write(tree.join(format!("raw/{number}")), number.to_string()).unwrap();
    }
    let command = "cp -r raw copy; ls -lR > listed; mv copy moved; cat raw/* moved/* > all";
    around(&lab, "ulimit -n 2500; exec \"$@\"", command).succeed();
    assert_eq!(attested(&lab).len(), 2000 + 2);
    assert_eq!(fs::metadata(tree.join("all")).unwrap().len(), 2 * (10 + 180 + 2700 + 4000));
}

#[test]
fn files_have_the_modes_that_the_umask_of_the_command_gives_them() {
    for (of_shell, of_command, file, directory) in
        [("077", "022", 0o644, 0o755), ("022", "002", 0o664, 0o775), ("000", "077", 0o600, 0o700)]
    {
        let Some(lab) = Lab::new() else { return };
        let command = format!("umask > inherited; umask {of_command}; echo 1 > file; mkdir below");
        around(&lab, &format!("umask {of_shell}; exec \"$@\""), &command).succeed();
        let tree = lab.path("tree");
        let inherited = fs::read_to_string(tree.join("inherited")).unwrap();
        assert_eq!(inherited.trim().trim_start_matches('0'), of_shell.trim_start_matches('0'));
        let modes = (mode(&tree.join("file")), mode(&tree.join("below")));
        assert_eq!(modes, (file, directory), "{of_shell}, {of_command}");
    }
}

#[test]
fn what_the_run_keeps_for_itself_is_private_under_any_umask() {
    let Some(lab) = Lab::new() else { return };
    around(&lab, "umask 000; exec \"$@\"", "echo 1 > file").succeed();
    let run = fs::read_dir(lab.state().join("runs")).unwrap().next().unwrap().unwrap().path();
    for private in [&run.join("journal.jsonl"), &lab.state().join("daemon.log")] {
        assert_eq!(mode(private), 0o600, "{}", private.display());
    }
    assert_eq!((mode(&run), mode(&lab.state())), (0o700, 0o700));
}

#[test]
fn what_lies_beside_the_content_is_readable_to_whoever_reads_the_directory() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    let mut shell = lab.configured("sh");
    shell.args(["-ec", "umask 077; exec \"$@\"", "sh", ATTESTFS, "run", "--stage", "job"]);
    shell.args(["--dir", "tree", "--out", "model", "--", "sh", "-ec"]);
    shell.arg("umask 022; mkdir tree/model; echo 1 > tree/model/weights").succeed();
    for name in ["model.sig", "claims.jsonl"] {
        assert_eq!(mode(&lab.path("tree/model").join(name)), 0o644, "{name}");
    }
}

#[test]
fn a_limit_of_file_sizes_fails_a_write_and_does_not_kill_the_run() {
    let Some(lab) = Lab::new() else { return };
    lab.attestfs(["daemon"]).succeed();
    let command = "ulimit -Sf unlimited; head -c 1000000 /dev/zero > large || echo 1 > refused";
    around(&lab, "ulimit -Sf 64; exec \"$@\"", command).succeed();
    assert!(lab.path("tree/refused").exists());
}

#[test]
fn signals_that_are_sent_to_the_run_reach_the_command_and_not_the_run() {
    for (name, signal) in
        [("USR1", Signal::USR1), ("INT", Signal::INT), ("XCPU", Signal::XCPU), ("HUP", Signal::HUP)]
    {
        let Some(lab) = Lab::new() else { return };
        lab.directory("tree");
        let script = format!(
            "trap 'echo {name} > got; exit 0' {name}; touch ../begun; \
             for i in $(seq 500); do sleep 0.02; done; exit 9"
        );
        let mut run = Running::start(&mut lab.shell("tree", &script));
        eventually("the command has begun", || lab.path("begun").exists());
        kill_process(run.pid(), signal).unwrap();
        assert_eq!(run.code(), Some(0), "{name}");
        assert_eq!(fs::read_to_string(lab.path("tree/got")).unwrap(), format!("{name}\n"));
        assert_eq!(attested(&lab), BTreeSet::from([lab.path("tree/got")]));
    }
}

#[test]
fn an_interrupt_at_the_terminal_reaches_whoever_is_in_front_of_it_and_is_not_passed_on() {
    if !needs::programs(&["python3", "setsid"]) {
        return;
    }
    for (aside, got) in [("", Some("int\n")), ("setsid", None)] {
        let Some(lab) = Lab::new() else { return };
        let script = format!("exec python3 -c '{AT_TERMINAL}' \"$@\"");
        let command = format!(
            "exec {aside} sh -c \"trap 'echo int >> got' INT; touch ../begun; \
             while ! test -e ../enough; do sleep 0.02; done; echo 1 > file\""
        );
        around(&lab, &script, &command).succeed();
        assert_eq!(fs::read_to_string(lab.path("tree/got")).ok().as_deref(), got, "{aside}");
    }
}

/// Starts a program on a terminal of its own, presses Ctrl-C when it has begun, and gives a signal
/// that were passed on the time to arrive.
const AT_TERMINAL: &str = "
import os, pty, sys, threading, time
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
def press():
    while not os.path.exists(\"begun\"):
        time.sleep(0.02)
    os.write(terminal, b\"\\x03\")
    time.sleep(0.5)
    open(\"enough\", \"w\").close()
threading.Thread(target=press).start()
try:
    while os.read(terminal, 4096):
        pass
except OSError:
    pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";

#[test]
fn a_signal_that_the_user_ignores_stays_ignored() {
    let Some(lab) = Lab::new() else { return };
    let command = "grep -q 'SigIgn:.*[13579bdf]$' /proc/self/status && echo 1 > file";
    around(&lab, "trap '' HUP; exec \"$@\"", command).succeed();
    assert_eq!(attested(&lab), BTreeSet::from([lab.path("tree/file")]));
}

#[test]
fn lines_after_the_run_follow_the_output_of_the_command() {
    for redirection in ["> tree/log", ">> tree/log"] {
        let Some(lab) = Lab::new() else { return };
        lab.directory("tree");
        fs::write(lab.path("tree/log"), "OLD\n").unwrap();
        let script = format!("{{ echo BEFORE; \"$@\"; echo AFTER; }} {redirection}");
        around(&lab, &script, "seq 5").succeed();
        let old = if redirection.starts_with(">>") { "OLD\n" } else { "" };
        let log = fs::read_to_string(lab.path("tree/log")).unwrap();
        assert_eq!(log, format!("{old}BEFORE\n1\n2\n3\n4\n5\nAFTER\n"), "{redirection}");
    }
}

#[test]
fn standard_output_below_an_observed_directory_is_attested() {
    for redirection in ["> tree/log", ">> tree/log"] {
        let Some(lab) = Lab::new() else { return };
        around(&lab, &format!("\"$@\" {redirection}"), "seq 5").succeed();
        assert_eq!(fs::read_to_string(lab.path("tree/log")).unwrap(), "1\n2\n3\n4\n5\n");
        assert_eq!(attested(&lab), BTreeSet::from([lab.path("tree/log")]));
    }
}

#[test]
fn the_file_of_standard_error_holds_every_line_and_is_left_out() {
    for redirection in ["> tree/log 2>&1", ">> tree/log 2>&1"] {
        let Some(lab) = Lab::new() else { return };
        let command = "echo out; echo error >&2; echo again; echo 1 > file";
        around(&lab, &format!("\"$@\" {redirection}; echo AFTER >> tree/log"), command).succeed();
        let log = fs::read_to_string(lab.path("tree/log")).unwrap();
        assert!(log.starts_with("out\nerror\nagain\nattestfs: "), "{log}");
        assert!(log.contains("left out log: still open: the standard error"), "{log}");
        assert!(log.ends_with("AFTER\n"), "{log}");
        assert_eq!(attested(&lab), BTreeSet::from([lab.path("tree/file")]));
        lab.verify("tree/file").succeed();
    }
}

#[test]
fn a_model_is_not_signed_over_the_file_that_the_run_writes_to() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree/model");
    let mut shell = lab.configured("sh");
    shell.args(["-ec", "exec \"$@\" 2> tree/model/log", "sh", ATTESTFS, "run", "--stage", "job"]);
    shell.args(["--dir", "tree", "--out", "model", "--", "sh", "-c"]);
    shell.arg("echo loss >&2; echo weights > tree/model/weights");
    assert_eq!(shell.finish().code, Some(125));
    let log = fs::read_to_string(lab.path("tree/model/log")).unwrap();
    assert!(log.starts_with("loss\n") && log.contains("no model.sig: "), "{log}");
    assert!(!lab.path("tree/model/model.sig").exists());
    assert_eq!(attested(&lab), BTreeSet::from([lab.path("tree/model/weights")]));
}

#[test]
fn notes_of_the_run_wait_until_the_command_has_written_its_errors() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    let mut shell = lab.configured("sh");
    shell.args(["-ec", "exec \"$@\" 2> tree/log", "sh", ATTESTFS, "run", "--stage", "job"]);
    shell.args(["--checkpoint-rule", "--dir", "tree", "--", "sh", "-ec"]);
    let reports = lab.state().join("attestations/subjects.index");
    shell.arg(format!(
        "cd tree && echo one >&2 && mkdir a && echo 1 > a/model.safetensors && \
         while ! test -s {}; do sleep 0.02; done && sleep 0.3 && echo two >&2",
        reports.display()
    ));
    shell.succeed();
    let log = fs::read_to_string(lab.path("tree/log")).unwrap();
    assert!(log.starts_with("one\ntwo\nattestfs: "), "{log}");
    assert!(log.contains("tree/a: 1 file attested"), "{log}");
}

#[test]
fn descriptors_that_lead_past_the_mount_are_refused_by_number_and_path() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree/below");
    fs::write(lab.path("tree/file"), "1").unwrap();
    for (redirection, words) in [
        ("7>> tree/file", ["descriptor 7", "tree/file"]),
        ("8< tree/file", ["descriptor 8", "tree/file"]),
        ("9< tree/below", ["descriptor 9", "tree/below"]),
        ("< tree/below", ["descriptor 0", "tree/below"]),
    ] {
        let Ended { code, stderr, .. } =
            around(&lab, &format!("\"$@\" {redirection}"), "touch ../begun").finish();
        assert_eq!(code, Some(125), "{stderr}");
        assert!(words.iter().all(|word| stderr.contains(word)), "{stderr}");
    }
    assert!(!lab.path("begun").exists());
    lab.configured("mkfifo").arg("tree/pipe").succeed();
    let harmless = "\"$@\" < tree/file 7< /dev/null 8<> tree/pipe";
    around(&lab, harmless, "touch ../begun").succeed();
    assert!(lab.path("begun").exists());
}

#[test]
fn names_that_a_terminal_obeys_are_spelled_out_and_few_of_many_are_shown() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    let mut run = lab.run("leaves");
    run.args(["--commit-patience", "0", "--dir", "tree", "--", "sh", "-ec"]);
    let held = "cd tree && echo 1 > file && i=10 && while [ $i -lt 35 ]; do \
        ( exec sleep 5 > \"$(printf '\\033[2J')$i\" ) & i=$((i+1)); done; sleep 0.3";
    let ended = run.arg(held).finish();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.stderr.contains('\u{1b}'), "{ended:?}");
    assert!(ended.stderr.contains("left out \\u{1b}[2J10: "), "{ended:?}");
    assert!(ended.stderr.contains(".. and 5 more"), "{ended:?}");
    assert!(!ended.stderr.contains("[2J30"), "{ended:?}");
}

#[test]
fn a_checkpoint_finds_names_that_must_be_escaped() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    let script = r#"for name in 'back\slash' "$(printf 'no\377text')"; do
        mkdir "$name" && echo 1 > "$name/weights" && "$ATTESTFS" stage checkpoint "$name"; done"#;
    let ended = lab.shell("tree", script).finish();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stdout.matches("1 file").count(), 2, "{ended:?}");
}

#[test]
fn a_stage_without_a_name_is_a_usage_error_and_a_missing_input_a_warning() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    for stage in ["", "a\nb", "\u{1b}[2J"] {
        let mut run = lab.run(stage);
        let ended = run.args(["--dir", "tree", "--", "true"]).finish();
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains("--stage"), "{ended:?}");
    }
    let mut run = lab.run("reads");
    run.args(["--dir", "tree", "--in", "absent", "--", "touch", "tree/file"]);
    let ended = run.finish();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stderr.contains("--in ") && ended.stderr.contains("tree/absent: there is nothing")
    );
}

#[test]
fn no_message_has_the_number_of_an_error() {
    let Some(lab) = Lab::new() else { return };
    let mut run = lab.run("idle");
    let ended = run.args(["--dir", "absent", "--", "true"]).finish();
    assert_eq!(ended.code, Some(125), "{ended:?}");
    let line = ended.stderr.lines().next();
    assert_eq!(line, Some("attestfs: --dir absent: No such file or directory"), "{ended:?}");
    let verified = lab.verify("absent").finish();
    assert!(verified.stderr.contains("No such file or directory"), "{verified:?}");
    assert!(!verified.stderr.contains("os error"), "{verified:?}");
}

#[test]
fn a_stage_that_finds_its_work_done_is_no_failure_and_says_so() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    let stage = |script: &str| {
        let mut run = lab.run("make");
        run.args(["--dir", "tree", "--out", "out", "--", "sh", "-ec", script]).finish()
    };
    let first = stage("mkdir tree/out && echo 1 > tree/out/weights");
    assert!(first.stderr.contains("model.sig written"), "{first:?}");
    let again = stage("test -e tree/out/weights");
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(again.stderr.contains("what was attested before stays"), "{again:?}");
    assert_eq!(lab.verify("tree/out").finish().code, Some(0));
}

#[test]
fn processes_that_the_command_leaves_behind_are_told() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    let ended = lab.shell("tree", "echo 1 > file; sleep 2 > /dev/null 2>&1 &").finish();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("left behind"), "{ended:?}");
    let alone = lab.shell("tree", "echo 2 > file").finish();
    assert!(!alone.stderr.contains("left behind"), "{alone:?}");
}

#[test]
fn git_finds_its_repository_above_an_observed_directory() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("repository/part");
    let git = "export GIT_CONFIG_GLOBAL=/dev/null; git init -q . 2>/dev/null";
    let made = lab.configured("sh").current_dir(lab.path("repository")).args(["-c", git]).finish();
    assert_eq!(made.code, Some(0), "{made:?}");
    let ended = lab.shell("repository/part", "git rev-parse --show-toplevel").finish();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.trim_end().ends_with("/repository"), "{ended:?}");
}

#[test]
fn an_output_relative_to_the_wrong_place_is_a_usage_error_before_the_command_runs() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    let mut run = lab.run("train");
    run.args(["--dir", "tree", "--out", "tree/out", "--", "touch", "tree/ran"]);
    let ended = run.finish();
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("is relative to"), "{ended:?}");
    assert!(!lab.path("tree/ran").exists());
}

#[test]
fn files_of_an_earlier_run_are_signed_where_they_were_moved_to() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    let stage = |name: &str, out: &str, script: &str| {
        let mut run = lab.run(name);
        run.args(["--dir", "tree", "--out", out, "--", "sh", "-ec", script]).finish()
    };
    let made = stage("train", "new", "cd tree && mkdir new && echo 1 > new/weights");
    assert_eq!(made.code, Some(0), "{made:?}");
    let move_it = "cd tree && mkdir best && mv new/weights best/ && echo ok > best/report";
    let moved = stage("promote", "best", move_it);
    assert_eq!(moved.code, Some(0), "{moved:?}");
    assert!(moved.stderr.contains("model.sig written"), "{moved:?}");
    let foreign = stage("again", "best", "echo ok > tree/best/other");
    assert_eq!(foreign.code, Some(0), "{foreign:?}");
}
