//! What attestations claim of an artifact when nobody says whom to believe. Nothing here is checked
//! but that the attestation can be read and names this content.

use std::{
    cmp::Reverse,
    collections::HashSet,
    path::{Path, PathBuf},
};

use attestfs_attestation::{
    Attestations, Bundle, Content, INCOMPLETE_TYPE, IncompleteRun, Listing, LockUse, ModelManifest,
    Needed, OutcomeWord, Provenance, Refusal, ResourceDescriptor, SignerHint,
};
use attestfs_digest::Sha256;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    at_hand::{AtHand, Beside, Given, Sources},
    content::Watch,
    difference::difference,
    judge::{Artifact, NotJudged, spelled},
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
    /// What it speaks of.
    pub about: About,
    /// What is claimed.
    pub claim: ClaimedKind,
}

/// What a claim speaks of, as far as names tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum About {
    /// The artifact itself, under its path.
    Artifact,
    /// The same content under another path, where it was or where somebody else made it, too.
    SameContent,
    /// Something that a directory was made from, or another stage on the way to it.
    Behind,
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
        /// The directory that the subject was in, or that was made, at the time.
        root: String,
        /// The stage.
        stage: String,
        /// The run.
        run: String,
        /// On which machine.
        host: String,
        /// The lock that has all that the run read.
        #[serde(skip_serializing_if = "Option::is_none")]
        lock: Option<LockUse>,
        /// When the run started.
        started: Timestamp,
        /// When it ended, or the time of the checkpoint.
        finished: Timestamp,
        /// How it ended.
        outcome: OutcomeWord,
    },
}

impl Claimed {
    /// Whether a run says this that did not end well: nobody vouches for it then.
    pub(crate) fn is_of_failure(&self) -> bool {
        let ClaimedKind::Run { outcome, .. } = &self.claim else { return false };
        matches!(outcome, OutcomeWord::Failed | OutcomeWord::Unknown)
    }
}

/// What is known of an artifact without believing anybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Claims {
    /// Of a file.
    pub content: Option<Content>,
    /// How a directory differs from what its own publication claims.
    #[serde(skip)]
    pub difference: Option<Refusal>,
    /// Of a file: those about itself before those about the same content elsewhere, then runs that
    /// succeeded before others, then the newest first.
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
    match artifact {
        Artifact::File(path) => claimed_of_file(path, at_hand, watch),
        Artifact::Directory(path) => claimed_of_directory(path, at_hand, watch),
    }
}

fn claimed_of_file(path: &Path, at_hand: &AtHand, watch: &dyn Watch) -> Result<Claims, NotJudged> {
    let content = NotJudged::unless_hashed(path, &Needed::Both, watch)?;
    let sha256 = content.sha256();
    let sources = at_hand.sources(at_hand.publications(), &HashSet::from([sha256]))?;
    let paths = [spelled(path), spelled(&behind(path))];
    let mut runs: Vec<_> = bundles(&sources, sha256)
        .filter_map(|bundle| Run::read(&bundle)?.naming(&paths, sha256, &bundle, &sources))
        .collect();
    runs.sort_by_key(precedence);
    let models = match at_hand.given() {
        Some(Given::Model(signature)) => vec![(signature, path.parent().unwrap_or(path))],
        Some(Given::Claims(_)) => Vec::new(),
        None => at_hand.publications().iter().filter_map(signed).collect(),
    };
    let covering = models.into_iter().filter_map(|(signature, root)| {
        let name = path.strip_prefix(root).ok()?.to_str()?;
        let (bundle, manifest) = model(signature)?;
        manifest.compare_file(name, &content).ok()?;
        Some(of_model(&bundle, &manifest))
    });
    let claims = covering.take(CLAIMS_MAX).chain(runs).collect();
    Ok(Claims { content: Some(content), difference: None, claims })
}

/// What statements call a file that is seen through a mount of this program.
#[cfg(feature = "mount")]
pub(super) fn behind(path: &Path) -> PathBuf {
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    crate::mount::mounts::origin(&real)
}

