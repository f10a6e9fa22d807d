//! The lock of a run's data: written by a run, readable in a diff, enforced at open, and the reason
//! why a run need not be repeated.

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
};

use serde_json::{Value, json};

use crate::{
    evidence::{attestations, only_attestation, sha256sum},
    lab::{Ended, Finish, Lab},
    needs,
};

/// A lab with two files of raw data.
fn with_data() -> Option<Lab> {
    let lab = Lab::new()?;
    lab.directory("data/raw");
    fs::write(lab.path("data/raw/a.csv"), "1;2\n").unwrap();
    fs::write(lab.path("data/raw/b c.csv"), "3;4\n").unwrap();
    Some(lab)
}

/// A stage that joins all raw data, with these options of the lock.
fn join(lab: &Lab, options: &[&str]) -> Command {
    let mut command = lab.run("join");
    command.args(["--dir", "data", "--out", "joined", "--lock", "data.lock"]).args(options);
    let script = "mkdir -p data/joined && cat data/raw/*.csv > data/joined/all.csv";
    command.args(["--", "sh", "-ec", script]);
    command
}

fn lock(lab: &Lab) -> String {
    fs::read_to_string(lab.path("data.lock")).unwrap()
}

fn sha256(path: &Path) -> String {
    sha256sum(&[path.to_owned()]).into_values().next().unwrap()
}

/// What a statement says of the lock.
fn stated(statement: &Value) -> &Value {
    &statement["predicate"]["buildDefinition"]["externalParameters"]["lock"]
}

/// What the statement of the newest run says of the lock. Ids of runs sort by time.
fn newest_stated(lab: &Lab) -> Value {
    let all = attestations(&lab.state()).into_iter().map(|bundle| bundle.statement);
    let run = |statement: &Value| {
        statement["predicate"]["runDetails"]["metadata"]["invocationId"].to_string()
    };
    stated(&all.max_by_key(run).unwrap()).clone()
}

/// A real Python process that opens a file and says how that went.
fn python_opens(lab: &Lab, python: &Path, path: &str) -> Ended {
    let program = "import sys\ntry:\n    open(sys.argv[1], 'rb').read()\n\
                   except OSError as error:\n    sys.exit(f'errno {error.errno}')";
    let mut run = lab.run("read");
    run.args(["--dir", "data", "--lock", "data.lock", "--locked", "--"]);
    run.arg(python).args(["-c", program, path]).finish()
}

#[test]
fn the_first_run_writes_a_lock_of_sorted_lines() {
    let Some(lab) = with_data() else { return };
    let ended = join(&lab, &[]).finish();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("data.lock: 2 files locked"), "{}", ended.stderr);
    let digest = |name: &str| sha256(&lab.path("data").join(name));
    let expected = format!(
        "# attestfs lock, version 1\nraw/a.csv {} 4\nraw/b c.csv {} 4\n",
        digest("raw/a.csv"),
        digest("raw/b c.csv")
    );
    assert_eq!(lock(&lab), expected);
    let statement = only_attestation(&lab.state()).statement;
    let written = json!({ "sha256": sha256(&lab.path("data.lock")), "enforced": false });
    assert_eq!(*stated(&statement), written);
}

#[test]
fn a_failed_run_writes_no_lock() {
    let Some(lab) = with_data() else { return };
    let mut run = lab.run("fail");
    run.args(["--dir", "data", "--lock", "data.lock", "--", "sh", "-c", "cat data/raw/*; exit 3"]);
    assert_eq!(run.finish().code, Some(3));
    assert!(!lab.path("data.lock").exists());
}

#[test]
fn a_lock_that_would_say_less_than_was_opened_is_not_written() {
    let Some(lab) = with_data() else { return };
    // Nobody waits for so many zeros to be hashed.
    File::create(lab.path("data/raw/huge")).unwrap().set_len(20 << 30).unwrap();
    let mut run = lab.run("peek");
    run.args(["--dir", "data", "--lock", "data.lock", "--", "sh", "-ec"]);
    let ended = run.arg("cat data/raw/a.csv && head -c 1 data/raw/huge > data/first").finish();
    assert_eq!(ended.code, Some(125), "{}", ended.stderr);
    let told = "data.lock is not written: 'raw/huge', which was opened, has no digest";
    assert!(ended.stderr.contains(told), "{}", ended.stderr);
    assert!(!lab.path("data.lock").exists());
    assert_eq!(newest_stated(&lab), Value::Null);
}

