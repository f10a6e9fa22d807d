//! Keys and records of the database, as `daemon/LINEAGE.md` draws them.
//!
//! Numbers in keys are 8 bytes, big-endian, so that the order of keys is the order of numbers.

use attestfs_digest::Sha256;
use attestfs_fs::{FileKey, Identity, RunVersion};
use serde::{Deserialize, Serialize};

use super::{CommitId, LineageError, RunId, VersionId};

/// Grows by one when a key or a record changes its meaning.
pub(super) const SCHEMA: u32 = 2;

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
    /// `run -> run id`.
    RunIds = 0x14,
    /// `versions -> block of VersionRecord`.
    Versions = 0x20,
    /// `mark of an identity -> the versions that may have it`.
    ByIdentity = 0x21,
    /// `beginning of a sha256, mark of a file, version ->`.
    ByContent = 0x22,
    /// `mark of a file -> the versions of which one may be what a run wrote to it last`.
    Heads = 0x24,
    /// `version found-version ->`.
    FoundAfter = 0x25,
    /// `run, edges -> block of Edge`.
    Edges = 0x30,
    /// `versions, run -> block of Readings`.
    Readers = 0x31,
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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
        let numbers =
            [identity.size, identity.mtime_ns.cast_unsigned(), identity.ctime_ns.cast_unsigned()];
        Self::of(Table::ByIdentity).mark(&identity.file, &numbers)
    }

    pub(super) fn head(file: &FileKey) -> Self {
        Self::of(Table::Heads).mark(file, &[])
    }

    /// The keys of all versions that may have this content.
    pub(super) fn contents(sha256: &Sha256) -> Self {
        Self::of(Table::ByContent).bytes(&sha256.0[..CONTENT_BYTES])
    }

    /// The keys of all versions of this file that may have this content.
    pub(super) fn content(file: &FileKey, sha256: &Sha256) -> Self {
        Self::contents(sha256).bytes(&mark(file, &[])[..FILE_BYTES])
    }

    pub(super) fn digest(table: Table, sha256: &Sha256) -> Self {
        Self::of(table).bytes(&sha256.0)
    }

    pub(super) fn edges(run: RunNumber) -> Self {
        Self::run(Table::Edges, run)
    }

    pub(super) fn readers(version: VersionId) -> Self {
        Self::of(Table::Readers).number(version.0 / READ_VERSIONS_PER_BLOCK)
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

    /// A number without the zeros before it. Its length comes first, so that the order is the same.
    pub(super) fn short_number(self, number: u64) -> Self {
        let bytes = number.to_be_bytes();
        let zeros = number.leading_zeros() as usize / 8;
        self.bytes(&[low_byte((bytes.len() - zeros) as u64)]).bytes(&bytes[zeros..])
    }

    /// New files mostly have inodes in a row, so that marks which begin with it come in a row, too.
    fn mark(self, file: &FileKey, numbers: &[u64]) -> Self {
        let inode = file.inode.to_be_bytes();
        self.bytes(&inode[4..]).bytes(&mark(file, numbers))
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }
}

/// Where a record lies: under which key, and where in the block.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) block: Key,
    pub(super) slot: u8,
}

impl Place {
    pub(super) fn version(version: VersionId) -> Self {
        let (block, slot) = split(version.0, VERSIONS_PER_BLOCK);
        Self { block: Key::of(Table::Versions).number(block), slot }
    }

    pub(super) fn edge(run: RunNumber, version: RunVersion) -> Self {
        let (block, slot) = split(version.0, EDGES_PER_BLOCK);
        Self { block: Key::edges(run).number(block), slot }
    }

    pub(super) fn readings(version: VersionId, run: RunNumber) -> Self {
        let (_, slot) = split(version.0, READ_VERSIONS_PER_BLOCK);
        Self { block: Key::readers(version).number(run.0), slot }
    }
}

fn split(number: u64, per_block: u64) -> (u64, u8) {
    (number / per_block, low_byte(number % per_block))
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

/// Eight bytes that stand for a file, or for something of it. Who finds an entry under them compares
/// what the record says: two files may have one mark.
fn mark(file: &FileKey, numbers: &[u64]) -> [u8; MARK_BYTES] {
    let mut hasher = blake3::Hasher::new();
    for number in [file.filesystem, file.inode, file.born_ns.cast_unsigned()].iter().chain(numbers)
    {
        hasher.update(&number.to_be_bytes());
    }
    let hash = hasher.finalize();
    *hash.as_bytes().first_chunk().expect("8 is less than 32")
}

/// The version at the end of a key of [`Table::ByContent`].
pub(super) fn content_version(key: &[u8]) -> Result<VersionId, LineageError> {
    let version = key.get(1 + CONTENT_BYTES + FILE_BYTES..).and_then(|short| {
        let (length, bytes) = short.split_first()?;
        let mut number = [0; 8];
        number.get_mut(8_usize.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
        (usize::from(*length) == bytes.len()).then(|| u64::from_be_bytes(number))
    });
    version.map(VersionId).ok_or_else(|| LineageError::Damaged {
        what: format!("a key of {} bytes leads from a content to no version", key.len()),
    })
}

/// The number at the end of a key or in a value.
pub(super) fn last_number(bytes: &[u8]) -> Result<u64, LineageError> {
    let (_, number) = bytes.split_last_chunk::<8>().ok_or_else(|| LineageError::Damaged {
        what: format!("an entry of {} bytes has no number at its end", bytes.len()),
    })?;
    Ok(u64::from_be_bytes(*number))
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

#[expect(clippy::cast_possible_truncation, reason = "callers give less than 256")]
fn low_byte(number: u64) -> u8 {
    number as u8
}

/// Versions that are made in a row are mostly asked for in a row.
const VERSIONS_PER_BLOCK: u64 = 32;
const READ_VERSIONS_PER_BLOCK: u64 = 64;
const EDGES_PER_BLOCK: u64 = 128;

/// Two contents that share so many bytes by chance are not met in practice, and do no harm: who looks
/// compares the whole.
const CONTENT_BYTES: usize = 8;
const FILE_BYTES: usize = 4;
const MARK_BYTES: usize = 8;
