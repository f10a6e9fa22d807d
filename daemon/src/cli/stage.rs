//! `stage open|close|abort|checkpoint|list|show`.

mod checkpoint;
mod end;
mod list;
mod open;
pub(super) mod report;
mod show;

use attestfs_attestation::Outcome;
use clap::Subcommand;

use super::{exit::Exit, failure::Failure, output::Output};
use crate::{config::Environment, control::RunSummary};

/// Open and end stages on mounts, make checkpoints of running stages; list and show runs
#[derive(Debug, clap::Args)]
pub(super) struct Stage {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Open(open::Open),
    Close(end::Close),
    Abort(end::Abort),
    Checkpoint(checkpoint::Checkpoint),
    List(list::List),
    Show(show::Show),
}

impl Stage {
    pub(super) fn carry_out(
        self,
        output: Output,
        environment: &Environment,
    ) -> Result<Exit, Failure> {
        match self.action {
            Action::Open(open) => open.carry_out(output, environment),
            Action::Close(close) => close.carry_out(output, environment),
            Action::Abort(abort) => abort.carry_out(output, environment),
            Action::Checkpoint(checkpoint) => checkpoint.carry_out(output, environment),
            Action::List(list) => list.carry_out(output, environment),
            Action::Show(show) => show.carry_out(output, environment),
        }
    }
}

/// How a run is, in a word or two.
fn state(run: &RunSummary) -> String {
    match run.run.end.as_ref().map(|end| end.outcome) {
        None if run.live => "running".to_owned(),
        None => "away".to_owned(),
        Some(Outcome::Success) => "success".to_owned(),
        Some(Outcome::Failed { signal: Some(signal), .. }) => format!("failed (signal {signal})"),
        Some(Outcome::Failed { exit_code: Some(code), .. }) => format!("failed (exit {code})"),
        Some(Outcome::Failed { .. }) => "failed".to_owned(),
        Some(Outcome::Unknown) => "unknown end".to_owned(),
    }
}
