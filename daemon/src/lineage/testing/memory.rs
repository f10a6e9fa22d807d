use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

use attestfs_attestation::RunDescription;
use attestfs_digest::{Digests, Sha256};
use attestfs_fs::{Fact, FileKey, Identity, Process, RunVersion, TreePath, Unknown, Unsealed};

use crate::lineage::{
    Attestation, AttestationQuery, CommitId, FactProblem, FrozenCommit, LineageError, LineageStore,
    Material, MaterialDigest, Origin, Output, OutputState, PublishedAttestation, RefusedOpen, Role,
    Run, RunEnd, RunId, RunOutputs, Subject, Version, VersionId,
    checks::{check_frozen, check_name, is_under},
};

/// The lineage store as plain lists that are searched from end to end: slow, and short enough to
/// be seen to be right. It judges the one on disk.
#[derive(Debug, Default)]
pub(crate) struct MemoryStore {
    world: Mutex<World>,
}

#[derive(Clone, Debug, Default)]
struct World {
    runs: Vec<RunState>,
    versions: BTreeMap<VersionId, Version>,
    versions_given: u64,
    /// What a run wrote to a file last.
    heads: BTreeMap<FileKey, VersionId>,
    frozen: BTreeMap<CommitId, Vec<u8>>,
    commits: BTreeMap<CommitId, Vec<Sha256>>,
    /// Oldest first.
    attestations: Vec<(Attestation, Vec<Subject>)>,
}

#[derive(Clone, Debug)]
struct RunState {
    run: Run,
    ingested: u64,
    edges: BTreeMap<RunVersion, Edge>,
    refusals: Vec<RefusedOpen>,
}

#[derive(Clone, Debug)]
struct Edge {
    role: Role,
    version: VersionId,
    path: Option<TreePath>,
    also: Vec<TreePath>,
    by: Process,
    unknown: Option<Unknown>,
    unsealed: Option<Unsealed>,
    gone: bool,
}

type BadFact = (RunVersion, FactProblem);

impl MemoryStore {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As if the content of this identity had been seen on another file system. Gives its digests.
    pub(crate) fn move_to_filesystem(&self, identity: &Identity, filesystem: u64) -> Digests {
        let mut world = self.world();
        let id = world.newest(|version| version.identity == Some(*identity)).unwrap();
        let version = world.version_mut(id);
        version.file.filesystem = filesystem;
        version.identity = version.identity.map(|it| Identity { file: version.file, ..it });
        version.digests.unwrap()
    }

    /// All of a change or nothing, by changing a copy.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut World) -> Result<T, LineageError>,
    ) -> Result<T, LineageError> {
        let mut world = self.world();
        let mut changed = world.clone();
        let answer = change(&mut changed)?;
        *world = changed;
        Ok(answer)
    }
}

impl LineageStore for MemoryStore {
    fn begin(&self, description: &RunDescription) -> Result<(), LineageError> {
        check_name("run", &description.id)?;
        let id = RunId(description.id.clone());
        self.change(|world| match world.state(&id) {
            Ok(state) if state.run.description == *description => Ok(()),
            Ok(_) => Err(LineageError::RunDiffers(id)),
            Err(_) => {
                let run = Run { description: description.clone(), end: None };
                world.runs.push(RunState {
                    run,
                    ingested: 0,
                    edges: BTreeMap::new(),
                    refusals: Vec::new(),
                });
                Ok(())
            }
        })
    }

    fn ingest(&self, run: &RunId, range: Range<u64>, facts: &[Fact]) -> Result<(), LineageError> {
        self.change(|world| {
            let state = world.state(run)?;
            let ingested = state.ingested;
            if range.start <= range.end && range.end <= ingested {
                return Ok(());
            }
            if range.start != ingested || range.end < range.start {
                let (start, end) = (range.start, range.end);
                return Err(LineageError::JournalGap { run: run.clone(), ingested, start, end });
            }
            if state.run.end.is_some() {
                return Err(LineageError::RunEnded(run.clone()));
            }
            for (index, fact) in facts.iter().enumerate() {
                world.take(run, fact).map_err(|(version, problem)| LineageError::BadFact {
                    run: run.clone(),
                    start: range.start,
                    index,
                    version,
                    problem,
                })?;
            }
            world.state_mut(run).ingested = range.end;
            Ok(())
        })
    }

