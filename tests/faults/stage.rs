//! The job of a stage, and what it was told.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::Value;

/// Does the same in one directory after another.
pub(crate) struct Actor {
    process: Child,
    answers: BufReader<ChildStdout>,
}

/// One thing that it did.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) name: String,
    /// What it concerns.
    pub(crate) names: Vec<String>,
    /// The name of the errno that it was told.
    pub(crate) error: Option<String>,
}

impl Actor {
    pub(crate) fn new() -> Self {
        let mut process = Command::new("python3");
        process.args(["-I", "-S", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = process.spawn().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        Self { process, answers }
    }

    /// Has this working directory, and waits.
    pub(crate) fn enter(&mut self, directory: &Path) {
        assert_eq!(self.ask(directory.to_str().unwrap()), "\n");
    }

    /// Does everything in the directory that it entered, whatever fails.
    pub(crate) fn act(&mut self) -> Vec<Step> {
        let told: Value = serde_json::from_str(&self.ask("")).unwrap();
        told.as_array().unwrap().iter().map(Step::of).collect()
    }

    fn ask(&mut self, question: &str) -> String {
        writeln!(self.process.stdin.as_mut().unwrap(), "{question}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // It ends when nobody tells it anything any more.
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}

impl Step {
    fn of(told: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Self {
            name: text(&told["step"]),
            names: told["names"].as_array().unwrap().iter().map(text).collect(),
            error: told["error"].as_str().map(ToOwned::to_owned),
        }
    }
}

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/stage.py");

/// What is there before the stage begins.
pub(crate) fn prepare(directory: &Path) {
    for (name, length, seed) in [("data", 300_000, 1), ("old", 4000, 2), ("changed", 220_000, 3)] {
        fs::write(directory.join(name), content(length, seed)).unwrap();
    }
}

/// As the script makes it.
fn content(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|place| u8::try_from((seed + place % 257 * 31) & 255).unwrap()).collect()
}
