//! Versions, edges and readers, as they lie in blocks. `daemon/LINEAGE.md` draws them.

use attestfs_digest::{Blake3, Digests, Sha256};
use attestfs_fs::{FileKey, Identity, RunVersion, TreePath, Unknown, Unsealed};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Role, VersionId,
    packing::{Packed, Packer, Unpacker},
    schema::RunNumber,
};

/// A version as it is stored. Without identity it has no digests either, and its identity is of no
/// other file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct VersionRecord {
    pub(super) file: FileKey,
    /// None of a found version.
    pub(super) writer: Option<Writer>,
    pub(super) identity: Option<Identity>,
    pub(super) digests: Option<Digests>,
    /// Where it was seen last.
    pub(super) path: String,
    /// The other names that its writer left it with.
    pub(super) also: Vec<String>,
    pub(super) superseded_by: Option<VersionId>,
    pub(super) after: Option<VersionId>,
    /// Whether its writer removed it or wrote over it.
    pub(super) gone: bool,
    /// Which run, other than its writer, removed the file.
    pub(super) removed_by: Option<RunNumber>,
}

/// Who made a version, and what that run calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Writer {
    pub(super) run: RunNumber,
    pub(super) version: RunVersion,
}

/// An edge of a run.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Edge {
    Read(ReadEdge),
    Wrote(WroteEdge),
}

/// An edge from a run to a material.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ReadEdge {
    pub(super) version: VersionId,
    pub(super) path: TreePath,
    /// Number of the text that describes the process.
    pub(super) by: u64,
    pub(super) unknown: Option<Unknown>,
}

/// An edge from a run to an output.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WroteEdge {
    pub(super) version: VersionId,
    pub(super) path: Option<TreePath>,
    pub(super) also: Vec<TreePath>,
    /// Number of the text that describes the process.
    pub(super) by: u64,
    /// None once it is sealed.
    pub(super) unsealed: Option<Unsealed>,
}

/// What a run calls a version that it read: mostly by one name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Readings(pub(super) Vec<RunVersion>);

impl VersionRecord {
    pub(super) fn is_empty(&self) -> bool {
        self.identity.is_some_and(|identity| identity.size == 0)
    }

    pub(super) fn is_own(&self, run: RunNumber) -> bool {
        self.writer.is_some_and(|writer| writer.run == run)
    }

    fn parts(&self) -> u64 {
        flags([
            self.writer.is_some(),
            self.identity.is_some(),
            self.digests.is_some(),
            !self.also.is_empty(),
            self.superseded_by.is_some(),
            self.after.is_some(),
            self.gone,
            self.removed_by.is_some(),
        ])
    }
}

impl Packed for VersionRecord {
    const NAME: &'static str = "version";

    fn origin() -> Self {
        Self {
            file: FileKey { filesystem: 0, inode: 0, born_ns: 0 },
            writer: None,
            identity: None,
            digests: None,
            path: String::new(),
            also: Vec::new(),
            superseded_by: None,
            after: None,
            gone: false,
            removed_by: None,
        }
    }

    fn pack(&self, before: &Self, into: &mut Packer) {
        into.number(self.parts());
        pack_file(&self.file, &before.file, into);
        if let Some(writer) = self.writer {
            let before = before.writer.unwrap_or(Writer::ORIGIN);
            into.step(before.run.0, writer.run.0);
            into.step(before.version.0, writer.version.0);
        }
        if let Some(identity) = &self.identity {
            into.number(identity.size);
            into.step(self.file.born_ns.cast_unsigned(), identity.mtime_ns.cast_unsigned());
            into.step(identity.mtime_ns.cast_unsigned(), identity.ctime_ns.cast_unsigned());
        }
        if let Some(digests) = &self.digests {
            into.bytes(&digests.sha256.0);
            into.bytes(&digests.blake3.0);
        }
        into.text(&before.path, &self.path);
        if !self.also.is_empty() {
            into.number(self.also.len() as u64);
            for name in &self.also {
                into.text(&self.path, name);
            }
        }
        let versions = [self.superseded_by, self.after].into_iter().flatten();
        for number in versions.map(|version| version.0).chain(self.removed_by.map(|run| run.0)) {
            into.number(number);
        }
    }

    fn unpack(before: &Self, from: &mut Unpacker<'_>) -> Option<Self> {
        let [writer, identity, digests, also, superseded_by, after, gone, removed_by] =
            unpack_flags(from)?;
        let file = unpack_file(&before.file, from)?;
        let writer = unpack_if(writer, || unpack_writer(before.writer, from))?;
        let identity = unpack_if(identity, || unpack_identity(file, from))?;
        let digests = unpack_if(digests, || unpack_digests(from))?;
        let path = from.text(&before.path)?;
        let also = unpack_if(also, || {
            (0..from.number()?).map(|_| from.text(&path)).collect::<Option<Vec<_>>>()
        })?;
        Some(Self {
            file,
            writer,
            identity,
            digests,
            path,
            also: also.unwrap_or_default(),
            superseded_by: unpack_if(superseded_by, || from.number().map(VersionId))?,
            after: unpack_if(after, || from.number().map(VersionId))?,
            gone,
            removed_by: unpack_if(removed_by, || from.number().map(RunNumber))?,
        })
    }
}

