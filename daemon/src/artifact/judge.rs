//! Whether an artifact is what somebody attested.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use attestfs_attestation::{
    Content, Covered, Entry, EntryKind, Found, MODEL_SIGNATURE_FILE, OmsRefusal, Place, Refusal,
    SignedModel, TrustedKeys, Verified, Verifier, escaped, is_publication,
};
use attestfs_digest::Sha256;

use super::{
    at_hand::{AtHand, AtHandError, Beside, Given},
    content::{ContentError, Watch, content_at},
    directory::{Directory, Found as Walked, Kind, SurveyError, WalkError},
};

/// A file or a directory, by its path without symbolic links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Artifact {
    /// A regular file.
    File(PathBuf),
    /// A directory.
    Directory(PathBuf),
}

/// Why a path is no artifact.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// There is nothing, or it may not be looked at.
    #[error("{}: {source}", path.display())]
    Io {
        /// As given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A pipe, socket or device.
    #[error("{}: neither a file nor a directory", path.display())]
    Special {
        /// As given.
        path: PathBuf,
    },
    /// It speaks of artifacts and is none itself.
    #[error("{}: this is an attestation, not an artifact", path.display())]
    Publication {
        /// As given.
        path: PathBuf,
        /// What it lies in.
        directory: PathBuf,
    },
}

/// What was found out.
#[derive(Debug)]
pub struct Judged {
    /// By the checks.
    pub verified: Verified,
    /// How far anybody would notice that something is missing.
    pub completeness: Completeness,
    /// Files that were compared.
    pub files: usize,
}

/// How far anybody would notice that something is missing: check 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// A model signature covers the whole directory.
    Whole,
    /// A model signature covers this file, and only this file was looked at.
    OneOfModel,
    /// No model signature: files that were removed are not missed.
    NotCovered,
}

/// Why there is no verdict for the artifact, or a bad one.
#[derive(Debug, thiserror::Error)]
pub enum NotJudged {
    /// A check failed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It cannot be looked through.
    #[error("{}: {source}", path.display())]
    Walk {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: WalkError,
    },
    /// One of its files cannot be hashed.
    #[error("{}: {source}", path.display())]
    Survey {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: SurveyError,
    },
    /// It cannot be opened or hashed.
    #[error("{}: {source}", path.display())]
    Content {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: ContentError,
    },
    /// Attestations that are there cannot be used.
    #[error(transparent)]
    AtHand(#[from] AtHandError),
    /// A model signature vouches for a directory as a whole.
    #[error("{} is a part of the model that is signed in {}", path.display(), model.display())]
    PartOfModel {
        /// The directory that was meant.
        path: PathBuf,
        /// The one that was signed.
        model: PathBuf,
    },
}

impl NotJudged {
    /// The content of a file, or that it cannot be had.
    pub(super) fn unless_hashed(path: &Path, watch: &dyn Watch) -> Result<Content, Self> {
        content_at(path, watch).map_err(|source| Self::Content { path: path.to_path_buf(), source })
    }
}

impl Artifact {
    /// What lies at `path`, symbolic links followed.
    ///
    /// # Errors
    /// Each variant of [`ArtifactError`].
    pub fn at(path: &Path) -> Result<Self, ArtifactError> {
        let given = || path.to_path_buf();
        let failed = |source| ArtifactError::Io { path: given(), source };
        let real = fs::canonicalize(path).map_err(failed)?;
        let kind = fs::metadata(&real).map_err(failed)?;
        if kind.is_dir() {
            return Ok(Self::Directory(real));
        }
        if !kind.is_file() {
            return Err(ArtifactError::Special { path: given() });
        }
        match (real.file_name(), real.parent()) {
            (Some(name), Some(directory)) if is_publication(&name.to_string_lossy()) => {
                Err(ArtifactError::Publication {
                    path: given(),
                    directory: directory.to_path_buf(),
                })
            }
            _ => Ok(Self::File(real)),
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Directory(path) => path,
        }
    }

