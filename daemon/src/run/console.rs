//! What `run` says to the user: on standard error, because standard output is the command's.

use std::{
    fmt::Display,
    io::{self, Write},
    ops::ControlFlow,
};

use attestfs_fs::MaterialProgress;
use indicatif::{ProgressBar, ProgressStyle};

/// One line. Nobody may be listening; that changes nothing.
pub(super) fn say(line: impl Display) {
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