#[cfg(not(feature = "mount"))]
pub(super) fn behind(path: &Path) -> PathBuf {
    path.to_owned()
}

fn claimed_of_directory(
    path: &Path,
    at_hand: &AtHand,
    watch: &dyn Watch,
) -> Result<Claims, NotJudged> {
    let publication = at_hand.publication_in(path);
    let sources = at_hand.sources(publication, &HashSet::new())?;
    let signature = match at_hand.given() {
        Some(Given::Model(signature)) => Some(signature),
        Some(Given::Claims(_)) => None,
        None => publication.iter().find_map(|beside| beside.model.as_ref()),
    };
    let model = signature.and_then(|signature| model(signature));
    let bundles = bundles(&sources, Sha256([0; 32]));
    let runs: Vec<_> = bundles.filter_map(|bundle| Some((Run::read(&bundle)?, bundle))).collect();
    // The directory's own come first, the newest of them before the others; then those behind it.
    let root = runs.first().map(|(run, _)| run.root().to_owned()).unwrap_or_default();
    let own = runs.iter().filter(|(run, _)| run.root() == root);
    let written = own.rev().flat_map(|(run, _)| run.files(&sources)).collect();
    let manifest = model.as_ref().map(|(_, manifest)| manifest);
    let difference = difference(path, manifest, &written, watch)?;
    let runs = runs.into_iter().map(|(run, bundle)| run.of_directory(&root, &bundle));
    let models = model.iter().map(|(bundle, manifest)| of_model(bundle, manifest));
    Ok(Claims { content: None, difference, claims: models.chain(runs).collect() })
}

/// What may speak of a content: each attestation once, however many sources have it.
fn bundles(sources: &Sources<'_>, content: Sha256) -> impl Iterator<Item = Bundle> {
    let mut seen = HashSet::new();
    let names = sources.naming(content).into_iter().filter(move |name| seen.insert(*name));
    let names = names.take(CLAIMS_MAX);
    names.filter_map(|name| sources.attestation(name).into_iter().flatten().next())
}

/// The model signature of a publication, and what its names are relative to.
fn signed(beside: &Beside) -> Option<(&Vec<u8>, &Path)> {
    Some((beside.model.as_ref()?, &beside.directory))
}

fn model(signature: &[u8]) -> Option<(Bundle, ModelManifest)> {
    let bundle = Bundle::parse(signature).ok()?;
    let manifest = ModelManifest::read(bundle.payload()).ok()?;
    Some((bundle, manifest))
}

fn of_model(bundle: &Bundle, manifest: &ModelManifest) -> Claimed {
    let (name, files) = (manifest.name().to_owned(), manifest.files());
    by_signer(bundle, About::Artifact, ClaimedKind::ModelSignature { name, files })
}

/// The statement of a run that nobody has checked.
struct Run {
    subjects: Vec<ResourceDescriptor>,
    predicate: Provenance,
}

impl Run {
    fn read(bundle: &Bundle) -> Option<Self> {
        let payload = bundle.payload();
        if payload.header().ok()?.predicate_type == INCOMPLETE_TYPE {
            let statement = payload.statement::<IncompleteRun>().ok()?;
            return Some(Self { subjects: statement.subject, predicate: statement.predicate.run });
        }
        let statement = payload.statement::<Provenance>().ok()?;
        Some(Self { subjects: statement.subject, predicate: statement.predicate })
    }

    /// The claim that it made this content: under the name that the file has, if it gives that, or
    /// else under any other.
    fn naming(
        self,
        paths: &[String],
        sha256: Sha256,
        bundle: &Bundle,
        sources: &Sources<'_>,
    ) -> Option<Claimed> {
        let own = self.names_at(paths, bundle, sources);
        let files = self.files(sources);
        let mut names = files.into_iter().filter(|(_, content)| *content == sha256).peekable();
        let any = names.peek()?.0.clone();
        let (about, subject) = match names.find(|(name, _)| own.contains(name)) {
            Some((name, _)) => (About::Artifact, name),
            None => (About::SameContent, any),
        };
        Some(by_signer(bundle, about, self.claim(Some(subject))))
    }

