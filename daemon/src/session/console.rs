//! What a run says to the user: on standard error, because standard output is the command's.

use std::{fmt::Display, ops::ControlFlow, sync::Arc};

use attestfs_fs::{Fact, MaterialProgress};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::{
    control::{CommitReport, ShownReport},
    lock::Reused,
    text::{harmless, without_error_numbers},
    voice::Voice,
};

/// How the user is spoken to.
#[derive(Clone, Debug)]
pub(crate) struct Console {
    form: Form,
    /// None when it is spoken to in the log: nobody watches.
    voice: Option<Arc<Voice>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// In lines for people.
    Lines,
    /// In one JSON object a line for programs.
    Json,
}

/// Nothing is said until this is gone; then everything is.
#[derive(Debug)]
pub(crate) struct Silence<'a>(&'a Console);

impl Console {
    pub(crate) fn new(json: bool) -> Self {
        let (form, left_out): (_, fn(u64) -> String) = if json {
            (Form::Json, |lines| json!({ "leftOut": lines }).to_string())
        } else {
            (Form::Lines, |lines| format!("attestfs: .. and {lines} lines more, left out here"))
        };
        Self { form, voice: Some(Arc::new(Voice::start(left_out))) }
    }

    /// Of a process in the background.
    pub(crate) fn log() -> Self {
        Self { form: Form::Lines, voice: None }
    }

    /// Something worth knowing: `{"note": ..}`.
    pub(crate) fn say(&self, line: impl Display) {
        let line = without_error_numbers(&line.to_string());
        match self.form {
            Form::Json => self.write(json!({ "note": line }).to_string()),
            Form::Lines => self.print(&line),
        }
    }

    /// Why there was no run: `{"error": {"exitCode": .., "message": .., "nextStep": ..}}`.
    pub(crate) fn error(&self, error: &impl Display, next_step: Option<String>, exit_code: u8) {
        let message = without_error_numbers(&error.to_string());
        if self.form == Form::Json {
            let mut error = json!({ "exitCode": exit_code, "message": message });
            if let Some(step) = next_step {
                error["nextStep"] = step.into();
            }
            return self.write(json!({ "error": error }).to_string());
        }
        let told = self.line(&message);
        self.write(match next_step {
            None => told,
            Some(step) => format!("{told}\n  next: {}", harmless(&step)),
        });
    }

    /// What a commit made: `{"commit": ..}`, or `lines` for people.
    pub(crate) fn commit(&self, report: &CommitReport, lines: impl Iterator<Item = String>) {
        if self.form == Form::Json {
            self.write(json!({ "commit": ShownReport::from(report) }).to_string());
        } else {
            lines.for_each(|line| self.print(&line));
        }
    }

    /// That nothing had to be run: `{"reused": {"run": .., "outputs": .., "attestations": [..]}}`.
    pub(crate) fn reused(&self, reused: &Reused) {
        if self.form == Form::Json {
            return self.write(json!({ "reused": reused }).to_string());
        }
        let noun = if reused.outputs == 1 { "output" } else { "outputs" };
        self.print(&format!("reused: run {}, {} {noun} unchanged", reused.run, reused.outputs));
    }

    /// What the gate refused: `{"refused": {"path": .., "check": .., "reason": .., ..}}`. Whoever
    /// opened the file does not wait until somebody has read it.
    pub(crate) fn refused(&self, fact: &Fact) {
        let Fact::Refused { path, sha256, check, reason, next_step, enforced, by } = fact else {
            return;
        };
        if self.form == Form::Json {
            let refused = json!({
                "path": path.path, "tree": path.tree, "sha256": sha256, "check": check,
                "reason": reason, "nextStep": next_step, "enforced": enforced, "pid": by.pid,
            });
            return self.mention(json!({ "refused": refused }).to_string());
        }
        let refused = if *enforced { "refused" } else { "would be refused" };
        let of = if reason.contains(&path.path) { String::new() } else { format!("{path}: ") };
        let told = self.line(&format!("{refused}: {of}{reason}"));
        self.mention(match next_step.as_str() {
            "" => told,
            next_step => format!("{told}\n  next: {}", harmless(next_step)),
        });
    }

    /// Holds back what would be written between the lines of a command that writes to the same file.
    pub(crate) fn silence(&self) -> Silence<'_> {
        self.voice.iter().for_each(|voice| voice.hold());
        Silence(self)
    }

    fn print(&self, line: &str) {
        self.write(self.line(line));
    }

    fn line(&self, line: &str) -> String {
        let program = if self.voice.is_none() { "" } else { "attestfs: " };
        format!("{program}{}", harmless(line))
    }

    fn write(&self, line: String) {
        if let Some(voice) = &self.voice {
            voice.say(line);
        } else {
            tracing::info!("{line}");
        }
    }

    fn mention(&self, line: String) {
        if let Some(voice) = &self.voice {
            voice.mention(line);
        } else {
            tracing::info!("{line}");
        }
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        self.0.voice.iter().for_each(|voice| voice.release());
    }
}

/// A bar for the hashing of inputs, shown on a terminal only.
#[derive(Debug)]
pub(crate) struct Hashing {
    bar: ProgressBar,
}

impl Hashing {
    pub(crate) fn new() -> Self {
        let style = "hashing inputs {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {msg}";
        let style =
            ProgressStyle::with_template(style).expect("the template names known placeholders");
        Self { bar: ProgressBar::new(0).with_style(style) }
    }

    /// Shows how far it is; breaks off when `enough`.
    pub(crate) fn show(&self, progress: MaterialProgress, enough: bool) -> ControlFlow<()> {
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
