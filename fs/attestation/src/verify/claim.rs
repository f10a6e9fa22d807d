use attestfs_digest::Sha256;
use serde::de::DeserializeOwned;

use crate::{
    incomplete::{INCOMPLETE_TYPE, IncompleteRun},
    oms::{MODEL_SIGNATURE_TYPE, ModelManifest},
    provenance::{BUILD_TYPE, BUILDER_ID, OutcomeWord, PROVENANCE_TYPE, Provenance},
    statement::{STATEMENT_TYPE, Statement},
    verify::{Refusal, Signed, SignedModel, Signer},
};

/// A signed statement that we can read.
#[derive(Clone, Debug)]
pub enum Claim {
    /// A run says what it made.
    Provenance(Signed, Box<Statement<Provenance>>),
    /// The same of a run that failed, or whose end nobody saw.
    Incomplete(Signed, Box<Statement<IncompleteRun>>),
    /// Somebody vouches for the content of a directory.
    Model(SignedModel),
}

impl Claim {
    /// Check 5. Unknown types are refused; unknown fields are ignored, but in what a user can
    /// influence.
    ///
    /// # Errors
    /// The statement is of no kind that we can read.
    pub fn read(signed: Signed) -> Result<Self, Refusal> {
        let header = signed.payload().header().map_err(Refusal::Statement)?;
        if header.statement_type != STATEMENT_TYPE {
            return Err(Refusal::UnknownStatement { found: clip(&header.statement_type) });
        }
        match header.predicate_type.as_str() {
            PROVENANCE_TYPE => {
                let statement: Statement<Provenance> = statement(&signed)?;
                known_build(&statement.predicate)?;
                Ok(Self::Provenance(signed, Box::new(statement)))
            }
            INCOMPLETE_TYPE => {
                let statement: Statement<IncompleteRun> = statement(&signed)?;
                known_build(&statement.predicate.run)?;
                Ok(Self::Incomplete(signed, Box::new(statement)))
            }
            MODEL_SIGNATURE_TYPE => {
                let manifest = ModelManifest::read(signed.payload()).map_err(Refusal::Model)?;
                Ok(Self::Model(SignedModel::new(&signed, manifest)))
            }
            other => Err(Refusal::UnknownPredicate { found: clip(other) }),
        }
    }

    /// Check 6.
    ///
    /// # Errors
    /// The run did not succeed, or this is no claim of a run.
    pub fn vouched(self) -> Result<Vouched, Refusal> {
        match self {
            Self::Provenance(signed, statement) => match outcome(&statement.predicate) {
                OutcomeWord::Success | OutcomeWord::Running => Ok(Vouched {
                    attestation: signed.attestation(),
                    signer: signed.signer().clone(),
                    statement,
                }),
                other => Err(not_success(&statement.predicate, other)),
            },
            Self::Incomplete(_, statement) => {
                let run = &statement.predicate.run;
                Err(not_success(run, outcome(run)))
            }
            Self::Model(_) => {
                Err(Refusal::UnknownPredicate { found: MODEL_SIGNATURE_TYPE.to_owned() })
            }
        }
    }
}

/// The provenance of a run that succeeded, at least up to a checkpoint.
#[derive(Clone, Debug)]
pub struct Vouched {
    attestation: Sha256,
    signer: Signer,
    statement: Box<Statement<Provenance>>,
}

impl Vouched {
    /// The name of the attestation.
    pub fn attestation(&self) -> Sha256 {
        self.attestation
    }

    /// Who signed it.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// What it says.
    pub fn statement(&self) -> &Statement<Provenance> {
        &self.statement
    }

    /// What it says of the run.
    pub fn provenance(&self) -> &Provenance {
        &self.statement.predicate
    }
}

fn statement<P: DeserializeOwned>(signed: &Signed) -> Result<Statement<P>, Refusal> {
    signed.payload().statement().map_err(Refusal::Statement)
}

/// A build type says how to read the rest, and a builder how far to believe it: both must be ours.
fn known_build(provenance: &Provenance) -> Result<(), Refusal> {
    let build_type = &provenance.build_definition.build_type;
    if build_type != BUILD_TYPE {
        return Err(Refusal::UnknownBuildType { found: clip(build_type) });
    }
    let builder = &provenance.run_details.builder.id;
    if builder != BUILDER_ID {
        return Err(Refusal::UnknownBuilder { found: clip(builder) });
    }
    Ok(())
}

fn outcome(provenance: &Provenance) -> OutcomeWord {
    provenance.build_definition.internal_parameters.outcome
}

fn not_success(provenance: &Provenance, outcome: OutcomeWord) -> Refusal {
    Refusal::OutcomeNotSuccess {
        stage: provenance.build_definition.external_parameters.stage.clone(),
        run: provenance.run_details.metadata.invocation_id.clone(),
        outcome,
    }
}

fn clip(text: &str) -> String {
    text.chars().take(200).collect()
}
