use std::path::PathBuf;

use super::report::Attested;
use crate::{
    cli::{
        exit::Exit,
        failure::Failure,
        output::Output,
        query::{Store, known_path},
    },
    config::Environment,
};

/// Attest a file or directory that a running stage has completed
///
/// Waits until nobody writes below PATH any more, as long as the run was told to. What is still open
/// then is left out and named. A later failure of the run does not take the checkpoint back.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  attestfs stage checkpoint model/checkpoint-1000")]
pub(super) struct Checkpoint {
    /// The file or directory, below a --dir of the run
    #[arg(value_name = "PATH")]
    path: PathBuf,

    #[command(flatten)]
    store: Store,
}

impl Checkpoint {
    pub(super) fn carry_out(
        self,
        output: Output,
        environment: &Environment,
    ) -> Result<Exit, Failure> {
        let path = known_path(&self.path)?;
        let made = Attested(self.store.daemon(environment)?.checkpoint(&path)?);
        output.show(&made)?;
        Ok(made.exit_of_checkpoint())
    }
}
