//! A process that does what it is told.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use rustix::io::Errno;
use serde_json::{Value, json};

use crate::deed::Deed;

/// What came of a deed.
pub(crate) type Answer = Result<Value, Errno>;

/// Killed when it is dropped, with all that it has open.
pub(crate) struct Hand {
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Hand {
    /// `pool` is the file that holds [`POOL`](crate::pool::POOL); deeds are done below one of the `trees`.
    pub(crate) fn start(pool: &Path, trees: &[&Path]) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/model/hand.py");
        let mut python = Command::new("python3");
        python.args(["-I", "-S", script]).arg(pool).args(trees);
        let mut process = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let requests = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        Self { process, requests, answers }
    }

    /// None when it has died of it.
    pub(crate) fn do_in(&mut self, tree: &Path, deed: &Deed) -> Option<Answer> {
        self.tell(tree, deed.request());
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let mut answer: Value = serde_json::from_str(&line).ok()?;
        Some(match answer["errno"].as_i64() {
            None => Ok(answer["done"].take()),
            Some(errno) => Err(Errno::from_raw_os_error(i32::try_from(errno).unwrap())),
        })
    }

    /// From now on it looks at everything in the tree, and answers no more.
    pub(crate) fn look_on(&mut self, tree: &Path) {
        self.tell(tree, ("look_on", json!([])));
    }

    fn tell(&mut self, tree: &Path, (name, arguments): (&str, Value)) {
        let line = json!([tree, name, arguments]);
        // One that has died says so by its answer.
        writeln!(self.requests, "{line}").unwrap_or_default();
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}
