//! Entries become answers.

use std::collections::BTreeSet;

use attestfs_digest::{Digests, Sha256};
use attestfs_fs::Identity;

use super::{
    Attestation, AttestationQuery, CommitId, FrozenCommit, LineageError, Material, MaterialDigest,
    Origin, Output, OutputState, Role, RunId, RunOutputs, Subject, Version, VersionId,
    checks::{is_under, without_slash},
    entries::{Entries, Entry, View},
    finding::Finding,
    packing::Block,
    publishing::numbers,
    records::{Edge, ReadEdge, Readings, VersionRecord, WroteEdge},
    schema::{Key, Place, RunNumber, Table, decode, last_number},
};

impl View<'_> {
    pub(super) fn outputs(&self, run: RunNumber) -> Result<RunOutputs, LineageError> {
        let mut outputs = RunOutputs::default();
        for edge in self.edges_to_outputs(run) {
            let edge = edge?;
            let version = self.version(edge.version)?;
            let side = if version.gone { &mut outputs.gone } else { &mut outputs.kept };
            side.push(edge.output(&version)?);
        }
        Ok(outputs)
    }

    pub(super) fn materials(&self, run: RunNumber) -> Result<Vec<Material>, LineageError> {
        let mut seen = BTreeSet::new();
        let mut materials = Vec::new();
        for edge in self.edges_to_materials(run) {
            let edge = edge?;
            if seen.insert(edge.version) {
                materials.push(self.material(edge)?);
            }
        }
        Ok(materials)
    }

    pub(super) fn versions_of_run(
        &self,
        run: RunNumber,
        role: Role,
        limit: usize,
    ) -> Result<Vec<VersionId>, LineageError> {
        match role {
            Role::Read => {
                let edges = self.edges_to_materials(run);
                distinct(edges.map(|edge| Ok(edge?.version)), limit)
            }
            Role::Wrote => {
                let edges = self.edges_to_outputs(run);
                distinct(edges.map(|edge| Ok(edge?.version)), limit)
            }
        }
    }

    pub(super) fn runs_of_version(
        &self,
        id: VersionId,
        role: Role,
        limit: usize,
    ) -> Result<Vec<RunId>, LineageError> {
        let Some(version) = self.version_if_known(id)? else {
            return Ok(Vec::new());
        };
        let runs: Vec<RunNumber> = match role {
            Role::Wrote => version.writer.iter().map(|writer| writer.run).take(limit).collect(),
            Role::Read => self.readers(id, &version).take(limit).collect::<Result<_, _>>()?,
        };
        runs.into_iter().map(|run| self.run_id(run)).collect()
    }

    /// The runs that read this version. A run is no reader of what it wrote.
    fn readers(
        &self,
        id: VersionId,
        version: &VersionRecord,
    ) -> impl Iterator<Item = Result<RunNumber, LineageError>> {
        let Place { slot, .. } = Place::readings(id, RunNumber(0));
        let runs = self.scan(&Key::readers(id)).map(move |entry| {
            let entry = entry?;
            let readers: Block<Readings> = Block::unpacked(&entry.value)?;
            let run = RunNumber(last_number(&entry.key)?);
            Ok(readers.at(slot).is_some().then_some(run))
        });
        let writer = version.writer.map(|writer| writer.run);
        runs.filter_map(Result::transpose).filter(move |run| match run {
            Ok(run) => Some(*run) != writer,
            Err(_) => true,
        })
    }

    pub(super) fn subjects(&self, statement: &Sha256) -> Result<Vec<Subject>, LineageError> {
        let number = self.number(&Key::digest(Table::AttestationNumbers, statement))?;
        let Some(number) = number else {
            return Ok(Vec::new());
        };
        let subjects = self.scan(&Key::of(Table::Subjects).number(number));
        subjects.map(|entry| decode("subject", &entry?.value)).collect()
    }

    pub(super) fn attestations(
        &self,
        query: AttestationQuery<'_>,
        limit: usize,
    ) -> Result<Vec<Attestation>, LineageError> {
        let newest = |prefix: &Key| self.numbers_below(prefix).rev().take(limit).collect();
        let numbers: Result<Vec<u64>, LineageError> = match query {
            AttestationQuery::All => newest(&Key::of(Table::Attestations)),
            AttestationQuery::Run(run) => match self.run_number(run)? {
                Some(run) => newest(&Key::run(Table::ByRun, run)),
                None => Ok(Vec::new()),
            },
            AttestationQuery::Version(version) => newest(&Key::version(Table::ByVersion, version)),
            AttestationQuery::Content(sha256) => newest(&Key::digest(Table::BySubject, &sha256)),
            AttestationQuery::Under(path) => self.numbers_under(path),
        };
        numbers?.into_iter().take(limit).map(|number| self.attestation(number)).collect()
    }

    pub(super) fn latest(&self, path: &str) -> Result<Vec<Attestation>, LineageError> {
        for number in self.numbers_under(path)? {
            let newest = self.attestation(number)?;
            if newest.counts() {
                let mut commit = self.published(&newest.commit)?.unwrap_or_default();
                commit.retain(|other| other.counts() && is_under(&other.artifact_root, path));
                return Ok(commit);
            }
        }
        Ok(Vec::new())
    }

    pub(super) fn ingested(&self, run: RunNumber) -> Result<u64, LineageError> {
        Ok(self.number(&Key::run(Table::Ingested, run))?.unwrap_or(0))
    }

    /// The numbers at the end of the keys that begin with `prefix`, in the order of the keys.
    pub(super) fn numbers_below(
        &self,
        prefix: &Key,
    ) -> impl DoubleEndedIterator<Item = Result<u64, LineageError>> + use<> {
        self.scan(prefix).map(|entry| last_number(&entry?.key))
    }

    pub(super) fn digests_of(&self, identity: &Identity) -> Result<Option<Digests>, LineageError> {
        let Some(version) = self.newest_of_identity(identity)? else {
            return Ok(None);
        };
        Ok(self.version(version)?.digests)
    }

    pub(super) fn public_version(
        &self,
        id: VersionId,
        record: VersionRecord,
    ) -> Result<Version, LineageError> {
        let origin = match record.writer {
            Some(writer) => Origin::Written { run: self.run_id(writer.run)? },
            None => Origin::Found,
        };
        let removed_by = record.removed_by.map(|run| self.run_id(run));
        Ok(Version {
            id,
            file: record.file,
            origin,
            identity: record.identity,
            digests: record.digests,
            path: record.path,
            also: record.also,
            superseded_by: record.superseded_by,
            after: record.after,
            gone: record.removed_by.is_some() || record.gone,
            removed_by: removed_by.transpose()?,
        })
    }

    /// The edges of a run in the order of its own names.
    fn edges(&self, run: RunNumber) -> impl Iterator<Item = Result<Edge, LineageError>> + use<> {
        let blocks = self.scan(&Key::edges(run)).map(|entry| Block::unpacked(&entry?.value));
        blocks.flat_map(|block| {
            let (block, failure) = match block {
                Ok(block) => (block, None),
                Err(error) => (Block::default(), Some(Err(error))),
            };
            block.into_records().map(|(_, edge)| Ok(edge)).chain(failure)
        })
    }

    fn edges_to_outputs(
        &self,
        run: RunNumber,
    ) -> impl Iterator<Item = Result<WroteEdge, LineageError>> + use<> {
        self.edges(run).filter_map(|edge| match edge {
            Ok(Edge::Wrote(edge)) => Some(Ok(edge)),
            Ok(Edge::Read(_)) => None,
            Err(error) => Some(Err(error)),
        })
    }

    /// The edges of a run to what it read. What the run itself wrote is none.
    fn edges_to_materials(
        &self,
        run: RunNumber,
    ) -> impl Iterator<Item = Result<ReadEdge, LineageError>> {
        self.edges(run).filter_map(move |edge| match edge {
            Ok(Edge::Read(edge)) => match self.is_own(edge.version, run) {
                Ok(is_own) => (!is_own).then_some(Ok(edge)),
                Err(error) => Some(Err(error)),
            },
            Ok(Edge::Wrote(_)) => None,
            Err(error) => Some(Err(error)),
        })
    }

    fn is_own(&self, version: VersionId, run: RunNumber) -> Result<bool, LineageError> {
        let Place { block, slot } = Place::version(version);
        Ok(self.versions(&block)?.at(slot).is_some_and(|version| version.is_own(run)))
    }

    fn material(&self, edge: ReadEdge) -> Result<Material, LineageError> {
        let version = self.version(edge.version)?;
        let process = self.bytes(&Key::of(Table::Texts).number(edge.by))?;
        Ok(Material {
            version: edge.version,
            identity: version.identity,
            size: version.identity.map(|identity| identity.size),
            attestation: self.attestation_of(edge.version, &version)?,
            digest: MaterialDigest::of(edge.unknown, version.digests),
            by: decode("process", &process.unwrap_or_default())?,
            path: edge.path,
        })
    }

    /// The newest attestation that vouches for this version with this content.
    fn attestation_of(
        &self,
        id: VersionId,
        version: &VersionRecord,
    ) -> Result<Option<Sha256>, LineageError> {
        let Some(digests) = version.digests.filter(|_| !version.is_empty()) else {
            return Ok(None);
        };
        for entry in self.scan(&Key::version(Table::ByVersion, id)).rev() {
            let entry = entry?;
            let attestation = self.attestation(last_number(&entry.key)?)?;
            if entry.value == digests.sha256.0 && attestation.counts() {
                return Ok(Some(attestation.statement));
            }
        }
        Ok(None)
    }

    pub(super) fn frozen_commit(&self, entry: &Entry) -> Result<FrozenCommit, LineageError> {
        let name = entry.key.get(1..).unwrap_or_default().to_vec();
        let commit = CommitId(String::from_utf8(name).map_err(|error| LineageError::Damaged {
            what: format!("the name of a frozen commit: {error}"),
        })?);
        let bytes = self.frozen_bytes(&commit)?;
        if bytes.len() as u64 != last_number(&entry.value)? {
            let what = format!("of frozen commit '{commit}' a piece is missing");
            return Err(LineageError::Damaged { what });
        }
        Ok(FrozenCommit { commit, bytes })
    }

    pub(super) fn frozen_bytes(&self, commit: &CommitId) -> Result<Vec<u8>, LineageError> {
        let mut bytes = Vec::new();
        for entry in self.scan(&Key::frozen_pieces(commit)) {
            bytes.extend(entry?.value);
        }
        Ok(bytes)
    }

    pub(super) fn published(
        &self,
        commit: &CommitId,
    ) -> Result<Option<Vec<Attestation>>, LineageError> {
        let Some(value) = self.bytes(&Key::commit(Table::Commits, commit))? else {
            return Ok(None);
        };
        let published = numbers(&value)?.into_iter().map(|number| self.attestation(number));
        published.collect::<Result<_, _>>().map(Some)
    }

    pub(super) fn attestation(&self, number: u64) -> Result<Attestation, LineageError> {
        self.record("attestation", &Key::of(Table::Attestations).number(number))?.ok_or_else(|| {
            LineageError::Damaged { what: format!("attestation {number} is missing") }
        })
    }

    /// The attestations with an artifact root at this path or below it, newest first.
    fn numbers_under(&self, path: &str) -> Result<Vec<u64>, LineageError> {
        let path = without_slash(path);
        let at = self.numbers_below(&Key::root(path));
        let below = self.numbers_below(&Key::below_root(path));
        let mut numbers: Vec<u64> = at.chain(below).collect::<Result<_, _>>()?;
        numbers.sort_unstable_by(|one, other| other.cmp(one));
        Ok(numbers)
    }
}

impl Attestation {
    /// Whether it speaks for something that may be there.
    pub(crate) fn counts(&self) -> bool {
        self.kind.vouches() && !self.freed
    }
}

impl WroteEdge {
    fn output(self, version: &VersionRecord) -> Result<Output, LineageError> {
        let state = match (self.unsealed, version.identity, version.digests) {
            (Some(reason), ..) => OutputState::Unsealed { reason },
            (None, Some(identity), Some(digests)) => OutputState::Sealed { identity, digests },
            (None, ..) => {
                let what = format!("sealed version {} has no digest", self.version);
                return Err(LineageError::Damaged { what });
            }
        };
        Ok(Output { version: self.version, path: self.path, also: self.also, state })
    }
}

/// The first `limit` different values.
fn distinct<T: Copy + Ord>(
    values: impl Iterator<Item = Result<T, LineageError>>,
    limit: usize,
) -> Result<Vec<T>, LineageError> {
    let mut seen = BTreeSet::new();
    let new = values.filter(|value| match value {
        Ok(value) => seen.insert(*value),
        Err(_) => true,
    });
    new.take(limit).collect()
}
