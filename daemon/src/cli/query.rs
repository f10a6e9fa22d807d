//! Asking the store daemon.

use std::path::{Path, PathBuf};

use attestfs_attestation::escaped;

use super::failure::Failure;
use crate::{
    client::{Client, connect_or_start, connect_within_run},
    config::{Environment, StateDir},
};

/// Which store is asked.
#[derive(Debug, clap::Args)]
pub(super) struct Store {
    /// The state directory
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

impl Store {
    /// The daemon of the store, started when it is absent. A store that is not there is not made
    /// by a question; and inside a run it is the run that starts the daemon.
    pub(super) fn daemon(&self, environment: &Environment) -> Result<Client, Failure> {
        let state = self.existing(environment)?;
        match environment.run {
            Some(_) => Ok(connect_within_run(&state)?),
            None => Ok(connect_or_start(&state, None)?),
        }
    }

    fn existing(&self, environment: &Environment) -> Result<StateDir, Failure> {
        let state = StateDir::resolve(self.state.as_deref(), environment)?;
        if !state.root().exists() {
            let message =
                format!("nothing was recorded yet: there is no {}", state.root().display());
            return Err(Failure::environment(message).with_next_step(
                "record something with 'attestfs run', or name the state directory with --state",
            ));
        }
        Ok(state)
    }
}

/// The absolute path by which the store knows a file or directory: without symbolic links.
pub(super) fn known_path(path: &Path) -> Result<String, Failure> {
    let real = std::fs::canonicalize(path)
        .map_err(|error| Failure::environment(format_args!("{}: {error}", path.display())))?;
    Ok(escaped(real.as_os_str().as_encoded_bytes()))
}

/// An answer to something else: the daemon is another program.
pub(super) fn unexpected() -> Failure {
    Failure::environment("the attestfs daemon answered something else than it was asked")
}