    /// The claim that it made what was at this path then, or something else.
    fn of_directory(self, root: &str, bundle: &Bundle) -> Claimed {
        let about = if self.root() == root { About::Artifact } else { About::Behind };
        by_signer(bundle, about, self.claim(None))
    }

    /// The names that a file at any of these paths has: relative to where the artifact was, and to
    /// where the statement lies beside it now.
    fn names_at(&self, paths: &[String], bundle: &Bundle, sources: &Sources<'_>) -> Vec<String> {
        let now = sources.roots(bundle.sha256()).map(spelled);
        let roots: Vec<String> = now.chain([self.root().to_owned()]).collect();
        let below = |path: &String, root: &String| {
            let name = path.strip_prefix(root.trim_end_matches('/'))?.strip_prefix('/')?;
            Some(name.to_owned())
        };
        let pairs = paths.iter().flat_map(|path| roots.iter().map(move |root| (path, root)));
        pairs.filter_map(|(path, root)| below(path, root)).collect()
    }

    fn root(&self) -> &str {
        &self.predicate.build_definition.internal_parameters.artifact_root
    }

    /// The subjects, those in manifests included as far as these are at hand.
    fn files(&self, sources: &Sources<'_>) -> Vec<(String, Sha256)> {
        self.subjects.iter().flat_map(|subject| files_of(subject, sources)).collect()
    }

    fn claim(self, subject: Option<String>) -> ClaimedKind {
        let (definition, details) = (self.predicate.build_definition, self.predicate.run_details);
        ClaimedKind::Run {
            subject,
            root: definition.internal_parameters.artifact_root,
            stage: definition.external_parameters.stage,
            run: details.metadata.invocation_id,
            host: definition.internal_parameters.host,
            lock: definition.external_parameters.lock,
            started: details.metadata.started_on,
            finished: details.metadata.finished_on,
            outcome: definition.internal_parameters.outcome,
        }
    }
}

/// A subject, or the lines of the manifest that it is.
fn files_of(subject: &ResourceDescriptor, sources: &Sources<'_>) -> Vec<(String, Sha256)> {
    let (Some(name), Some(sha256)) = (&subject.name, subject.digest.sha256()) else {
        return Vec::new();
    };
    if subject.annotation("manifest").is_none() {
        return vec![(name.clone(), sha256)];
    }
    let listing = sources.manifest(sha256).and_then(|bytes| Listing::parse(&bytes).ok());
    let files = listing.iter().flat_map(Listing::files);
    files.map(|(name, sha256)| (name.to_owned(), sha256)).collect()
}

/// What is told first.
fn precedence(claimed: &Claimed) -> (About, bool, Reverse<Option<Timestamp>>) {
    let (is_whole, finished) = match &claimed.claim {
        ClaimedKind::ModelSignature { .. } => (true, None),
        ClaimedKind::Run { outcome, finished, .. } => {
            let is_whole = matches!(outcome, OutcomeWord::Success | OutcomeWord::Running);
            (is_whole, Some(*finished))
        }
    };
    (claimed.about, !is_whole, Reverse(finished))
}

fn by_signer(bundle: &Bundle, about: About, claim: ClaimedKind) -> Claimed {
    Claimed { attestation: bundle.sha256(), signer: claimed_signer(bundle), about, claim }
}

/// Who is said to have signed, for people. Anybody can write anything there.
pub fn claimed_signer(bundle: &Bundle) -> String {
    match bundle.signer() {
        SignerHint::Key(hint) => hint.chars().take(100).collect(),
        SignerHint::UnnamedKey => "a key without a name".to_owned(),
        SignerHint::Certificate(claimed) => claimed,
    }
}
