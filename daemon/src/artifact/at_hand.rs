//! The attestations that can be found for an artifact without asking anybody: beside it, in a state
//! directory, or in a file that the user names. All of them may be hostile.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use attestfs_attestation::{
    Attestations, BUNDLE_MAX, Bundle, BundleError, CLAIMS_FILE, CLAIMS_MAX, Claims,
    MODEL_SIGNATURE_FILE, MODEL_SIGNATURE_TYPE, Stranger, escaped,
};
use attestfs_digest::Sha256;
use rustix::io::Errno;
use serde::Serialize;

use super::{
    content::{ContentError, open_file},
    directory::Directory,
    judge::Artifact,
};
use crate::{
    config::StateDir,
    publication::{Shelf, name_key},
};

/// What is at hand for one artifact.
#[derive(Debug, Default)]
pub struct AtHand {
    /// The nearest directory first.
    around: Vec<Beside>,
    unusable: Vec<PassedOver>,
    given: Option<Given>,
    shelf: Option<Shelf>,
}

/// What a commit, or `sign`, left in a directory. Perhaps it speaks of other artifacts.
#[derive(Debug)]
pub(super) struct Beside {
    /// The artifact root: names are relative to it.
    pub(super) directory: PathBuf,
    /// The content of `model.sig`.
    pub(super) model: Option<Vec<u8>>,
    /// What `claims.jsonl` holds.
    pub(super) claims: Claims,
}

/// A file with the name of a publication that did not count, and why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PassedOver {
    /// The path of the file, escaped.
    pub publication: String,
    /// A sentence.
    pub reason: String,
}

impl PassedOver {
    pub(super) fn new(publication: &Path, reason: impl ToString) -> Self {
        let publication = escaped(publication.as_os_str().as_encoded_bytes());
        Self { publication, reason: reason.to_string() }
    }
}

/// What the user named. It decides alone; what else is at hand only shows where materials came from.
#[derive(Debug)]
pub(super) enum Given {
    /// A model signature.
    Model(Vec<u8>),
    /// One attestation, or several.
    Claims(Claims),
}

