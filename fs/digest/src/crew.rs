use std::{
    mem,
    panic::resume_unwind,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{self, SyncSender},
    },
    thread,
};

use crate::{content::ReadError, reader::Progress};

/// Does the same work on so many threads, and gives what each of them came to. The calling thread reports
/// how far they are together, and stops them when it is asked to.
pub(crate) fn crew<T: Send>(
    threads: usize,
    progress: &mut Progress<'_>,
    work: impl Fn(Watch<'_>) -> T + Sync,
) -> Vec<T> {
    let (work, stopped) = (&work, &AtomicBool::new(false));
    let (reports, reported) = mpsc::sync_channel(REPORTS_MAX);
    thread::scope(|scope| {
        let start = |reports| scope.spawn(move || work(Watch { reports, stopped, unreported: 0 }));
        let members: Vec<_> = (0..threads.max(1)).map(|_| start(reports.clone())).collect();
        drop(reports);
        let mut done = 0;
        for bytes in reported {
            done += bytes;
            if progress(done).is_break() {
                stopped.store(true, Ordering::Relaxed);
            }
        }
        let join = |member: thread::ScopedJoinHandle<'_, T>| match member.join() {
            Ok(answer) => answer,
            Err(panic) => resume_unwind(panic),
        };
        members.into_iter().map(join).collect()
    })
}

/// How one member of a crew tells what it did and hears that it shall stop.
pub(crate) struct Watch<'a> {
    reports: SyncSender<u64>,
    stopped: &'a AtomicBool,
    unreported: u64,
}

impl Watch<'_> {
    /// So many bytes more were read.
    ///
    /// # Errors
    /// [`ReadError::Stopped`] when no more are wanted.
    pub(crate) fn read(&mut self, bytes: usize) -> Result<(), ReadError> {
        self.unreported += bytes as u64;
        if self.unreported >= REPORT_BYTES {
            self.report();
        }
        if self.stopped.load(Ordering::Relaxed) { Err(ReadError::Stopped) } else { Ok(()) }
    }

    /// Nobody needs any more what the others would come to.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn report(&mut self) {
        let bytes = mem::take(&mut self.unreported);
        if bytes > 0 && self.reports.send(bytes).is_err() {
            // The calling thread panicked, and waits for us.
            self.stop();
        }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.report();
    }
}

/// About a millisecond of hashing: waking the calling thread costs nothing beside it.
const REPORT_BYTES: u64 = 4 << 20;

/// Whoever is slow to look at the progress slows the work down.
const REPORTS_MAX: usize = 64;
