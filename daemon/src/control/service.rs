//! What the daemon answers. Everything here may wait for a disk; the socket does not.

use std::{io, os::fd::OwnedFd, path::Path, sync::Arc};

use attestfs_attestation::{CommitKind, KeyHint, RunDescription};
use attestfs_digest::Sha256;
use jiff::Timestamp;
use tokio::sync::Notify;

use super::{
    AttestationFilter, Code, CommitOrder, Failure, Hello, LineageQuestion, LineageRoot,
    MountDescription, MountSummary, Overview, Reply, Request, RunSummary, ServedMount,
    StageDetails, StatusReport,
    keys::Keys,
    mounts::LiveMounts,
    visitor::{LiveRuns, Visitor},
};
use crate::{
    clock::Clock,
    commit::{CommitError, Committer, LentTrees, Room},
    config::{StateDir, is_plain_name},
    daemon::Seams,
    gc::{self, GcError},
    journal,
    lineage::{
        Attestation, AttestationQuery, Bounds, LineageError, LineageStore, Run, RunId, VersionId,
        latest, trace,
    },
    mount,
    publication::Shelf,
};

/// The most lines of a list in one reply.
const LIST_MAX: usize = 10_000;

/// So much of its name at least tells a run.
const RUN_DIGITS_MIN: usize = 8;

/// The most files of one content at which a lineage begins.
const STARTS_MAX: usize = 64;

/// Answers requests, and cares for runs that nobody speaks for any more.
#[derive(Debug)]
pub(crate) struct Service {
    committer: Committer,
    keys: Arc<Keys>,
    clock: Arc<dyn Clock>,
    runs: LiveRuns,
    mounts: LiveMounts,
    trees: Arc<LentTrees>,
    started: Timestamp,
    store_failed: Notify,
}

impl Service {
    pub(crate) fn new(state: StateDir, seams: Seams) -> Self {
        let keys = Arc::new(Keys::new(state.clone()));
        let trees = Arc::new(LentTrees::default());
        let room = Room {
            store: seams.store,
            files: seams.files,
            shelf: Shelf::of(&state),
            attester: seams.attester,
            keys: Arc::clone(&keys) as _,
            trees: Arc::clone(&trees),
            state,
            stop_at: seams.stop_at,
        };
        Self {
            committer: Committer::new(room),
            keys,
            started: seams.clock.now(),
            clock: seams.clock,
            runs: LiveRuns::default(),
            mounts: LiveMounts::default(),
            trees,
            store_failed: Notify::new(),
        }
    }

    pub(super) fn runs(&self) -> &LiveRuns {
        &self.runs
    }

    pub(super) fn mounts(&self) -> &LiveMounts {
        &self.mounts
    }

    /// Answers every request but those that are [passed on](super::passing::pass_on).
    pub(super) fn answer(
        &self,
        visitor: &Arc<Visitor>,
        request: Request,
        descriptor: Option<OwnedFd>,
    ) -> Result<Reply, Failure> {
        match request {
            Request::Status => self.status().map(Reply::Status),
            Request::PresentKey => self.present_key(visitor, descriptor),
            Request::PresentTree { tree } => self.present_tree(visitor, tree, descriptor),
            Request::RunBegin { description, signer } => self.begin(visitor, &description, signer),
            Request::Digests { identities } if identities.len() > Request::IDENTITIES_MAX => {
                Err(too_many(Request::IDENTITIES_MAX, "identities"))
            }
            Request::Digests { identities } => {
                Ok(Reply::Digests(self.store().digests_of(&identities)?))
            }
            Request::RunEnd { run, journal_length, end } => {
                self.committer.end(&run, journal_length, &end)?;
                self.runs.remove(&run);
                Ok(Reply::Done)
            }
            Request::Commit { order } => self.commit(visitor, &order),
            Request::MountBegin { mount } => self.begin_mount(visitor, *mount),
            Request::Overview
            | Request::Checkpoint { .. }
            | Request::StageOpen { .. }
            | Request::StageClose { .. }
            | Request::StageAbort { .. }
            | Request::Unmount { .. } => {
                Err(Failure::new(Code::Malformed, "this request is for another process"))
            }
            Request::Lineage { question } => self.lineage(&question),
            Request::Attestations { filter, limit } => self.attestations(&filter, limit),
            Request::Attestation { statement } => self.attestation(statement),
            Request::Stages { limit } => self.stages(limit),
            Request::Stage { run } => self.stage(&run),
            Request::Collect { scope, agreed } => {
                let report = self.committer.alone(|room| gc::collect(room, &scope, agreed))?;
                Ok(Reply::Garbage(Box::new(report)))
            }
        }
    }

