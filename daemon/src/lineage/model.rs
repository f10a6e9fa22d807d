use std::fmt;

use attestfs_attestation::{CommitKind, Outcome, RunDescription};
use attestfs_digest::{Digests, Sha256};
use attestfs_fs::{FileKey, Identity, Process, TreePath, Unknown, Unsealed};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Names one execution of a stage, in every store: `RunDescription::id`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub String);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names one commit. Chosen by whoever asks for the commit, so that asking again is harmless.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommitId(pub String);

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One content of one file, numbered within one store; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VersionId(pub u64);

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// What a run did with a version: the kind of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The version was there before the run wrote it: a material.
    Read,
    /// The run made the version: an output.
    Wrote,
}

/// An execution of a stage as the store knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// As told at its begin.
    pub description: RunDescription,
    /// None while it runs, or while nobody has found out that it does not.
    pub end: Option<RunEnd>,
}

impl Run {
    /// The name of this run.
    pub fn id(&self) -> RunId {
        RunId(self.description.id.clone())
    }
}

/// How and when a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunEnd {
    /// Success, failed or unknown.
    pub outcome: Outcome,
    /// When CMD ended, or when its end was noticed.
    pub finished: Timestamp,
}

/// Where a version comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// It was there when it was first seen: raw data, as far as this store knows.
    Found,
    /// A run made it.
    Written {
        /// Which.
        run: RunId,
    },
}

/// One content of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its number in this store.
    pub id: VersionId,
    /// Which file, whatever its name.
    pub file: FileKey,
    /// Where it comes from.
    pub origin: Origin,
    /// What a `stat` last said of this content; none while it is written or when it has no digest
    /// because of that.
    pub identity: Option<Identity>,
    /// None while unknown.
    pub digests: Option<Digests>,
    /// The absolute path under which it was last seen, with the escapes of [`TreePath`].
    pub path: String,
    /// The other names that its run left it with, written likewise: hard links.
    #[serde(default)]
    pub also: Vec<String>,
    /// The version that a run wrote over this one.
    pub superseded_by: Option<VersionId>,
    /// Of a found version: the version that a run had written to this file last. Its writer never
    /// sealed it, or somebody changed the file outside of a run since.
    pub after: Option<VersionId>,
    /// Whether it is known to be gone: the run that wrote it wrote over it or removed it, or another
    /// run removed its file. False when nobody saw it go.
    #[serde(default)]
    pub gone: bool,
    /// Which other run removed the file with this content in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_by: Option<RunId>,
}

impl Version {
    /// Whether its content is known to have no bytes. Such a version links no two runs: the empty
    /// file would otherwise be everybody's ancestor.
    pub fn is_empty(&self) -> bool {
        self.identity.is_some_and(|identity| identity.size == 0)
    }
}

/// Something a run made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The content.
    pub version: VersionId,
    /// The last name the run gave it; none when it was unlinked.
    pub path: Option<TreePath>,
    /// The other names it has: hard links.
    #[serde(default)]
    pub also: Vec<TreePath>,
    /// The last state the run reported.
    pub state: OutputState,
}

impl Output {
    /// Everywhere the run left it, the last name first.
    pub fn names(&self) -> impl Iterator<Item = &TreePath> {
        self.path.iter().chain(&self.also)
    }
}

/// The last reported state of an output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutputState {
    /// The last writer left and the digest is final.
    Sealed {
        /// What a `stat` says of the content.
        identity: Identity,
        /// Its digests.
        digests: Digests,
    },
    /// It has no digest.
    Unsealed {
        /// Why.
        reason: Unsealed,
    },
}

/// Everything a run made, in the order in which it began to write it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOutputs {
    /// What was still there when the run was last heard of.
    pub kept: Vec<Output>,
    /// What the run itself removed or wrote over.
    pub gone: Vec<Output>,
}

