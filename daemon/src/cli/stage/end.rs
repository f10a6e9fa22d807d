use std::{
    path::PathBuf,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

use super::report::Attested;
use crate::{
    cli::{
        exit::Exit,
        failure::Failure,
        output::{Output, complain},
        query::{Store, seen_path},
    },
    client::Client,
    config::Environment,
};

/// End the stage of a mount as a success, and attest what it wrote
///
/// Waits half a minute for files that are still open for writing. What is still open then is left out
/// and named.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  attestfs stage close /mnt/models

Exit code: 0 when it is attested; 1 when an output is missing, when a model could not be signed, or \
when no stage is open there.")]
pub(super) struct Close {
    #[command(flatten)]
    place: Place,
}

/// End the stage of a mount as a failure: nobody vouches for what it wrote
///
/// Its checkpoints stay attested.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  attestfs stage abort /mnt/models

Exit code: 0 when it is recorded; 1 when no stage is open there.")]
pub(super) struct Abort {
    #[command(flatten)]
    place: Place,
}

/// Where.
#[derive(Debug, clap::Args)]
struct Place {
    /// The mount point, or something below it
    #[arg(value_name = "PATH")]
    path: PathBuf,

    #[command(flatten)]
    store: Store,
}

impl Place {
    fn find(&self, environment: &Environment) -> Result<(String, Client), Failure> {
        Ok((seen_path(&self.path), self.store.daemon(environment)?))
    }
}

/// Says what is waited for when the answer takes its time; not to programs.
struct Patience {
    _answer: Sender<()>,
}

impl Patience {
    fn begin(output: Output) -> Self {
        let (answer, awaited) = mpsc::channel();
        thread::spawn(move || {
            let is_late = awaited.recv_timeout(SILENCE) == Err(RecvTimeoutError::Timeout);
            if is_late && !output.is_json() {
                complain(
                    "files may still be open for writing: waits half a minute for them at most",
                );
            }
        });
        Self { _answer: answer }
    }
}

/// How long nothing is said.
const SILENCE: Duration = Duration::from_secs(2);

impl Close {
    pub(super) fn carry_out(
        self,
        output: Output,
        environment: &Environment,
    ) -> Result<Exit, Failure> {
        let (path, daemon) = self.place.find(environment)?;
        let patience = Patience::begin(output);
        let attested = daemon.close_stage(&path);
        drop(patience);
        let attested = Attested(attested?);
        output.show(&attested)?;
        Ok(attested.exit_of_end())
    }
}

impl Abort {
    pub(super) fn carry_out(
        self,
        output: Output,
        environment: &Environment,
    ) -> Result<Exit, Failure> {
        let (path, daemon) = self.place.find(environment)?;
        let recorded = Attested(daemon.abort_stage(&path)?);
        output.show(&recorded)?;
        Ok(Exit::Yes)
    }
}
