use std::fmt;

use serde::Serialize;

use super::state;
use crate::{
    cli::{
        exit::Exit,
        failure::Failure,
        output::Output,
        query::{Store, unexpected},
        story::short,
        table::Table,
    },
    config::Environment,
    control::{Reply, Request, StageDetails},
    lineage::{Material, MaterialDigest, Output as Written, OutputState, RefusedOpen, RunId},
    text::{harmless, one_name_of},
};

/// The most files of one kind that are shown to people; --json has them all.
const SHOWN_MAX: usize = 50;

/// Show one run: what it read, what it wrote, and what was attested of it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  attestfs stage show 01990000-0000-7000-8000-000000000000")]
pub(super) struct Show {
    /// The run, as 'attestfs stage list' names it; 8 digits of it or more
    #[arg(value_name = "RUN")]
    run: String,

    #[command(flatten)]
    store: Store,
}

#[derive(Serialize)]
#[serde(transparent)]
struct Shown(StageDetails);

impl Show {
    pub(super) fn carry_out(
        self,
        output: Output,
        environment: &Environment,
    ) -> Result<Exit, Failure> {
        let request = Request::Stage { run: RunId(self.run) };
        match self.store.daemon(environment)?.call(request)? {
            Reply::Stage(details) => output.show(&Shown(*details))?,
            _ => return Err(unexpected()),
        }
        Ok(Exit::Yes)
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let description = &self.0.summary.run.description;
        let command: Vec<_> = description.command.iter().map(|word| harmless(word)).collect();
        writeln!(f, "run        {}", harmless(&description.id))?;
        writeln!(f, "stage      {}", harmless(&description.stage))?;
        writeln!(f, "state      {}", state(&self.0.summary))?;
        writeln!(f, "started    {}", description.started.strftime("%Y-%m-%d %H:%M:%SZ"))?;
        if let Some(end) = &self.0.summary.run.end {
            writeln!(f, "finished   {}", end.finished.strftime("%Y-%m-%d %H:%M:%SZ"))?;
        }
        writeln!(f, "host       {}", harmless(&description.host))?;
        writeln!(f, "command    {}", command.join(" "))?;
        for tree in &description.trees {
            writeln!(f, "directory  {}", harmless(tree))?;
        }
        section(f, "read", &self.0.materials, read)?;
        section(f, "wrote", &self.0.outputs.kept, written)?;
        section(f, "refused", &self.0.refusals, refused)?;
        section(f, "attested", &self.0.attestations, |attestation| {
            [short(&attestation.statement), harmless(&attestation.artifact_root)]
        })
    }
}

fn section<T>(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    all: &[T],
    cells: impl Fn(&T) -> [String; 2],
) -> fmt::Result {
    if all.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n{title}")?;
    let mut table = Table::default();
    for one in all.iter().take(SHOWN_MAX) {
        let [left, right] = cells(one);
        table.row([format!("  {left}"), right]);
    }
    write!(f, "{table}")?;
    match all.len().saturating_sub(SHOWN_MAX) {
        0 => Ok(()),
        more => writeln!(f, "  … and {more} more"),
    }
}

fn read(material: &Material) -> [String; 2] {
    let digest = match &material.digest {
        MaterialDigest::Known { digests } => format!("sha256:{}", short(&digests.sha256)),
        MaterialDigest::Unknown { reason } => format!("no digest: {reason}"),
        MaterialDigest::Pending => "not hashed yet".to_owned(),
    };
    [harmless(&material.path.path), digest]
}

fn refused(refusal: &RefusedOpen) -> [String; 2] {
    let audit = if refusal.enforced { "" } else { " (read all the same: audit mode)" };
    [harmless(&refusal.path.path), format!("{}{audit}", harmless(&refusal.reason))]
}

fn written(output: &Written) -> [String; 2] {
    let name = match &output.path {
        Some(path) => one_name_of(&path.path, output.also.len()),
        None => "(unlinked)".to_owned(),
    };
    let digest = match &output.state {
        OutputState::Sealed { digests, .. } => format!("sha256:{}", short(&digests.sha256)),
        OutputState::Unsealed { reason } => format!("no digest: {reason}"),
    };
    [name, digest]
}
