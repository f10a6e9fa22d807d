//! Threads for requests whose answer takes its time, so that no other request waits for them.

use std::{
    fmt,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
};

use crate::{
    meter::{Room, meter},
    run::Queue,
    sync::{
        atomic::{AtomicBool, Ordering},
        thread,
    },
};

/// Whether there is still a kernel that waits for answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connection(Arc<AtomicBool>);

impl Connection {
    pub(crate) fn end(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The threads, started when the first of them is needed.
#[derive(Debug)]
pub(crate) struct Waiters {
    room: Room,
    jobs: Arc<Queue<Job>>,
    started: AtomicBool,
}

struct Job(Box<dyn FnOnce() + Send>);

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Job")
    }
}

impl Waiters {
    /// Those of this room.
    pub(crate) fn of(room: Room) -> Self {
        let jobs = Arc::new(Queue::of(meter().waiting(room)));
        Self { room, jobs, started: AtomicBool::new(false) }
    }

    /// Has `job` done by one of the threads, in its turn.
    pub(crate) fn add(&self, job: impl FnOnce() + Send + 'static) {
        if !self.started.swap(true, Ordering::AcqRel) {
            for _ in 0..WAITERS {
                let jobs = Arc::clone(&self.jobs);
                thread::spawn(move || work(&jobs));
            }
        }
        meter().postponed(self.room);
        self.jobs.push(Job(Box::new(job)));
    }

    /// What still waits is dropped.
    pub(crate) fn close(&self) {
        self.jobs.close();
    }
}

impl Drop for Waiters {
    fn drop(&mut self) {
        self.close();
    }
}

fn work(jobs: &Queue<Job>) {
    while let Some(taken) = jobs.pop(1) {
        for Job(job) in taken {
            // What it was to answer is answered with EIO when it is dropped; the others need this
            // thread.
            if panic::catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a request that waited broke off: please report this");
            }
        }
    }
}

/// So many files are hashed at a time at the most; more would only share the same disk and cores.
const WAITERS: usize = 8;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_job_that_panics_takes_no_thread_away() {
        let waiters = Waiters::of(Room::JUDGING);
        let (tell, told) = mpsc::channel();
        for _ in 0..2 * WAITERS {
            waiters.add(|| panic!("one of the jobs"));
        }
        waiters.add(move || tell.send(7).unwrap());
        assert_eq!(told.recv().unwrap(), 7);
    }

    #[test]
    fn a_job_that_takes_long_does_not_keep_others_from_being_done() {
        let waiters = Waiters::of(Room::JUDGING);
        let (go_on, wait) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        waiters.add(move || wait.recv().unwrap());
        waiters.add(move || tell.send(()).unwrap());
        told.recv().unwrap();
        go_on.send(()).unwrap();
    }
}
