//! Completing the digest of a file whose last writer left.

use std::{
    fmt::Display,
    io,
    ops::{ControlFlow, Range},
    panic::{self, AssertUnwindSafe},
    sync::Arc,
};

use attestfs_digest::{Chase, Digests, ReadAt};
use rustix::{fs::SeekFrom, io::Errno};

use super::{
    chasing::{Quarry, chase},
    content::{Content, State},
    following::Following,
    queue::Queue,
    run::{Opened, Run},
    tracked::Tracked,
    trailing::{Trail, Work, complete, trail},
};
use crate::{
    backing::Stat,
    fact::{Fact, RunVersion, Unsealed},
    identity::Identity,
    meter::{HashedFor, meter},
    sync::{Once, thread},
};

/// What follows a file. Whoever replaces it in the [state](State::Written) has what is still told to the old one go
/// nowhere.
pub(crate) type Follower = Arc<Following<Box<Settlement>>>;

/// What is done by threads of their own, so that no request waits for it.
#[derive(Debug)]
pub(super) struct Sealer {
    /// Files that are being written.
    trails: Arc<Queue<Work>>,
    /// Files that nobody writes any more.
    jobs: Arc<Queue<Work>>,
    /// Files that are written past us, and those who read behind.
    quarries: Arc<Queue<Quarry>>,
    chasers: Once,
}

impl Default for Sealer {
    fn default() -> Self {
        let queue = || Arc::new(Queue::of(meter().seal_queue()));
        let quarries = Arc::new(Queue::of(meter().seal_queue()));
        Self { trails: queue(), jobs: queue(), quarries, chasers: Once::new() }
    }
}

/// One content whose digest is to be completed.
#[derive(Debug)]
pub(crate) struct Settlement {
    tracked: Arc<Tracked>,
    pub(super) opened: Opened,
    pub(super) follower: Follower,
    /// [`Content::changes`] when it began to settle.
    changes: u64,
    /// What the digests were, when they are computed once more.
    expected: Option<Digests>,
    /// It was written past us, and this much was read meanwhile.
    past: Option<Chase>,
}

impl Sealer {
    pub(super) fn start(run: &Arc<Run>) {
        for _ in 0..run.limits.seal_threads.max(1) {
            let (jobs, weak) = (Arc::clone(&run.sealer.jobs), Arc::downgrade(run));
            thread::spawn(move || complete(&jobs, &weak));
            let (trails, weak) = (Arc::clone(&run.sealer.trails), Arc::downgrade(run));
            thread::spawn(move || trail(&trails, &weak));
        }
    }

    pub(super) fn close(&self) {
        self.trails.close();
        self.jobs.close();
        self.quarries.close();
    }

    /// Has somebody read behind the writer of a file that is written past us.
    fn chase(&self, quarry: Quarry, threads: usize) {
        self.chasers.call_once(|| {
            for _ in 0..threads.max(1) {
                let quarries = Arc::clone(&self.quarries);
                thread::spawn(move || chase(&quarries));
            }
        });
        self.quarries.push(quarry);
    }

    /// Has the digests of a file completed whose SHA-256 is back.
    pub(super) fn finish(&self, settlement: Box<Settlement>) {
        self.jobs.push(Work::Settle(settlement));
    }

    fn settle(&self, settlement: Settlement) {
        let follower = Arc::clone(&settlement.follower);
        if let Some(settlement) = follower.when_back(Box::new(settlement)) {
            self.finish(settlement);
        }
    }
}

impl Run {
    /// Has somebody read on behind the writer, when there is enough to read.
    pub(crate) fn trail(&self, follower: &Follower, opened: &Opened) {
        if let Some(chain) = follower.lend_to_trail() {
            let (follower, opened) = (Arc::clone(follower), opened.clone());
            self.sealer.trails.push(Work::Trail(Trail { follower, opened, chain }));
        }
    }

    /// From now on until its last writer has left, somebody may write to a file past us that the run writes.
    pub(crate) fn written_past(&self, tracked: &Tracked, opened: &Opened) {
        let mut content = tracked.content();
        if self.is_idle() || content.past.is_some() {
            return;
        }
        let chased = Arc::default();
        self.sealer.chase(Quarry::of(&chased, opened), self.limits.seal_threads);
        content.past = Some(chased);
    }

    /// A writer is gone; the last one lets the content settle.
    pub(crate) fn writer_left(&self, tracked: &Arc<Tracked>, opened: &Opened) {
        let mut content = tracked.content();
        content.writers = content.writers.saturating_sub(1);
        self.settle(tracked, &mut content, opened);
    }

