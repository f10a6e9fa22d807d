use std::fmt;

use serde::Serialize;

use super::state;
use crate::{
    cli::{
        exit::Exit,
        failure::Failure,
        output::Output,
        query::{Store, unexpected},
        table::Table,
    },
    config::Environment,
    control::{Reply, Request, RunSummary},
    text::harmless,
};

/// List runs, the newest first
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  attestfs stage list --limit 10")]
pub(super) struct List {
    /// How many at most
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: usize,

    #[command(flatten)]
    store: Store,
}

#[derive(Serialize)]
struct Listed {
    runs: Vec<RunSummary>,
}

impl List {
    pub(super) fn carry_out(
        self,
        output: Output,
        environment: &Environment,
    ) -> Result<Exit, Failure> {
        let request = Request::Stages { limit: self.limit };
        match self.store.daemon(environment)?.call(request)? {
            Reply::Stages(runs) => output.show(&Listed { runs })?,
            _ => return Err(unexpected()),
        }
        Ok(Exit::Yes)
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.runs.is_empty() {
            return writeln!(f, "nothing has run yet");
        }
        let mut table = Table::default();
        for run in &self.runs {
            let description = &run.run.description;
            table.row([
                harmless(&description.id),
                description.started.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
                harmless(&description.stage),
                state(run),
                harmless(&description.trees.join(" ")),
            ]);
        }
        write!(f, "{table}")
    }
}
