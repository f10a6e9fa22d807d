//! What attestations claim of an artifact when nobody says whom to believe. Nothing here is checked
//! but that the attestation can be read and names this content.

use std::{collections::HashSet, path::Path};

use attestfs_attestation::{
    Attestations, Bundle, Content, INCOMPLETE_TYPE, IncompleteRun, Listing, ModelManifest,
    OutcomeWord, Provenance, ResourceDescriptor, SignerHint,
};
use attestfs_digest::Sha256;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    at_hand::{AtHand, Beside, Given},
    content::Watch,
    judge::{Artifact, NotJudged},
};

/// The most claims that are looked at.
const CLAIMS_MAX: usize = 1000;

/// What somebody claims, and who says to have signed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Claimed {
    /// The name of the attestation.
    pub attestation: Sha256,
    /// The hint in the bundle. Anybody can write anything there.
    pub signer: String,
    /// What is claimed.
    pub claim: ClaimedKind,
}

/// What is claimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum ClaimedKind {
    /// A directory had this content when it was signed.
    #[serde(rename_all = "camelCase")]
    ModelSignature {
        /// What it was called.
        name: String,
        /// How many files it covers.
        files: usize,
    },
    /// A run made it.
    #[serde(rename_all = "camelCase")]
    Run {
        /// The subject's name; none for a directory.
        subject: Option<String>,
        /// The stage.
        stage: String,
        /// The run.
        run: String,
        /// On which machine.
        host: String,
        /// When the run started.
        started: Timestamp,
        /// How it ended.
        outcome: OutcomeWord,
    },
}

/// What is known of an artifact without believing anybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Claims {
    /// Of a file.
    pub content: Option<Content>,
    /// The newest first, as far as the sources tell.
    pub claims: Vec<Claimed>,
}

/// What is claimed of an artifact. Of a file: by attestations that name its content. Of a directory:
/// by the model signature and the attestations that lie in it.
///
/// # Errors
/// The artifact, or what lies beside it, cannot be read.
pub fn claimed(
    artifact: &Artifact,
    at_hand: &AtHand,
    watch: &dyn Watch,
) -> Result<Claims, NotJudged> {
    let content = match artifact {
        Artifact::Directory(_) => None,
        Artifact::File(path) => Some(NotJudged::unless_hashed(path, watch)?),
    };
    let sha256 = content.map(|content| content.digests.sha256);
    let publications = match artifact {
        Artifact::Directory(path) => at_hand.publication_in(path),
        Artifact::File(_) => at_hand.publications(),
    };
    let contents = sha256.into_iter().collect::<HashSet<_>>();
    let sources = at_hand.sources(publications, &contents)?;
    let mut seen = HashSet::new();
    let runs = sources
        .naming(sha256.unwrap_or(Sha256([0; 32])))
        .into_iter()
        .take(CLAIMS_MAX)
        .filter(|name| seen.insert(*name))
        .filter_map(|name| sources.attestation(name).into_iter().flatten().next())
        .filter_map(|bundle| run(&bundle, sha256, &sources));
    let models: Vec<_> = match at_hand.given() {
        Some(Given::Model(signature)) => vec![(signature, artifact.directory())],
        Some(Given::Claims(_)) => Vec::new(),
        None => publications.iter().filter_map(signed).collect(),
    };
    let models = models.into_iter().filter_map(|it| model(artifact, it, content));
    Ok(Claims { content, claims: models.take(CLAIMS_MAX).chain(runs).collect() })
}

/// The model signature of a publication, and what its names are relative to.
fn signed(beside: &Beside) -> Option<(&Vec<u8>, &Path)> {
    Some((beside.model.as_ref()?, &beside.directory))
}

/// The model signature, if it covers this file or directory.
fn model(
    artifact: &Artifact,
    (signature, root): (&Vec<u8>, &Path),
    content: Option<Content>,
) -> Option<Claimed> {
    let bundle = Bundle::parse(signature).ok()?;
    let manifest = ModelManifest::read(bundle.payload()).ok()?;
    if let Some(content) = content {
        let name = artifact.path().strip_prefix(root).ok()?.to_str()?;
        manifest.compare_file(name, &content).ok()?;
    }
    let (name, files) = (manifest.name().to_owned(), manifest.files());
    Some(by_signer(&bundle, ClaimedKind::ModelSignature { name, files }))
}

/// A run that claims to have made this content, or, for a directory, any.
fn run(bundle: &Bundle, sha256: Option<Sha256>, sources: &dyn Attestations) -> Option<Claimed> {
    let payload = bundle.payload();
    let (subjects, predicate) = if payload.header().ok()?.predicate_type == INCOMPLETE_TYPE {
        let statement = payload.statement::<IncompleteRun>().ok()?;
        (statement.subject, statement.predicate.run)
    } else {
        let statement = payload.statement::<Provenance>().ok()?;
        (statement.subject, statement.predicate)
    };
    let subject = match sha256 {
        None => None,
        Some(sha256) => Some(subjects.iter().find_map(|it| name_of(it, sha256, sources))?),
    };
    let definition = predicate.build_definition;
    let claim = ClaimedKind::Run {
        subject,
        stage: definition.external_parameters.stage,
        run: predicate.run_details.metadata.invocation_id,
        host: definition.internal_parameters.host,
        started: predicate.run_details.metadata.started_on,
        outcome: definition.internal_parameters.outcome,
    };
    Some(by_signer(bundle, claim))
}

/// The name that a subject, or a line of the manifest that it is, gives to this content.
fn name_of(
    subject: &ResourceDescriptor,
    sha256: Sha256,
    sources: &dyn Attestations,
) -> Option<String> {
    let digest = subject.digest.sha256()?;
    if subject.annotation("manifest").is_none() {
        return subject.name.clone().filter(|_| digest == sha256);
    }
    let manifest = sources.manifest(digest)?;
    let listing = Listing::parse(&manifest).ok()?;
    let mut files = listing.files();
    files.find(|(_, listed)| *listed == sha256).map(|(name, _)| name.to_owned())
}

fn by_signer(bundle: &Bundle, claim: ClaimedKind) -> Claimed {
    Claimed { attestation: bundle.sha256(), signer: claimed_signer(bundle), claim }
}

/// Who is said to have signed, for people. Anybody can write anything there.
pub fn claimed_signer(bundle: &Bundle) -> String {
    match bundle.signer() {
        SignerHint::Key(hint) => hint.chars().take(100).collect(),
        SignerHint::UnnamedKey => "a key without a name".to_owned(),
        SignerHint::Certificate => "a certificate".to_owned(),
    }
}
