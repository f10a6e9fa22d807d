use std::path::PathBuf;

use super::{exit::Exit, failure::Failure};
use crate::{
    client,
    config::{Environment, StateDir},
    daemon, wiring,
};

/// Serve a state directory: its lineage, keys and attestations
///
/// Commands start the daemon themselves when they need it; it ends when nobody needs it any more.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  attestfs daemon                       start it, and return when it answers
  attestfs daemon --foreground          for systemd and sidecars")]
pub(super) struct Daemon {
    /// Stay, and log to stderr
    #[arg(long)]
    foreground: bool,

    /// Leave the session in which it was started
    #[arg(long, hide = true)]
    own_session: bool,

    /// The state directory
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

impl Daemon {
    pub(super) fn carry_out(self, environment: &Environment) -> Result<Exit, Failure> {
        let state = StateDir::resolve(self.state.as_deref(), environment)?;
        if !self.foreground {
            client::connect_or_start(&state, None)?.status()?;
            return Ok(Exit::Yes);
        }
        daemon::serve(&state, environment, self.own_session, |state| {
            wiring::seams(state, environment)
        })
        .map_err(Failure::environment)?;
        Ok(Exit::Yes)
    }
}
