use std::{fmt, path::PathBuf};

use attestfs_attestation::{CommitKind, Outcome};
use serde::Serialize;

use crate::{
    cli::{
        exit::Exit,
        failure::Failure,
        output::Output,
        query::{Store, known_path, unexpected},
        story::{counted, short},
        table::Table,
    },
    config::Environment,
    control::{AttestationFilter, Reply, Request},
    lineage::{Attestation, RunId},
    text::harmless,
};

/// List published attestations, the newest first
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  attestfs attestation list
  attestfs attestation list model --limit 5")]
pub(super) struct List {
    /// Only those of artifacts at or below this path
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,

    /// Only those of this run
    #[arg(long, value_name = "RUN", conflicts_with = "path")]
    run: Option<String>,

    /// How many at most
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: usize,

    #[command(flatten)]
    store: Store,
}

#[derive(Serialize)]
struct Listed {
    attestations: Vec<Attestation>,
}

impl List {
    pub(super) fn carry_out(
        self,
        output: Output,
        environment: &Environment,
    ) -> Result<Exit, Failure> {
        let filter = match (&self.path, &self.run) {
            (Some(path), _) => AttestationFilter::Under(known_path(path)?),
            (None, Some(run)) => AttestationFilter::Run(RunId(run.clone())),
            (None, None) => AttestationFilter::All,
        };
        let request = Request::Attestations { filter, limit: self.limit };
        match self.store.daemon(environment)?.call(request)? {
            Reply::Attestations(attestations) => output.show(&Listed { attestations })?,
            _ => return Err(unexpected()),
        }
        Ok(Exit::Yes)
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.attestations.is_empty() {
            return writeln!(f, "no attestation was published");
        }
        let mut table = Table::default();
        for attestation in &self.attestations {
            let freed = if attestation.freed { "  (freed)" } else { "" };
            table.row([
                short(&attestation.statement),
                attestation.time.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
                harmless(&attestation.stage),
                kind(attestation.kind).to_owned(),
                counted(attestation.subjects, "file"),
                format!("{}{freed}", harmless(&attestation.artifact_root)),
            ]);
        }
        write!(f, "{table}")
    }
}

fn kind(kind: CommitKind) -> &'static str {
    match kind {
        CommitKind::Checkpoint => "checkpoint",
        CommitKind::StageEnd(Outcome::Success) => "success",
        CommitKind::StageEnd(Outcome::Failed { .. }) => "failed",
        CommitKind::StageEnd(Outcome::Unknown) => "unknown end",
    }
}
