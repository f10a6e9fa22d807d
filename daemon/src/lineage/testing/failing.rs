use std::{
    io,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use attestfs_attestation::RunDescription;
use attestfs_digest::{Digests, Sha256};
use attestfs_fs::{Fact, FileKey, Identity};

use crate::lineage::{
    Attestation, AttestationQuery, CommitId, FrozenCommit, LineageError, LineageStore, Material,
    PublishedAttestation, RefusedOpen, Role, Run, RunEnd, RunId, RunOutputs, Subject, Version,
    VersionId,
};

/// Which effect fails, counted from 0 over all operations that change something, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing of it happens.
    Before(usize),
    /// It happens, but the answer is lost.
    After(usize),
}

/// A store in which one effect fails, once. What it asks for otherwise reaches the inner store, so
/// that a test goes on with that one, as if restarted.
#[derive(Debug)]
pub(crate) struct FailingStore {
    inner: Arc<dyn LineageStore>,
    fault: Fault,
    effects: AtomicUsize,
}

impl FailingStore {
    pub(crate) fn new(inner: Arc<dyn LineageStore>, fault: Fault) -> Self {
        Self { inner, fault, effects: AtomicUsize::new(0) }
    }

    /// How many effects were asked for, the failed one included.
    pub(crate) fn effects(&self) -> usize {
        self.effects.load(Ordering::SeqCst)
    }

    fn effect<T>(
        &self,
        effect: impl FnOnce(&dyn LineageStore) -> Result<T, LineageError>,
    ) -> Result<T, LineageError> {
        let number = self.effects.fetch_add(1, Ordering::SeqCst);
        if self.fault == Fault::Before(number) {
            return Err(injected(self.fault));
        }
        let answer = effect(self.inner.as_ref())?;
        if self.fault == Fault::After(number) {
            return Err(injected(self.fault));
        }
        Ok(answer)
    }
}

fn injected(fault: Fault) -> LineageError {
    LineageError::Database(Box::new(io::Error::other(format!("injected {fault:?}"))))
}

impl LineageStore for FailingStore {
    fn begin(&self, description: &RunDescription) -> Result<(), LineageError> {
        self.effect(|store| store.begin(description))
    }

    fn ingest(&self, run: &RunId, range: Range<u64>, facts: &[Fact]) -> Result<(), LineageError> {
        self.effect(|store| store.ingest(run, range, facts))
    }

    fn end(&self, run: &RunId, end: &RunEnd) -> Result<(), LineageError> {
        self.effect(|store| store.end(run, end))
    }

    fn remember(
        &self,
        identity: &Identity,
        digests: &Digests,
        path: &str,
    ) -> Result<VersionId, LineageError> {
        self.effect(|store| store.remember(identity, digests, path))
    }

    fn freeze(&self, commit: &CommitId, bytes: &[u8]) -> Result<(), LineageError> {
        self.effect(|store| store.freeze(commit, bytes))
    }

    fn publish(
        &self,
        commit: &CommitId,
        attestations: &[PublishedAttestation],
    ) -> Result<(), LineageError> {
        self.effect(|store| store.publish(commit, attestations))
    }

    fn ingested(&self, run: &RunId) -> Result<u64, LineageError> {
        self.inner.ingested(run)
    }

    fn run(&self, run: &RunId) -> Result<Option<Run>, LineageError> {
        self.inner.run(run)
    }

    fn runs(&self, limit: usize) -> Result<Vec<Run>, LineageError> {
        self.inner.runs(limit)
    }

    fn unfinished(&self) -> Result<Vec<Run>, LineageError> {
        self.inner.unfinished()
    }

    fn outputs(&self, run: &RunId) -> Result<RunOutputs, LineageError> {
        self.inner.outputs(run)
    }

    fn materials(&self, run: &RunId) -> Result<Vec<Material>, LineageError> {
        self.inner.materials(run)
    }

    fn refusals(&self, run: &RunId, limit: usize) -> Result<Vec<RefusedOpen>, LineageError> {
        self.inner.refusals(run, limit)
    }

    fn versions_of_run(
        &self,
        run: &RunId,
        role: Role,
        limit: usize,
    ) -> Result<Vec<VersionId>, LineageError> {
        self.inner.versions_of_run(run, role, limit)
    }

    fn runs_of_version(
        &self,
        version: VersionId,
        role: Role,
        limit: usize,
    ) -> Result<Vec<RunId>, LineageError> {
        self.inner.runs_of_version(version, role, limit)
    }

    fn found_after(
        &self,
        version: VersionId,
        limit: usize,
    ) -> Result<Vec<VersionId>, LineageError> {
        self.inner.found_after(version, limit)
    }

    fn version(&self, version: VersionId) -> Result<Option<Version>, LineageError> {
        self.inner.version(version)
    }

    fn version_of(&self, identity: &Identity) -> Result<Option<VersionId>, LineageError> {
        self.inner.version_of(identity)
    }

    fn version_of_content(
        &self,
        file: &FileKey,
        sha256: &Sha256,
    ) -> Result<Option<VersionId>, LineageError> {
        self.inner.version_of_content(file, sha256)
    }

    fn versions_of_digest(
        &self,
        sha256: &Sha256,
        limit: usize,
    ) -> Result<Vec<VersionId>, LineageError> {
        self.inner.versions_of_digest(sha256, limit)
    }

    fn digests_of(&self, identities: &[Identity]) -> Result<Vec<Option<Digests>>, LineageError> {
        self.inner.digests_of(identities)
    }

    fn frozen(&self) -> Result<Vec<FrozenCommit>, LineageError> {
        self.inner.frozen()
    }

    fn free(&self, statements: &[Sha256]) -> Result<(), LineageError> {
        self.effect(|store| store.free(statements))
    }

    fn published(&self, commit: &CommitId) -> Result<Option<Vec<Attestation>>, LineageError> {
        self.inner.published(commit)
    }

    fn attestation(&self, statement: &Sha256) -> Result<Option<Attestation>, LineageError> {
        self.inner.attestation(statement)
    }

    fn subjects(&self, statement: &Sha256) -> Result<Vec<Subject>, LineageError> {
        self.inner.subjects(statement)
    }

    fn attestations(
        &self,
        query: AttestationQuery<'_>,
        limit: usize,
    ) -> Result<Vec<Attestation>, LineageError> {
        self.inner.attestations(query, limit)
    }

    fn latest(&self, path: &str) -> Result<Vec<Attestation>, LineageError> {
        self.inner.latest(path)
    }
}
