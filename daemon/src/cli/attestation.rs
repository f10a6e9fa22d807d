//! `attestation list|show|export`.

mod export;
#[cfg(feature = "mount")]
mod list;
mod named;
mod show;

use clap::Subcommand;

use super::{exit::Exit, failure::Failure, output::Output};
use crate::config::Environment;

/// List, show and export attestations
#[derive(Debug, clap::Args)]
pub(super) struct Attestation {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    #[cfg(feature = "mount")]
    List(list::List),
    Show(show::Show),
    Export(export::Export),
}

impl Attestation {
    pub(super) fn carry_out(
        self,
        output: Output,
        environment: &Environment,
    ) -> Result<Exit, Failure> {
        match self.action {
            #[cfg(feature = "mount")]
            Action::List(list) => list.carry_out(output, environment),
            Action::Show(show) => show.carry_out(output, environment),
            Action::Export(export) => export.carry_out(output, environment),
        }
    }
}
