//! The one room that prints. Whoever reads may go away in the middle: that is no failure.

use std::{
    fmt::Display,
    io::{self, Write},
    path::Path,
};

use serde::Serialize;

use super::failure::Failure;
use crate::text::harmless;

/// Where answers go, and in which form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether programs read the answer.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Shows an answer: for people as it displays itself, for programs as one JSON object.
    pub(crate) fn show(self, answer: &(impl Display + Serialize)) -> Result<(), Failure> {
        if self.json {
            return print_json(answer);
        }
        print(answer.to_string().as_bytes())
    }

    /// Says why there is no answer.
    pub(crate) fn failure(self, failure: &Failure) {
        if self.json {
            #[derive(Serialize)]
            struct Wrapped<'a> {
                error: &'a Failure,
            }
            // Whoever asked is gone or the disk is full: the exit code still tells.
            print_json(&Wrapped { error: failure }).unwrap_or_default();
            return;
        }
        complain(&failure.message);
        if let Some(next_step) = &failure.next_step {
            to_stderr(&format!("  next: {}\n", harmless(next_step)));
        }
        failure.files().for_each(|file| to_stderr(&format!("  refused: {file}\n")));
    }
}

/// Shows an answer to programs.
pub(crate) fn print_json(answer: &impl Serialize) -> Result<(), Failure> {
    let mut bytes = serde_json::to_vec_pretty(answer).map_err(unwritten)?;
    bytes.push(b'\n');
    print(&bytes)
}

/// Writes bytes to stdout as they are.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    unless_nobody_reads(written).map_err(unwritten)
}

/// One line on stderr.
pub(crate) fn complain(message: &str) {
    to_stderr(&format!("attestfs: {}\n", harmless(message)));
}

/// A path on one line.
pub(crate) fn shown(path: &Path) -> String {
    harmless(&path.to_string_lossy())
}

fn to_stderr(text: &str) {
    // There is nobody left to tell.
    io::stderr().write_all(text.as_bytes()).unwrap_or_default();
}

fn unless_nobody_reads(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

fn unwritten(error: impl Display) -> Failure {
    Failure::environment(format_args!("the answer cannot be written: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let gone = Err(io::ErrorKind::BrokenPipe.into());
        assert!(unless_nobody_reads(gone).is_ok());
        let full = Err(io::ErrorKind::StorageFull.into());
        assert!(unless_nobody_reads(full).is_err());
    }
}
