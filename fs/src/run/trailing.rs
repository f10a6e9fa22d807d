//! The threads that read behind the writers of a run, and complete the digests of what nobody writes any more.

use std::sync::{Arc, Weak};

use attestfs_digest::{Chain, feed_all};

use super::{
    queue::Queue,
    run::{Opened, Run},
    seal::{Follower, Settlement, unless_it_breaks_off},
};
use crate::{
    meter::{HashedFor, meter},
    sync::thread,
};

/// What there is to do for one file.
#[derive(Debug)]
pub(super) enum Work {
    /// To read on behind its writer.
    Trail(Trail),
    /// To complete the digests of a file that nobody writes any more.
    Settle(Box<Settlement>),
}

/// A SHA-256 that somebody makes behind the writer.
#[derive(Debug)]
pub(super) struct Trail {
    pub(super) follower: Follower,
    pub(super) opened: Opened,
    pub(super) chain: Chain,
}

/// Reads behind writers until the queue is closed, or the run is gone. Whoever writes goes first: the processors are
/// theirs where there are too few. To be nice is not enough for that. Also a nice thread runs until its slice is over, which
/// is longer than a write takes: so whoever waits for this processor is given it after each step.
pub(super) fn trail(jobs: &Queue<Work>, run: &Weak<Run>) {
    be_nice();
    work(jobs, run, STEP_BYTES_BEHIND, thread::yield_now);
}

/// Has this thread give way to all others.
pub(super) fn be_nice() {
    // The number of a thread stands for itself alone here. Nobody is kept from being nice.
    let thread = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(thread), NICE) {
        tracing::debug!(%error, "SHA-256 is made at the priority of all else");
    }
}

/// Completes digests until the queue is closed, or the run is gone.
pub(super) fn complete(jobs: &Queue<Work>, run: &Weak<Run>) {
    work(jobs, run, STEP_BYTES, || {});
}

/// Calls `pause` after each step.
fn work(jobs: &Queue<Work>, run: &Weak<Run>, step_bytes: usize, pause: impl Fn()) {
    let mut lanes = Lanes::default();
    loop {
        let taken = match LANES_MAX - lanes.0.len() {
            LANES_MAX => jobs.pop(1),
            free => jobs.pop_what_nobody_waits_for(free),
        };
        let (Some(taken), Some(run)) = (taken, run.upgrade()) else { return };
        for work in taken {
            lanes.begin(&run, work);
        }
        lanes.step(step_bytes);
        lanes.end_what_is_over(&run);
        pause();
    }
}

/// Files whose SHA-256 one thread makes at a time: several go through the lanes of one vector.
#[derive(Debug, Default)]
struct Lanes(Vec<Lane>);

#[derive(Debug)]
struct Lane {
    trail: Trail,
    /// To be settled when the SHA-256 is made.
    settlement: Option<Box<Settlement>>,
    piece: Vec<u8>,
}

impl Lanes {
    fn begin(&mut self, run: &Run, work: Work) {
        match work {
            Work::Trail(trail) => self.0.push(Lane::of(trail, None)),
            Work::Settle(settlement) => match settlement.follower.lend_to_finish() {
                Some(chain) => {
                    let (follower, opened) = (&settlement.follower, &settlement.opened);
                    let (follower, opened) = (Arc::clone(follower), opened.clone());
                    let trail = Trail { follower, opened, chain };
                    self.0.push(Lane::of(trail, Some(settlement)));
                }
                None => run.seal(*settlement),
            },
        }
    }

    /// Each goes on by a piece: the smaller, the more there are, so that a step takes about as long.
    fn step(&mut self, bytes: usize) {
        let piece = (bytes / self.0.len().max(1)).max(PIECE_BYTES_MIN);
        self.0.iter_mut().for_each(|lane| lane.read(piece));
        let mut pieces: Vec<(&mut Chain, &[u8])> =
            self.0.iter_mut().map(|lane| (&mut lane.trail.chain, &lane.piece[..])).collect();
        feed_all(&mut pieces);
    }

    fn end_what_is_over(&mut self, run: &Run) {
        for lane in self.0.extract_if(.., |lane| lane.is_over()).collect::<Vec<_>>() {
            self.end(run, lane);
        }
    }

    fn end(&mut self, run: &Run, Lane { trail, settlement, .. }: Lane) {
        let Trail { follower, opened, chain } = trail;
        let waiting = follower.give_back(chain);
        if let Some(settlement) = settlement {
            run.seal(*settlement);
        } else if let Some(settlement) = waiting {
            run.sealer.finish(settlement);
        } else if let Some(chain) = follower.lend_to_trail() {
            self.begin(run, Work::Trail(Trail { follower, opened, chain }));
        }
    }
}

impl Lane {
    fn of(trail: Trail, settlement: Option<Box<Settlement>>) -> Self {
        Self { trail, settlement, piece: Vec::new() }
    }

    /// What cannot be read is left to the one who completes the digests, and tells why.
    fn read(&mut self, most: usize) {
        let Trail { opened, chain, .. } = &self.trail;
        let wanted = chain.wanted();
        let length = usize::try_from(wanted.end - wanted.start).unwrap_or(most);
        self.piece.resize(length.min(most), 0);
        let piece = &mut self.piece;
        let read =
            unless_it_breaks_off(|| opened.backing.read_at(&opened.file, piece, wanted.start));
        self.piece.truncate(read.map_or(0, |read| read.unwrap_or(0)));
        meter().hashed(HashedFor::SEAL, self.piece.len() as u64);
    }

    /// All is read, nothing can be read, it was in vain, or it is for others to go on.
    fn is_over(&self) -> bool {
        let Trail { follower, chain, .. } = &self.trail;
        self.piece.is_empty()
            || chain.wanted().is_empty()
            || match &self.settlement {
                Some(settlement) => settlement.is_outdated(),
                None => follower.is_waited_for(),
            }
    }
}

/// As seen by `nice(1)`.
const NICE: i32 = 10;

/// Lanes of the widest vector for SHA-256.
const LANES_MAX: usize = 16;

/// Read in one step.
const STEP_BYTES: usize = 1 << 20;

/// Hashed in some 150 microseconds: so much longer a writer may have to wait for a processor.
const STEP_BYTES_BEHIND: usize = 256 << 10;

/// Read of one file at a time at the least: to read less costs as much.
const PIECE_BYTES_MIN: usize = 64 << 10;