    fn ingested(&self, run: &RunId) -> Result<u64, LineageError> {
        Ok(self.world().state(run)?.ingested)
    }

    fn end(&self, run: &RunId, end: &RunEnd) -> Result<(), LineageError> {
        self.change(|world| match &world.state(run)?.run.end {
            Some(known) if known == end => Ok(()),
            Some(_) => Err(LineageError::EndDiffers(run.clone())),
            None => {
                world.state_mut(run).run.end = Some(end.clone());
                Ok(())
            }
        })
    }

    fn run(&self, run: &RunId) -> Result<Option<Run>, LineageError> {
        Ok(self.world().state(run).ok().map(|state| state.run.clone()))
    }

    fn runs(&self, limit: usize) -> Result<Vec<Run>, LineageError> {
        Ok(self.world().runs.iter().rev().take(limit).map(|state| state.run.clone()).collect())
    }

    fn unfinished(&self) -> Result<Vec<Run>, LineageError> {
        let world = self.world();
        let runs = world.runs.iter().map(|state| &state.run);
        Ok(runs.filter(|run| run.end.is_none()).cloned().collect())
    }

    fn outputs(&self, run: &RunId) -> Result<RunOutputs, LineageError> {
        let world = self.world();
        let written = world.state(run)?.edges.values().filter(|edge| edge.role == Role::Wrote);
        let (gone, kept): (Vec<_>, Vec<_>) = written.partition(|edge| edge.gone);
        let outputs =
            |edges: Vec<&Edge>| edges.into_iter().map(|edge| world.output(edge)).collect();
        Ok(RunOutputs { kept: outputs(kept), gone: outputs(gone) })
    }

    fn materials(&self, run: &RunId) -> Result<Vec<Material>, LineageError> {
        let world = self.world();
        let mut seen = BTreeSet::new();
        let edges = world.state(run)?.edges.values();
        let read = edges.filter(|edge| world.is_material(run, edge) && seen.insert(edge.version));
        Ok(read.map(|edge| world.material(edge)).collect())
    }

    fn refusals(&self, run: &RunId, limit: usize) -> Result<Vec<RefusedOpen>, LineageError> {
        let world = self.world();
        Ok(world.state(run)?.refusals.iter().take(limit).cloned().collect())
    }

    fn versions_of_run(
        &self,
        run: &RunId,
        role: Role,
        limit: usize,
    ) -> Result<Vec<VersionId>, LineageError> {
        let world = self.world();
        let mut seen = BTreeSet::new();
        let edges = world.state(run)?.edges.values().filter(|edge| match role {
            Role::Read => world.is_material(run, edge),
            Role::Wrote => edge.role == Role::Wrote,
        });
        let versions = edges.map(|edge| edge.version).filter(|version| seen.insert(*version));
        Ok(versions.take(limit).collect())
    }

    fn runs_of_version(
        &self,
        version: VersionId,
        role: Role,
        limit: usize,
    ) -> Result<Vec<RunId>, LineageError> {
        let world = self.world();
        let runs = world.runs.iter().filter(|state| {
            let id = state.run.id();
            state.edges.values().any(|edge| {
                edge.version == version
                    && edge.role == role
                    && (role == Role::Wrote || world.is_material(&id, edge))
            })
        });
        Ok(runs.map(|state| state.run.id()).take(limit).collect())
    }

    fn found_after(
        &self,
        version: VersionId,
        limit: usize,
    ) -> Result<Vec<VersionId>, LineageError> {
        let world = self.world();
        let found = world.versions.values().filter(|found| found.after == Some(version));
        Ok(found.map(|found| found.id).take(limit).collect())
    }

