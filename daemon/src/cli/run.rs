use std::{ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};

use attestfs_attestation::Inputs;
use attestfs_fs::Capture;
use clap::ValueEnum;

use super::output::Output;
use crate::{
    config::Environment,
    lock::{LockOptions, LockWish},
    metrics::Address,
    run::{self, Options},
    text::is_name,
};

/// Run a command, and record and attest what it reads and writes
///
/// The command sees each DIR at its own path, through a mount that no other process sees. What it
/// wrote there is attested when it ends with 0.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  attestfs run --stage train --dir . --out model -- python train.py
  attestfs run --stage clean --dir data --in raw --out clean --label team=nlp -- make clean-data
  attestfs run --stage train --dir . --out model --lock data.lock --locked -- python train.py

--reuse takes two runs for the same when all that a statement records of them is equal, but for id, \
times and cgroup: stage, directories, --in, --out, command, labels, working directory, the program \
and its digest, user, machine, kernel, version of attestfs and the enforced lock. Environment \
variables, and libraries outside of every DIR, are not compared.

With --json, what attestfs says on standard error is one JSON object a line: {\"commit\": ..}, \
{\"note\": ..}, {\"reused\": ..} or {\"error\": ..}; standard output is the command's.

Output that is redirected to a file below a DIR is attested like any other. The file that standard \
error goes to is left out: attestfs itself writes there how the commit went.

Exit code: that of the command (128 + signal when one killed it); 125 when attestfs itself failed, \
before the command or after it; 126 when the command cannot be executed, 127 when it is not found; \
2 usage; 3 when a DIR is served to another run.")]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(super) struct Run {
    /// The step of the pipeline
    #[arg(long, value_name = "NAME", value_parser = stage)]
    stage: String,

    /// A directory that is observed; all of them are one run
    #[arg(long = "dir", value_name = "DIR", required = true)]
    dirs: Vec<PathBuf>,

    /// An input, relative to the first DIR, or absolute and below one of them
    #[arg(long = "in", value_name = "P")]
    inputs_declared: Vec<PathBuf>,

    /// An output, likewise; without any, everything that is written
    #[arg(long = "out", value_name = "P")]
    outputs: Vec<PathBuf>,

    /// Something to remember of this run
    #[arg(long = "label", value_name = "K=V", value_parser = label)]
    labels: Vec<(String, String)>,

    /// The policy that says what may be opened
    #[arg(long, value_name = "F")]
    policy: Option<PathBuf>,

    /// The lock of the data: written from what the command opens when there is none, otherwise
    /// compared with it
    #[arg(long, value_name = "F")]
    lock: Option<PathBuf>,

    /// Let nothing be opened but what the lock has, with the content that it has there
    #[arg(long, requires = "lock")]
    locked: bool,

    /// Write the lock anew from what the command opens
    #[arg(long, requires = "lock", conflicts_with = "locked")]
    lock_update: bool,

    /// Run nothing when an earlier run has done the same with the same locked data, and what it
    /// published is unchanged
    #[arg(long, requires = "locked", conflicts_with = "policy")]
    reuse: bool,

    /// The private key that signs; without it that of the state directory
    #[arg(long, value_name = "F")]
    key: Option<PathBuf>,

    /// The state directory
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,

    /// Show metrics for Prometheus at unix:PATH, HOST:PORT or, on the loopback interface, PORT
    #[arg(long, value_name = "ADDR")]
    metrics: Option<Address>,

    /// Which of the files that are read get a digest
    #[arg(long, value_enum, default_value_t = HashedInputs::Opened)]
    inputs: HashedInputs,

    /// How what is written comes to be known
    #[arg(long, value_enum, default_value_t)]
    capture: CaptureWord,

    /// Let model.sig cover files below an output that no run wrote
    #[arg(long)]
    adopt: bool,

    /// Make a checkpoint whenever a complete model appears below an output
    #[arg(long)]
    checkpoint_rule: bool,

    /// How long the commit waits for files that are still open for writing
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    commit_patience: u32,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// `--inputs`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum HashedInputs {
    /// Those below an --in
    Declared,
    /// All that are opened
    Opened,
    /// No file
    None,
}

/// `--capture`.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum CaptureWord {
    /// All writes pass the filesystem, which hashes them as it stores them
    #[default]
    Inline,
    /// The kernel writes by itself what a program makes and does not read meanwhile, at the store's own speed; it is read
    /// and hashed behind the program, and once more when that has closed it. Takes root
    Reread,
}

impl From<CaptureWord> for Capture {
    fn from(word: CaptureWord) -> Self {
        match word {
            CaptureWord::Inline => Self::Inline,
            CaptureWord::Reread => Self::Reread,
        }
    }
}

impl Run {
    pub(super) fn carry_out(self, output: Output, environment: &Environment) -> ExitCode {
        run::command(self.options(output.is_json()), environment)
    }

    fn options(self, json: bool) -> Options {
        let run = self;
        let wish = match (run.locked, run.lock_update) {
            (true, _) => LockWish::Enforce,
            (false, true) => LockWish::Update,
            (false, false) => LockWish::Keep,
        };
        Options {
            stage: run.stage,
            dirs: run.dirs,
            inputs_declared: run.inputs_declared,
            outputs: run.outputs,
            labels: run.labels,
            policy: run.policy,
            lock: run.lock.map(|path| LockOptions { path, wish }),
            reuse: run.reuse,
            key: run.key,
            state: run.state,
            metrics: run.metrics,
            inputs: run.inputs.into(),
            capture: run.capture.into(),
            adopt: run.adopt,
            checkpoint_rule: run.checkpoint_rule,
            patience: Duration::from_secs(run.commit_patience.into()),
            json,
            command: run.command,
        }
    }
}

impl From<HashedInputs> for Inputs {
    fn from(inputs: HashedInputs) -> Self {
        match inputs {
            HashedInputs::Declared => Self::Declared,
            HashedInputs::Opened => Self::Opened,
            HashedInputs::None => Self::None,
        }
    }
}

pub(super) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if is_name(name) => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a label has the form NAME=VALUE, with a name in visible characters".to_owned()),
    }
}

pub(super) fn stage(text: &str) -> Result<String, String> {
    let named = is_name(text).then(|| text.to_owned());
    named.ok_or_else(|| "a stage has a name, in visible characters".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_has_a_name_and_perhaps_a_value() {
        for wrong in ["", "x", "=x", " =x", "a\nb=x", "a\u{202e}=x"] {
            assert!(label(wrong).is_err(), "{wrong:?}");
        }
        for (text, name, value) in [("a=", "a", ""), ("a=b", "a", "b"), ("a=b=c", "a", "b=c")] {
            assert_eq!(label(text), Ok((name.to_owned(), value.to_owned())));
        }
    }

    #[test]
    fn a_stage_has_a_name_that_can_be_read() {
        for wrong in ["", " ", "a\nb", "\u{1b}[2J", "a\u{200b}"] {
            assert!(stage(wrong).is_err(), "{wrong:?}");
        }
        for name in ["train", "fine tune", "\u{e9}tape 2"] {
            assert_eq!(stage(name), Ok(name.to_owned()));
        }
    }
}