#[test]
fn what_is_not_in_the_lock_cannot_be_opened() {
    let Some(python) = needs::program_of("ATTESTFS_PYTHON") else { return };
    let Some(lab) = with_data() else { return };
    join(&lab, &[]).succeed();
    fs::write(lab.path("data/raw/new.csv"), "5;6\n").unwrap();
    let ended = python_opens(&lab, &python, "data/raw/new.csv");
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("errno 13"), "{}", ended.stderr);
    assert!(ended.stderr.contains("raw/new.csv: not in the lock"), "{}", ended.stderr);
    assert!(ended.stderr.contains("--lock-update"), "{}", ended.stderr);
    let ended = python_opens(&lab, &python, "data/raw/a.csv");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[test]
fn what_is_locked_otherwise_cannot_be_opened_and_both_digests_are_told() {
    let Some(python) = needs::program_of("ATTESTFS_PYTHON") else { return };
    let Some(lab) = with_data() else { return };
    join(&lab, &[]).succeed();
    let changed = lab.path("data/raw/a.csv");
    let locked = sha256(&changed);
    fs::write(&changed, "1;3\n").unwrap();
    Command::new("touch").args(["-d", "2026-05-03 12:00 UTC"]).arg(&changed).succeed();
    let ended = python_opens(&lab, &python, "data/raw/a.csv");
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("errno 13"), "{}", ended.stderr);
    let expected = format!(
        "raw/a.csv: locked {}.., is {}.., changed 2026-05-03",
        &locked[..12],
        &sha256(&changed)[..12]
    );
    assert!(ended.stderr.contains(&expected), "{}", ended.stderr);
}