    fn version(&self, version: VersionId) -> Result<Option<Version>, LineageError> {
        let world = self.world();
        let mut version = world.versions.get(&version).cloned();
        if let Some(version) = &mut version {
            version.gone = version.removed_by.is_some() || world.is_gone(version.id);
        }
        Ok(version)
    }

    fn version_of(&self, identity: &Identity) -> Result<Option<VersionId>, LineageError> {
        Ok(self.world().newest(|version| version.identity == Some(*identity)))
    }

    fn version_of_content(
        &self,
        file: &FileKey,
        sha256: &Sha256,
    ) -> Result<Option<VersionId>, LineageError> {
        Ok(self.world().newest_of_content(file, sha256))
    }

    fn versions_of_digest(
        &self,
        sha256: &Sha256,
        limit: usize,
    ) -> Result<Vec<VersionId>, LineageError> {
        let world = self.world();
        let newest_first = world.versions.values().rev();
        let same = newest_first.filter(|version| version.sha256() == Some(*sha256));
        Ok(same.map(|version| version.id).take(limit).collect())
    }

    fn digests_of(&self, identities: &[Identity]) -> Result<Vec<Option<Digests>>, LineageError> {
        let world = self.world();
        let digests = identities.iter().map(|identity| {
            let version = world.newest(|version| version.identity == Some(*identity))?;
            world.versions[&version].digests
        });
        Ok(digests.collect())
    }

    fn remember(
        &self,
        identity: &Identity,
        digests: &Digests,
        path: &str,
    ) -> Result<VersionId, LineageError> {
        self.change(|world| Ok(world.learn(identity, digests, path, None)))
    }

    fn freeze(&self, commit: &CommitId, bytes: &[u8]) -> Result<(), LineageError> {
        check_name("commit", &commit.0)?;
        check_frozen(bytes)?;
        self.change(|world| {
            if world.commits.contains_key(commit) {
                return Err(LineageError::AlreadyPublished(commit.clone()));
            }
            match world.frozen.get(commit) {
                Some(known) if known == bytes => Ok(()),
                Some(_) => Err(LineageError::FrozenDiffers(commit.clone())),
                None => {
                    world.frozen.insert(commit.clone(), bytes.to_vec());
                    Ok(())
                }
            }
        })
    }

    fn frozen(&self) -> Result<Vec<FrozenCommit>, LineageError> {
        let world = self.world();
        let frozen = world
            .frozen
            .iter()
            .map(|(commit, bytes)| FrozenCommit { commit: commit.clone(), bytes: bytes.clone() });
        Ok(frozen.collect())
    }

    fn publish(
        &self,
        commit: &CommitId,
        attestations: &[PublishedAttestation],
    ) -> Result<(), LineageError> {
        self.change(|world| {
            if world.commits.contains_key(commit) {
                return Ok(());
            }
            if world.frozen.remove(commit).is_none() {
                return Err(LineageError::NotFrozen(commit.clone()));
            }
            for published in attestations {
                let known = world.attestation(&published.statement).is_some();
                if !known {
                    world.state(&published.run)?;
                    let kept = (Attestation::of(commit, published), published.subjects.clone());
                    world.attestations.push(kept);
                }
            }
            let statements = attestations.iter().map(|attestation| attestation.statement);
            world.commits.insert(commit.clone(), statements.collect());
            Ok(())
        })
    }

    fn free(&self, statements: &[Sha256]) -> Result<(), LineageError> {
        self.change(|world| {
            for (attestation, _) in &mut world.attestations {
                attestation.freed |= statements.contains(&attestation.statement);
            }
            Ok(())
        })
    }

    fn published(&self, commit: &CommitId) -> Result<Option<Vec<Attestation>>, LineageError> {
        Ok(self.world().published(commit))
    }

    fn attestation(&self, statement: &Sha256) -> Result<Option<Attestation>, LineageError> {
        Ok(self.world().attestation(statement).map(|(attestation, _)| attestation.clone()))
    }