    /// The directory itself, or the one that the file lies in.
    pub fn directory(&self) -> &Path {
        match self {
            Self::File(path) => path.parent().unwrap_or(path),
            Self::Directory(path) => path,
        }
    }
}

/// Makes the checks of `verify` on an artifact, with what is at hand.
///
/// # Errors
/// The first check that failed; or what keeps us from making the checks.
pub fn judge(
    artifact: &Artifact,
    at_hand: &AtHand,
    keys: &TrustedKeys,
    watch: &dyn Watch,
) -> Result<Judged, NotJudged> {
    let judge = Judge { at_hand, keys, watch };
    match artifact {
        Artifact::File(path) => judge.file(path),
        Artifact::Directory(path) => judge.directory(path),
    }
}

struct Judge<'a> {
    at_hand: &'a AtHand,
    keys: &'a TrustedKeys,
    watch: &'a dyn Watch,
}

impl Judge<'_> {
    fn file(&self, path: &Path) -> Result<Judged, NotJudged> {
        let content = NotJudged::unless_hashed(path, self.watch)?;
        match (self.at_hand.given(), self.at_hand.beside()) {
            (Some(Given::Model(signature)), _) => {
                let name = |root: &Path| path.strip_prefix(root).ok();
                let roots: Vec<_> = path.ancestors().skip(1).filter_map(name).collect();
                self.file_of_model(signature, roots.into_iter().rev(), content)
            }
            (None, Some(Beside { directory, model: Some(signature), .. })) => {
                let name = path.strip_prefix(directory).ok();
                self.file_of_model(signature, name.into_iter(), content)
            }
            (Some(Given::Claims(_)), _) => self.files(vec![anywhere(path, content)]),
            (None, beside) => self.files(vec![found(path, content, beside)]),
        }
    }

    /// Checks a file under the first of `names`, the longest first, that the signature lists.
    fn file_of_model<'n>(
        &self,
        signature: &[u8],
        names: impl Iterator<Item = &'n Path>,
        content: Content,
    ) -> Result<Judged, NotJudged> {
        let sources = self.at_hand.sources(&HashSet::from([content.digests.sha256]))?;
        let verifier = Verifier::new(self.keys, &sources);
        let model = verifier.model_signature(signature)?;
        let mut refusal = None;
        for name in names {
            match listed(&model, name, content) {
                Ok(covered) => {
                    return Ok(Judged {
                        verified: verifier.covered(&covered)?,
                        completeness: Completeness::OneOfModel,
                        files: 1,
                    });
                }
                Err(unlisted @ Refusal::Extra { .. }) => refusal = refusal.or(Some(unlisted)),
                Err(other) => return Err(other.into()),
            }
        }
        Err(refusal.unwrap_or(Refusal::NoModelSignature).into())
    }

    fn directory(&self, path: &Path) -> Result<Judged, NotJudged> {
        match (self.at_hand.given(), self.at_hand.beside()) {
            (Some(Given::Model(signature)), _) => self.model(path, signature),
            (Some(Given::Claims(_)), _) => self.tree(path, None),
            (None, Some(Beside { directory, model: Some(signature), .. })) => {
                if directory != path {
                    return Err(NotJudged::PartOfModel {
                        path: path.to_path_buf(),
                        model: directory.clone(),
                    });
                }
                self.model(path, signature)
            }
            (None, beside) => self.tree(path, beside),
        }
    }

    /// A directory that a model signature covers. The signature is read before anything is hashed.
    fn model(&self, path: &Path, signature: &[u8]) -> Result<Judged, NotJudged> {
        let nothing = self.at_hand.sources(&HashSet::new())?;
        let model = Verifier::new(self.keys, &nothing).model_signature(signature)?;
        let is_covered = |name: &Path| {
            let is_ignored = name.to_str().is_some_and(|name| model.manifest().ignores(name));
            name != MODEL_SIGNATURE_FILE && !is_ignored
        };
        let entries = self.survey(path, is_covered)?;
        let contents = entries.iter().filter_map(sha256).collect();
        let covered = model.complete(&entries)?;
        let sources = self.at_hand.sources(&contents)?;
        Ok(Judged {
            verified: Verifier::new(self.keys, &sources).covered(&covered)?,
            completeness: Completeness::Whole,
            files: covered.files().len(),
        })
    }

    /// A directory without model signature: each of its files must be attested.
    fn tree(&self, path: &Path, beside: Option<&Beside>) -> Result<Judged, NotJudged> {
        let is_subject = |name: &Path| !is_publication(&name.to_string_lossy());
        let mut files = Vec::new();
        for entry in self.survey(path, is_subject)? {
            if let Some(content) = attestable(&entry)? {
                files.push(found(&path.join(&entry.name), content, beside));
            }
        }
        if files.is_empty() {
            let name = path.display().to_string();
            return Err(Refusal::Unattested { name }.into());
        }
        self.files(files)
    }

    fn files(&self, files: Vec<Found>) -> Result<Judged, NotJudged> {
        let contents = files.iter().map(|found| found.content.digests.sha256).collect();
        let sources = self.at_hand.sources(&contents)?;
        Ok(Judged {
            verified: Verifier::new(self.keys, &sources).files(&files)?,
            completeness: Completeness::NotCovered,
            files: files.len(),
        })
    }

    fn survey(
        &self,
        path: &Path,
        is_wanted: impl Fn(&Path) -> bool,
    ) -> Result<Vec<Entry>, NotJudged> {
        let owned = || path.to_path_buf();
        let directory = Directory::open(path)
            .map_err(|source| NotJudged::Content { path: owned(), source: source.into() })?;
        let walked =
            directory.walk().map_err(|source| NotJudged::Walk { path: owned(), source })?;
        let wanted: Vec<Walked> = walked
            .into_iter()
            .filter(|walked| is_wanted(&walked.path) && walked.kind != Kind::EmptyDirectory)
            .collect();
        directory
            .survey(&wanted, self.watch)
            .map_err(|source| NotJudged::Survey { path: owned(), source })
    }
}