    /// Waits until the store takes nothing any more, and somebody has [looked](Self::look_at_store).
    pub(crate) async fn store_failed(&self) {
        self.store_failed.notified().await;
    }

    /// Looks whether the store still takes something, after work that it may have failed at.
    pub(super) fn look_at_store(&self) {
        if self.store().has_failed() {
            self.store_failed.notify_one();
        }
    }

    /// Makes the state directory what this program expects, before anybody asks.
    pub(crate) fn prepare(&self) -> Result<(), CommitError> {
        self.committer.build_indexes()
    }

    /// Goes on with frozen commits, and ends the runs whose processes are gone.
    pub(crate) fn tidy(&self) {
        if let Err(error) = self.committer.resume() {
            tracing::error!(%error, "frozen commits cannot be resumed");
        }
        match self.store().unfinished() {
            Ok(runs) => runs.iter().for_each(|run| {
                self.bury_if_lost(&run.id(), None);
            }),
            Err(error) => tracing::error!(%error, "unfinished runs cannot be looked for"),
        }
        self.look_at_store();
    }

    /// Goes on with commits that waited for a key.
    pub(super) fn resume(&self) {
        if let Err(error) = self.committer.resume() {
            tracing::error!(%error, "frozen commits cannot be resumed");
        }
    }

    /// Ends a run that nobody speaks for and whose process is gone. Says whether it is settled: a
    /// run whose process still lives may come back, and one of which that cannot be told now is
    /// looked at again.
    pub(super) fn bury_if_lost(&self, run: &RunId, signer: Option<KeyHint>) -> bool {
        let directory = self.state().run(&run.0);
        if self.runs.contains(run) {
            return true;
        }
        match is_live(&directory) {
            Ok(false) => {}
            Ok(true) => return false,
            Err(error) => {
                tracing::warn!(%run, %error, "whether the process of a run lives is not known");
                return false;
            }
        }
        tracing::warn!(%run, "the process of a run is gone: its outcome is unknown");
        if let Err(error) = self.committer.bury(run, self.clock.now(), signer) {
            tracing::error!(%run, %error, "a lost run could not be ended");
        }
        self.look_at_store();
        true
    }

    /// Whether a run that observes this path lives and is on its way back to this daemon.
    pub(super) fn awaits_run_at(&self, path: &str) -> bool {
        let unfinished = self.store().unfinished().unwrap_or_default();
        unfinished.iter().filter(|run| !self.runs.contains(&run.id())).any(|run| {
            let mut trees = run.description.trees.iter();
            trees.any(|tree| Path::new(path).starts_with(tree))
                && is_live(&self.state().run(&run.id().0)).unwrap_or(false)
        })
    }

    /// Whether a mount at this path is served and on its way back to this daemon.
    pub(super) fn awaits_mount_at(&self, path: &str) -> bool {
        let known = self.mounts.descriptions();
        let live = mount::served(self.state());
        live.iter().any(|mount| {
            let is_known = known.iter().any(|known| known.id == mount.id);
            let places = mount.mount_point.as_ref().into_iter().chain([&mount.origin]);
            !is_known && places.into_iter().any(|place| Path::new(path).starts_with(place))
        })
    }

    fn store(&self) -> &dyn LineageStore {
        self.committer.room().store.as_ref()
    }

    fn state(&self) -> &StateDir {
        &self.committer.room().state
    }

    fn status(&self) -> Result<StatusReport, Failure> {
        Ok(StatusReport {
            program: Hello::ours().program,
            pid: std::process::id(),
            started: self.started,
            state: self.state().root().to_path_buf(),
            live_runs: self.runs.names(),
            mounts: self
                .mounts
                .descriptions()
                .into_iter()
                .map(|mount| self.served(mount))
                .collect(),
            pending: self.committer.pending()?,
        })
    }

