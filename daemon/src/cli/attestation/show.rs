use std::fmt;

use attestfs_attestation::Bundle;
use attestfs_digest::Sha256;
use serde::Serialize;
use serde_json::Value;

use super::named::{Choice, Meant, Named};
use crate::{
    artifact::{Claimed, claimed_signer},
    cli::{exit::Exit, failure::Failure, output::Output},
    config::Environment,
    text::harmless,
};

/// Show what an attestation says; nothing of it is checked
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  attestfs attestation show 2cacb0ae68aa
  attestfs attestation show model/model.safetensors --json")]
pub(super) struct Show {
    #[command(flatten)]
    named: Named,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    attestation: Sha256,
    signer: String,
    payload_type: String,
    statement: Value,
    /// Attestations that name the same content.
    others: Vec<Claimed>,
    #[serde(skip)]
    choice: Choice,
}

impl Show {
    pub(super) fn carry_out(
        self,
        output: Output,
        environment: &Environment,
    ) -> Result<Exit, Failure> {
        let Meant { bundle, choice } = self.named.meant(environment)?;
        let bundle = Bundle::parse(&bundle).map_err(Failure::refused)?;
        let statement = serde_json::from_slice(bundle.payload().bytes());
        output.show(&Shown {
            attestation: bundle.sha256(),
            signer: claimed_signer(&bundle),
            payload_type: bundle.payload_type().to_owned(),
            statement: statement.map_err(Failure::refused)?,
            others: choice.others().to_vec(),
            choice,
        })?;
        Ok(Exit::Yes)
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "attestation  sha256:{}", self.attestation)?;
        writeln!(f, "signer       {}  (not checked)", harmless(&self.signer))?;
        write!(f, "{}", self.choice)?;
        let statement = serde_json::to_string_pretty(&self.statement).unwrap_or_default();
        statement.lines().try_for_each(|line| writeln!(f, "{}", harmless(line)))
    }
}