/// Something a run read that was there before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Material {
    /// The content.
    pub version: VersionId,
    /// The name under which the run opened it first.
    pub path: TreePath,
    /// What a `stat` said of it; none when the version was written by a run that never sealed it.
    pub identity: Option<Identity>,
    /// Bytes, where the identity is known.
    pub size: Option<u64>,
    /// Its digests, or why there are none.
    pub digest: MaterialDigest,
    /// The newest attestation of a success that names exactly this version and content as its
    /// subject. Never of an empty file.
    pub attestation: Option<Sha256>,
    /// Who opened it first.
    pub by: Process,
}

/// What the gate did not let a run read, or would not have in audit mode; and published content that
/// the run was to change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedOpen {
    /// By which name.
    pub path: TreePath,
    /// Of the content, where it was known.
    pub sha256: Option<Sha256>,
    /// The number of the check that failed.
    pub check: u8,
    /// A sentence.
    pub reason: String,
    /// What can be done about it.
    pub next_step: String,
    /// Whether the open failed; not in audit mode.
    pub enforced: bool,
    /// Who wanted to read or to change it.
    pub by: Process,
}

/// What is known of a material's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaterialDigest {
    /// Hashed, or known from the time it was written.
    Known {
        /// The digests.
        digests: Digests,
    },
    /// It will stay without.
    Unknown {
        /// Why.
        reason: Unknown,
    },
    /// Neither was reported so far.
    Pending,
}

/// A commit between its freeze and its publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrozenCommit {
    /// Which commit.
    pub commit: CommitId,
    /// What was frozen, in the words of the commit room.
    pub bytes: Vec<u8>,
}

/// What an attestation says about one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The name in the statement, relative to the artifact root.
    pub name: String,
    /// The content it vouches for.
    pub digests: Digests,
    /// The version, where the store knows it.
    pub version: Option<VersionId>,
}

/// An attestation on its way into the store, with all its subjects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PublishedAttestation {
    /// SHA-256 of the DSSE payload: the attestation's name.
    pub statement: Sha256,
    /// The end of a stage, with its outcome, or a checkpoint.
    pub kind: CommitKind,
    /// Which run.
    pub run: RunId,
    /// Its stage.
    pub stage: String,
    /// Absolute path, with the escapes of [`TreePath`], without a trailing slash.
    pub artifact_root: String,
    /// The files it names.
    pub subjects: Vec<Subject>,
    /// Which key signed it: hex SHA-256 of its public PEM.
    pub signer: String,
    /// When it was frozen, which is the time the statement bears.
    pub time: Timestamp,
    /// The type URI of the predicate.
    pub predicate_type: String,
}

/// An attestation that the store holds. Its subjects are listed by
/// [`subjects`](super::LineageStore::subjects).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attestation {
    /// SHA-256 of the DSSE payload: the attestation's name.
    pub statement: Sha256,
    /// The commit that published it.
    pub commit: CommitId,
    /// The end of a stage, with its outcome, or a checkpoint.
    pub kind: CommitKind,
    /// Which run.
    pub run: RunId,
    /// Its stage.
    pub stage: String,
    /// Absolute path, with the escapes of [`TreePath`], without a trailing slash.
    pub artifact_root: String,
    /// How many files it names.
    pub subjects: u64,
    /// Which key signed it.
    pub signer: String,
    /// The time the statement bears.
    pub time: Timestamp,
    /// The type URI of the predicate.
    pub predicate_type: String,
    /// Whether its bundle was freed, because what it speaks of is gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub freed: bool,
}

/// Which attestations are asked for.
#[derive(Clone, Copy, Debug)]
pub enum AttestationQuery<'a> {
    /// All of them.
    All,
    /// Of one run.
    Run(&'a RunId),
    /// That name this version.
    Version(VersionId),
    /// That name this content, whichever file has it.
    Content(Sha256),
    /// Whose artifact root is this absolute path or lies below it.
    Under(&'a str),
}
