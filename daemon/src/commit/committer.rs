//! Carries out commit orders, one at a time, and takes up what an earlier daemon left.

use std::{fmt::Debug, fs::File, io, sync::Arc};

use attestfs_attestation::{CommitKind, KeyHint, Manifest, Outcome};
use attestfs_fs::Fact;
use jiff::Timestamp;
use parking_lot::Mutex;

use super::{
    Attester, CommitError, Frozen, LentTrees, Published,
    durable::{self, Durable, Watched},
    freeze::freeze,
    indexes,
};
use crate::{
    config::{StateDir, StopAt},
    control::{ArtifactOrder, CommitOrder, CommitReport, PendingCommit},
    journal::{self, Piece},
    lineage::{CommitId, FrozenCommit, LineageStore, RunEnd, RunId},
    metrics::CommitTimer,
    publication::{Files, Shelf},
    signer::{Keyring, Signer},
};

/// The largest report that is read again, in bytes. A larger one is written, and asked for once.
const REPORT_BYTES_MAX: u64 = 16 << 20;

/// Everything that a commit touches.
#[derive(Debug)]
pub struct Room {
    /// What the runs did, what is frozen, what is published.
    pub store: Arc<dyn LineageStore>,
    /// Where files are written.
    pub files: Arc<dyn Files>,
    /// Where bundles lie.
    pub shelf: Shelf,
    /// Who speaks for the platform.
    pub attester: Arc<dyn Attester>,
    /// Who signs.
    pub keys: Arc<dyn Keyring>,
    /// Where the trees of runs lie.
    pub trees: Arc<LentTrees>,
    /// Where the journals are.
    pub state: StateDir,
    /// In a debug build, where to die.
    pub stop_at: Option<StopAt>,
}

/// Carries out commit orders.
#[derive(Debug)]
pub struct Committer {
    room: Room,
    /// Held while a commit is carried out: two at a time could write into one directory.
    at_work: Mutex<()>,
    watched: Watched,
}

impl Committer {
    /// A committer of this room.
    pub fn new(room: Room) -> Self {
        Self { room, at_work: Mutex::new(()), watched: Watched::default() }
    }

    /// Everything that it touches.
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// A run begins, and has written nothing yet. Until it has ended it is known what becomes of its bytes.
    pub fn watch(&self, run: &RunId, trees: &[String]) {
        self.watched.begin(run, &self.room.trees, trees);
    }

    /// Carries out an order. The same order again goes on where the first one failed, or returns
    /// what that has made.
    ///
    /// # Errors
    /// Each variant of [`CommitError`]. What was frozen by then stays frozen.
    pub fn commit(&self, order: &CommitOrder) -> Result<CommitReport, CommitError> {
        let timer = CommitTimer::start(match order.kind {
            CommitKind::Checkpoint => "checkpoint",
            CommitKind::StageEnd(_) => "stage-end",
        });
        let report = self.carry_out(order);
        timer.stop(&report);
        if report.is_ok() && matches!(order.kind, CommitKind::StageEnd(_)) {
            self.watched.end(&order.run);
        }
        report
    }

    fn carry_out(&self, order: &CommitOrder) -> Result<CommitReport, CommitError> {
        let _at_work = self.at_work.lock();
        if let Some(report) = self.report(&order.run, &order.id)? {
            return Ok(report);
        }
        if let Some(frozen) = self.frozen(&order.id)? {
            return self.finish(Frozen::resume(&frozen)?).map(Published::into_report);
        }
        self.ingest(&order.run, order.journal_length)?;
        let record = freeze(&self.room, order)?;
        self.finish(Frozen::keep(&self.room, record)?).map(Published::into_report)
    }

    /// Takes in the journal of a run that leaves nothing to attest, and its end. It may be that its files could not be
    /// synced.
    ///
    /// # Errors
    /// [`CommitError::Journal`], [`CommitError::Lineage`], [`CommitError::Write`].
    pub fn end(&self, run: &RunId, journal_length: u64, end: &RunEnd) -> Result<(), CommitError> {
        let _at_work = self.at_work.lock();
        self.ingest_durable(run, journal_length)?;
        self.room.store.end(run, end)?;
        self.watched.end(run);
        Ok(())
    }

    /// Ends a run whose process is gone without a word: its outcome is unknown, and what it wrote
    /// is attested as just that. A journal that cannot be read ends the run all the same, or every
    /// daemon to come would stumble over it. A run that had ended by then is left alone.
    ///
    /// # Errors
    /// [`CommitError::Lineage`] when not even the end can be kept.
    pub fn bury(
        &self,
        run: &RunId,
        now: Timestamp,
        signer: Option<KeyHint>,
    ) -> Result<(), CommitError> {
        let buried = self.bury_unless_ended(run, now, signer);
        self.watched.end(run);
        buried
    }