/// A file as the signature lists it. A name that is not UTF-8 cannot be listed.
fn listed(model: &SignedModel, name: &Path, content: Content) -> Result<Covered, Refusal> {
    match name.to_str() {
        Some(name) => model.clone().file(name, content),
        None => Err(Refusal::Extra { names: vec![name.to_string_lossy().into_owned()] }),
    }
}

/// Where a file lies relative to the artifact's root, if there is one.
fn found(path: &Path, content: Content, beside: Option<&Beside>) -> Found {
    match beside.and_then(|beside| path.strip_prefix(&beside.directory).ok()) {
        Some(name) => Found { place: Place::Below(spelled(name)), content },
        None => anywhere(path, content),
    }
}

fn anywhere(path: &Path, content: Content) -> Found {
    Found { place: Place::Anywhere(spelled(path)), content }
}

fn spelled(path: &Path) -> String {
    escaped(path.as_os_str().as_encoded_bytes())
}

fn sha256(entry: &Entry) -> Option<Sha256> {
    match &entry.kind {
        EntryKind::File(content) => Some(content.digests.sha256),
        _ => None,
    }
}

/// The content of a file; what is no file cannot be attested, and is refused as check 9 does.
fn attestable(entry: &Entry) -> Result<Option<Content>, Refusal> {
    let name = entry.name.clone();
    match &entry.kind {
        EntryKind::File(content) => Ok(Some(*content)),
        EntryKind::EmptyDirectory => Ok(None),
        EntryKind::Symlink => Err(Refusal::Unsignable(OmsRefusal::Symlink { name })),
        EntryKind::NotUtf8 => Err(Refusal::Unsignable(OmsRefusal::NotUtf8 { name })),
        EntryKind::Special | EntryKind::Withheld(_) => {
            Err(Refusal::Unsignable(OmsRefusal::Special { name }))
        }
    }
}
