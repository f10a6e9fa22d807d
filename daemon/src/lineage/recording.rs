//! Facts become versions and edges.

use std::ops::Range;

use attestfs_digest::Digests;
use attestfs_fs::{Fact, FileKey, Identity, Process, RunVersion, TreePath, Unknown, Unsealed};

use super::{
    FactProblem, LineageError, RefusedOpen, RunId, VersionId,
    entries::{Entries, Transaction},
    finding::Finding,
    records::{Edge, ReadEdge, VersionRecord, Writer, WroteEdge},
    schema::{EdgeEnd, Key, RunNumber, Table, encode},
};

/// Takes in the facts of a range of a run's journal that was not taken in before.
pub(super) fn record(
    transaction: &mut Transaction<'_>,
    run: &RunId,
    range: Range<u64>,
    facts: &[Fact],
) -> Result<(), LineageError> {
    let number = transaction.known_run(run)?;
    let trees = transaction.run_record(number)?.description.trees;
    let mut recording = Recording { transaction, run: number, trees, offset: range.start };
    for (index, fact) in facts.iter().enumerate() {
        recording.take(fact).map_err(|obstacle| match obstacle {
            Obstacle::Fact(problem) => LineageError::BadFact {
                run: run.clone(),
                start: range.start,
                index,
                version: subject_of(fact).unwrap_or(RunVersion(0)),
                problem,
            },
            Obstacle::Store(error) => error,
        })?;
    }
    transaction.put_number(Key::run(Table::Ingested, number), range.end);
    Ok(())
}

struct Recording<'t, 'a> {
    transaction: &'t mut Transaction<'a>,
    run: RunNumber,
    trees: Vec<String>,
    /// A number for the next refusal. No fact is shorter than a byte of the journal, so that it stays
    /// below the offset of the next range.
    offset: u64,
}

/// Where an output is, as a fact tells it.
#[derive(Clone, Copy)]
struct Names<'f> {
    path: Option<&'f TreePath>,
    also: &'f [TreePath],
}

/// Why a fact was not taken in.
enum Obstacle {
    /// The fact itself.
    Fact(FactProblem),
    /// The store.
    Store(LineageError),
}

impl From<LineageError> for Obstacle {
    fn from(error: LineageError) -> Self {
        Self::Store(error)
    }
}

impl Recording<'_, '_> {
    fn take(&mut self, fact: &Fact) -> Result<(), Obstacle> {
        match fact {
            Fact::Opened { version, identity, path, by } => {
                self.opened(*version, identity, path, by)
            }
            Fact::OpenedAs { version, path } => self.opened_as(*version, path),
            Fact::Hashed { version, identity, digests } => self.hashed(*version, identity, digests),
            Fact::NotHashed { version, unknown } => self.not_hashed(*version, unknown),
            Fact::Written { version, file, path, by } => self.written(*version, file, path, by),
            Fact::Sealed { version, identity, digests, path, also } => {
                self.sealed(*version, identity, digests, Names { path: path.as_ref(), also })
            }
            Fact::Unsealed { version, unsealed, path, also } => {
                self.unsealed(*version, unsealed, Names { path: path.as_ref(), also })
            }
            Fact::AlsoNamed { version, also } => self.also_named(*version, also),
            Fact::Gone { version } => self.gone(*version),
            Fact::Refused { path, .. } => self.refused(path, fact),
            Fact::Removed { file, .. } => Ok(self.removed(file)?),
        }
    }

    /// Until its digest is known, a material is the newest version with its identity, or a new
    /// found one.
    fn opened(
        &mut self,
        name: RunVersion,
        identity: &Identity,
        path: &TreePath,
        by: &Process,
    ) -> Result<(), Obstacle> {
        self.check_new(name)?;
        let absolute = self.absolute(path)?;
        let version = match self.transaction.newest_of_identity(identity)? {
            Some(version) => {
                self.see_at(version, absolute)?;
                version
            }
            None => self.transaction.found_version(identity, absolute)?,
        };
        let by = self.process_number(by)?;
        let edge = ReadEdge { version, path: path.clone(), by, unknown: None };
        self.transaction.add_reader(version, self.end(name))?;
        self.put_edge(name, Edge::Read(edge))
    }

    /// A material goes by the name of its first open; what the lock needs is read from the journal.
    fn opened_as(&mut self, name: RunVersion, path: &TreePath) -> Result<(), Obstacle> {
        self.read_edge(name)?;
        self.absolute(path)?;
        Ok(())
    }

