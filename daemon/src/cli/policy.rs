//! `policy check`.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use attestfs_attestation::{Mode, Policy, Rule, Warning, escaped, is_canonical};
use attestfs_digest::Sha256;
use clap::Subcommand;
use serde::Serialize;

use super::{
    exit::Exit,
    failure::Failure,
    output::{Output, shown},
    table::Table,
};
use crate::{
    policy::{PolicyFileError, read_policy},
    text::harmless,
};

/// Check policies before a mount relies on them
#[derive(Debug, clap::Args)]
pub(super) struct PolicyCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Check(Check),
}

/// Say what a policy means, what is wrong with it, and which rule has a path
///
/// The files that the policy names are read, too. Nothing else is: the paths need not be there.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  attestfs policy check serving.toml
  attestfs policy check serving.toml model/model.safetensors model/config.json

Exit code: 0 it can be used, 1 it cannot.")]
struct Check {
    /// The policy
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Paths relative to the mount: which rule has each?
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
}

/// The answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked {
    policy: String,
    sha256: Sha256,
    mode: &'static str,
    signers: Vec<String>,
    rules: Vec<RuleLine>,
    warnings: Vec<Warning>,
    paths: Vec<PathLine>,
}

/// One rule, in short.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RuleLine {
    number: usize,
    paths: Vec<String>,
    /// None of a rule that refuses everything.
    level: Option<String>,
    /// What it takes to be admitted, or why nothing is.
    demands: String,
}

/// One path, and the rule that has it.
#[derive(Serialize)]
struct PathLine {
    path: String,
    rule: Option<usize>,
}

impl PolicyCommand {
    pub(super) fn carry_out(self, output: Output) -> Result<Exit, Failure> {
        match self.action {
            Action::Check(check) => check.carry_out(output),
        }
    }
}

impl Check {
    fn carry_out(self, output: Output) -> Result<Exit, Failure> {
        let policy = read_policy(&self.file)?;
        let paths = self.paths.iter().map(|path| PathLine::of(path, &policy));
        let paths = paths.collect::<Result<_, _>>()?;
        output.show(&Checked {
            policy: shown(&self.file),
            sha256: policy.sha256(),
            mode: mode(policy.mode()),
            signers: policy.signers().map(ToOwned::to_owned).collect(),
            rules: policy.rules().iter().map(RuleLine::of).collect(),
            warnings: policy.warnings().to_vec(),
            paths,
        })?;
        Ok(Exit::Yes)
    }
}

impl RuleLine {
    fn of(rule: &Rule) -> Self {
        Self {
            number: rule.number(),
            paths: rule.paths().to_vec(),
            level: rule.level().map(|level| level.to_string()),
            demands: rule.demands(),
        }
    }
}

impl PathLine {
    fn of(path: &Path, policy: &Policy) -> Result<Self, Failure> {
        let path = escaped(path.as_os_str().as_encoded_bytes());
        if !is_canonical(&path) {
            let message = format!("'{path}' is no path relative to a mount");
            return Err(Failure::usage(message).with_next_step(
                "write it as it lies below the mount: no '/' at the beginning, no '..'",
            ));
        }
        let rule = policy.rule_for(&path).map(Rule::number);
        Ok(Self { path, rule })
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rules = Table::default();
        for rule in &self.rules {
            let level = rule.level.clone().unwrap_or_else(|| "refuse".to_owned());
            let paths = harmless(&rule.paths.join(" "));
            rules.row([format!("rule {}", rule.number), level, paths, harmless(&rule.demands)]);
        }
        writeln!(f, "{}: mode {}, sha256 {}\n\n{rules}", self.policy, self.mode, self.sha256)?;
        let mut paths = Table::default();
        for PathLine { path, rule } in &self.paths {
            let rule = rule.map_or_else(|| "not guarded".to_owned(), |rule| format!("rule {rule}"));
            paths.row([harmless(path), rule]);
        }
        if !self.paths.is_empty() {
            writeln!(f, "{paths}")?;
        }
        let mut warnings = self.warnings.iter();
        warnings.try_for_each(|warning| writeln!(f, "warning: {}", harmless(&warning.to_string())))
    }
}

impl From<PolicyFileError> for Failure {
    fn from(error: PolicyFileError) -> Self {
        match &error {
            PolicyFileError::Read { .. } => {
                Self::environment(error).with_next_step("name the file of the policy")
            }
            PolicyFileError::Misplaced { .. } => Self::environment(error),
            PolicyFileError::NotText { .. } | PolicyFileError::Policy { .. } => {
                Self::refused(error)
                    .with_next_step("correct it, and look with 'attestfs policy check'")
            }
        }
    }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Audit => "audit",
    }
}
