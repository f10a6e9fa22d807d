//! Digests of files that were there before the run: computed in the background when the run first
//! opens them, bound to the identity they had then.

use std::{
    fs::File,
    ops::ControlFlow,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use attestfs_digest::{Digests, ReadError, digests_with_progress};
use rustix::fs::OFlags;

use super::{
    content::State,
    queue::Queue,
    run::{Opened, Run},
    seal::{StoredContent, unless_it_breaks_off},
    tracked::Tracked,
};
use crate::{
    backing::Backing,
    error::Error,
    fact::{Fact, RunVersion, TreePath, Unknown},
    identity::Identity,
    meter::{HashedFor, meter},
    port::KnownDigests,
    sync::{Condvar, Mutex, thread},
};

/// Which files that were there before are hashed when the run opens them. Digests that are known
/// from an earlier run are used in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inputs {
    /// All of them.
    Opened,
    /// Those at or below one of these paths (`--in`).
    Declared(Vec<TreePath>),
    /// None of them.
    None,
}

impl Inputs {
    fn wants(&self, path: Option<&TreePath>) -> bool {
        match (self, path) {
            (Self::Opened, _) => true,
            (Self::Declared(declared), Some(path)) => declared.iter().any(|one| one.covers(path)),
            (Self::Declared(_), None) | (Self::None, _) => false,
        }
    }
}

/// How far the hashing of materials is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaterialProgress {
    /// Files whose digest is still missing.
    pub files_left: u64,
    /// Bytes hashed so far.
    pub bytes_done: u64,
    /// Bytes that are or were to be hashed, all together.
    pub bytes_total: u64,
}

#[derive(Debug)]
pub(super) struct Materials {
    known: Box<dyn KnownDigests>,
    inputs: Inputs,
    jobs: Arc<Queue<Job>>,
    left: Mutex<u64>,
    less: Condvar,
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
}

#[derive(Debug)]
struct Job {
    tracked: Arc<Tracked>,
    version: RunVersion,
    identity: Identity,
    source: Source,
}

/// How to come by the bytes: by the descriptor of the open that made the file a material, or, when
/// many wait already, by its name.
#[derive(Debug)]
enum Source {
    Open(Opened),
    Named(Arc<dyn Backing>),
}

impl Materials {
    pub(super) fn new(known: Box<dyn KnownDigests>, inputs: Inputs) -> Self {
        Self {
            known,
            inputs,
            jobs: Arc::new(Queue::of(meter().material_queue())),
            left: Mutex::new(0),
            less: Condvar::new(),
            bytes_done: AtomicU64::new(0),
            bytes_total: AtomicU64::new(0),
        }
    }

    pub(super) fn start(run: &Arc<Run>) {
        for _ in 0..run.limits.material_threads.max(1) {
            let (jobs, run) = (Arc::clone(&run.materials.jobs), Arc::downgrade(run));
            thread::spawn(move || work(&jobs, &run));
        }
    }

    pub(super) fn close(&self) {
        self.jobs.close();
        let left = i64::try_from(*self.left.lock()).unwrap_or(i64::MAX);
        meter().materials_left().dec_by(left);
    }

    pub(super) fn add(
        &self,
        tracked: Arc<Tracked>,
        version: RunVersion,
        identity: Identity,
        opened: Opened,
    ) {
        *self.left.lock() += 1;
        meter().materials_left().inc();
        self.bytes_total.fetch_add(identity.size, Ordering::Relaxed);
        let source = if self.jobs.len() < OPEN_FILES_MAX {
            Source::Open(opened)
        } else {
            Source::Named(opened.backing)
        };
        self.jobs.push(Job { tracked, version, identity, source });
    }

    fn progress(&self, files_left: u64) -> MaterialProgress {
        MaterialProgress {
            files_left,
            bytes_done: self.bytes_done.load(Ordering::Relaxed),
            bytes_total: self.bytes_total.load(Ordering::Relaxed),
        }
    }

    fn one_less(&self) {
        *self.left.lock() -= 1;
        meter().materials_left().dec();
        self.less.notify_all();
    }
}

impl Run {
    /// Waits until every material has its digest or the reason why it has none. Tells `watch` how
    /// far it is, ten times a second; the wait ends early when that says so.
    pub fn wait_for_materials(
        &self,
        watch: &mut dyn FnMut(MaterialProgress) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        loop {
            let left = *self.materials.left.lock();
            if left == 0 {
                return ControlFlow::Continue(());
            }
            // Not under the lock, which every first open of a file takes: whoever watches may block.
            watch(self.materials.progress(left))?;
            let mut left = self.materials.left.lock();
            if *left > 0 {
                let _timed_out = self.materials.less.wait_for(&mut left, WATCH_INTERVAL);
            }
        }
    }