    fn hashed(
        &mut self,
        name: RunVersion,
        identity: &Identity,
        digests: &Digests,
    ) -> Result<(), Obstacle> {
        let assumed = self.read_edge(name)?.version;
        let version = self.transaction.version(assumed)?;
        check_file(&version, &identity.file)?;
        let known = self.transaction.learn(identity, digests, &version.path, Some(assumed))?;

        // What is learned may have moved this very edge.
        let mut edge = self.read_edge(name)?;
        if edge.version != known {
            let left = edge.version;
            self.transaction.move_edge(self.end(name), known)?;
            self.transaction.forget_if_unused(left)?;
        }
        edge.version = known;
        edge.unknown = None;
        self.put_edge(name, Edge::Read(edge))
    }

    fn not_hashed(&mut self, name: RunVersion, unknown: &Unknown) -> Result<(), Obstacle> {
        let mut edge = self.read_edge(name)?;
        edge.unknown = Some(unknown.clone());
        self.put_edge(name, Edge::Read(edge))
    }

    fn written(
        &mut self,
        name: RunVersion,
        file: &FileKey,
        path: &TreePath,
        by: &Process,
    ) -> Result<(), Obstacle> {
        self.check_new(name)?;
        let version = self.transaction.new_version(&VersionRecord {
            file: *file,
            writer: Some(Writer { run: self.run, version: name }),
            identity: None,
            digests: None,
            path: self.absolute(path)?,
            also: Vec::new(),
            superseded_by: None,
            after: None,
            gone: false,
            removed_by: None,
        })?;
        self.supersede(file, version)?;
        let by = self.process_number(by)?;
        let edge = WroteEdge {
            version,
            path: Some(path.clone()),
            also: Vec::new(),
            by,
            unsealed: Some(Unsealed::Open),
        };
        self.put_edge(name, Edge::Wrote(edge))
    }

    /// Marks what was written to this file before. When this run wrote it, it is gone.
    fn supersede(&mut self, file: &FileKey, by: VersionId) -> Result<(), Obstacle> {
        if let Some(before) = self.transaction.head(file)? {
            let mut version = self.transaction.version(before)?;
            version.superseded_by = Some(by);
            version.gone |= version.is_own(self.run);
            self.transaction.put_version(before, &version)?;
        }
        Ok(self.transaction.put_head(file, by)?)
    }

    fn sealed(
        &mut self,
        name: RunVersion,
        identity: &Identity,
        digests: &Digests,
        names: Names<'_>,
    ) -> Result<(), Obstacle> {
        let mut edge = self.wrote_edge(name)?;
        let mut version = self.transaction.version(edge.version)?;
        check_file(&version, &identity.file)?;
        if version.digests.is_some_and(|before| before != *digests) {
            self.transaction.leave_to_readers(edge.version)?;
        }
        version.identity = Some(*identity);
        version.digests = Some(*digests);
        self.rename(&mut version, &mut edge, names)?;
        self.transaction.put_version(edge.version, &version)?;
        self.transaction.gather(edge.version, identity, digests)?;

        edge.unsealed = None;
        self.put_edge(name, Edge::Wrote(edge))
    }

    fn unsealed(
        &mut self,
        name: RunVersion,
        unsealed: &Unsealed,
        names: Names<'_>,
    ) -> Result<(), Obstacle> {
        let mut edge = self.wrote_edge(name)?;
        let mut version = self.transaction.version(edge.version)?;
        self.transaction.leave_to_readers(edge.version)?;
        version.identity = None;
        version.digests = None;
        self.rename(&mut version, &mut edge, names)?;
        self.transaction.put_version(edge.version, &version)?;

        edge.unsealed = Some(unsealed.clone());
        self.put_edge(name, Edge::Wrote(edge))
    }

    fn also_named(&mut self, name: RunVersion, also: &[TreePath]) -> Result<(), Obstacle> {
        let mut edge = self.wrote_edge(name)?;
        let mut version = self.transaction.version(edge.version)?;
        version.also.extend(self.all_absolute(also)?);
        self.transaction.put_version(edge.version, &version)?;

        edge.also.extend_from_slice(also);
        self.put_edge(name, Edge::Wrote(edge))
    }

    fn gone(&mut self, name: RunVersion) -> Result<(), Obstacle> {
        let id = self.wrote_edge(name)?.version;
        let mut version = self.transaction.version(id)?;
        version.gone = true;
        Ok(self.transaction.put_version(id, &version)?)
    }

