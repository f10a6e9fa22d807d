//! `doctor`: what this machine offers.

mod machine;
mod store;

use std::{fmt, path::PathBuf};

pub(super) use machine::{HIDDEN_COMMAND, rehearsal};
use serde::Serialize;

use super::{exit::Exit, failure::Failure, output::Output};
use crate::{
    config::Environment,
    text::{harmless, without_error_numbers},
};

/// Tell what this machine offers, and what keeps 'attestfs run' from working
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  attestfs doctor

Exit code: 0 when 'attestfs run' can work here, 3 when something keeps it from that.")]
pub(super) struct Doctor {
    /// The state directory
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

#[derive(Serialize)]
struct Findings {
    findings: Vec<Finding>,
}

/// One line.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    subject: &'static str,
    state: State,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_step: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// It is there.
    Ok,
    /// It is not, and `run` cannot do without.
    Missing,
    /// It is not, or we do not use it yet; `run` does not mind.
    Unused,
}

impl Doctor {
    pub(super) fn carry_out(
        self,
        output: Output,
        environment: &Environment,
    ) -> Result<Exit, Failure> {
        let mut findings = machine::findings();
        findings.extend(store::findings(self.state.as_deref(), environment));
        let is_missing = findings.iter().any(|finding| finding.state == State::Missing);
        output.show(&Findings { findings })?;
        Ok(if is_missing { Exit::Environment } else { Exit::Yes })
    }
}

impl Finding {
    fn ok(subject: &'static str, detail: impl Into<String>) -> Self {
        Self { subject, state: State::Ok, detail: detail.into(), next_step: None }
    }

    fn missing(
        subject: &'static str,
        detail: impl Into<String>,
        next_step: impl Into<String>,
    ) -> Self {
        Self {
            subject,
            state: State::Missing,
            detail: detail.into(),
            next_step: Some(next_step.into()),
        }
    }

    fn unused(subject: &'static str, detail: impl Into<String>) -> Self {
        Self { subject, state: State::Unused, detail: detail.into(), next_step: None }
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            let state = match finding.state {
                State::Ok => "ok",
                State::Missing => "NO",
                State::Unused => "--",
            };
            writeln!(
                f,
                "{state}  {:<16}  {}",
                finding.subject,
                harmless(&without_error_numbers(&finding.detail))
            )?;
            if let Some(next_step) = &finding.next_step {
                writeln!(f, "    {:<16}  next: {}", "", harmless(next_step))?;
            }
        }
        Ok(())
    }
}