impl Writer {
    const ORIGIN: Self = Self { run: RunNumber(0), version: RunVersion(0) };
}

fn pack_file(file: &FileKey, before: &FileKey, into: &mut Packer) {
    into.step(before.filesystem, file.filesystem);
    into.step(before.inode, file.inode);
    into.step(before.born_ns.cast_unsigned(), file.born_ns.cast_unsigned());
}

fn unpack_file(before: &FileKey, from: &mut Unpacker<'_>) -> Option<FileKey> {
    Some(FileKey {
        filesystem: from.step(before.filesystem)?,
        inode: from.step(before.inode)?,
        born_ns: from.step(before.born_ns.cast_unsigned())?.cast_signed(),
    })
}

fn unpack_writer(before: Option<Writer>, from: &mut Unpacker<'_>) -> Option<Writer> {
    let before = before.unwrap_or(Writer::ORIGIN);
    let run = RunNumber(from.step(before.run.0)?);
    Some(Writer { run, version: RunVersion(from.step(before.version.0)?) })
}

fn unpack_identity(file: FileKey, from: &mut Unpacker<'_>) -> Option<Identity> {
    let size = from.number()?;
    let mtime_ns = from.step(file.born_ns.cast_unsigned())?;
    let ctime_ns = from.step(mtime_ns)?;
    let (mtime_ns, ctime_ns) = (mtime_ns.cast_signed(), ctime_ns.cast_signed());
    Some(Identity { file, size, mtime_ns, ctime_ns })
}

fn unpack_digests(from: &mut Unpacker<'_>) -> Option<Digests> {
    Some(Digests { sha256: Sha256(from.array()?), blake3: Blake3(from.array()?) })
}

impl Edge {
    pub(super) fn role(&self) -> Role {
        match self {
            Self::Read(_) => Role::Read,
            Self::Wrote(_) => Role::Wrote,
        }
    }

    fn version(&self) -> VersionId {
        match self {
            Self::Read(edge) => edge.version,
            Self::Wrote(edge) => edge.version,
        }
    }

    fn by(&self) -> u64 {
        match self {
            Self::Read(edge) => edge.by,
            Self::Wrote(edge) => edge.by,
        }
    }

    fn path(&self) -> Option<&TreePath> {
        match self {
            Self::Read(edge) => Some(&edge.path),
            Self::Wrote(edge) => edge.path.as_ref(),
        }
    }

    fn also(&self) -> &[TreePath] {
        match self {
            Self::Read(_) => &[],
            Self::Wrote(edge) => &edge.also,
        }
    }

    /// The word of the run that the version has no digest, as JSON: it is rare.
    fn reason(&self) -> Option<String> {
        match self {
            Self::Read(edge) => edge.unknown.as_ref().map(spell),
            Self::Wrote(edge) => edge.unsealed.as_ref().map(spell),
        }
    }
}

impl Packed for Edge {
    const NAME: &'static str = "edge";

    fn origin() -> Self {
        let path = TreePath { tree: 0, path: String::new() };
        Self::Read(ReadEdge { version: VersionId(0), path, by: 0, unknown: None })
    }

    fn pack(&self, before: &Self, into: &mut Packer) {
        let reason = self.reason();
        into.number(flags([
            self.role() == Role::Wrote,
            self.path().is_some(),
            !self.also().is_empty(),
            reason.is_some(),
            false,
            false,
            false,
            false,
        ]));
        into.step(before.version().0, self.version().0);
        into.step(before.by(), self.by());
        if let Some(path) = self.path() {
            pack_path(path, before.path(), into);
        }
        if !self.also().is_empty() {
            into.number(self.also().len() as u64);
            for name in self.also() {
                pack_path(name, self.path(), into);
            }
        }
        if let Some(reason) = reason {
            into.text("", &reason);
        }
    }

    fn unpack(before: &Self, from: &mut Unpacker<'_>) -> Option<Self> {
        let [wrote, path, also, reason, ..] = unpack_flags(from)?;
        let version = VersionId(from.step(before.version().0)?);
        let by = from.step(before.by())?;
        let path = unpack_if(path, || unpack_path(before.path(), from))?;
        let also = unpack_if(also, || {
            (0..from.number()?).map(|_| unpack_path(path.as_ref(), from)).collect::<Option<_>>()
        })?;
        let also = also.unwrap_or_default();
        let reason = unpack_if(reason, || from.text(""))?;
        if wrote {
            let unsealed = unpack_if(reason.is_some(), || unspell(reason.as_deref()))?;
            return Some(Self::Wrote(WroteEdge { version, path, also, by, unsealed }));
        }
        let unknown = unpack_if(reason.is_some(), || unspell(reason.as_deref()))?;
        Some(Self::Read(ReadEdge { version, path: path?, by, unknown }))
    }
}

impl Packed for Readings {
    const NAME: &'static str = "reading";

    fn origin() -> Self {
        Self::default()
    }