#[test]
fn an_enforced_lock_is_named_by_the_statement_and_shown() {
    let Some(lab) = with_data() else { return };
    join(&lab, &[]).succeed();
    join(&lab, &["--locked"]).succeed();
    let digest = sha256(&lab.path("data.lock"));
    assert_eq!(newest_stated(&lab), json!({ "sha256": digest, "enforced": true }));
    let mut explain = lab.attestfs(["explain", "data/joined/all.csv", "--key"]);
    let told = explain.arg(lab.public_key()).succeed();
    assert!(told.contains(&format!("lock       sha256:{digest} (enforced)")), "{told}");
    let claimed = lab.attestfs(["explain", "data/joined/all.csv"]).succeed();
    assert!(claimed.contains(&format!("lock       sha256:{digest} (enforced)")), "{claimed}");
    let mut verify = lab.verify("data/joined/all.csv");
    let verified: Value = serde_json::from_str(&verify.arg("--json").succeed()).unwrap();
    assert!(
        verified
            .to_string()
            .contains(&format!(r#""lock":{{"enforced":true,"sha256":"{digest}"}}"#)),
        "{verified}"
    );
}

#[test]
fn what_the_run_wrote_itself_needs_no_lock() {
    let Some(lab) = with_data() else { return };
    join(&lab, &[]).succeed();
    let mut run = lab.run("own");
    run.args(["--dir", "data", "--lock", "data.lock", "--locked", "--", "sh", "-ec"]);
    run.arg("echo own > data/own && cat data/own data/raw/a.csv && cat data/own >> data/own2");
    assert_eq!(run.succeed(), "own\n1;2\n");
}

#[test]
fn a_lock_changes_only_when_that_is_asked_for() {
    let Some(lab) = with_data() else { return };
    join(&lab, &[]).succeed();
    let before = lock(&lab);
    fs::write(lab.path("data/raw/a.csv"), "1;3\n").unwrap();
    fs::write(lab.path("data/raw/new.csv"), "5;6\n").unwrap();
    fs::remove_file(lab.path("data/raw/b c.csv")).unwrap();
    let ended = join(&lab, &[]).finish();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for told in [
        "raw/a.csv: locked ",
        "raw/new.csv: opened, not in the lock",
        "raw/b c.csv: locked, not opened",
        "data.lock is left as it is: --lock-update writes it anew",
    ] {
        assert!(ended.stderr.contains(told), "{told} is missing in\n{}", ended.stderr);
    }
    assert_eq!(lock(&lab), before);
    assert_eq!(newest_stated(&lab), Value::Null, "the run did not obey it");
    assert_ne!(join(&lab, &["--locked"]).finish().code, Some(0));
    join(&lab, &["--lock-update"]).succeed();
    assert_ne!(lock(&lab), before);
    let ended = join(&lab, &["--locked"]).finish();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[test]
fn a_lock_that_says_what_was_opened_is_named_though_it_was_not_enforced() {
    let Some(lab) = with_data() else { return };
    join(&lab, &[]).succeed();
    let ended = join(&lab, &[]).finish();
    assert!(!ended.stderr.contains("data.lock"), "nothing to tell: {}", ended.stderr);
    let digest = sha256(&lab.path("data.lock"));
    assert_eq!(newest_stated(&lab), json!({ "sha256": digest, "enforced": false }));
}

#[test]
fn a_colleague_elsewhere_gets_the_same_data_or_a_clear_error() {
    let Some(lab) = with_data() else { return };
    join(&lab, &[]).succeed();
    let Some(colleague) = Lab::new() else { return };
    colleague.directory("home");
    let mut copy = colleague.configured("cp");
    copy.arg("-R").arg(lab.path("data")).arg(colleague.path("home/elsewhere")).succeed();
    fs::remove_dir_all(colleague.path("home/elsewhere/joined")).unwrap();
    fs::copy(lab.path("data.lock"), colleague.path("home/data.lock")).unwrap();
    let run = || {
        let mut run = colleague.run("join");
        run.args(["--dir", "home/elsewhere", "--lock", "home/data.lock", "--locked", "--"]);
        run.args(["sh", "-ec", "cat home/elsewhere/raw/*.csv"]);
        run.finish()
    };
    let ended = run();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "1;2\n3;4\n"), "{}", ended.stderr);
    fs::write(colleague.path("home/elsewhere/raw/a.csv"), "9;9\n").unwrap();
    let ended = run();
    assert_ne!(ended.code, Some(0));
    assert!(ended.stderr.contains("raw/a.csv: locked "), "{}", ended.stderr);
    fs::remove_file(colleague.path("home/elsewhere/raw/a.csv")).unwrap();
    let ended = run();
    assert_eq!(ended.code, Some(125), "a shell would join what is left: {}", ended.stdout);
    for told in ["raw/a.csv is locked, and there is no such file", "get the data that is locked"] {
        assert!(ended.stderr.contains(told), "{}", ended.stderr);
    }
}

#[test]
fn several_directories_have_a_section_each() {
    let Some(lab) = with_data() else { return };
    lab.directory("more");
    fs::write(lab.path("more/a.csv"), "7;8\n").unwrap();
    let run = |dirs: [&str; 2], options: &[&str]| {
        let mut run = lab.run("two");
        run.args(["--dir", dirs[0], "--dir", dirs[1], "--lock", "two.lock"]).args(options);
        run.args(["--", "sh", "-ec", "cat data/raw/a.csv more/a.csv"]).finish()
    };
    assert_eq!(run(["data", "more"], &[]).code, Some(0));
    let text = fs::read_to_string(lab.path("two.lock")).unwrap();
    let lines: Vec<_> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(lines, ["#", "[dir", "raw/a.csv", "[dir", "a.csv"], "{text}");
    assert_eq!(run(["data", "more"], &["--locked"]).code, Some(0));
    let swapped = run(["more", "data"], &["--locked"]);
    assert_ne!(swapped.code, Some(0));
    let told = "[dir 1] raw/a.csv is locked, and there is no such file (and 1 more)";
    assert!(swapped.stderr.contains(told), "{}", swapped.stderr);
    let mut one = lab.run("one");
    one.args(["--dir", "data", "--lock", "two.lock", "--locked", "--", "true"]);
    let ended = one.finish();
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("about 2 directories"), "{}", ended.stderr);
}

