//! What `run` says to the user: on standard error, because standard output is the command's.

use std::{
    fmt::Display,
    io::{self, Write},
    ops::ControlFlow,
};

use attestfs_fs::MaterialProgress;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::failure::RunError;
use crate::control::CommitReport;

/// How the user is spoken to: in lines for people, or in one JSON object a line for programs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Console {
    json: bool,
}

impl Console {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Something worth knowing: `{"note": ..}`.
    pub(super) fn say(self, line: impl Display) {
        if self.json { tell(&json!({ "note": line.to_string() })) } else { print(line) }
    }

    /// Why there was no run: `{"error": {"exitCode": .., "message": ..}}`.
    pub(super) fn error(self, error: &RunError) {
        let (exit_code, message) = (error.exit_code(), error.to_string());
        if self.json {
            tell(&json!({ "error": { "exitCode": exit_code, "message": message } }));
        } else {
            print(message);
        }
    }

    /// What a commit made: `{"commit": ..}`, or `lines` for people.
    pub(super) fn commit(self, report: &CommitReport, lines: impl Iterator<Item = String>) {
        if self.json { tell(&json!({ "commit": report })) } else { lines.for_each(print) }
    }
}

fn tell(object: &serde_json::Value) {
    writeln!(io::stderr(), "{object}").unwrap_or_default();
}

/// One line. Nobody may be listening; that changes nothing.
fn print(line: impl Display) {
    writeln!(io::stderr(), "attestfs: {line}").unwrap_or_default();
}

/// A bar for the hashing of inputs, shown on a terminal only.
#[derive(Debug)]
pub(super) struct Hashing {
    bar: ProgressBar,
}

impl Hashing {
    pub(super) fn new() -> Self {
        let style = "hashing inputs {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {msg}";
        let style =
            ProgressStyle::with_template(style).expect("the template names known placeholders");
        Self { bar: ProgressBar::new(0).with_style(style) }
    }

    /// Shows how far it is; breaks off when `enough`.
    pub(super) fn show(&self, progress: MaterialProgress, enough: bool) -> ControlFlow<()> {
        self.bar.set_length(progress.bytes_total);
        self.bar.set_position(progress.bytes_done);
        self.bar.set_message(format!("({} files left)", progress.files_left));
        if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Drop for Hashing {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