/// Why something that is there cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AtHandError {
    /// The system does not let us read it.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: ContentError,
    },
    /// What the user named is neither a bundle nor a list of bundles.
    #[error("{}: {source}", path.display())]
    NoBundle {
        /// The file.
        path: PathBuf,
        /// Why it is no bundle.
        source: BundleError,
    },
    /// The index of the state directory cannot be read.
    #[error("the attestations of {}: {source}", state.display())]
    Shelf {
        /// The state directory.
        state: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl AtHand {
    /// What a state directory has, and nothing else.
    pub fn in_state(state: &StateDir) -> Self {
        Self { shelf: Some(Shelf::of(state)), ..Self::default() }
    }

    /// What lies beside the artifact and in the directories above it, and in a state directory.
    ///
    /// # Errors
    /// The model signature of a directory, which decides about it, cannot be read.
    pub fn around(artifact: &Artifact, state: Option<&StateDir>) -> Result<Self, AtHandError> {
        let mut at_hand = Self { shelf: state.map(Shelf::of), ..Self::default() };
        for directory in artifact.directory().ancestors() {
            let beside = Beside {
                directory: directory.to_path_buf(),
                model: at_hand.model(directory, artifact)?,
                claims: at_hand.claims(directory),
            };
            if beside.model.is_some() || beside.has_claims() {
                at_hand.around.push(beside);
            }
        }
        Ok(at_hand)
    }

    /// A signature that cannot be read is not at hand, except for the directory that it lies in.
    fn model(
        &mut self,
        directory: &Path,
        artifact: &Artifact,
    ) -> Result<Option<Vec<u8>>, AtHandError> {
        let path = directory.join(MODEL_SIGNATURE_FILE);
        match read_if_there(&path, BUNDLE_MAX) {
            Err(error) if directory != artifact.path() => {
                self.unusable.push(PassedOver::new(&path, error));
                Ok(None)
            }
            result => result,
        }
    }

    /// What a user's own file of this name holds are no claims. Lines that are none are told, since
    /// they may be what is left of one.
    fn claims(&mut self, directory: &Path) -> Claims {
        let path = directory.join(CLAIMS_FILE);
        let parsed = match read_if_there(&path, CLAIMS_MAX) {
            Ok(None) => return Claims::default(),
            Ok(Some(bytes)) => Claims::parse(&bytes).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let fault = parsed.as_ref().map_or_else(|error| Some(error.clone()), fault);
        self.unusable.extend(fault.map(|fault| PassedOver::new(&path, fault)));
        parsed.unwrap_or_default()
    }

    /// The same, and the bundle or the list of bundles in a file, which alone decides.
    ///
    /// # Errors
    /// The file cannot be read, or is neither.
    pub fn and_bundle(self, path: &Path) -> Result<Self, AtHandError> {
        let bytes = read(path, CLAIMS_MAX)?;
        let given = Given::read(bytes)
            .map_err(|source| AtHandError::NoBundle { path: path.to_path_buf(), source })?;
        Ok(Self { given: Some(given), ..self })
    }

    /// The publications beside the artifact and above it, the nearest first.
    pub(super) fn publications(&self) -> &[Beside] {
        &self.around
    }

    /// The publication that lies in this directory.
    pub(super) fn publication_in(&self, directory: &Path) -> &[Beside] {
        let there = self.around.iter().find(|beside| beside.directory == directory);
        there.map(std::slice::from_ref).unwrap_or_default()
    }

    /// Files with the names of publications that nobody can use.
    pub(super) fn unusable(&self) -> &[PassedOver] {
        &self.unusable
    }

    /// An attestation in the state directory that did not count.
    pub(super) fn passed(&self, stranger: &Stranger) -> PassedOver {
        let path = self.shelf.as_ref().map(|shelf| shelf.bundle_path(stranger.attestation));
        let path = path.unwrap_or_else(|| PathBuf::from(stranger.attestation.to_string()));
        PassedOver::new(&path, &stranger.refusal)
    }

    pub(super) fn given(&self) -> Option<&Given> {
        self.given.as_ref()
    }

    /// The contents that the state directory says to have been published at these paths: what may be asked for before
    /// anybody has read what lies there.
    ///
    /// # Errors
    /// [`AtHandError::Shelf`].
    pub(super) fn published_at(
        &self,
        paths: impl Iterator<Item = String>,
    ) -> Result<HashSet<Sha256>, AtHandError> {
        let Some(shelf) = &self.shelf else { return Ok(HashSet::new()) };
        let key = |path: String| path.rsplit_once('/').map(|(root, name)| name_key(root, name));
        shelf.contents_under(&paths.filter_map(key).collect()).map_err(|error| unread(shelf, error))
    }

    /// What these publications, the state and the user's own bundle may say of these contents. The
    /// index of the state is read once.
    ///
    /// # Errors
    /// [`AtHandError::Shelf`].
    pub(super) fn sources<'a>(
        &'a self,
        publications: &'a [Beside],
        contents: &HashSet<Sha256>,
    ) -> Result<Sources<'a>, AtHandError> {
        let indexed = match &self.shelf {
            Some(shelf) => {
                shelf.statements_of_each(contents).map_err(|error| unread(shelf, error))?
            }
            None => HashMap::new(),
        };
        Ok(Sources { at_hand: self, publications, indexed })
    }
}

/// What is at hand, as the verifier asks for it.
#[derive(Debug)]
pub(super) struct Sources<'a> {
    at_hand: &'a AtHand,
    publications: &'a [Beside],
    indexed: HashMap<Sha256, Vec<Sha256>>,
}

impl Sources<'_> {
    /// The directories in whose publications this attestation lies: names are relative to them.
    pub(super) fn roots(&self, attestation: Sha256) -> impl Iterator<Item = &Path> {
        let holding =
            self.publications.iter().filter(move |it| it.claims.bundle(attestation).is_some());
        holding.map(|beside| beside.directory.as_path())
    }

    fn claims(&self) -> impl Iterator<Item = &Claims> {
        let given = match &self.at_hand.given {
            Some(Given::Claims(claims)) => Some(claims),
            _ => None,
        };
        given.into_iter().chain(self.publications.iter().map(|beside| &beside.claims))
    }
}