#[test]
fn a_directory_of_many_files_is_one_line_and_a_manifest_that_sha256sum_checks() {
    let Some(lab) = with_data() else { return };
    lab.directory("data/images");
    for number in 0..1001 {
        fs::write(lab.path(&format!("data/images/{number}.png")), number.to_string()).unwrap();
    }
    let run = |options: &[&str]| {
        let mut run = lab.run("many");
        run.args(["--dir", "data", "--lock", "data.lock"]).args(options);
        run.args(["--", "sh", "-ec", "cat data/images/*.png data/raw/a.csv | wc -c"]).finish()
    };
    assert_eq!(run(&[]).code, Some(0));
    let text = lock(&lab);
    let line = text.lines().nth(1).unwrap();
    let digest = line.strip_prefix("images/ tree:").and_then(|rest| rest.strip_suffix(" 1001"));
    let manifest = lab.path("data.lock.d").join(format!("{}.manifest", digest.expect(line)));
    assert_eq!(text.lines().count(), 3, "{text}");
    let mut check = Command::new("sha256sum");
    check.args(["--check", "--quiet"]).arg(&manifest).current_dir(lab.path("data/images"));
    check.succeed();
    assert_eq!(run(&["--locked"]).code, Some(0));
    fs::write(lab.path("data/images/77.png"), "seventy-seven").unwrap();
    let ended = run(&["--locked"]);
    assert!(ended.stderr.contains("images/77.png: locked "), "{}", ended.stderr);
    fs::write(&manifest, "").unwrap();
    let ended = run(&["--locked"]);
    assert_eq!(ended.code, Some(125), "{}", ended.stderr);
    assert!(ended.stderr.contains("was changed"), "{}", ended.stderr);
}

#[test]
fn the_lock_may_lie_among_the_data_and_is_none_of_it() {
    let Some(lab) = with_data() else { return };
    let run = |options: &[&str]| {
        let mut run = lab.run("inside");
        run.args(["--dir", "data", "--lock", "data/data.lock"]).args(options);
        run.args(["--", "sh", "-ec", "cat data/data.lock data/raw/a.csv || true"]).finish()
    };
    assert_eq!(run(&[]).code, Some(0));
    let text = fs::read_to_string(lab.path("data/data.lock")).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    let ended = run(&["--locked"]);
    assert_eq!(ended.stdout, format!("{text}1;2\n"), "{}", ended.stderr);
}

#[test]
fn nothing_opens_because_it_lies_beside_the_manifests_of_a_lock() {
    let Some(lab) = with_data() else { return };
    let run = |options: &[&str], script: &str| {
        let mut run = lab.run("beside");
        run.args(["--dir", "data", "--lock", "data/data.lock"]).args(options);
        run.args(["--", "sh", "-ec", script]).finish()
    };
    assert_eq!(run(&[], "cat data/raw/a.csv").code, Some(0));
    lab.directory("data/data.lock.d");
    fs::write(lab.path("data/raw/evil.csv"), "6;6\n").unwrap();
    fs::write(lab.path("data/data.lock.d/stray"), "6;6\n").unwrap();
    let ended = run(&["--locked"], "cat data/data.lock.d/stray");
    assert_ne!(ended.code, Some(0), "{}", ended.stdout);
    assert!(ended.stderr.contains("data.lock.d/stray: not in the lock"), "{}", ended.stderr);
    let link = "ln data/raw/evil.csv data/data.lock.d/x && stat data/data.lock.d/x > data/seen";
    let ended = run(&["--locked"], &format!("{link} && cat data/raw/evil.csv"));
    assert_ne!(ended.code, Some(0), "{}", ended.stdout);
    assert!(ended.stderr.contains("not in the lock"), "{}", ended.stderr);
}

