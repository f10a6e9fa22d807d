use attestfs_digest::Sha256;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    oms::HashType,
    provenance::{CommitWord, OutcomeWord},
    run::LockUse,
    statement::ResourceDescriptor,
    verify::{Refusal, SignedModel, Signer, Vouched},
};

/// What was checked, and what the checks found out. Nothing in it comes from an unverified source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// The model signature, when there is one.
    pub model: Option<ModelReport>,
    /// The attestations that name the files, each with its chain.
    pub attestations: Vec<Attested>,
    /// Files that the model signature covers and of which no attestation at hand says how they were
    /// made.
    pub without_provenance: Vec<String>,
    /// What did not count.
    #[serde(skip)]
    pub passed_over: Vec<Stranger>,
}

/// An attestation by somebody whom nobody here trusts. It did not come along with the files, and only
/// an index of contents led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// Its name.
    pub attestation: Sha256,
    /// Check 3.
    pub refusal: Refusal,
}

/// A model signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelReport {
    /// The digest of its payload.
    pub attestation: Sha256,
    /// Who signed.
    #[serde(flatten)]
    pub signer: Signer,
    /// The name that the directory had.
    pub name: String,
    /// How many files it covers.
    pub files: usize,
    /// By which digest.
    pub hash_type: HashType,
}

/// One attestation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attested {
    /// Its name.
    pub attestation: Sha256,
    /// Who signed.
    #[serde(flatten)]
    pub signer: Signer,
    /// The stage that ran.
    pub stage: String,
    /// Its execution.
    pub run: String,
    /// On which machine.
    pub host: String,
    /// What was executed.
    pub command: Vec<String>,
    /// The lock that has all that the run read, with its digests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock: Option<LockUse>,
    /// Why it was made.
    pub commit: CommitWord,
    /// How the run ended.
    pub outcome: OutcomeWord,
    /// When the run started.
    pub started: Timestamp,
    /// When it ended, or the time of the checkpoint.
    pub finished: Timestamp,
    /// The names of the subjects that were compared with files. Empty for ancestors.
    pub files: Vec<String>,
    /// What the run read.
    pub materials: Vec<MaterialReport>,
}

/// Something that a run read: a file, a manifest of files, the program, or an attestation that
/// published some file of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MaterialReport {
    /// Its name in the statement.
    pub name: String,
    /// What it was to the run: `material`, `materials`, `executable` or `attestation`.
    pub role: String,
    /// Where it was.
    pub uri: Option<String>,
    /// Its digest.
    pub sha256: Option<Sha256>,
    /// Why there is none.
    pub digest_unknown: Option<String>,
    /// Whether the run had declared it as an input.
    pub declared: bool,
    /// Where it came from.
    pub origin: Origin,
}

/// Where a material came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind", content = "value")]
pub enum Origin {
    /// From outside: no attestation is said to have published it.
    Outside,
    /// From an attestation that is not at hand, or whose list of files is not.
    NotSeen(Sha256),
    /// From an attestation that passed all checks.
    Attested(Box<Attested>),
    /// From one that this report shows elsewhere.
    ShownAlready(Sha256),
    /// From an attestation beyond the bounds of depth or number.
    TooFar(Sha256),
}

impl ModelReport {
    pub(super) fn of(model: &SignedModel) -> Self {
        Self {
            attestation: model.attestation(),
            signer: model.signer().clone(),
            name: model.manifest().name().to_owned(),
            files: model.manifest().files(),
            hash_type: model.manifest().hash_type(),
        }
    }
}

impl Attested {
    pub(super) fn of(
        vouched: &Vouched,
        files: Vec<String>,
        materials: Vec<MaterialReport>,
    ) -> Self {
        let definition = &vouched.provenance().build_definition;
        let metadata = &vouched.provenance().run_details.metadata;
        Self {
            attestation: vouched.attestation(),
            signer: vouched.signer().clone(),
            stage: definition.external_parameters.stage.clone(),
            run: metadata.invocation_id.clone(),
            host: definition.internal_parameters.host.clone(),
            command: definition.external_parameters.command.clone(),
            lock: definition.external_parameters.lock,
            commit: definition.internal_parameters.commit,
            outcome: definition.internal_parameters.outcome,
            started: metadata.started_on,
            finished: metadata.finished_on,
            files,
            materials,
        }
    }
}

impl MaterialReport {
    pub(super) fn of(dependency: &ResourceDescriptor, origin: Origin) -> Self {
        let text = |key| dependency.annotation(key).map(ToOwned::to_owned);
        Self {
            name: dependency.name.clone().unwrap_or_default(),
            role: text("role").unwrap_or_default(),
            uri: dependency.uri.clone(),
            sha256: dependency.digest.sha256(),
            digest_unknown: text("digestUnknown"),
            declared: dependency.annotation("declared") == Some("true"),
            origin,
        }
    }
}
