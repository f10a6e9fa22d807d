//! Asking the store daemon.

use std::path::{Path, PathBuf};

use attestfs_attestation::escaped;

use super::failure::Failure;
use crate::{
    client::{Client, connect_or_start, connect_within_run},
    config::{Environment, StateDir},
    mount::mounts,
    session::resolved,
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

/// The absolute path by which the store knows a file or directory: without symbolic links, and behind
/// the mount through which it is seen.
pub(super) fn known_path(path: &Path) -> Result<String, Failure> {
    let origin = mounts::origin(&real(path)?);
    Ok(escaped(origin.as_os_str().as_encoded_bytes()))
}

/// The absolute path at which it is seen, without symbolic links. A sidecar does not see what it
/// serves: there it is the path by which statements know it.
pub(super) fn seen_path(path: &Path) -> String {
    escaped(resolved(path).as_os_str().as_encoded_bytes())
}

fn real(path: &Path) -> Result<PathBuf, Failure> {
    std::fs::canonicalize(path)
        .map_err(|error| Failure::environment(format_args!("{}: {error}", path.display())))
}

/// An answer to something else: the daemon is another program.
pub(super) fn unexpected() -> Failure {
    Failure::environment("the attestfs daemon answered something else than it was asked")
}
