use std::{fmt, path::PathBuf};

use rustix::fs::Mode;
use serde::Serialize;

use super::{
    exit::Exit,
    failure::Failure,
    output::{Output, shown},
};
use crate::{
    client::{self, ClientError},
    config::{Environment, StateDir},
    control::StatusReport,
    daemon,
    metrics::{Address, wanted},
    wiring,
};

/// Serve a state directory: its lineage, keys and attestations
///
/// Commands start the daemon themselves when they need it; it ends when nobody needs it any more.
/// With --foreground it stays until SIGTERM, and tells systemd when it answers (Type=notify).
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  attestfs daemon                       start it, and return when it answers
  attestfs daemon --foreground          for systemd and sidecars")]
pub(super) struct Daemon {
    /// Stay, and log to stderr
    #[arg(long)]
    foreground: bool,

    /// Show metrics for Prometheus at unix:PATH, HOST:PORT or, on the loopback interface, PORT
    #[arg(long, value_name = "ADDR", requires = "foreground")]
    metrics: Option<Address>,

    /// Leave the session in which it was started
    #[arg(long, hide = true)]
    own_session: bool,

    /// The state directory
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

/// The answer of a daemon that is there.
#[derive(Serialize)]
#[serde(transparent)]
struct Serving(StatusReport);

impl fmt::Display for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "process {} serves {}", self.0.pid, shown(&self.0.state))
    }
}

impl Daemon {
    pub(super) fn carry_out(
        self,
        output: Output,
        environment: &Environment,
    ) -> Result<Exit, Failure> {
        let state = StateDir::resolve(self.state.as_deref(), environment)?;
        if environment.run.is_some() || client::sees_mounts_of_a_run() {
            return Err(ClientError::WithinRun { state: state.root().to_path_buf() }.into());
        }
        if !self.foreground {
            let status = client::connect_or_start(&state, None)?.status()?;
            output.show(&Serving(status))?;
            return Ok(Exit::Yes);
        }
        // It may have been started by a run, or by a user, with any mask. What only its user may
        // see says so, and what readers of a directory may see must not depend on who came first.
        rustix::process::umask(Mode::WGRP | Mode::WOTH);
        let metrics = wanted(self.metrics, environment).map_err(Failure::usage)?;
        daemon::serve(&state, environment, self.own_session, metrics.as_ref(), |state| {
            wiring::seams(state, environment)
        })
        .map_err(Failure::environment)?;
        Ok(Exit::Yes)
    }
}