    /// Lets the content settle if it was changed and no writer is there. `opened` must be readable.
    pub(crate) fn settle(&self, tracked: &Arc<Tracked>, content: &mut Content, opened: &Opened) {
        if content.writers > 0 {
            return;
        }
        let past = content.past.take().map(|chased| chased.end());
        let Some((version, last, mut follower)) = content.take_written() else {
            return;
        };
        let stat = match tracked.stat_in_order(opened) {
            Ok(stat) => stat,
            Err(error) => {
                return self.leave_unsealed(tracked, content, version, unreadable(error));
            }
        };
        if stat.statx.stx_nlink == 0 {
            self.recorder.record(Fact::Gone { version });
            return self.activity.end(tracked);
        }
        content.state = State::Settling { version, identity: stat.identity, again: false };
        if self.exceeds_holes(&stat) {
            return self.leave_unsealed(tracked, content, version, Unsealed::Sparse);
        }
        if let Some(lost) = content.lost {
            let unsealed = Unsealed::NotStored(lost.to_string());
            return self.leave_unsealed(tracked, content, version, unsealed);
        }
        // Somebody changed it below the mount since the run did: nothing that was seen counts.
        if past.is_some() || stat.identity != last || follower.length() != stat.identity.size {
            follower = Arc::new(Following::unread(stat.identity.size));
        }
        let settlement = Settlement {
            tracked: Arc::clone(tracked),
            opened: opened.clone(),
            follower,
            changes: content.changes,
            expected: None,
            past,
        };
        match unless_it_breaks_off(|| settlement.at_once()) {
            Ok(Some(digests)) => self.sealed(&settlement, content, digests),
            Ok(None) => self.sealer.settle(settlement),
            Err(error) => self.leave_unsealed(tracked, content, version, unreadable(error)),
        }
    }

    /// Whether hashing would have to feed more zeros than anybody waits for.
    pub(crate) fn exceeds_holes(&self, stat: &Stat) -> bool {
        let allocated = stat.statx.stx_blocks.saturating_mul(512);
        stat.statx.stx_size.saturating_sub(allocated) > self.limits.hole_bytes_max
    }

    /// A sealed content whose identity is another than it was: somebody touched the file below the
    /// mount. Hashing it again says whether the content is still the same.
    pub(super) fn settle_again(
        &self,
        tracked: &Arc<Tracked>,
        content: &mut Content,
        opened: &Opened,
        identity: Identity,
    ) {
        let State::Sealed { version, digests, .. } = content.state else { return };
        content.state = State::Settling { version, identity, again: true };
        content.changes += 1;
        self.activity.begin(tracked);
        self.sealer.settle(Settlement {
            tracked: Arc::clone(tracked),
            opened: opened.clone(),
            follower: Arc::new(Following::unread(identity.size)),
            changes: content.changes,
            expected: Some(digests),
            past: None,
        });
    }

    pub(super) fn seal(&self, mut job: Settlement) {
        for _ in 0..ATTEMPTS {
            let calm = job.tracked.calm_after_others(&job.opened);
            let outcome = calm.ok_or(Unsealed::Open).and_then(|_| {
                let finish = || job.finish(self.limits.seal_threads);
                unless_it_breaks_off(finish).map_err(unreadable)?
            });
            let mut content = job.tracked.content();
            let State::Settling { version, identity, again } = content.state else { return };
            if content.changes != job.changes {
                return;
            }
            // Under the lock, which every change of metadata through the mount holds as well.
            let now = job.tracked.stat_in_order(&job.opened).map_err(unreadable);
            match outcome.and_then(|digests| Ok((digests, now?.identity))) {
                Ok((digests, now)) if now == identity && job.tracked.calm(&job.opened) == calm => {
                    return self.sealed(&job, &mut content, digests);
                }
                // Somebody changed it below the mount meanwhile: once more, from the start.
                Ok((_, now)) => {
                    content.state = State::Settling { version, identity: now, again };
                    job.follower = Arc::new(Following::unread(now.size));
                }
                Err(unsealed) => {
                    return self.leave_unsealed(&job.tracked, &mut content, version, unsealed);
                }
            }
        }
        let mut content = job.tracked.content();
        if let State::Settling { version, .. } = content.state
            && content.changes == job.changes
        {
            self.leave_unsealed(&job.tracked, &mut content, version, Unsealed::ChangedBelow);
        }
    }

    fn sealed(&self, job: &Settlement, content: &mut Content, digests: Digests) {
        let State::Settling { version, identity, .. } = content.state else { return };
        if job.expected.is_some_and(|expected| expected != digests) {
            let unsealed = Unsealed::ChangedBelow;
            return self.leave_unsealed(&job.tracked, content, version, unsealed);
        }
        if self.keeps_back(&job.tracked, content) {
            let unsealed = Unsealed::NotAdmitted;
            return self.leave_unsealed(&job.tracked, content, version, unsealed);
        }
        content.state = State::Sealed { version, identity, digests };
        self.tell_again(&job.tracked, content);
        self.activity.end(&job.tracked);
    }