    fn subjects(&self, statement: &Sha256) -> Result<Vec<Subject>, LineageError> {
        let world = self.world();
        Ok(world.attestation(statement).map(|(_, subjects)| subjects.clone()).unwrap_or_default())
    }

    fn attestations(
        &self,
        query: AttestationQuery<'_>,
        limit: usize,
    ) -> Result<Vec<Attestation>, LineageError> {
        let world = self.world();
        let newest_first = world.attestations.iter().rev();
        let matching = newest_first.filter(|(attestation, subjects)| match query {
            AttestationQuery::All => true,
            AttestationQuery::Run(run) => attestation.run == *run,
            AttestationQuery::Version(version) => {
                subjects.iter().any(|subject| subject.version == Some(version))
            }
            AttestationQuery::Content(sha256) => {
                subjects.iter().any(|subject| subject.digests.sha256 == sha256)
            }
            AttestationQuery::Under(path) => is_under(&attestation.artifact_root, path),
        });
        Ok(matching.map(|(attestation, _)| attestation.clone()).take(limit).collect())
    }

    fn latest(&self, path: &str) -> Result<Vec<Attestation>, LineageError> {
        let world = self.world();
        let here = |attestation: &Attestation| {
            attestation.counts() && is_under(&attestation.artifact_root, path)
        };
        let mut newest_first = world.attestations.iter().rev();
        let Some((newest, _)) = newest_first.find(|(attestation, _)| here(attestation)) else {
            return Ok(Vec::new());
        };
        let commit = world.published(&newest.commit).unwrap_or_default();
        Ok(commit.into_iter().filter(here).collect())
    }
}

impl World {
    fn state(&self, run: &RunId) -> Result<&RunState, LineageError> {
        let found = self.runs.iter().find(|state| state.run.id() == *run);
        found.ok_or_else(|| LineageError::UnknownRun(run.clone()))
    }

    fn state_mut(&mut self, run: &RunId) -> &mut RunState {
        self.runs.iter_mut().find(|state| state.run.id() == *run).expect("the run was found before")
    }

    fn take(&mut self, run: &RunId, fact: &Fact) -> Result<(), BadFact> {
        match fact {
            Fact::Opened { version, identity, path, by } => {
                let absolute = self.introduce(run, *version, path)?;
                let id = self.opened(identity, absolute);
                self.add(run, *version, Edge::new(Role::Read, id, path, by));
            }
            Fact::Written { version, file, path, by } => {
                let absolute = self.introduce(run, *version, path)?;
                let id = self.written(run, file, absolute);
                self.add(run, *version, Edge::new(Role::Wrote, id, path, by));
            }
            Fact::Hashed { version, identity, digests } => {
                self.hashed(run, *version, identity, digests)?;
            }
            Fact::OpenedAs { version, path } => {
                self.edge(run, *version, Role::Read)?;
                self.absolute(run, path).map_err(|problem| (*version, problem))?;
            }
            Fact::NotHashed { version, unknown } => {
                self.edge(run, *version, Role::Read)?;
                self.edge_mut(run, *version).unknown = Some(unknown.clone());
            }
            Fact::Sealed { version, identity, digests, path, also } => {
                let id = self.edge(run, *version, Role::Wrote)?.version;
                self.check_file(*version, id, &identity.file)?;
                if self.versions[&id].digests != Some(*digests) {
                    self.leave_to_readers(id);
                }
                self.set_names(run, *version, path.as_ref(), also)?;
                self.edge_mut(run, *version).unsealed = None;
                self.set_content(id, Some((*identity, *digests)));
                self.gather(id, identity, digests);
            }
            Fact::Unsealed { version, unsealed, path, also } => {
                let id = self.edge(run, *version, Role::Wrote)?.version;
                self.leave_to_readers(id);
                self.set_names(run, *version, path.as_ref(), also)?;
                self.edge_mut(run, *version).unsealed = Some(unsealed.clone());
                self.set_content(id, None);
            }
            Fact::AlsoNamed { version, also } => self.add_names(run, *version, also)?,
            Fact::Gone { version } => {
                self.edge(run, *version, Role::Wrote)?;
                self.edge_mut(run, *version).gone = true;
            }
            Fact::Refused { path, .. } => {
                self.absolute(run, path).map_err(|problem| (RunVersion(0), problem))?;
                self.state_mut(run).refusals.extend(RefusedOpen::of(fact));
            }
            Fact::Removed { file, .. } => {
                if let Some(head) = self.heads.get(file).copied() {
                    self.version_mut(head).removed_by = Some(run.clone());
                }
            }
        }
        Ok(())
    }