    /// No edge: the run did not read it.
    fn refused(&mut self, path: &TreePath, fact: &Fact) -> Result<(), Obstacle> {
        self.absolute(path)?;
        let key = Key::run(Table::Refusals, self.run).number(self.offset);
        self.offset += 1;
        Ok(self.transaction.put_record(key, &RefusedOpen::of(fact))?)
    }

    /// The file is gone, and with it what was last written to it. Nobody minds a file of which no
    /// run of this store is known to have written it.
    fn removed(&mut self, file: &FileKey) -> Result<(), LineageError> {
        let Some(head) = self.transaction.head(file)? else {
            return Ok(());
        };
        let mut version = self.transaction.version(head)?;
        version.removed_by = Some(self.run);
        self.transaction.put_version(head, &version)
    }

    fn see_at(&mut self, id: VersionId, path: String) -> Result<(), LineageError> {
        let mut version = self.transaction.version(id)?;
        version.see_at(path);
        self.transaction.put_version(id, &version)
    }

    /// The names that count from now on. Of a version without any, it is known where it was.
    fn rename(
        &self,
        version: &mut VersionRecord,
        edge: &mut WroteEdge,
        Names { path, also }: Names<'_>,
    ) -> Result<(), FactProblem> {
        if let Some(path) = path {
            version.path = self.absolute(path)?;
        }
        version.also = self.all_absolute(also)?;
        edge.path = path.cloned();
        edge.also = also.to_vec();
        Ok(())
    }

    fn all_absolute(&self, paths: &[TreePath]) -> Result<Vec<String>, FactProblem> {
        paths.iter().map(|path| self.absolute(path)).collect()
    }

    fn absolute(&self, path: &TreePath) -> Result<String, FactProblem> {
        let tree = self.trees.get(usize::from(path.tree)).ok_or(FactProblem::Tree)?;
        Ok(format!("{}/{}", tree.trim_end_matches('/'), path.path))
    }

    fn check_new(&self, name: RunVersion) -> Result<(), Obstacle> {
        if self.transaction.edge(self.end(name))?.is_some() {
            return Err(FactProblem::Known.into());
        }
        Ok(())
    }

    fn read_edge(&self, name: RunVersion) -> Result<ReadEdge, Obstacle> {
        match self.transaction.edge(self.end(name))? {
            Some(Edge::Read(edge)) => Ok(edge),
            Some(Edge::Wrote(_)) => Err(FactProblem::Output.into()),
            None => Err(FactProblem::Unknown.into()),
        }
    }

    fn wrote_edge(&self, name: RunVersion) -> Result<WroteEdge, Obstacle> {
        match self.transaction.edge(self.end(name))? {
            Some(Edge::Wrote(edge)) => Ok(edge),
            Some(Edge::Read(_)) => Err(FactProblem::Material.into()),
            None => Err(FactProblem::Unknown.into()),
        }
    }

    fn put_edge(&mut self, name: RunVersion, edge: Edge) -> Result<(), Obstacle> {
        Ok(self.transaction.put_edge(self.end(name), edge)?)
    }

    fn process_number(&mut self, process: &Process) -> Result<u64, LineageError> {
        self.transaction.text_number(&encode(process)?)
    }

    fn end(&self, version: RunVersion) -> EdgeEnd {
        EdgeEnd { run: self.run, version }
    }
}

impl RefusedOpen {
    /// None of any other fact.
    pub(super) fn of(fact: &Fact) -> Option<Self> {
        let Fact::Refused { path, sha256, check, reason, next_step, enforced, by } = fact else {
            return None;
        };
        Some(Self {
            path: path.clone(),
            sha256: *sha256,
            check: *check,
            reason: reason.clone(),
            next_step: next_step.clone(),
            enforced: *enforced,
            by: by.clone(),
        })
    }
}

impl From<FactProblem> for Obstacle {
    fn from(problem: FactProblem) -> Self {
        Self::Fact(problem)
    }
}

fn check_file(version: &VersionRecord, file: &FileKey) -> Result<(), FactProblem> {
    if version.file == *file { Ok(()) } else { Err(FactProblem::File) }
}

fn subject_of(fact: &Fact) -> Option<RunVersion> {
    match fact {
        Fact::Opened { version, .. }
        | Fact::OpenedAs { version, .. }
        | Fact::Hashed { version, .. }
        | Fact::NotHashed { version, .. }
        | Fact::Written { version, .. }
        | Fact::Sealed { version, .. }
        | Fact::Unsealed { version, .. }
        | Fact::AlsoNamed { version, .. }
        | Fact::Gone { version } => Some(*version),
        Fact::Refused { .. } | Fact::Removed { .. } => None,
    }
}