#[test]
fn a_file_of_several_names_is_locked_by_each_that_was_opened_in_any_order() {
    let Some(lab) = with_data() else { return };
    fs::hard_link(lab.path("data/raw/a.csv"), lab.path("data/raw/link.csv")).unwrap();
    let run = |options: &[&str], script: &str| {
        let mut run = lab.run("linked");
        run.args(["--dir", "data", "--lock", "data.lock"]).args(options);
        run.args(["--", "sh", "-ec", script]).finish()
    };
    for order in ["data/raw/a.csv data/raw/link.csv", "data/raw/link.csv data/raw/a.csv"] {
        assert_eq!(run(&["--lock-update"], &format!("cat {order}")).code, Some(0));
        let text = lock(&lab);
        let lines: Vec<_> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(lines, ["#", "raw/a.csv", "raw/link.csv"], "{text}");
        for name in ["a.csv", "link.csv"] {
            let ended = run(&["--locked"], &format!("cat data/raw/{name}"));
            assert_eq!(ended.code, Some(0), "{name}\n{}", ended.stderr);
        }
    }
}

#[test]
fn what_cannot_work_is_refused_before_the_command_runs() {
    let Some(lab) = with_data() else { return };
    let refused = |options: &[&str], code: i32, reason: &str| {
        let mut run = lab.run("never");
        run.args(["--dir", "data", "--out", "joined"]).args(options);
        let ended = run.args(["--", "touch", "data/ran"]).finish();
        assert_eq!(ended.code, Some(code), "{options:?}\n{}", ended.stderr);
        assert!(ended.stderr.contains(reason), "{options:?}\n{}", ended.stderr);
        assert!(
            !ended.stderr.starts_with("attestfs: --lock") || ended.stderr.contains("\n  next: ")
        );
        assert!(!lab.path("data/ran").exists(), "{options:?}");
    };
    refused(&["--lock", "none.lock", "--locked"], 2, "there is none yet");
    refused(&["--locked"], 2, "--lock");
    refused(&["--lock", "none.lock", "--reuse"], 2, "--locked");
    refused(&["--lock", "data/joined/data.lock"], 2, "below --out");
    refused(&["--lock", "data.lock", "--inputs", "none"], 2, "--inputs");
    refused(&["--lock", "no/such/place/data.lock"], 2, "its directory cannot be written");
    fs::write(lab.path("train.py"), "import torch\n").unwrap();
    refused(&["--lock", "train.py", "--lock-update"], 2, "what is no lock is not replaced");
    fs::write(lab.path("broken.lock"), "# attestfs lock, version 1\n<<<<<<< HEAD\n").unwrap();
    refused(&["--lock", "broken.lock", "--locked"], 125, "line 2");
    refused(&["--lock", "broken.lock"], 125, "line 2");
}

/// The stage of [`join`], which may be left out.
fn reuse(lab: &Lab) -> Ended {
    join(lab, &["--locked", "--reuse"]).finish()
}

/// A lab in which the stage has run with an enforced lock.
fn joined() -> Option<Lab> {
    let lab = with_data()?;
    join(&lab, &[]).succeed();
    join(&lab, &["--locked"]).succeed();
    Some(lab)
}

#[test]
fn a_run_whose_data_command_and_outputs_are_unchanged_is_not_repeated() {
    let Some(lab) = with_data() else { return };
    join(&lab, &[]).succeed();
    let first = reuse(&lab);
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    assert!(
        first.stderr.contains("not reused: the lock, or whether it is enforced, is not"),
        "{}",
        first.stderr
    );
    let (statements, output) = (attestations(&lab.state()).len(), lab.path("data/joined/all.csv"));
    let before = fs::metadata(&output).unwrap().modified().unwrap();
    let ended = reuse(&lab);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("reused: run "), "{}", ended.stderr);
    assert!(ended.stderr.contains(", 1 output unchanged"), "{}", ended.stderr);
    assert_eq!(attestations(&lab.state()).len(), statements);
    assert_eq!(fs::metadata(&output).unwrap().modified().unwrap(), before);
    let mut for_programs = join(&lab, &["--locked", "--reuse", "--json"]);
    let said: Value = serde_json::from_str(&for_programs.finish().stderr).unwrap();
    assert_eq!(said["reused"]["outputs"], 1);
    assert_eq!(said["reused"]["attestations"].as_array().unwrap().len(), 1);
}

