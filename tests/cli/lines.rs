//! What all commands have in common.

use std::process::{Command, Stdio};

use crate::tool::Tool;

#[test]
fn a_line_that_asks_for_nothing_is_a_usage_error() {
    let tool = Tool::new();
    for line in [&[][..], &["nonsense"], &["digest"], &["sign", "model"], &["verify", "--unknown"]]
    {
        let answer = tool.run(line).is(2).says("");
        assert!(answer.stdout.is_empty(), "{answer:?}");
        assert!(answer.stderr.contains("  next: attestfs"), "{answer:?}");
    }
}

#[test]
fn programs_get_errors_on_stdout_as_json() {
    let tool = Tool::new();
    for (line, code) in [
        (&["nonsense", "--json"][..], 2),
        (&["verify", "x", "--json"], 2),
        (&["keygen", "--out", "missing/keys", "--json"], 3),
    ] {
        let answer = tool.run(line).is(code);
        assert_eq!(answer.json()["error"]["exitCode"], code);
        assert!(answer.json()["error"]["message"].is_string());
        assert!(answer.stderr.is_empty(), "{answer:?}");
    }
}

#[test]
fn help_is_an_answer_and_has_an_example() {
    let tool = Tool::new();
    assert!(tool.run(["--help"]).is(0).text().contains("Exit codes: 0 yes, 1 refused"));
    for command in ["verify", "explain", "sign", "digest", "keygen"] {
        let help = tool.run([command, "--help"]).is(0).text();
        assert!(help.contains("Example"), "{help}");
        assert!(help.contains("--json"), "{help}");
    }
    assert!(tool.run(["--version"]).is(0).text().starts_with("attestfs "));
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let tool = Tool::new();
    tool.write("x", "x");
    let paths = vec!["x"; 20_000];
    let mut child = Command::new(env!("CARGO_BIN_EXE_attestfs"))
        .arg("digest")
        .args(&paths)
        .current_dir(tool.path(""))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}