    fn opened(&mut self, identity: &Identity, path: String) -> VersionId {
        let known = self.newest(|version| version.identity == Some(*identity));
        let id = known.unwrap_or_else(|| self.found(identity, &path));
        self.version_mut(id).see_at(path);
        id
    }

    fn hashed(
        &mut self,
        run: &RunId,
        name: RunVersion,
        identity: &Identity,
        digests: &Digests,
    ) -> Result<(), BadFact> {
        let edge = self.edge(run, name, Role::Read)?;
        let before = self.versions[&edge.version].clone();
        self.check_file(name, before.id, &identity.file)?;
        let id = self.learn(identity, digests, &before.path, Some(before.id));
        let edge = self.edge_mut(run, name);
        edge.version = id;
        edge.unknown = None;
        self.forget_if_unused(before.id);
        Ok(())
    }

    fn set_content(&mut self, id: VersionId, content: Option<(Identity, Digests)>) {
        let version = self.version_mut(id);
        version.identity = content.map(|(identity, _)| identity);
        version.digests = content.map(|(_, digests)| digests);
    }

    fn written(&mut self, run: &RunId, file: &FileKey, path: String) -> VersionId {
        let id = self.add_version(Version {
            id: VersionId(0),
            file: *file,
            origin: Origin::Written { run: run.clone() },
            identity: None,
            digests: None,
            path,
            also: Vec::new(),
            superseded_by: None,
            after: None,
            gone: false,
            removed_by: None,
        });
        if let Some(before) = self.heads.insert(*file, id) {
            self.version_mut(before).superseded_by = Some(id);
            for edge in self.state_mut(run).edges.values_mut() {
                edge.gone |= edge.role == Role::Wrote && edge.version == before;
            }
        }
        id
    }

    fn found(&mut self, identity: &Identity, path: &str) -> VersionId {
        let after = self.heads.get(&identity.file).copied().filter(|head| {
            let Origin::Written { run } = &self.versions[head].origin else {
                return false;
            };
            let started = self.state(run).unwrap().run.description.started;
            started.as_nanosecond() <= i128::from(identity.ctime_ns)
        });
        self.add_version(Version {
            id: VersionId(0),
            file: identity.file,
            origin: Origin::Found,
            identity: Some(*identity),
            digests: None,
            path: path.to_owned(),
            also: Vec::new(),
            superseded_by: None,
            after,
            gone: false,
            removed_by: None,
        })
    }

    fn add_version(&mut self, mut version: Version) -> VersionId {
        self.versions_given += 1;
        version.id = VersionId(self.versions_given);
        self.versions.insert(version.id, version);
        VersionId(self.versions_given)
    }

    fn learn(
        &mut self,
        identity: &Identity,
        digests: &Digests,
        path: &str,
        assumed: Option<VersionId>,
    ) -> VersionId {
        let by_identity = || {
            let id = self.newest(|version| version.identity == Some(*identity))?;
            self.versions[&id].digests.is_none_or(|known| known == *digests).then_some(id)
        };
        let known = assumed
            .filter(|assumed| self.versions[assumed].digests == Some(*digests))
            .or_else(|| self.newest_of_content(&identity.file, &digests.sha256))
            .or_else(by_identity);
        let id = known.unwrap_or_else(|| self.found(identity, path));
        self.set_content(id, Some((*identity, *digests)));
        self.gather(id, identity, digests);
        id
    }