    fn bury_unless_ended(
        &self,
        run: &RunId,
        now: Timestamp,
        signer: Option<KeyHint>,
    ) -> Result<(), CommitError> {
        if self.has_ended(run)? {
            return Ok(());
        }
        if let Err(error) = self.settle(run, now, signer) {
            tracing::error!(%run, %error, "what a lost run wrote is not attested now");
        }
        if self.has_ended(run)? || self.frozen(&lost(run))?.is_some() {
            return Ok(());
        }
        Ok(self.room.store.end(run, &unknown(now))?)
    }

    /// Builds the indexes of names and files in a state directory that has none. To be called before
    /// anybody asks for them or adds to them.
    ///
    /// # Errors
    /// [`CommitError::Lineage`], [`CommitError::Write`].
    pub fn build_indexes(&self) -> Result<(), CommitError> {
        indexes::build(&self.room)
    }

    /// Does something while no commit is carried out.
    pub(crate) fn alone<T>(&self, work: impl FnOnce(&Room) -> T) -> T {
        let _at_work = self.at_work.lock();
        work(&self.room)
    }

    fn has_ended(&self, run: &RunId) -> Result<bool, CommitError> {
        let run = self.room.store.run(run)?;
        Ok(run.is_none_or(|run| run.end.is_some()))
    }

    fn settle(
        &self,
        run: &RunId,
        now: Timestamp,
        signer: Option<KeyHint>,
    ) -> Result<CommitReport, CommitError> {
        let directory = self.room.state.run(&run.0);
        let journal_length = journal::whole_length(&directory).map_err(journal::ReadError::Io)?;
        let trees = self.trees(run)?;
        self.ingest_durable(run, journal_length)?;
        let artifacts = (0..trees.len()).filter_map(|tree| u16::try_from(tree).ok());
        self.commit(&CommitOrder {
            id: lost(run),
            run: run.clone(),
            kind: CommitKind::StageEnd(Outcome::Unknown),
            finished: now,
            journal_length,
            artifacts: artifacts.map(whole_tree).collect(),
            adopt: false,
            lock: None,
            signer: signer.filter(|hint| self.room.keys.presented(*hint).is_some()),
        })
    }

    /// The filesystems of a run's trees on which all is of which its journal speaks. What is still in memory is written
    /// down now. Once that fails, in doubt none is: the kernel tells of what is lost once.
    fn synced(&self, run: &RunId) -> Result<Vec<u64>, CommitError> {
        let directory = self.room.state.run(&run.0);
        let synced = match self.watched.of(run) {
            Some(stores) => Durable::sync(&stores),
            None => durable::open(&self.room.trees, &self.trees(run)?).and_then(|stores| {
                let synced = Durable::sync(&stores)?;
                let is_unbroken = journal::is_unbroken(&directory, &stores);
                Ok(if is_unbroken { synced } else { Vec::new() })
            }),
        };
        let synced = synced.unwrap_or_else(|error| {
            tracing::error!(%run, %error, "the trees of a run cannot be synced");
            Vec::new()
        });
        if synced.is_empty() {
            journal::break_off(&directory)
                .map_err(|source| CommitError::Write { path: directory, source })?;
        }
        Ok(synced)
    }

    fn trees(&self, run: &RunId) -> Result<Vec<String>, CommitError> {
        Ok(self.room.store.run(run)?.map_or(Vec::new(), |run| run.description.trees))
    }

    /// Goes on with every commit that is frozen and not published. What cannot go on now is
    /// returned with the reason.
    ///
    /// # Errors
    /// [`CommitError::Lineage`] when the store cannot say what is frozen.
    pub fn resume(&self) -> Result<Vec<PendingCommit>, CommitError> {
        let _at_work = self.at_work.lock();
        let mut pending = Vec::new();
        for frozen in self.room.store.frozen()? {
            match Frozen::resume(&frozen) {
                Ok(resumed) => pending.extend(self.advance(resumed)),
                Err(error) => {
                    tracing::error!(commit = %frozen.commit, %error, "a frozen commit is unreadable");
                }
            }
        }
        Ok(pending)
    }

    /// The commits that are frozen and not published.
    ///
    /// # Errors
    /// [`CommitError::Lineage`].
    pub fn pending(&self) -> Result<Vec<PendingCommit>, CommitError> {
        let frozen = self.room.store.frozen()?;
        let resumed = frozen.iter().filter_map(|frozen| Frozen::resume(frozen).ok());
        Ok(resumed.map(|frozen| self.waiting(&frozen)).collect())
    }

    fn waiting(&self, frozen: &Frozen) -> PendingCommit {
        let record = frozen.record();
        PendingCommit {
            commit: record.commit.clone(),
            run: record.run.clone(),
            signer: record.signer,
            since: record.finished,
            waits_for: match self.room.key(record.signer) {
                Ok(_) => "its turn, or the next start of the daemon".to_owned(),
                Err(error) => error.to_string(),
            },
        }
    }

    /// Publishes, or says why not yet.
    fn advance(&self, frozen: Frozen) -> Option<PendingCommit> {
        let pending = self.waiting(&frozen);
        let error = self.finish(frozen).err()?;
        tracing::warn!(commit = %pending.commit, %error, "a commit stays frozen");
        let waits_for = error.to_string();
        Some(PendingCommit { waits_for, ..pending })
    }

