//! Keys and records of the database, as `daemon/LINEAGE.md` draws them.
//!
//! Numbers in keys are 8 bytes, big-endian, so that the order of keys is the order of numbers.

use std::mem;

use attestfs_digest::{Digests, Sha256};
use attestfs_fs::{FileKey, Identity, RunVersion, TreePath, Unknown, Unsealed};
use serde::{Deserialize, Serialize};

use super::{CommitId, LineageError, Role, RunId, VersionId};

/// Grows by one when a key or a record changes its meaning.
pub(super) const SCHEMA: u32 = 1;

/// The first byte of a key: what kind of entry it is.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum Table {
    /// `-> SCHEMA`, 4 bytes.
    Schema = 0x00,
    /// `counter -> the number given last`.
    Counters = 0x01,
    /// `text -> number`.
    TextNumbers = 0x02,
    /// `number -> text`.
    Texts = 0x03,
    /// `run -> RunRecord`.
    Runs = 0x10,
    /// `run -> the end of what was taken in of its journal`.
    Ingested = 0x11,
    /// `run id -> run`.
    RunNumbers = 0x12,
    /// `run ->` for a run without an end.
    Unfinished = 0x13,
    /// `version -> VersionRecord`.
    Versions = 0x20,
    /// `identity version ->`.
    ByIdentity = 0x21,
    /// `file sha256 version ->`, not of empty content.
    ByContent = 0x22,
    /// `sha256 version ->`.
    ByDigest = 0x23,
    /// `file -> the version a run wrote last`.
    Heads = 0x24,
    /// `version found-version ->`.
    FoundAfter = 0x25,
    /// `run role run-version -> ReadEdge | WroteEdge`.
    Edges = 0x30,
    /// `version role run run-version ->`.
    EdgesBack = 0x31,
    /// `run offset -> RefusedOpen`.
    Refusals = 0x32,
    /// `commit id -> length`.
    Frozen = 0x40,
    /// `commit id 00 piece -> bytes`.
    FrozenPieces = 0x41,
    /// `commit id -> attestations`, 8 bytes each.
    Commits = 0x42,
    /// `attestation -> Attestation`.
    Attestations = 0x50,
    /// `statement sha256 -> attestation`.
    AttestationNumbers = 0x51,
    /// `attestation ordinal -> Subject`.
    Subjects = 0x52,
    /// `run attestation ->`.
    ByRun = 0x53,
    /// `version attestation -> sha256 of the subject`.
    ByVersion = 0x54,
    /// `subject sha256 attestation ->`.
    BySubject = 0x55,
    /// `artifact root 00 attestation ->`.
    ByRoot = 0x56,
}

/// What is numbered, each from 1.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum Counter {
    Run = 1,
    Version = 2,
    Text = 3,
    Attestation = 4,
}

/// The bytes of a key or of the beginning of keys.
#[derive(Clone, Debug)]
pub(super) struct Key(Vec<u8>);

impl Key {
    pub(super) fn of(table: Table) -> Self {
        Self(vec![table as u8])
    }

    pub(super) fn counter(counter: Counter) -> Self {
        Self::of(Table::Counters).bytes(&[counter as u8])
    }

    pub(super) fn text(text: &[u8]) -> Self {
        Self::of(Table::TextNumbers).bytes(text)
    }

    pub(super) fn run(table: Table, run: RunNumber) -> Self {
        Self::of(table).number(run.0)
    }

    pub(super) fn run_number(run: &RunId) -> Self {
        Self::of(Table::RunNumbers).bytes(run.0.as_bytes())
    }

    pub(super) fn version(table: Table, version: VersionId) -> Self {
        Self::of(table).number(version.0)
    }

    pub(super) fn identity(identity: &Identity) -> Self {
        Self::of(Table::ByIdentity)
            .file(&identity.file)
            .number(identity.size)
            .bytes(&identity.mtime_ns.to_be_bytes())
            .bytes(&identity.ctime_ns.to_be_bytes())
    }

    pub(super) fn content(file: &FileKey, sha256: &Sha256) -> Self {
        Self::of(Table::ByContent).file(file).bytes(&sha256.0)
    }

    pub(super) fn digest(table: Table, sha256: &Sha256) -> Self {
        Self::of(table).bytes(&sha256.0)
    }

    pub(super) fn head(file: &FileKey) -> Self {
        Self::of(Table::Heads).file(file)
    }

    pub(super) fn edges(run: RunNumber, role: Role) -> Self {
        Self::run(Table::Edges, run).role(role)
    }

    pub(super) fn edge(run: RunNumber, role: Role, version: RunVersion) -> Self {
        Self::edges(run, role).number(version.0)
    }

    pub(super) fn edges_back(version: VersionId, role: Role) -> Self {
        Self::version(Table::EdgesBack, version).role(role)
    }

    pub(super) fn edge_back(version: VersionId, role: Role, edge: EdgeEnd) -> Self {
        Self::edges_back(version, role).number(edge.run.0).number(edge.version.0)
    }