#[test]
fn a_copy_of_the_same_content_counts_as_unchanged() {
    let Some(lab) = joined() else { return };
    for path in ["data/raw/a.csv", "data/joined/all.csv"] {
        let (path, other) = (lab.path(path), lab.path("copy"));
        fs::copy(&path, &other).unwrap();
        fs::rename(&other, &path).unwrap();
    }
    let ended = reuse(&lab);
    assert!(ended.stderr.contains("reused: run "), "{}", ended.stderr);
}

#[test]
fn nothing_is_reused_when_an_output_is_changed_or_gone() {
    let Some(lab) = joined() else { return };
    let output = lab.path("data/joined/all.csv");
    let again = |reason: &str| {
        let ended = reuse(&lab);
        assert!(
            ended.stderr.contains(&format!("not reused: {}", lab.path("data/joined").display())),
            "{}",
            ended.stderr
        );
        assert!(ended.stderr.contains(reason), "{}", ended.stderr);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_eq!(fs::read_to_string(&output).unwrap(), "1;2\n3;4\n", "it ran");
    };
    fs::remove_file(&output).unwrap();
    fs::write(&output, "1;2\n3;5\n").unwrap();
    again("all.csv is not what was published");
    fs::remove_file(&output).unwrap();
    again("all.csv is gone");
    fs::remove_file(lab.path("data/joined/model.sig")).unwrap();
    again("model.sig is gone");
    assert!(lab.path("data/joined/model.sig").exists());
}

#[test]
fn nothing_is_reused_when_something_was_added_to_an_output() {
    let Some(lab) = joined() else { return };
    let added = |path: &str, make: &dyn Fn(&Path)| {
        make(&lab.path(path));
        let ended = reuse(&lab);
        let told = format!("not reused: {} was added since", lab.path(path).display());
        assert!(ended.stderr.contains(&told), "{}", ended.stderr);
        lab.configured("rm").arg("-r").arg(lab.path(path)).succeed();
        join(&lab, &["--locked"]).succeed();
    };
    added("data/joined/extra.bin", &|path| fs::write(path, "extra").unwrap());
    added("data/joined/link", &|path| std::os::unix::fs::symlink("all.csv", path).unwrap());
    fs::create_dir(lab.path("data/joined/empty")).unwrap();
    let ended = reuse(&lab);
    assert!(ended.stderr.contains("reused: run "), "as it verifies: {}", ended.stderr);
}

#[test]
fn what_an_output_held_already_is_compared_with_its_model_signature() {
    let Some(lab) = with_data() else { return };
    let mut notes = lab.run("notes");
    notes.args(["--dir", "data", "--out", "joined", "--", "sh", "-ec"]);
    notes
        .arg("mkdir data/joined && echo early | tee data/joined/gone > data/joined/notes")
        .succeed();
    join(&lab, &[]).succeed();
    join(&lab, &["--locked"]).succeed();
    let ended = reuse(&lab);
    assert!(ended.stderr.contains(", 1 output unchanged"), "{}", ended.stderr);
    fs::remove_file(lab.path("data/joined/gone")).unwrap();
    let ended = reuse(&lab);
    assert!(ended.stderr.contains("not reused: a file is gone that "), "{}", ended.stderr);
    let notes = lab.path("data/joined/notes");
    fs::remove_file(&notes).unwrap();
    fs::write(&notes, "late\n").unwrap();
    let ended = reuse(&lab);
    let told = format!("not reused: {} is not what was signed", notes.display());
    assert!(ended.stderr.contains(&told), "{}", ended.stderr);
}

#[test]
fn nothing_is_reused_when_the_data_changed() {
    let Some(lab) = joined() else { return };
    fs::write(lab.path("data/raw/a.csv"), "1;3\n").unwrap();
    let ended = reuse(&lab);
    assert!(ended.stderr.contains("a.csv is not what was locked"), "{}", ended.stderr);
    assert_ne!(ended.code, Some(0), "and the lock keeps it from being opened");
}

