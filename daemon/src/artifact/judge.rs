//! Whether an artifact is what somebody attested.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    slice,
};

use attestfs_attestation::{
    Attestations, Content, Entry, EntryKind, Found, Needed, OmsRefusal, Place, Refusal,
    TrustedSigners, Verified, Verifier, escaped, is_publication,
};
use attestfs_digest::Sha256;
use jiff::Timestamp;

use super::{
    at_hand::{AtHand, AtHandError, Beside, Given, PassedOver, Sources},
    content::{ContentError, Watch, content_at_as_needed},
    directory::{SurveyError, WalkError},
    passed::Passed,
    tree::Tree,
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
    /// Those of them of which only the BLAKE3 was computed. Their SHA-256 is what the signer says.
    pub by_blake3: usize,
    /// Paths in the directory that the model signature leaves out, where something lies that nobody
    /// looked at.
    pub left_out: Vec<String>,
    /// What was at hand and did not count.
    pub passed_over: Vec<PassedOver>,
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
    /// It would not be in the mount.
    #[error("{} does not lie below {}", path.display(), tree.display())]
    OutsideTree {
        /// What was meant.
        path: PathBuf,
        /// What would be mounted.
        tree: PathBuf,
    },
}

impl NotJudged {
    /// The content of a file, or that it cannot be had.
    pub(super) fn unless_hashed(
        path: &Path,
        needed: &Needed,
        watch: &dyn Watch,
    ) -> Result<Content, Self> {
        content_at_as_needed(path, needed, watch)
            .map_err(|source| Self::Content { path: path.to_path_buf(), source })
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

/// Makes the checks of `verify` on an artifact, with what is at hand. Certificates count that are
/// valid `now`.
///
/// # Errors
/// The first check that failed; or what keeps us from making the checks.
pub fn judge(
    artifact: &Artifact,
    at_hand: &AtHand,
    signers: &TrustedSigners,
    now: Timestamp,
    watch: &dyn Watch,
) -> Result<Judged, NotJudged> {
    let judge = Judge { at_hand, signers, now, watch };
    let mut judged = match artifact {
        Artifact::File(path) => judge.file(path),
        Artifact::Directory(path) => judge.directory(path),
    }?;
    let strangers = judged.verified.passed_over.iter().map(|stranger| at_hand.passed(stranger));
    judged.passed_over.extend(at_hand.unusable().iter().cloned().chain(strangers));
    Ok(judged)
}

impl Judged {
    pub(super) fn new(verified: Verified, completeness: Completeness, files: &[Found]) -> Self {
        let by_blake3 = files.iter().filter(|found| found.content.is_by_blake3()).count();
        let (left_out, passed_over) = (Vec::new(), Vec::new());
        Self { verified, completeness, files: files.len(), by_blake3, left_out, passed_over }
    }

    fn having_passed(self, passed: Passed) -> Self {
        Self { passed_over: passed.reasons().collect(), ..self }
    }
}

pub(super) struct Judge<'a> {
    pub(super) at_hand: &'a AtHand,
    pub(super) signers: &'a TrustedSigners,
    pub(super) now: Timestamp,
    pub(super) watch: &'a dyn Watch,
}

impl Judge<'_> {
    fn file(&self, path: &Path) -> Result<Judged, NotJudged> {
        let needed = self.needed_of_file(path)?;
        let content = NotJudged::unless_hashed(path, &needed, self.watch)?;
        match self.at_hand.given() {
            Some(Given::Model(signature)) => self.file_of_given_model(path, signature, content),
            Some(Given::Claims(_)) => self.by_given_claims(&[(path.to_path_buf(), content)]),
            None => self.file_around(path, content),
        }
    }

    /// By the nearest publication that a trusted signer made and that speaks of the file, or else by
    /// the state. A stranger's publication in some directory above says nothing of it.
    fn file_around(&self, path: &Path, content: Content) -> Result<Judged, NotJudged> {
        let mut passed = Passed::default();
        let file = [(path.to_path_buf(), content)];
        for beside in self.at_hand.publications() {
            match self.model_beside(beside, path) {
                None => {}
                Some(Err(refusal)) => passed.add(beside.model_path(), refusal),
                Some(Ok((model, name))) => {
                    let covered = model.file(&name, content)?;
                    let judged = self.one_of_model(slice::from_ref(beside), &covered)?;
                    return Ok(judged.having_passed(passed));
                }
            }
            let alone = self.at_hand.sources(slice::from_ref(beside), &HashSet::new())?;
            if let Some(judged) = self.by_claims(beside, &alone, &file, &mut passed)? {
                return Ok(judged.having_passed(passed));
            }
        }
        self.by_state(&file, passed)
    }

    fn directory(&self, path: &Path) -> Result<Judged, NotJudged> {
        match self.at_hand.given() {
            Some(Given::Model(signature)) => self.model(path, signature),
            Some(Given::Claims(_)) => self.by_given_claims(&self.tree(path)?),
            None => self.directory_around(path),
        }
    }

