//! What `run` says to the user: on standard error, because standard output is the command's.

use std::{
    fmt::Display,
    io::{self, Write},
    ops::ControlFlow,
    sync::Arc,
};

use attestfs_fs::MaterialProgress;
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use serde_json::json;

use super::failure::RunError;
use crate::{
    control::CommitReport,
    text::{harmless, without_error_numbers},
};

/// How the user is spoken to: in lines for people, or in one JSON object a line for programs.
#[derive(Clone, Debug)]
pub(super) struct Console {
    json: bool,
    /// What is to be said later, while nothing may be said.
    held: Arc<Mutex<Option<Vec<String>>>>,
}

/// Nothing is said until this is gone; then everything is.
#[derive(Debug)]
pub(super) struct Silence<'a>(&'a Console);

impl Console {
    pub(super) fn new(json: bool) -> Self {
        Self { json, held: Arc::default() }
    }

    /// Something worth knowing: `{"note": ..}`.
    pub(super) fn say(&self, line: impl Display) {
        let line = without_error_numbers(&line.to_string());
        if self.json { self.write(json!({ "note": line }).to_string()) } else { self.print(&line) }
    }

    /// Why there was no run: `{"error": {"exitCode": .., "message": ..}}`.
    pub(super) fn error(&self, error: &RunError) {
        let message = without_error_numbers(&error.to_string());
        if self.json {
            let error = json!({ "exitCode": error.exit_code(), "message": message });
            self.write(json!({ "error": error }).to_string());
        } else {
            self.print(&message);
        }
    }

    /// What a commit made: `{"commit": ..}`, or `lines` for people.
    pub(super) fn commit(&self, report: &CommitReport, lines: impl Iterator<Item = String>) {
        if self.json {
            self.write(json!({ "commit": report }).to_string());
        } else {
            lines.for_each(|line| self.print(&line));
        }
    }

    /// Holds back what would be written between the lines of a command that writes to the same file.
    pub(super) fn silence(&self) -> Silence<'_> {
        self.held.lock().get_or_insert_default();
        Silence(self)
    }

    fn print(&self, line: &str) {
        self.write(format!("attestfs: {}", harmless(line)));
    }

    /// One line. Nobody may be listening; that changes nothing.
    fn write(&self, line: String) {
        match &mut *self.held.lock() {
            Some(held) => held.push(line),
            None => writeln!(io::stderr(), "{line}").unwrap_or_default(),
        }
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        let held = self.0.held.lock().take();
        held.into_iter().flatten().for_each(|line| self.0.write(line));
    }
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
        self.bar.set_message(format!("(files left: {})", progress.files_left));
        if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Drop for Hashing {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
