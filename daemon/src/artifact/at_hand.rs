//! The attestations that can be found for an artifact without asking anybody: beside it, in a state
//! directory, or in a file that the user names. All of them may be hostile.

use std::{
    collections::{HashMap, HashSet},
    io::{self, Read},
    path::{Path, PathBuf},
};

use attestfs_attestation::{
    Attestations, BUNDLE_MAX, Bundle, BundleError, CLAIMS_FILE, CLAIMS_MAX, Claims, ClaimsError,
    MODEL_SIGNATURE_FILE, MODEL_SIGNATURE_TYPE,
};
use attestfs_digest::Sha256;

use super::{
    content::{ContentError, open_file},
    judge::Artifact,
};
use crate::{config::StateDir, publication::Shelf};

/// What is at hand for one artifact.
#[derive(Debug, Default)]
pub struct AtHand {
    beside: Option<Beside>,
    given: Option<Given>,
    shelf: Option<Shelf>,
}

/// What a commit, or `sign`, left in a directory.
#[derive(Debug)]
pub(super) struct Beside {
    /// The artifact root: names are relative to it.
    pub(super) directory: PathBuf,
    /// The content of `model.sig`.
    pub(super) model: Option<Vec<u8>>,
    claims: Claims,
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
    /// A `claims.jsonl` beyond all bounds.
    #[error("{}: {source}", path.display())]
    Claims {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: ClaimsError,
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
    /// What lies beside the artifact, or in the nearest directory above it, and in a state
    /// directory.
    ///
    /// # Errors
    /// Something is there and cannot be read.
    pub fn around(artifact: &Artifact, state: Option<&StateDir>) -> Result<Self, AtHandError> {
        Ok(Self {
            beside: Beside::nearest(artifact.directory())?,
            given: None,
            shelf: state.map(Shelf::of),
        })
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

    pub(super) fn beside(&self) -> Option<&Beside> {
        self.beside.as_ref()
    }

    pub(super) fn given(&self) -> Option<&Given> {
        self.given.as_ref()
    }

    /// Everything that may speak of these contents. The index of the state is read once.
    ///
    /// # Errors
    /// [`AtHandError::Shelf`].
    pub fn sources(&self, contents: &HashSet<Sha256>) -> Result<Sources<'_>, AtHandError> {
        let indexed = match &self.shelf {
            Some(shelf) => shelf.statements_of_each(contents).map_err(|source| {
                AtHandError::Shelf { state: shelf.directory().to_path_buf(), source }
            })?,
            None => HashMap::new(),
        };
        Ok(Sources { at_hand: self, indexed })
    }

    fn claims(&self) -> impl Iterator<Item = &Claims> {
        let given = match &self.given {
            Some(Given::Claims(claims)) => Some(claims),
            _ => None,
        };
        let beside = self.beside.as_ref().map(|beside| &beside.claims);
        given.into_iter().chain(beside)
    }
}

/// What is at hand, as the verifier asks for it.
#[derive(Debug)]
pub struct Sources<'a> {
    at_hand: &'a AtHand,
    indexed: HashMap<Sha256, Vec<Sha256>>,
}

impl Attestations for Sources<'_> {
    fn naming(&self, content: Sha256) -> Vec<Sha256> {
        if let Some(Given::Claims(claims)) = &self.at_hand.given {
            return claims.naming(content);
        }
        let beside = self.at_hand.claims().flat_map(|claims| claims.naming(content));
        let indexed = self.indexed.get(&content).into_iter().flatten().copied();
        beside.chain(indexed).collect()
    }

    fn attestation(&self, name: Sha256) -> Vec<Result<Bundle, BundleError>> {
        let travelling = self.at_hand.claims().flat_map(|claims| claims.attestation(name));
        // What cannot be read is not at hand.
        let kept = self.at_hand.shelf.as_ref().and_then(|shelf| shelf.bundle(name).ok()?);
        travelling.chain(kept.map(|bytes| Bundle::parse(&bytes))).collect()
    }

    fn manifest(&self, digest: Sha256) -> Option<Vec<u8>> {
        let travelling = self.at_hand.claims().find_map(|claims| claims.manifest(digest));
        travelling.map(<[u8]>::to_vec).or_else(|| {
            let shelf = self.at_hand.shelf.as_ref()?;
            shelf.manifest(digest).ok()?
        })
    }
}

impl Beside {
    /// The publication in this directory, or else in the nearest one above.
    fn nearest(directory: &Path) -> Result<Option<Self>, AtHandError> {
        directory.ancestors().find_map(|directory| Self::at(directory).transpose()).transpose()
    }

    fn at(directory: &Path) -> Result<Option<Self>, AtHandError> {
        let model = read_if_there(&directory.join(MODEL_SIGNATURE_FILE), BUNDLE_MAX)?;
        let path = directory.join(CLAIMS_FILE);
        let claims = read_if_there(&path, CLAIMS_MAX)?;
        if model.is_none() && claims.is_none() {
            return Ok(None);
        }
        let claims = Claims::parse(&claims.unwrap_or_default());
        Ok(Some(Self {
            directory: directory.to_path_buf(),
            model,
            claims: claims.map_err(|source| AtHandError::Claims { path, source })?,
        }))
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

/// A directory of this name is no publication, and neither is nothing.
fn read_if_there(path: &Path, bytes_max: usize) -> Result<Option<Vec<u8>>, AtHandError> {
    match read(path, bytes_max) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(AtHandError::Unreadable { source, .. }) if is_absence(&source) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_absence(error: &ContentError) -> bool {
    match error {
        ContentError::Io(error) => error.kind() == io::ErrorKind::NotFound,
        ContentError::Directory | ContentError::NotAFile => true,
        _ => false,
    }
}

/// Reads one byte more than may be there, so that the parser can tell that there is more.
fn read(path: &Path, bytes_max: usize) -> Result<Vec<u8>, AtHandError> {
    let unreadable = |source| AtHandError::Unreadable { path: path.to_path_buf(), source };
    let mut bytes = Vec::new();
    let file = open_file(path).map_err(unreadable)?;
    file.take(bytes_max as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| unreadable(source.into()))?;
    Ok(bytes)
}
