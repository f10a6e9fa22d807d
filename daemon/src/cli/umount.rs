use std::{fmt, path::PathBuf};

use attestfs_attestation::escaped;
use serde::Serialize;

use super::{exit::Exit, failure::Failure, output::Output, stage::report::Attested};
use crate::{
    client::connect_or_start,
    config::{Environment, StateDir},
    mount::{Unmounted, break_off, umount},
    text::harmless,
};

/// Unmount a directory; a mount that is a stage ends as a success
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  attestfs umount /mnt/models
  attestfs umount --lazy /mnt/models    those who use it may go on until they leave
  attestfs umount --abort /mnt/models   it hangs: those who use it are told an error, now

Exit code: 0 when it is unmounted, and its stage attested; 1 when a stage is open there, when it is in \
use, when nothing of attestfs is mounted there, or when something could not be attested; 3 when only \
root can.")]
pub(super) struct Umount {
    /// Where it is mounted
    #[arg(value_name = "MOUNTPOINT")]
    mount_point: PathBuf,

    /// Let those who use it go on until they leave
    #[arg(long)]
    lazy: bool,

    /// Break it off although it hangs; a stage that is open there has an unknown outcome
    #[arg(long, conflicts_with = "lazy")]
    abort: bool,

    /// The state directory
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

/// What came of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    mount_point: String,
    /// `ended`, `left`, `dead`, `foreign` or `broken-off`.
    unmounted: &'static str,
    commit: Option<Attested>,
}

impl Umount {
    pub(super) fn carry_out(
        self,
        output: Output,
        environment: &Environment,
    ) -> Result<Exit, Failure> {
        let state = StateDir::resolve(self.state.as_deref(), environment)?;
        let daemon = || state.root().exists().then(|| connect_or_start(&state, None));
        let unmounted = if self.abort {
            break_off(&self.mount_point)
        } else {
            umount(&state, &self.mount_point, self.lazy, daemon)
        };
        let (unmounted, report) = match unmounted? {
            Unmounted::Ended(report) => ("ended", report),
            Unmounted::Left => ("left", None),
            Unmounted::Dead => ("dead", None),
            Unmounted::Foreign => ("foreign", None),
            Unmounted::BrokenOff => ("broken-off", None),
        };
        let commit = report.map(Attested);
        let mount_point = escaped(self.mount_point.as_os_str().as_encoded_bytes());
        let answer = Answer { mount_point, unmounted, commit };
        output.show(&answer)?;
        let failed = answer.commit.as_ref().is_some_and(Attested::is_incomplete);
        Ok(if failed { Exit::Refused } else { Exit::Yes })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = harmless(&self.mount_point);
        match self.unmounted {
            "left" => writeln!(f, "{place} goes when its last user has left")?,
            "dead" => writeln!(f, "{place} is unmounted; its process was gone")?,
            "broken-off" => writeln!(f, "{place} is broken off; its users are told an error")?,
            "foreign" => writeln!(f, "{place} is unmounted; no process of this state served it")?,
            _ => writeln!(f, "{place} is unmounted")?,
        }
        self.commit.iter().try_for_each(|commit| write!(f, "{commit}"))
    }
}
