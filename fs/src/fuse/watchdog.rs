//! Looks after the threads that answer requests: others take the place of who is held up, and who hangs is told of.

use std::{io, sync::Arc, time::Duration};

use super::crew::{Crew, Progress, Subject};
use crate::{
    lately::Moment,
    meter::{Counted, meter},
    vfs::{InodeId, Vfs},
};

/// Of one mount.
#[derive(Debug)]
pub(super) struct Watchdog {
    crew: Arc<Crew>,
    vfs: Arc<Vfs>,
    /// How many threads there are, with those that have answered nothing yet.
    threads: usize,
    /// The others, in the order of the crew, as they were at the last look.
    seen: Vec<Seen>,
}

#[derive(Debug)]
struct Seen {
    progress: Progress,
    /// When it was first seen to be so far.
    since: Moment,
    state: State,
}

#[derive(Debug)]
enum State {
    /// It has got further since the look before, or has nothing to do.
    Moving,
    /// It is at the same request as at the look before.
    HeldUp,
    /// And has been for so long that it was told and is counted.
    Stuck { _counted: Counted },
}

impl Watchdog {
    pub(super) fn of(crew: Arc<Crew>, vfs: Arc<Vfs>, threads: usize) -> Self {
        Self { crew, vfs, threads, seen: Vec::new() }
    }

    /// How long to wait before the next look.
    pub(super) fn pause(&self) -> Duration {
        let is_busy = self.seen.iter().any(Seen::is_at_work);
        if is_busy { PAUSE } else { IDLE_PAUSE }
    }

    /// Looks at all threads, and has others woken in the place of those that are held up.
    pub(super) fn look(&mut self) {
        let members = self.crew.members();
        self.seen.resize_with(members.len(), Seen::default);
        for (seen, member) in self.seen.iter_mut().zip(members) {
            if let Some(back) = seen.follow(member.progress()) {
                tell_back(&self.vfs, back);
            }
        }
        let held_up = self.seen.iter().filter(|seen| !seen.is_moving()).count();
        self.crew.make_up_for(held_up);
        for seen in self.seen.iter_mut().filter(|seen| seen.hangs_by_now()) {
            tell_stuck(&self.vfs, seen, self.threads - held_up);
            seen.state = State::Stuck { _counted: meter().stuck() };
        }
    }

    /// The kernel asks for nothing any more: whoever rests finds that out, and ends.
    ///
    /// # Errors
    /// Whoever is still at work hangs, so that there is nothing to wait for.
    pub(super) fn end(&self) -> io::Result<()> {
        self.crew.end();
        let at_work = || self.seen.iter().filter(|seen| seen.is_at_work());
        if at_work().next().is_none() || !at_work().all(Seen::is_stuck) {
            return Ok(());
        }
        let subjects = at_work().filter_map(|seen| seen.progress.under_way);
        let names: Vec<_> = subjects.map(|subject| named(&self.vfs, subject)).collect();
        Err(io::Error::other(format!("it hangs in the store: {}", names.join(", "))))
    }
}

impl Default for Seen {
    /// One that has done nothing.
    fn default() -> Self {
        Self { progress: Progress::default(), since: Moment::now(), state: State::Moving }
    }
}

/// A request that hung and has been answered, and for how long.
type Back = (Subject, Duration);

impl Seen {
    fn follow(&mut self, progress: Progress) -> Option<Back> {
        if progress == self.progress {
            if self.is_at_work() && self.is_moving() {
                self.state = State::HeldUp;
            }
            return None;
        }
        let was = std::mem::replace(self, Self { progress, ..Self::default() });
        was.progress.under_way.filter(|_| was.is_stuck()).zip(Some(was.since.elapsed()))
    }

    fn is_at_work(&self) -> bool {
        self.progress.under_way.is_some()
    }

    fn is_moving(&self) -> bool {
        matches!(self.state, State::Moving)
    }

    fn is_stuck(&self) -> bool {
        matches!(self.state, State::Stuck { .. })
    }

    /// Whether nobody has been told yet.
    fn hangs_by_now(&self) -> bool {
        matches!(self.state, State::HeldUp) && self.since.elapsed() >= STUCK
    }
}

fn tell_stuck(vfs: &Vfs, seen: &Seen, free: usize) {
    let Some(subject) = seen.progress.under_way else { return };
    let (request, seconds) = (named(vfs, subject), seen.since.elapsed().as_secs());
    if free > 0 {
        tracing::warn!(request, seconds, free, "it hangs in the store; other files stay usable");
    } else {
        tracing::error!(
            request,
            seconds,
            "it hangs in the store, and no thread is left for others"
        );
    }
}

fn tell_back(vfs: &Vfs, (subject, hung): Back) {
    let (request, seconds) = (named(vfs, subject), hung.as_secs());
    tracing::warn!(request, seconds, "what hung in the store has come back");
}

fn named(vfs: &Vfs, Subject { operation, inode }: Subject) -> String {
    match vfs.place_of(InodeId(inode)) {
        Some(path) => format!("{} of {path}", operation.name()),
        None => format!("{} of inode {inode}", operation.name()),
    }
}

/// Between two looks as long as there are requests. Whoever is held up for twice as long is made up for.
const PAUSE: Duration = Duration::from_millis(100);

/// Between two looks when there was nothing to do.
const IDLE_PAUSE: Duration = Duration::from_secs(1);

/// No request takes so long where the store is well.
const STUCK: Duration = Duration::from_secs(10);