    fn gather(&mut self, id: VersionId, identity: &Identity, digests: &Digests) {
        let same = |version: &&Version| {
            version.id != id
                && version.origin == Origin::Found
                && version.identity == Some(*identity)
                && version.digests.is_none_or(|known| known == *digests)
                && !self.is_subject(version.id)
        };
        let others: Vec<_> = self.versions.values().filter(same).map(|other| other.id).collect();
        for other in others {
            for edge in self.runs.iter_mut().flat_map(|state| state.edges.values_mut()) {
                if edge.version == other {
                    edge.version = id;
                }
            }
            self.versions.remove(&other);
        }
    }

    fn leave_to_readers(&mut self, id: VersionId) {
        let is_read = |edge: &Edge| edge.role == Role::Read && edge.version == id;
        let mut edges = self.runs.iter().flat_map(|state| state.edges.values());
        if self.versions[&id].digests.is_none() || !edges.any(is_read) {
            return;
        }
        let left = self.add_version(Version {
            origin: Origin::Found,
            superseded_by: None,
            after: Some(id),
            ..self.versions[&id].clone()
        });
        for edge in self.runs.iter_mut().flat_map(|state| state.edges.values_mut()) {
            if is_read(edge) {
                edge.version = left;
            }
        }
    }

    fn forget_if_unused(&mut self, id: VersionId) {
        let used =
            self.runs.iter().flat_map(|state| state.edges.values()).any(|edge| edge.version == id);
        if !used && !self.is_subject(id) {
            self.versions.remove(&id);
        }
    }

    fn is_gone(&self, id: VersionId) -> bool {
        let mut edges = self.runs.iter().flat_map(|state| state.edges.values());
        edges.any(|edge| edge.role == Role::Wrote && edge.version == id && edge.gone)
    }

    fn is_subject(&self, id: VersionId) -> bool {
        let mut subjects = self.attestations.iter().flat_map(|(_, subjects)| subjects);
        subjects.any(|subject| subject.version == Some(id))
    }

    fn newest(&self, is_wanted: impl Fn(&Version) -> bool) -> Option<VersionId> {
        let newest = self.versions.values().rev().find(|version| is_wanted(version))?;
        Some(newest.id)
    }

    fn newest_of_content(&self, file: &FileKey, sha256: &Sha256) -> Option<VersionId> {
        self.newest(|version| {
            version.file == *file && version.sha256() == Some(*sha256) && !version.is_empty()
        })
    }

    fn version_mut(&mut self, id: VersionId) -> &mut Version {
        self.versions.get_mut(&id).expect("an edge or a head leads to a version")
    }

    fn add(&mut self, run: &RunId, name: RunVersion, edge: Edge) {
        self.state_mut(run).edges.insert(name, edge);
    }

    fn edge_mut(&mut self, run: &RunId, name: RunVersion) -> &mut Edge {
        self.state_mut(run).edges.get_mut(&name).expect("the edge was found before")
    }

    fn set_names(
        &mut self,
        run: &RunId,
        name: RunVersion,
        path: Option<&TreePath>,
        also: &[TreePath],
    ) -> Result<(), BadFact> {
        let absolute = |path| self.absolute(run, path).map_err(|problem| (name, problem));
        let last = path.map(absolute).transpose()?;
        let others = also.iter().map(absolute).collect::<Result<_, _>>()?;
        let edge = self.edge_mut(run, name);
        edge.path = path.cloned();
        edge.also = also.to_vec();
        let id = edge.version;
        let version = self.version_mut(id);
        version.also = others;
        if let Some(last) = last {
            version.path = last;
        }
        Ok(())
    }

    fn add_names(
        &mut self,
        run: &RunId,
        name: RunVersion,
        also: &[TreePath],
    ) -> Result<(), BadFact> {
        let edge = self.edge(run, name, Role::Wrote)?;
        let (path, also) = (edge.path.clone(), [&edge.also, also].concat());
        self.set_names(run, name, path.as_ref(), &also)
    }