    pub(super) fn commit(table: Table, commit: &CommitId) -> Self {
        Self::of(table).bytes(commit.0.as_bytes())
    }

    pub(super) fn frozen_pieces(commit: &CommitId) -> Self {
        Self::commit(Table::FrozenPieces, commit).bytes(&[0])
    }

    pub(super) fn root(root: &str) -> Self {
        Self::of(Table::ByRoot).bytes(root.as_bytes()).bytes(&[0])
    }

    pub(super) fn below_root(root: &str) -> Self {
        Self::of(Table::ByRoot).bytes(root.as_bytes()).bytes(b"/")
    }

    pub(super) fn number(mut self, number: u64) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    fn role(self, role: Role) -> Self {
        self.bytes(&[match role {
            Role::Read => b'r',
            Role::Wrote => b'w',
        }])
    }

    fn file(self, file: &FileKey) -> Self {
        self.number(file.filesystem).number(file.inode).bytes(&file.born_ns.to_be_bytes())
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Key> for Vec<u8> {
    fn from(key: Key) -> Self {
        key.0
    }
}

/// A run, numbered within one store in the order of `begin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct RunNumber(pub(super) u64);

/// One end of an edge: the number a run gave to the version at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EdgeEnd {
    pub(super) run: RunNumber,
    pub(super) version: RunVersion,
}

/// A version as it is stored. Without identity it has no digests either.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct VersionRecord {
    pub(super) file: FileKey,
    /// None of a found version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) writer: Option<Writer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) identity: Option<Identity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) digests: Option<Digests>,
    /// Where it was seen last.
    pub(super) path: String,
    /// The other names that its writer left it with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) also: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) superseded_by: Option<VersionId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<VersionId>,
    /// Which run, other than its writer, removed the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) removed_by: Option<RunNumber>,
}

/// Who made a version, and what that run calls it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Writer {
    pub(super) run: RunNumber,
    pub(super) version: RunVersion,
}

impl VersionRecord {
    /// The keys under which the version can be found.
    pub(super) fn index(&self, id: VersionId) -> Vec<Key> {
        let identity = self.identity.iter().map(Key::identity);
        let digest = self.digests.map(|digests| Key::digest(Table::ByDigest, &digests.sha256));
        // The empty content is the same everywhere and says nothing about where it comes from.
        let content = self.digests.filter(|_| !self.is_empty());
        let content = content.map(|digests| Key::content(&self.file, &digests.sha256));
        let after = self.after.map(|before| Key::version(Table::FoundAfter, before));
        let keys = identity.chain(digest).chain(content).chain(after);
        keys.map(|key| key.number(id.0)).collect()
    }

    /// Takes in that it was seen at `path`: by one of its names, or by one that takes the place of
    /// the one seen last, since a file may be moved outside of a run.
    pub(super) fn see_at(&mut self, path: String) {
        let before = mem::replace(&mut self.path, path);
        if let Some(known) = self.also.iter_mut().find(|name| **name == self.path) {
            *known = before;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.identity.is_some_and(|identity| identity.size == 0)
    }
}

/// An edge from a run to a material.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ReadEdge {
    pub(super) version: VersionId,
    pub(super) path: TreePath,
    /// Number of the text that describes the process.
    pub(super) by: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unknown: Option<Unknown>,
}

/// An edge from a run to an output.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct WroteEdge {
    pub(super) version: VersionId,
    pub(super) path: Option<TreePath>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) also: Vec<TreePath>,
    /// Number of the text that describes the process.
    pub(super) by: u64,
    /// None once it is sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unsealed: Option<Unsealed>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) gone: bool,
}

/// The number at the end of a key or in a value.
pub(super) fn last_number(bytes: &[u8]) -> Result<u64, LineageError> {
    let (_, number) = bytes.split_last_chunk::<8>().ok_or_else(|| LineageError::Damaged {
        what: format!("an entry of {} bytes has no number at its end", bytes.len()),
    })?;
    Ok(u64::from_be_bytes(*number))
}

/// The end of an edge at the end of a key of [`Table::EdgesBack`].
pub(super) fn edge_end(key: &[u8]) -> Result<EdgeEnd, LineageError> {
    let version = RunVersion(last_number(key)?);
    let run = RunNumber(last_number(&key[..key.len() - 8])?);
    Ok(EdgeEnd { run, version })
}

/// # Errors
/// [`LineageError::Damaged`], naming `what`.
pub(super) fn decode<'a, T: Deserialize<'a>>(
    what: &str,
    bytes: &'a [u8],
) -> Result<T, LineageError> {
    serde_json::from_slice(bytes)
        .map_err(|error| LineageError::Damaged { what: format!("{what}: {error}") })
}

pub(super) fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, LineageError> {
    serde_json::to_vec(record).map_err(|error| LineageError::Database(Box::new(error)))
}