    /// Gives a material its digest, or the reason why it has none.
    fn settle_material(&self, job: &Job, outcome: Result<Digests, Unknown>) {
        let mut content = job.tracked.content();
        if let State::Material { version, identity } = content.state
            && version == job.version
        {
            match outcome {
                Ok(digests) => {
                    content.state = State::Hashed { version, identity, digests };
                    self.recorder.record(Fact::Hashed { version, identity, digests });
                }
                Err(unknown) => {
                    content.state = State::Unhashed { identity };
                    self.not_hashed(version, unknown);
                }
            }
        }
        drop(content);
        self.materials.one_less();
    }

    fn hash_material(&self, job: &Job) -> Result<Digests, Unknown> {
        let path = job.tracked.path();
        if !self.materials.inputs.wants(path.as_ref()) {
            return Err(Unknown::NotWanted);
        }
        let opened = job.open()?;
        let calm = job.tracked.calm_after_others(&opened);
        if calm.is_none() || !job.is_still_in(&opened)? {
            return Err(Unknown::Changed);
        }
        let stat = opened.stat().map_err(unreadable)?;
        if self.exceeds_holes(&stat) {
            return Err(Unknown::TooLarge);
        }
        let digests = self.watched_digests(job, &opened, job.identity.size)?;
        let as_it_was = job.is_still_in(&opened)? && job.tracked.calm(&opened) == calm;
        if as_it_was { Ok(digests) } else { Err(Unknown::Changed) }
    }

    fn watched_digests(&self, job: &Job, opened: &Opened, size: u64) -> Result<Digests, Unknown> {
        let mut told = 0;
        let outcome = digests_with_progress(&StoredContent(opened), size, &mut |done| {
            self.materials.bytes_done.fetch_add(done - told, Ordering::Relaxed);
            meter().hashed(HashedFor::MATERIAL, done - told);
            told = done;
            if job.is_wanted() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        outcome.map_err(|error| match error {
            ReadError::Shrank { .. } | ReadError::Stopped | ReadError::Lent => Unknown::Changed,
            ReadError::Failed { source, .. } => Unknown::Unreadable(source.to_string()),
        })
    }
}

impl Job {
    fn open(&self) -> Result<Opened, Unknown> {
        let backing = match &self.source {
            Source::Open(opened) => return Ok(opened.clone()),
            Source::Named(backing) => backing,
        };
        let Some(path) = self.tracked.file_path() else {
            return Err(Unknown::Changed);
        };
        let open = || -> rustix::io::Result<File> {
            backing.open(&backing.resolve(&path.relative)?, OFlags::RDONLY)
        };
        let file = open().map_err(|errno| Unknown::Unreadable(errno.to_string()))?;
        Ok(Opened { backing: Arc::clone(backing), file: Arc::new(file) })
    }

    /// Whether nothing but metadata, and that through the mount, changed since the open. Looked at
    /// under the lock, which every change of metadata through the mount holds as well.
    fn is_still_in(&self, opened: &Opened) -> Result<bool, Unknown> {
        let content = self.tracked.content();
        let now = self.tracked.stat_in_order(opened).map_err(unreadable)?.identity;
        Ok(now == self.identity || content.identity() == Some(now))
    }

    /// Whether the digest still has a taker: the run has not changed the content itself.
    fn is_wanted(&self) -> bool {
        matches!(self.tracked.content().state, State::Material { version, .. } if version == self.version)
    }
}

fn unreadable(error: Error) -> Unknown {
    Unknown::Unreadable(error.to_string())
}

fn work(jobs: &Queue<Job>, run: &Weak<Run>) {
    while let Some(batch) = jobs.pop(BATCH) {
        let Some(run) = run.upgrade() else { return };
        let identities: Vec<Identity> = batch.iter().map(|job| job.identity).collect();
        let known = run.materials.known.known(&identities);
        for (index, job) in batch.iter().enumerate() {
            let outcome = match known.get(index).copied().flatten() {
                Some(digests) => {
                    run.materials.bytes_done.fetch_add(job.identity.size, Ordering::Relaxed);
                    Ok(digests)
                }
                None => unless_it_breaks_off(|| run.hash_material(job))
                    .unwrap_or_else(|error| Err(Unknown::Unreadable(error.to_string()))),
            };
            run.settle_material(job, outcome);
        }
    }
}

/// Files that wait for hashing and are held open meanwhile; the others are opened again by name.
const OPEN_FILES_MAX: usize = 1024;

/// Files about which the store is asked in one question.
const BATCH: usize = 64;

const WATCH_INTERVAL: Duration = Duration::from_millis(100);