    fn pack(&self, before: &Self, into: &mut Packer) {
        into.number(self.0.len() as u64);
        let mut from = before.last();
        for name in &self.0 {
            into.step(from, name.0);
            from = name.0;
        }
    }

    fn unpack(before: &Self, from: &mut Unpacker<'_>) -> Option<Self> {
        let mut last = before.last();
        let names = (0..from.number()?).map(|_| {
            last = from.step(last)?;
            Some(RunVersion(last))
        });
        names.collect::<Option<_>>().map(Self)
    }
}

impl Readings {
    fn last(&self) -> u64 {
        self.0.last().map_or(0, |name| name.0)
    }
}

fn pack_path(path: &TreePath, before: Option<&TreePath>, into: &mut Packer) {
    into.number(path.tree.into());
    into.text(before.map_or("", |before| &before.path), &path.path);
}

fn unpack_path(before: Option<&TreePath>, from: &mut Unpacker<'_>) -> Option<TreePath> {
    let tree = u16::try_from(from.number()?).ok()?;
    Some(TreePath { tree, path: from.text(before.map_or("", |before| &before.path))? })
}

/// What is there, the first in the lowest bit.
fn flags(there: [bool; 8]) -> u64 {
    there.into_iter().rev().fold(0, |flags, there| flags << 1 | u64::from(there))
}

fn unpack_flags(from: &mut Unpacker<'_>) -> Option<[bool; 8]> {
    let flags = from.number()?;
    Some(std::array::from_fn(|bit| flags >> bit & 1 == 1))
}

/// Outer none: what should be there is not.
#[expect(clippy::option_option, reason = "not there, and not readable, are two things")]
fn unpack_if<T>(there: bool, unpack: impl FnOnce() -> Option<T>) -> Option<Option<T>> {
    if there { unpack().map(Some) } else { Some(None) }
}

fn spell(reason: &impl Serialize) -> String {
    serde_json::to_string(reason).expect("an enum of words and texts is JSON")
}

fn unspell<T: DeserializeOwned>(reason: Option<&str>) -> Option<T> {
    serde_json::from_str(reason?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineage::packing::Block;

    #[test]
    fn a_version_comes_back_with_all_it_has_and_with_all_it_lacks() {
        let bare = VersionRecord {
            file: FileKey { filesystem: u64::MAX, inode: 1, born_ns: i64::MIN },
            path: "/lab/ä".to_owned(),
            ..VersionRecord::origin()
        };
        let full = VersionRecord {
            file: FileKey { filesystem: 7, inode: u64::MAX, born_ns: i64::MAX },
            writer: Some(Writer { run: RunNumber(9), version: RunVersion(u64::MAX) }),
            identity: Some(Identity {
                file: FileKey { filesystem: 7, inode: u64::MAX, born_ns: i64::MAX },
                size: u64::MAX,
                mtime_ns: -1,
                ctime_ns: i64::MIN,
            }),
            digests: Some(Digests { sha256: Sha256([3; 32]), blake3: Blake3([4; 32]) }),
            path: "/lab/ö".to_owned(),
            also: vec![String::new(), "/lab/öl".to_owned()],
            superseded_by: Some(VersionId(1)),
            after: Some(VersionId(2)),
            gone: true,
            removed_by: Some(RunNumber(3)),
        };
        comes_back(&[bare.clone(), full.clone(), bare, full]);
    }

    #[test]
    fn an_edge_comes_back_with_all_it_has_and_with_all_it_lacks() {
        let path = |path: &str| TreePath { tree: u16::MAX, path: path.to_owned() };
        let read = |unknown| {
            Edge::Read(ReadEdge { version: VersionId(8), path: path("a/b"), by: 2, unknown })
        };
        let wrote = |path, also, unsealed| {
            Edge::Wrote(WroteEdge { version: VersionId(1), path, also, by: u64::MAX, unsealed })
        };
        comes_back(&[
            wrote(None, vec![path("a/c")], Some(Unsealed::Unreadable("gone: \"?\"".to_owned()))),
            read(Some(Unknown::Changed)),
            wrote(Some(path("a/b/c")), vec![path("a"), path("")], None),
            read(None),
            wrote(None, Vec::new(), Some(Unsealed::Open)),
        ]);
    }

    #[test]
    fn readings_come_back_with_every_name() {
        let readings = |names: &[u64]| Readings(names.iter().copied().map(RunVersion).collect());
        comes_back(&[readings(&[5]), readings(&[]), readings(&[0, 6, u64::MAX]), readings(&[7])]);
    }

    /// In blocks from each record on, so that each is the first of one.
    fn comes_back<R: Packed + Clone + PartialEq + std::fmt::Debug>(records: &[R]) {
        for first in 0..records.len() {
            let mut block = Block::default();
            for (slot, record) in (first..).zip(&records[first..]) {
                block.put(u8::try_from(slot).unwrap(), record.clone());
            }
            let unpacked = Block::<R>::unpacked(&block.packed()).unwrap().into_records();
            let unpacked: Vec<_> = unpacked.map(|(_, record)| record).collect();
            assert_eq!(unpacked, &records[first..]);
        }
    }
}