    /// By its own model signature, whoever made that. Without one, by claims that name each file.
    fn directory_around(&self, path: &Path) -> Result<Judged, NotJudged> {
        if let [Beside { model: Some(signature), .. }] = self.at_hand.publication_in(path) {
            return self.model(path, signature);
        }
        self.refuse_part_of_model(path)?;
        let files = self.tree(path)?;
        let mut passed = Passed::default();
        for beside in self.at_hand.publications() {
            // Beside its own claims the state may speak of the rest of a directory.
            let is_own = beside.directory == path;
            let asked = if is_own { contents(&files) } else { HashSet::new() };
            let sources = self.at_hand.sources(slice::from_ref(beside), &asked)?;
            if let Some(judged) = self.by_claims(beside, &sources, &files, &mut passed)? {
                return Ok(judged.having_passed(passed));
            }
        }
        self.by_state(&files, passed)
    }

    /// A directory that is a part of a model which somebody trusted signed as a whole.
    fn refuse_part_of_model(&self, path: &Path) -> Result<(), NotJudged> {
        let holds = |beside: &&Beside| {
            let name = path.strip_prefix(&beside.directory).ok().and_then(Path::to_str);
            let model = beside.model.as_ref().and_then(|it| self.signed_model(it).ok());
            model.zip(name).is_some_and(|(model, name)| model.manifest().lists_below(name))
        };
        match self.at_hand.publications().iter().find(holds) {
            None => Ok(()),
            Some(beside) => Err(NotJudged::PartOfModel {
                path: path.to_path_buf(),
                model: beside.directory.clone(),
            }),
        }
    }

    /// The files of a directory without model signature: each must be attested.
    fn tree(&self, path: &Path) -> Result<Vec<(PathBuf, Content)>, NotJudged> {
        let tree = Tree::look(path)?;
        let paths: Vec<_> = tree.subject_names().map(|name| path.join(name)).collect();
        let needed = self.needed_of_tree(&paths)?;
        let needed: HashMap<_, _> = paths.into_iter().zip(needed).collect();
        let needed = |name: &Path| needed.get(&path.join(name)).cloned().unwrap_or(Needed::Both);
        let mut files = Vec::new();
        for entry in tree.subjects(needed, self.watch)? {
            if let Some(content) = attestable(&entry)? {
                files.push((path.join(&entry.name), content));
            }
        }
        if files.is_empty() {
            let name = path.display().to_string();
            return Err(Refusal::Unattested { name }.into());
        }
        Ok(files)
    }

    /// Checks the files under their names relative to the directory that the claims lie in. None
    /// when the claims do not attest all of them.
    fn by_claims(
        &self,
        beside: &Beside,
        sources: &Sources<'_>,
        files: &[(PathBuf, Content)],
        passed: &mut Passed,
    ) -> Result<Option<Judged>, NotJudged> {
        if !beside.has_claims() {
            return Ok(None);
        }
        let below = |(path, content): &(PathBuf, Content)| {
            let name = path.strip_prefix(&beside.directory).unwrap_or(path);
            Found { place: Place::Below(spelled(name)), content: *content }
        };
        let found: Vec<_> = files.iter().map(below).collect();
        match self.files(sources, &found) {
            Ok(judged) => Ok(Some(judged)),
            Err(NotJudged::Refused(refusal)) => {
                passed.add(beside.claims_path(), refusal);
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    fn by_state(&self, files: &[(PathBuf, Content)], passed: Passed) -> Result<Judged, NotJudged> {
        match self.anywhere(&[], files) {
            Ok(judged) => Ok(judged.having_passed(passed)),
            Err(NotJudged::Refused(refusal)) => Err(passed.furthest(refusal).into()),
            Err(other) => Err(other),
        }
    }

    /// By what the user named alone. What lies around shows where materials came from.
    fn by_given_claims(&self, files: &[(PathBuf, Content)]) -> Result<Judged, NotJudged> {
        self.anywhere(self.at_hand.publications(), files)
    }

    /// By attestations of which nobody knows where their artifact's root is now.
    fn anywhere(
        &self,
        publications: &[Beside],
        files: &[(PathBuf, Content)],
    ) -> Result<Judged, NotJudged> {
        let found = |(path, content): &(PathBuf, Content)| {
            let place = Place::Anywhere(spelled(path));
            Found { place, content: *content }
        };
        let sources = self.at_hand.sources(publications, &contents(files))?;
        self.files(&sources, &files.iter().map(found).collect::<Vec<_>>())
    }

    pub(super) fn verifier<'s>(&'s self, source: &'s dyn Attestations) -> Verifier<'s> {
        Verifier::new(self.signers, source, self.now)
    }

    fn files(&self, sources: &Sources<'_>, files: &[Found]) -> Result<Judged, NotJudged> {
        let verified = self.verifier(sources).files(files)?;
        Ok(Judged::new(verified, Completeness::NotCovered, files))
    }
}

fn contents(files: &[(PathBuf, Content)]) -> HashSet<Sha256> {
    files.iter().map(|(_, content)| content.sha256()).collect()
}

/// As names are spelt in statements.
pub(super) fn spelled(path: &Path) -> String {
    escaped(path.as_os_str().as_encoded_bytes())
}

/// The content of a file; what is no file cannot be attested, and is refused as check 9 does.
pub(super) fn attestable(entry: &Entry) -> Result<Option<Content>, Refusal> {
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