impl Attestations for Sources<'_> {
    fn naming(&self, content: Sha256) -> Vec<Sha256> {
        if let Some(Given::Claims(claims)) = &self.at_hand.given {
            return claims.naming(content);
        }
        let beside = self.claims().flat_map(|claims| claims.naming(content));
        let indexed = self.indexed.get(&content).into_iter().flatten().copied();
        beside.chain(indexed).collect()
    }

    fn came_along(&self, name: Sha256) -> bool {
        self.claims().any(|claims| claims.came_along(name))
    }

    fn attestation(&self, name: Sha256) -> Vec<Result<Bundle, BundleError>> {
        let travelling = self.claims().flat_map(|claims| claims.attestation(name));
        // What cannot be read is not at hand.
        let kept = self.at_hand.shelf.as_ref().and_then(|shelf| shelf.bundle(name).ok()?);
        travelling.chain(kept.map(|bytes| Bundle::parse(&bytes))).collect()
    }

    fn manifest(&self, digest: Sha256) -> Option<Vec<u8>> {
        let travelling = self.claims().find_map(|claims| claims.manifest(digest));
        travelling.map(<[u8]>::to_vec).or_else(|| {
            let shelf = self.at_hand.shelf.as_ref()?;
            shelf.manifest(digest).ok()?
        })
    }
}

impl Beside {
    /// Where the model signature lies.
    pub(super) fn model_path(&self) -> PathBuf {
        self.directory.join(MODEL_SIGNATURE_FILE)
    }

    /// Where the claims lie.
    pub(super) fn claims_path(&self) -> PathBuf {
        self.directory.join(CLAIMS_FILE)
    }

    /// Whether there is any claim.
    pub(super) fn has_claims(&self) -> bool {
        !self.claims.bundles.is_empty()
    }
}

impl Given {
    fn read(bytes: Vec<u8>) -> Result<Self, BundleError> {
        let bundle = match Bundle::parse(&bytes) {
            Ok(bundle) => bundle,
            Err(error) => {
                let claims = Claims::parse(&bytes).ok();
                return claims
                    .filter(|claims| !claims.bundles.is_empty())
                    .map(Self::Claims)
                    .ok_or(error);
            }
        };
        let header = bundle.payload().header();
        if header.is_ok_and(|header| header.predicate_type == MODEL_SIGNATURE_TYPE) {
            return Ok(Self::Model(bytes));
        }
        Ok(Self::Claims(Claims { bundles: vec![bundle], ..Claims::default() }))
    }
}

fn unread(shelf: &Shelf, source: io::Error) -> AtHandError {
    AtHandError::Shelf { state: shelf.directory().to_path_buf(), source }
}

/// What is wrong with the lines of a file, if anything is.
fn fault(claims: &Claims) -> Option<String> {
    match claims.skipped {
        0 if claims.bundles.is_empty() => Some("it holds no attestation".to_owned()),
        0 => None,
        1 => Some("1 line is no attestation".to_owned()),
        lines => Some(format!("{lines} lines are no attestations")),
    }
}

/// A directory of this name is no publication, and neither is nothing.
pub(super) fn read_if_there(path: &Path, bytes_max: usize) -> Result<Option<Vec<u8>>, AtHandError> {
    match read(path, bytes_max) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(AtHandError::Unreadable { source, .. }) if is_absence(&source) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The same of a path beneath a directory. What is behind a link does not lie there.
pub(super) fn read_beneath(
    directory: &Directory,
    path: &Path,
    bytes_max: usize,
) -> Result<Option<Vec<u8>>, AtHandError> {
    match directory.open_file(path) {
        Ok(file) => read_opened(file, path, bytes_max).map(Some),
        Err(error) if is_absence(&error) || is_behind_link(&error) => Ok(None),
        Err(source) => Err(AtHandError::Unreadable { path: path.to_path_buf(), source }),
    }
}

fn is_absence(error: &ContentError) -> bool {
    match error {
        ContentError::Io(error) => error.kind() == io::ErrorKind::NotFound,
        ContentError::Directory | ContentError::NotAFile => true,
        _ => false,
    }
}

fn is_behind_link(error: &ContentError) -> bool {
    let ContentError::Io(error) = error else { return false };
    matches!(Errno::from_io_error(error), Some(Errno::LOOP | Errno::NOTDIR))
}

/// Reads one byte more than may be there, so that the parser can tell that there is more.
fn read(path: &Path, bytes_max: usize) -> Result<Vec<u8>, AtHandError> {
    let unreadable = |source| AtHandError::Unreadable { path: path.to_path_buf(), source };
    read_opened(open_file(path).map_err(unreadable)?, path, bytes_max)
}

fn read_opened(file: File, path: &Path, bytes_max: usize) -> Result<Vec<u8>, AtHandError> {
    let mut bytes = Vec::new();
    let read = file.take(bytes_max as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|source| {
        let path = path.to_path_buf();
        AtHandError::Unreadable { path, source: source.into() }
    })?;
    Ok(bytes)
}
