//! Entries become answers.

use std::collections::BTreeSet;

use attestfs_digest::{Digests, Sha256};
use attestfs_fs::Identity;

use super::{
    Attestation, AttestationQuery, CommitId, FrozenCommit, LineageError, Material, MaterialDigest,
    Origin, Output, OutputState, Role, RunId, RunOutputs, Subject, Version, VersionId,
    checks::{is_under, without_slash},
    entries::{Entries, Entry, View},
    publishing::numbers,
    schema::{
        Key, ReadEdge, RunNumber, Table, VersionRecord, Writer, WroteEdge, decode, edge_end,
        last_number,
    },
};

impl View<'_> {
    pub(super) fn outputs(&self, run: RunNumber) -> Result<RunOutputs, LineageError> {
        let mut outputs = RunOutputs::default();
        for edge in self.edges_to_outputs(run) {
            let edge = edge?;
            let side = if edge.gone { &mut outputs.gone } else { &mut outputs.kept };
            side.push(self.output(edge)?);
        }
        Ok(outputs)
    }

    pub(super) fn materials(&self, run: RunNumber) -> Result<Vec<Material>, LineageError> {
        let mut seen = BTreeSet::new();
        let mut materials = Vec::new();
        for edge in self.edges_to_materials(run) {
            let (edge, version) = edge?;
            if seen.insert(edge.version) {
                materials.push(self.material(edge, &version)?);
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
                distinct(edges.map(|edge| Ok(edge?.0.version)), limit)
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
        let edges = self.scan(&Key::edges_back(id, role));
        let runs = edges.map(|entry| Ok(edge_end(&entry?.key)?.run));
        // A run is no reader of what it wrote.
        let runs = runs.filter(|run| match run {
            Ok(run) => role == Role::Wrote || !version.is_own(*run),
            Err(_) => true,
        });
        distinct(runs, limit)?.into_iter().map(|run| Ok(self.run_record(run)?.id())).collect()
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

    pub(super) fn newest_below(&self, prefix: &Key) -> Result<Option<VersionId>, LineageError> {
        let newest = self.numbers_below(prefix).next_back();
        newest.map(|number| Ok(VersionId(number?))).transpose()
    }

    pub(super) fn digests_of(&self, identity: &Identity) -> Result<Option<Digests>, LineageError> {
        let Some(version) = self.newest_below(&Key::identity(identity))? else {
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
            Some(writer) => Origin::Written { run: self.run_record(writer.run)?.id() },
            None => Origin::Found,
        };
        let removed_by = record.removed_by.map(|run| Ok(self.run_record(run)?.id()));
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
            gone: record.removed_by.is_some() || self.is_gone(record.writer)?,
            removed_by: removed_by.transpose()?,
        })
    }

    /// Whether the run that wrote a version removed it, or wrote over it.
    fn is_gone(&self, writer: Option<Writer>) -> Result<bool, LineageError> {
        let Some(writer) = writer else {
            return Ok(false);
        };
        let edge = Key::edge(writer.run, Role::Wrote, writer.version);
        let edge: Option<WroteEdge> = self.record("edge", &edge)?;
        Ok(edge.is_some_and(|edge| edge.gone))
    }

    fn output(&self, edge: WroteEdge) -> Result<Output, LineageError> {
        let state = match edge.unsealed {
            Some(reason) => OutputState::Unsealed { reason },
            None => self.sealed(edge.version)?,
        };
        Ok(Output { version: edge.version, path: edge.path, also: edge.also, state })
    }

    fn sealed(&self, id: VersionId) -> Result<OutputState, LineageError> {
        let version = self.version(id)?;
        match (version.identity, version.digests) {
            (Some(identity), Some(digests)) => Ok(OutputState::Sealed { identity, digests }),
            _ => Err(LineageError::Damaged { what: format!("sealed version {id} has no digest") }),
        }
    }

    fn edges_to_outputs(
        &self,
        run: RunNumber,
    ) -> impl Iterator<Item = Result<WroteEdge, LineageError>> + use<> {
        let edges = self.scan(&Key::edges(run, Role::Wrote));
        edges.map(|entry| decode("edge", &entry?.value))
    }

    /// The edges of a run to what it read, with the versions. What the run itself wrote is none.
    fn edges_to_materials(
        &self,
        run: RunNumber,
    ) -> impl Iterator<Item = Result<(ReadEdge, VersionRecord), LineageError>> {
        let edges = self.scan(&Key::edges(run, Role::Read)).map(move |entry| {
            let edge: ReadEdge = decode("edge", &entry?.value)?;
            let version = self.version(edge.version)?;
            Ok((edge, version))
        });
        edges.filter(move |edge| match edge {
            Ok((_, version)) => !version.is_own(run),
            Err(_) => true,
        })
    }

    fn material(&self, edge: ReadEdge, version: &VersionRecord) -> Result<Material, LineageError> {
        let process = self.bytes(&Key::of(Table::Texts).number(edge.by))?;
        Ok(Material {
            version: edge.version,
            identity: version.identity,
            size: version.identity.map(|identity| identity.size),
            attestation: self.attestation_of(edge.version, version)?,
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

impl VersionRecord {
    pub(super) fn is_own(&self, run: RunNumber) -> bool {
        self.writer.is_some_and(|writer| writer.run == run)
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