    /// Whether the run built what it wrote on guarded content that was not admitted.
    pub(super) fn keeps_back(&self, tracked: &Tracked, content: &Content) -> bool {
        let guards = self.guards.get().filter(|_| content.tainted);
        guards.is_some_and(|guards| guards.keeps_back(&tracked.paths()))
    }

    fn leave_unsealed(
        &self,
        tracked: &Tracked,
        content: &mut Content,
        version: RunVersion,
        unsealed: Unsealed,
    ) {
        self.tell_unsealed(tracked, content, version, unsealed.clone());
        // What others changed below is not what the run wrote.
        let identity = content.identity().filter(|_| unsealed != Unsealed::ChangedBelow);
        content.state = State::Unsealed { version, unsealed, identity };
        self.activity.end(tracked);
    }
}

impl Settlement {
    /// The digests of what was all seen when it was written, or is so small that to read it takes less than to wake a
    /// thread.
    fn at_once(&self) -> Option<Digests> {
        let content = StoredContent(&self.opened);
        let go_on = &mut |_| ControlFlow::Continue(());
        self.tracked.calm(&self.opened)?;
        if self.past.is_some() {
            let is_small = self.follower.length() <= AT_ONCE_BYTES;
            return is_small.then(|| self.follower.finish(&content, go_on).ok()).flatten();
        }
        let complete = self.expected.is_none() && self.follower.is_complete();
        complete.then(|| self.follower.finish(&content, go_on).ok()).flatten()
    }

    /// Whether the content changed since.
    pub(super) fn is_outdated(&self) -> bool {
        self.tracked.content_as_it_is().changes != self.changes
    }

    /// Completes the digests, by so many threads at the most. Breaks off when the content changes meanwhile.
    fn finish(&mut self, threads: usize) -> Result<Digests, Unsealed> {
        let content = StoredContent(&self.opened);
        let (tracked, changes) = (&self.tracked, self.changes);
        let mut told = 0;
        let watch = &mut |bytes| {
            meter().hashed(HashedFor::SEAL, bytes - told);
            told = bytes;
            if tracked.content_as_it_is().changes == changes {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        };
        let length = self.follower.length();
        let digests = match self.past.take() {
            Some(chase) if length > ALONE_BYTES => chase.finish(&content, length, threads, watch),
            _ => self.follower.finish(&content, watch),
        };
        digests.map_err(unreadable)
    }
}

fn unreadable(error: impl Display) -> Unsealed {
    Unsealed::Unreadable(error.to_string())
}

/// What `work` answers, unless it panics. The thread stays: others wait for what it does next.
pub(super) fn unless_it_breaks_off<T>(work: impl FnOnce() -> T) -> Result<T, BrokeOff> {
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(|_panic| {
        tracing::error!("the hashing of a file broke off: please report this");
        BrokeOff
    })
}

/// A fault of ours, or of the store, while a file was hashed.
#[derive(Debug, thiserror::Error)]
#[error("the program broke off while it was hashed: please report this")]
pub(super) struct BrokeOff;

/// Up to this size one thread makes the digests of a file that was written past us.
const ALONE_BYTES: u64 = 4 << 20;

/// A file up to this size is read and hashed in some 40 microseconds.
const AT_ONCE_BYTES: u64 = 64 << 10;

/// So many times a file is hashed again because somebody changes it below the mount.
const ATTEMPTS: usize = 3;

/// What the backing store holds, read through the backing store's own calls.
pub(crate) struct StoredContent<'opened>(pub(crate) &'opened Opened);

impl ReadAt for StoredContent<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.0.backing.read_at(&self.0.file, buffer, offset)?)
    }

    fn data_from(&self, offset: u64, end: u64) -> io::Result<Range<u64>> {
        let seek = |to| self.0.backing.seek(&self.0.file, to);
        let start = match seek(SeekFrom::Data(offset)) {
            Ok(start) => start,
            // Nothing but a hole from here on, or the file ends before: the size tells them apart.
            Err(Errno::NXIO) => {
                let size = self.0.stat().map_err(io::Error::other)?.statx.stx_size;
                return Ok(if size < end { size.max(offset)..end } else { end..end });
            }
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(offset..end),
            Err(errno) => return Err(errno.into()),
        };
        if start >= end {
            return Ok(end..end);
        }
        let stop = seek(SeekFrom::Hole(start)).unwrap_or(end);
        Ok(start..stop.clamp(start, end))
    }
}
