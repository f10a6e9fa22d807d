use std::{fmt, path::PathBuf};

use attestfs_attestation::escaped;
use serde::Serialize;

use crate::{
    cli::{
        exit::Exit,
        failure::Failure,
        output::Output,
        query::{Store, seen_path},
        run::{label, stage},
    },
    config::Environment,
    control::StageOrder,
    session::{normal, refuse_misplaced, resolved},
    text::harmless,
};

/// Open a stage on a mount: what is read and written there from now on is recorded
///
/// It stays open until it is closed or aborted, or the mount ends. Files that were opened before are
/// no part of it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  attestfs stage open /mnt/models --stage train --out model && python train.py \\
    && attestfs stage close /mnt/models || attestfs stage abort /mnt/models

Exit code: 0 when it is open; 1 when another one is, or nothing is mounted there.")]
pub(super) struct Open {
    /// The mount point, or something below it
    #[arg(value_name = "PATH")]
    path: PathBuf,

    /// The step of the pipeline
    #[arg(long, value_name = "NAME", value_parser = stage)]
    stage: String,

    /// An input, relative to PATH or absolute
    #[arg(long = "in", value_name = "P")]
    inputs: Vec<PathBuf>,

    /// An output, likewise; without any, everything that is written
    #[arg(long = "out", value_name = "P")]
    outputs: Vec<PathBuf>,

    /// Something to remember of this run
    #[arg(long = "label", value_name = "K=V", value_parser = label)]
    labels: Vec<(String, String)>,

    /// Let model.sig cover files below an output that no run wrote
    #[arg(long)]
    adopt: bool,

    /// Make a checkpoint whenever a complete model appears below an output
    #[arg(long)]
    checkpoint_rule: bool,

    #[command(flatten)]
    store: Store,
}

/// The stage that is open now.
#[derive(Serialize)]
struct Opened {
    stage: String,
    run: String,
}

impl Open {
    pub(super) fn carry_out(
        self,
        output: Output,
        environment: &Environment,
    ) -> Result<Exit, Failure> {
        let path = seen_path(&self.path);
        let (base, here) = (resolved(&self.path), std::env::current_dir());
        let here = here.map_err(|error| {
            Failure::environment(format_args!("the working directory: {error}"))
        })?;
        refuse_misplaced(&self.outputs, &base, &here, |path| path.starts_with(&base))
            .map_err(Failure::usage)?;
        let below = |paths: &[PathBuf]| -> Vec<String> {
            let absolute = paths.iter().map(|below| resolved(&normal(&base.join(below))));
            absolute.map(|path| escaped(path.as_os_str().as_encoded_bytes())).collect()
        };
        let order = StageOrder {
            stage: self.stage.clone(),
            inputs: below(&self.inputs),
            outputs: below(&self.outputs),
            labels: self.labels.iter().cloned().collect(),
            adopt: self.adopt,
            checkpoint_rule: self.checkpoint_rule,
            ..StageOrder::default()
        };
        let run = self.store.daemon(environment)?.open_stage(&path, order)?;
        output.show(&Opened { stage: self.stage, run: run.0 })?;
        Ok(Exit::Yes)
    }
}

impl fmt::Display for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "stage '{}' is open, run {}", harmless(&self.stage), harmless(&self.run))
    }
}