    fn finish(&self, frozen: Frozen) -> Result<Published, CommitError> {
        let room = &self.room;
        frozen.end_run(room)?;
        frozen.quote(room)?.sign(room)?.publish(room)
    }

    /// As [`Self::ingest`], of a run that has not said that its files are synced.
    fn ingest_durable(&self, run: &RunId, length: u64) -> Result<(), CommitError> {
        if self.room.store.ingested(run)? >= length {
            return Ok(());
        }
        let mut durable = Durable::new(self.synced(run)?, self.room.store.outputs(run)?);
        self.ingest_as(run, length, |fact| durable.told(fact))
    }

    /// Takes in what the store has not seen yet of a journal, in order, up to `length`.
    fn ingest(&self, run: &RunId, length: u64) -> Result<(), CommitError> {
        self.ingest_as(run, length, |fact| fact)
    }

    fn ingest_as(
        &self,
        run: &RunId,
        length: u64,
        mut told: impl FnMut(Fact) -> Fact,
    ) -> Result<(), CommitError> {
        let ingested = self.room.store.ingested(run)?;
        if ingested >= length {
            return Ok(());
        }
        for piece in journal::pieces(&self.room.state.run(&run.0), ingested, length)? {
            let Piece { facts, from, to } = piece?;
            let facts: Vec<_> = facts.into_iter().map(&mut told).collect();
            self.room.store.ingest(run, from..to, &facts)?;
        }
        Ok(())
    }

    fn frozen(&self, commit: &CommitId) -> Result<Option<FrozenCommit>, CommitError> {
        let frozen = self.room.store.frozen()?;
        Ok(frozen.into_iter().find(|frozen| frozen.commit == *commit))
    }

    /// What a commit has made, when it is published.
    fn report(&self, run: &RunId, commit: &CommitId) -> Result<Option<CommitReport>, CommitError> {
        match self.room.store.published(commit)? {
            None => Ok(None),
            Some(_) => self.room.kept_report(run, commit).map(Some),
        }
    }
}

impl Room {
    /// Dies by SIGKILL, once per state directory, when this daemon was told to at `arrow`.
    pub(super) fn reached(&self, arrow: StopAt) {
        let told = cfg!(debug_assertions) && self.stop_at == Some(arrow);
        if told && File::create_new(self.state.root().join("stopped")).is_ok() {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
                .unwrap_or_else(|_| std::process::abort());
        }
    }

    /// The key of this hint.
    pub(super) fn key(&self, hint: KeyHint) -> Result<Arc<dyn Signer>, CommitError> {
        if let Some(key) = self.keys.presented(hint) {
            return Ok(key);
        }
        let default = self.keys.default_key()?;
        (default.hint() == hint).then_some(default).ok_or(CommitError::KeyAbsent { hint })
    }

    pub(super) fn put_manifest(&self, manifest: &Manifest) -> Result<(), CommitError> {
        self.shelf.put_manifest(self.files.as_ref(), manifest.sha256(), manifest.bytes()).map_err(
            |source| CommitError::Write {
                path: self.shelf.manifest_path(manifest.sha256()),
                source,
            },
        )
    }

    /// Keeps the answer to an order, for a client that asks again because it did not hear it.
    pub(super) fn keep_report(
        &self,
        run: &RunId,
        report: &CommitReport,
    ) -> Result<(), CommitError> {
        let path = self.state.run(&run.0);
        serde_json::to_vec(report)
            .map_err(io::Error::from)
            .and_then(|bytes| {
                let directory = File::open(&path)?;
                self.files.replace(&directory, &report_name(&report.commit), &bytes)
            })
            .map_err(|source| CommitError::Write { path, source })
    }

    fn kept_report(&self, run: &RunId, commit: &CommitId) -> Result<CommitReport, CommitError> {
        let path = self.state.run(&run.0).join(report_name(commit));
        let file = File::open(&path).map_err(|source| CommitError::Write { path, source })?;
        let bytes = io::Read::take(file, REPORT_BYTES_MAX);
        serde_json::from_reader(io::BufReader::new(bytes)).map_err(CommitError::Record)
    }
}

/// What the name of a kept report ends with.
pub(crate) const REPORT_SUFFIX: &str = ".report.json";

fn report_name(commit: &CommitId) -> String {
    format!("{commit}{REPORT_SUFFIX}")
}

/// The commit that speaks for a run which cannot speak any more. There is one per run.
fn lost(run: &RunId) -> CommitId {
    CommitId(format!("{run}.lost"))
}

fn unknown(now: Timestamp) -> RunEnd {
    RunEnd { outcome: Outcome::Unknown, finished: now }
}

fn whole_tree(tree: u16) -> ArtifactOrder {
    ArtifactOrder {
        tree,
        path: String::new(),
        only: None,
        left_out: Vec::new(),
        model_signature: false,
    }
}