    /// The daemon and all that is served now. Those who serve are still to be asked.
    pub(super) fn overview(&self) -> Result<Overview, Failure> {
        let daemon = self.status()?;
        let mounts = daemon.mounts.iter().cloned();
        Ok(Overview {
            runs: self.runs.described(|run| self.bytes_behind(run)),
            mounts: mounts.map(|summary| ServedMount { summary, condition: None }).collect(),
            daemon,
        })
    }

    /// What the store has not taken in of the journal of a run.
    fn bytes_behind(&self, run: &RunId) -> u64 {
        let written = journal::length(&self.state().run(&run.0)).unwrap_or_default();
        let ingested = self.store().ingested(run).unwrap_or_default();
        written.saturating_sub(ingested)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn present_key(
        &self,
        visitor: &Visitor,
        descriptor: Option<OwnedFd>,
    ) -> Result<Reply, Failure> {
        let missing = || Failure::new(Code::Key, "no descriptor of a key came with the frame");
        let lease = self
            .keys
            .present(descriptor.ok_or_else(missing)?)
            .map_err(|error| Failure::new(Code::Key, error))?;
        let hint = lease.hint();
        visitor.keep(lease)?;
        Ok(Reply::Key { hint })
    }

    fn present_tree(
        &self,
        visitor: &Visitor,
        tree: String,
        descriptor: Option<OwnedFd>,
    ) -> Result<Reply, Failure> {
        let missing =
            || Failure::new(Code::Malformed, "no descriptor of a tree came with the frame");
        let root = descriptor.ok_or_else(missing)?;
        let mode =
            rustix::fs::fstat(&root).map_err(|errno| Failure::new(Code::State, errno))?.st_mode;
        if rustix::fs::FileType::from_raw_mode(mode) != rustix::fs::FileType::Directory {
            return Err(Failure::new(
                Code::Malformed,
                format!("{tree}: not the descriptor of a directory"),
            ));
        }
        visitor.keep_tree(self.trees.lend(tree, root))?;
        Ok(Reply::Done)
    }

    fn begin_mount(
        &self,
        visitor: &Arc<Visitor>,
        mount: MountDescription,
    ) -> Result<Reply, Failure> {
        if !is_plain_name(&mount.id) {
            let message =
                format!("'{}' cannot be the id of a mount: it is no plain name", mount.id);
            return Err(Failure::new(Code::Malformed, message));
        }
        self.mounts.insert(mount, visitor);
        Ok(Reply::Done)
    }

    fn served(&self, mount: MountDescription) -> MountSummary {
        let run = self.runs.on(&mount.origin).filter(|_| !mount.read_only);
        MountSummary { mount, run }
    }

    fn begin(
        &self,
        visitor: &Arc<Visitor>,
        description: &RunDescription,
        signer: Option<KeyHint>,
    ) -> Result<Reply, Failure> {
        let run = RunId(description.id.clone());
        if !is_plain_name(&run.0) {
            let message = format!("'{run}' cannot be the id of a run: it is no plain name");
            return Err(Failure::new(Code::Malformed, message));
        }
        lent(visitor, signer)?;
        let unknown = |error| {
            let message = format!("the journal of run '{run}' cannot be looked at: {error}");
            Failure::new(Code::State, message).with_next_step("try again")
        };
        if !is_live(&self.state().run(&run.0)).map_err(unknown)? {
            let message = format!("run '{run}' has no journal that is being written");
            return Err(Failure::new(Code::Journal, message));
        }
        let is_new = self.store().run(&run)?.is_none();
        self.store().begin(description)?;
        if is_new {
            self.committer.watch(&run, &description.trees);
        }
        let known = self.store().run(&run)?;
        if known.is_some_and(|known| known.end.is_none()) {
            self.runs.insert(description, visitor, signer);
        }
        Ok(Reply::Done)
    }

    fn commit(&self, visitor: &Visitor, order: &CommitOrder) -> Result<Reply, Failure> {
        if !is_plain_name(&order.id.0) || !is_plain_name(&order.run.0) {
            let message = "the ids of a commit and of its run are plain names";
            return Err(Failure::new(Code::Malformed, message));
        }
        lent(visitor, order.signer)?;
        let ordered = self.now();
        let report = self.committer.commit(order)?;
        self.runs.caught_up(&order.run, ordered);
        if matches!(order.kind, CommitKind::StageEnd(_)) {
            self.runs.remove(&order.run);
        }
        Ok(Reply::Commit(report))
    }

    fn lineage(&self, question: &LineageQuestion) -> Result<Reply, Failure> {
        let start = self.start(&question.root)?;
        let bounds = Bounds::default();
        let bounds = Bounds {
            runs_deep: question.depth.unwrap_or(bounds.runs_deep).min(bounds.runs_deep),
            ..bounds
        };
        let graph = trace(self.store(), question.direction, &start, bounds)?;
        Ok(Reply::Lineage(graph))
    }

    fn start(&self, root: &LineageRoot) -> Result<Vec<VersionId>, Failure> {
        let store = self.store();
        let (found, what) = match root {
            LineageRoot::File { identity, path, sha256 } => {
                let mut found: Vec<_> = store.version_of(identity)?.into_iter().collect();
                if let (true, Some(sha256)) = (found.is_empty(), sha256) {
                    found = store.version_of_content(&identity.file, sha256)?.into_iter().collect();
                }
                if let (true, Some(sha256)) = (found.is_empty(), sha256) {
                    found = store.versions_of_digest(sha256, STARTS_MAX)?;
                }
                (found, path.clone())
            }
            LineageRoot::Digest(sha256) => {
                (store.versions_of_digest(sha256, STARTS_MAX)?, format!("sha256:{sha256}"))
            }
            LineageRoot::Latest(path) => (latest(store, path)?, path.clone()),
        };
        if found.is_empty() {
            let message = format!("no run of this store has read or written {what} as it is now");
            return Err(Failure::new(Code::NotFound, message));
        }
        Ok(found)
    }

    fn attestations(&self, filter: &AttestationFilter, limit: usize) -> Result<Reply, Failure> {
        let query = match filter {
            AttestationFilter::All => AttestationQuery::All,
            AttestationFilter::Run(run) => AttestationQuery::Run(run),
            AttestationFilter::Under(path) => AttestationQuery::Under(path),
            AttestationFilter::Digest(sha256) => AttestationQuery::Content(*sha256),
        };
        let attestations = self.store().attestations(query, limit.min(LIST_MAX))?;
        Ok(Reply::Attestations(attestations))
    }

    fn attestation(&self, statement: Sha256) -> Result<Reply, Failure> {
        let unknown = || {
            let message = format!("no attestation sha256:{statement} is known to this store");
            Failure::new(Code::NotFound, message).with_next_step("attestfs attestation list")
        };
        let record = self.store().attestation(&statement)?.ok_or_else(unknown)?;
        Ok(Reply::Attestation {
            bundle: self.committer.room().shelf.bundle_path(statement),
            record: Box::new(record),
        })
    }

    fn stages(&self, limit: usize) -> Result<Reply, Failure> {
        let runs = self.store().runs(limit.min(LIST_MAX))?;
        Ok(Reply::Stages(runs.into_iter().map(|run| self.summary(run)).collect()))
    }

    fn stage(&self, id: &RunId) -> Result<Reply, Failure> {
        let run = self.run_like(id)?;
        let id = run.id();
        let mut materials = self.store().materials(&id)?;
        materials.truncate(StageDetails::RECORDS_MAX);
        let mut outputs = self.store().outputs(&id)?;
        outputs.kept.truncate(StageDetails::RECORDS_MAX);
        outputs.gone.truncate(StageDetails::RECORDS_MAX);
        Ok(Reply::Stage(Box::new(StageDetails {
            summary: self.summary(run),
            materials,
            outputs,
            attestations: self.of_run(&id)?,
            refusals: self.store().refusals(&id, StageDetails::RECORDS_MAX)?,
        })))
    }

    /// The run of this id, or the one whose id begins so.
    fn run_like(&self, id: &RunId) -> Result<Run, Failure> {
        if let Some(run) = self.store().run(id)? {
            return Ok(run);
        }
        let mut like = Vec::new();
        if id.0.len() >= RUN_DIGITS_MIN {
            like = self.store().runs(LIST_MAX)?;
            like.retain(|run| run.description.id.starts_with(&id.0));
        }
        if like.len() > 1 {
            let message = format!("'{id}' begins the names of {} runs", like.len());
            return Err(Failure::new(Code::UnknownRun, message)
                .with_next_step("give more of it; attestfs stage list shows the runs"));
        }
        like.pop().ok_or_else(|| LineageError::UnknownRun(id.clone()).into())
    }

    fn of_run(&self, run: &RunId) -> Result<Vec<Attestation>, LineageError> {
        let query = AttestationQuery::Run(run);
        self.store().attestations(query, StageDetails::RECORDS_MAX)
    }

    fn summary(&self, run: Run) -> RunSummary {
        RunSummary { live: self.runs.contains(&run.id()), run }
    }
}

impl From<GcError> for Failure {
    fn from(error: GcError) -> Self {
        match error {
            GcError::Lineage(error) => error.into(),
            GcError::Frozen(error) => error.into(),
            GcError::Io(_) => Self::new(Code::State, &error)
                .with_next_step("what was left undone is done by the next 'attestfs gc'"),
        }
    }
}

/// Whether a process still writes the journal of a run; without a journal none does.
fn is_live(directory: &Path) -> io::Result<bool> {
    match journal::is_live(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        result => result,
    }
}

/// A connection may name the keys that it has presented itself, and no others.
fn lent(visitor: &Visitor, signer: Option<KeyHint>) -> Result<(), Failure> {
    match signer {
        Some(hint) if !visitor.lends(hint) => {
            let message = format!("the key {hint} was not presented on this connection");
            Err(Failure::new(Code::Key, message))
        }
        _ => Ok(()),
    }
}

pub(super) fn no_live_run(path: &str) -> Failure {
    Failure::new(Code::UnknownRun, format!("no live run observes {path}"))
        .with_next_step("attestfs stage list shows the runs; give a path below one of their --dir")
}

fn too_many(bound: usize, what: &str) -> Failure {
    Failure::new(Code::TooLarge, format!("at most {bound} {what} in one request"))
}

impl From<CommitError> for Failure {
    fn from(error: CommitError) -> Self {
        let code = match &error {
            CommitError::Order { .. } => Code::Malformed,
            CommitError::Journal(_) => Code::Journal,
            CommitError::Lineage(lineage) => code_of(lineage),
            CommitError::Draft(_) => Code::Artifact,
            CommitError::KeyFile(_) | CommitError::KeyAbsent { .. } | CommitError::Signing(_) => {
                Code::Key
            }
            CommitError::Record(_) | CommitError::Quote(_) | CommitError::Write { .. } => {
                Code::State
            }
        };
        let failure = Self::new(code, &error);
        match error {
            CommitError::Write { .. } | CommitError::Quote(_) => failure.with_next_step(
                "what was to be signed is kept: it is published when the daemon starts again",
            ),
            CommitError::KeyAbsent { .. } => {
                failure.with_next_step("run a command with --key and this key: the commit goes on")
            }
            _ => failure,
        }
    }
}

impl From<LineageError> for Failure {
    fn from(error: LineageError) -> Self {
        let failure = Self::new(code_of(&error), &error);
        match error {
            LineageError::UnknownRun(_) => {
                failure.with_next_step("attestfs stage list shows the runs that it knows")
            }
            _ => failure,
        }
    }
}

fn code_of(error: &LineageError) -> Code {
    match error {
        LineageError::UnknownRun(_) => Code::UnknownRun,
        LineageError::RunEnded(_) => Code::RunEnded,
        LineageError::BadName { .. } => Code::Malformed,
        LineageError::TooLarge { .. } => Code::TooLarge,
        LineageError::JournalGap { .. } | LineageError::BadFact { .. } => Code::Journal,
        _ => Code::Store,
    }
}
