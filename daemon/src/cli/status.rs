use std::{fmt, path::PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{exit::Exit, failure::Failure, output::Output, query::unexpected, table::Table};
use crate::{
    client::{Client, ClientError},
    clock::{Clock, SystemClock},
    config::{Environment, StateDir},
    control::{Condition, LiveRun, MountDescription, PendingCommit, Reply, Request, ServedMount},
    mount,
    text::harmless,
};

/// Show the store daemon, and the runs and mounts that are served now
///
/// Starts no daemon: without one it shows the mounts alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  attestfs status
  attestfs --json status | jq '.mounts[].condition.refused'

Exit code: 0, with and without a daemon.")]
pub(super) struct Status {
    /// The state directory
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

/// What there is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    state: PathBuf,
    /// None when there is none.
    daemon: Option<Daemon>,
    /// None when there is no daemon to tell.
    runs: Option<Vec<Run>>,
    mounts: Vec<Mount>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Daemon {
    program: String,
    pid: u32,
    started: Timestamp,
    /// Commits that are frozen and not published.
    pending: Vec<PendingCommit>,
    /// Age of the oldest of them.
    seconds_behind: i64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    #[serde(flatten)]
    run: LiveRun,
    seconds_behind: i64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Mount {
    #[serde(flatten)]
    description: MountDescription,
    /// The stage that is open on it.
    stage: Option<String>,
    run: Option<String>,
    /// Whether anybody told which stage is open: without a daemon nobody does.
    is_stage_known: bool,
    condition: Option<Condition>,
}

impl Status {
    pub(super) fn carry_out(
        self,
        output: Output,
        environment: &Environment,
    ) -> Result<Exit, Failure> {
        let state = StateDir::resolve(self.state.as_deref(), environment)?;
        let shown = match Client::connect(&state) {
            Ok(client) => Shown::of_daemon(&state, &client)?,
            Err(ClientError::Absent { .. } | ClientError::Lost) => Shown::without_daemon(&state),
            Err(error) => return Err(error.into()),
        };
        output.show(&shown)?;
        Ok(Exit::Yes)
    }
}

impl Shown {
    fn of_daemon(state: &StateDir, client: &Client) -> Result<Self, Failure> {
        let Reply::Overview(overview) = client.call(Request::Overview)? else {
            return Err(unexpected());
        };
        let now = SystemClock.now();
        let (report, runs) = (overview.daemon, overview.runs);
        let mounts = overview.mounts.into_iter().map(|mount| Mount::of(mount, &runs)).collect();
        let oldest = report.pending.iter().map(|commit| commit.since).min();
        let daemon = Daemon {
            program: report.program,
            pid: report.pid,
            started: report.started,
            seconds_behind: seconds(oldest, now),
            pending: report.pending,
        };
        let runs = runs.into_iter();
        let runs = runs.map(|run| Run { seconds_behind: seconds(run.behind_since, now), run });
        let state = state.root().to_path_buf();
        Ok(Self { state, daemon: Some(daemon), runs: Some(runs.collect()), mounts })
    }

    fn without_daemon(state: &StateDir) -> Self {
        let mounts = mount::served(state).into_iter();
        let mounts = mounts.map(Mount::unasked);
        let state = state.root().to_path_buf();
        Self { state, daemon: None, runs: None, mounts: mounts.collect() }
    }
}

impl Mount {
    fn unasked(description: MountDescription) -> Self {
        Self { description, stage: None, run: None, is_stage_known: false, condition: None }
    }

    fn of(served: ServedMount, runs: &[LiveRun]) -> Self {
        let run = served.summary.run;
        let stage = runs.iter().find(|live| Some(&live.run) == run.as_ref());
        Self {
            description: served.summary.mount,
            stage: stage.map(|run| run.stage.clone()),
            run: run.map(|run| run.0),
            is_stage_known: true,
            condition: served.condition,
        }
    }
}

fn seconds(since: Option<Timestamp>, now: Timestamp) -> i64 {
    since.map_or(SignedDuration::ZERO, |since| now.duration_since(since)).as_secs().max(0)
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = harmless(&self.state.to_string_lossy());
        match &self.daemon {
            None => writeln!(
                f,
                "no daemon serves {state}: it is started when it is needed, and runs are not known \
                 without it"
            )?,
            Some(daemon) => {
                let since = daemon.started.strftime("%Y-%m-%d %H:%M:%SZ");
                let (program, pid) = (harmless(&daemon.program), daemon.pid);
                writeln!(f, "{program}, process {pid}, serves {state} since {since}")?;
                for commit in &daemon.pending {
                    let (id, waits_for) = (&commit.commit, harmless(&commit.waits_for));
                    writeln!(f, "commit {id} of {}: waits for {waits_for}", commit.since)?;
                }
            }
        }
        let mut table = Table::default();
        for Run { run, seconds_behind } in self.runs.iter().flatten() {
            let behind = format!("{seconds_behind} s, {} bytes behind", run.bytes_behind);
            table.row([
                "run".to_owned(),
                harmless(&run.run.0),
                format!("stage {}", harmless(&run.stage)),
                behind,
                said(run.condition),
                harmless(&run.trees.join(" ")),
            ]);
        }
        write!(f, "{table}")?;
        for mount in &self.mounts {
            writeln!(f, "{mount}")?;
        }
        if self.mounts.is_empty() && self.runs.iter().flatten().next().is_none() {
            writeln!(f, "nothing is served now")?;
        }
        Ok(())
    }
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MountDescription { mount_point, origin, read_only, policy, pid, .. } =
            &self.description;
        let place = mount_point.as_deref().unwrap_or("mounted elsewhere");
        write!(f, "mount {} of {}, process {pid}", harmless(place), harmless(origin))?;
        if *read_only {
            f.write_str(", read-only")?;
        }
        match policy {
            Some(policy) => write!(f, ", policy {}", harmless(&policy.to_string_lossy()))?,
            None => f.write_str(", no policy")?,
        }
        match &self.stage {
            Some(stage) => write!(f, ", stage {}", harmless(stage))?,
            None if self.is_stage_known => f.write_str(", no stage")?,
            None => f.write_str(", stage unknown")?,
        }
        write!(f, ": {}", said(self.condition))
    }
}

/// What a process says of itself.
fn said(condition: Option<Condition>) -> String {
    let Some(condition) = condition else {
        return "its process was not asked or does not answer".to_owned();
    };
    let Condition { refused, tolerated, files_to_hash, stuck_requests } = condition;
    let mut said = vec![format!("{refused} refused")];
    said.extend((tolerated > 0).then(|| format!("{tolerated} in audit mode")));
    said.extend((files_to_hash > 0).then(|| format!("{files_to_hash} files to hash")));
    said.extend((stuck_requests > 0).then(|| format!("{stuck_requests} hanging in the store")));
    said.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_it_is_behind_is_never_negative() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        assert_eq!(seconds(None, now), 0);
        assert_eq!(seconds(Some(now + SignedDuration::from_secs(5)), now), 0);
        assert_eq!(seconds(Some(now - SignedDuration::from_secs(5)), now), 5);
    }

    #[test]
    fn nobody_says_that_no_stage_is_open_who_does_not_know() {
        let description = MountDescription {
            id: "1".to_owned(),
            mount_point: Some("/mnt".to_owned()),
            origin: "/data".to_owned(),
            read_only: false,
            policy: None,
            pid: 1,
            started: "2026-01-02T03:04:05Z".parse().unwrap(),
        };
        let unasked = Mount::unasked(description);
        assert!(unasked.to_string().contains("stage unknown"), "{unasked}");
        let asked = Mount { is_stage_known: true, ..unasked };
        assert!(asked.to_string().contains("no stage"), "{asked}");
    }

    #[test]
    fn what_a_process_says_names_what_there_is() {
        let condition = Condition { refused: 2, ..Condition::default() };
        assert_eq!(said(Some(condition)), "2 refused");
        let condition = Condition { refused: 0, tolerated: 1, files_to_hash: 3, stuck_requests: 4 };
        let all = "0 refused, 1 in audit mode, 3 files to hash, 4 hanging in the store";
        assert_eq!(said(Some(condition)), all);
        assert!(said(None).contains("not answer"));
    }
}