#[test]
fn nothing_is_reused_when_the_run_would_be_another() {
    let Some(lab) = joined() else { return };
    let not_reused = |options: &[&str], script: &str, reason: &str| {
        let mut run = lab.run("join");
        run.args(["--dir", "data", "--out", "joined", "--lock", "data.lock", "--locked"]);
        run.args(["--reuse"]).args(options).args(["--", "sh", "-ec", script]);
        let ended = run.finish();
        assert!(ended.stderr.contains(&format!("not reused: {reason}")), "{}", ended.stderr);
    };
    let same = "mkdir -p data/joined && cat data/raw/*.csv > data/joined/all.csv";
    not_reused(&[], "cat data/raw/a.csv > data/joined/all.csv", "the command is not");
    not_reused(&["--label", "seed=2"], same, "a label is not");
    not_reused(&["--in", "raw"], same, "what --in names is not");
    not_reused(&["--label", "token=1"], same, "the command or a label holds a secret");
    // The same data in other words: the size is for people.
    let text = lock(&lab).replace(" 4\n", " 5\n");
    fs::write(lab.path("data.lock"), text).unwrap();
    not_reused(&[], same, "the lock, or whether it is enforced, is not");
}

#[test]
fn nothing_is_reused_that_another_key_signed_or_another_stage_made() {
    let Some(lab) = joined() else { return };
    lab.attestfs(["keygen", "--out", "keys2"]).succeed();
    let options = ["--locked", "--reuse"];
    let mut run = lab.attestfs(["run", "--stage", "join", "--key", "keys2/attestfs.key"]);
    run.args(["--dir", "data", "--out", "joined", "--lock", "data.lock"]).args(options);
    let script = "mkdir -p data/joined && cat data/raw/*.csv > data/joined/all.csv";
    let ended = run.args(["--", "sh", "-ec", script]).finish();
    assert!(ended.stderr.contains("was signed with another key"), "{}", ended.stderr);
    let mut run = lab.run("other");
    run.args(["--dir", "data", "--out", "joined", "--lock", "data.lock"]).args(options);
    let ended = run.args(["--", "sh", "-ec", script]).finish();
    assert!(ended.stderr.contains("no run of stage 'other'"), "{}", ended.stderr);
}

#[test]
fn a_run_that_left_less_than_it_should_is_repeated() {
    let Some(lab) = with_data() else { return };
    let twice = |stage: &str, out: &[&str], script: &str| {
        let run = |options: &[&str]| {
            let mut run = lab.run(stage);
            run.args(["--dir", "data", "--lock", "data.lock"]).args(options);
            run.args(out.iter().flat_map(|out| ["--out", *out]));
            run.args(["--", "sh", "-ec", script]).finish().stderr
        };
        run(&["--lock-update"]);
        run(&["--locked"]);
        run(&["--locked", "--reuse"])
    };
    let told = twice("look", &[], "cat data/raw/a.csv");
    assert!(told.contains("published nothing"), "{told}");
    let link = "mkdir -p data/linked && cd data/linked && echo > a && ln -sf a b";
    let told = twice("link", &["linked"], link);
    assert!(told.contains("data/linked without a model.sig"), "{told}");
    let told = twice("half", &["one", "other"], "echo > data/one");
    assert!(told.contains("did not publish"), "{told}");
    assert!(told.contains("data/other"), "{told}");
}

#[test]
fn outputs_in_a_manifest_are_compared_one_by_one() {
    let Some(lab) = with_data() else { return };
    let run = |options: &[&str]| {
        let mut run = lab.run("split");
        run.args(["--dir", "data", "--out", "parts", "--lock", "data.lock"]).args(options);
        let split = "seq 1001 | split -l 1 -a 3";
        let script =
            format!("cat data/raw/a.csv && mkdir -p data/parts && cd data/parts && {split}");
        run.args(["--", "sh", "-ec", &script]).finish().stderr
    };
    run(&[]);
    run(&["--locked"]);
    let told = run(&["--locked", "--reuse"]);
    assert!(told.contains(", 1001 outputs unchanged"), "{told}");
    fs::remove_file(lab.path("data/parts/xabc")).unwrap();
    fs::write(lab.path("data/parts/xabc"), "other").unwrap();
    let told = run(&["--locked", "--reuse"]);
    assert!(told.contains("parts/xabc is not what was published"), "{told}");
}