    fn absolute(&self, run: &RunId, path: &TreePath) -> Result<String, FactProblem> {
        let trees = &self.state(run).unwrap().run.description.trees;
        let tree = trees.get(usize::from(path.tree)).ok_or(FactProblem::Tree)?;
        Ok(format!("{}/{}", tree.trim_end_matches('/'), path.path))
    }

    fn introduce(&self, run: &RunId, name: RunVersion, path: &TreePath) -> Result<String, BadFact> {
        if self.state(run).unwrap().edges.contains_key(&name) {
            return Err((name, FactProblem::Known));
        }
        self.absolute(run, path).map_err(|problem| (name, problem))
    }

    fn check_file(&self, name: RunVersion, id: VersionId, file: &FileKey) -> Result<(), BadFact> {
        if self.versions[&id].file != *file {
            return Err((name, FactProblem::File));
        }
        Ok(())
    }

    fn edge(&self, run: &RunId, name: RunVersion, role: Role) -> Result<&Edge, BadFact> {
        match (self.state(run).unwrap().edges.get(&name), role) {
            (Some(edge), _) if edge.role == role => Ok(edge),
            (Some(_), Role::Read) => Err((name, FactProblem::Output)),
            (Some(_), Role::Wrote) => Err((name, FactProblem::Material)),
            (None, _) => Err((name, FactProblem::Unknown)),
        }
    }

    fn is_material(&self, run: &RunId, edge: &Edge) -> bool {
        let own = Origin::Written { run: run.clone() };
        edge.role == Role::Read && self.versions[&edge.version].origin != own
    }

    fn output(&self, edge: &Edge) -> Output {
        let version = &self.versions[&edge.version];
        let state = match edge.unsealed.clone() {
            Some(reason) => OutputState::Unsealed { reason },
            None => OutputState::Sealed {
                identity: version.identity.unwrap(),
                digests: version.digests.unwrap(),
            },
        };
        let (path, also) = (edge.path.clone(), edge.also.clone());
        Output { version: edge.version, path, also, state }
    }

    fn material(&self, edge: &Edge) -> Material {
        let version = &self.versions[&edge.version];
        Material {
            version: version.id,
            path: edge.path.clone().unwrap(),
            identity: version.identity,
            size: version.identity.map(|identity| identity.size),
            digest: MaterialDigest::of(edge.unknown.clone(), version.digests),
            attestation: self.attestation_of(version),
            by: edge.by.clone(),
        }
    }

    fn attestation_of(&self, version: &Version) -> Option<Sha256> {
        let digests = version.digests.filter(|_| !version.is_empty())?;
        let mut newest_first = self.attestations.iter().rev();
        let (attestation, _) = newest_first.find(|(attestation, subjects)| {
            let last = subjects.iter().rfind(|subject| subject.version == Some(version.id));
            let same = last.is_some_and(|last| last.digests.sha256 == digests.sha256);
            attestation.counts() && same
        })?;
        Some(attestation.statement)
    }

    fn attestation(&self, statement: &Sha256) -> Option<&(Attestation, Vec<Subject>)> {
        self.attestations.iter().find(|(attestation, _)| attestation.statement == *statement)
    }

    fn published(&self, commit: &CommitId) -> Option<Vec<Attestation>> {
        let statements = self.commits.get(commit)?;
        let known = statements.iter().filter_map(|statement| self.attestation(statement));
        Some(known.map(|(attestation, _)| attestation.clone()).collect())
    }
}

impl Edge {
    fn new(role: Role, version: VersionId, path: &TreePath, by: &Process) -> Self {
        Self {
            role,
            version,
            path: Some(path.clone()),
            also: Vec::new(),
            by: by.clone(),
            unknown: None,
            unsealed: (role == Role::Wrote).then_some(Unsealed::Open),
            gone: false,
        }
    }
}

impl Version {
    fn see_at(&mut self, path: String) {
        for name in &mut self.also {
            if *name == path {
                name.clone_from(&self.path);
            }
        }
        self.path = path;
    }

    fn sha256(&self) -> Option<Sha256> {
        self.digests.map(|digests| digests.sha256)
    }
}
