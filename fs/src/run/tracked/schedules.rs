use std::{fs::File, sync::atomic::AtomicU64, sync::atomic::Ordering::SeqCst};

use super::*;
use crate::{
    backing::Directory,
    fact::Process,
    sync::{in_each_schedule, join_all, thread},
};

fn tracked() -> Arc<Tracked> {
    Arc::new(Tracked::new(FileKey { filesystem: 1, inode: 2, born_ns: 3 }))
}

/// Who has a file open in a run, as those see it.
#[derive(Debug, Default)]
struct Inside {
    readers: AtomicU64,
    writers: AtomicU64,
}

impl Inside {
    /// Has the file open, and sees whether others have that must not.
    fn pass(&self, usage: Usage) {
        let (own, others) = match usage {
            Usage::Reads => (&self.readers, &self.writers),
            _ => (&self.writers, &self.readers),
        };
        own.fetch_add(1, SeqCst);
        thread::yield_now();
        assert_eq!(others.load(SeqCst), 0);
        own.fetch_sub(1, SeqCst);
    }
}

#[test]
fn readers_and_writers_never_have_it_open_at_once_and_whoever_waits_is_let_in() {
    in_each_schedule(|| {
        let (tracked, inside) = (tracked(), Arc::<Inside>::default());
        let uses = [(Usage::Reads, 1), (Usage::Writes, 2), (Usage::Reads, 3), (Usage::Writes, 2)];
        let threads = uses.map(|(usage, run)| {
            let (tracked, inside) = (Arc::clone(&tracked), Arc::clone(&inside));
            thread::spawn(move || {
                let owner = Owner::Run(run);
                let holder = Holder { owner, by: Process::default() };
                let hold = loop {
                    match tracked.hold(usage, holder.clone()) {
                        Ok(hold) => break hold,
                        Err(_) => tracked.wait_until_free(usage, owner, Grace::Ahead),
                    }
                };
                inside.pass(usage);
                drop(hold);
            })
        });
        // A stage that ends waits beside those who want to have it open.
        tracked.wait_for_writers(Grace::Ahead.remaining());
        join_all(threads);
        assert!(!tracked.is_open_for_writing());
    });
}

#[test]
fn a_stage_that_waits_for_writers_hears_of_the_last_one() {
    in_each_schedule(|| {
        let tracked = tracked();
        let holder = Holder { owner: Owner::Nobody, by: Process::default() };
        let holds = [(); 2].map(|()| tracked.hold_anyway(Usage::Writes, holder.clone()));
        let threads = holds.map(|hold| thread::spawn(move || drop(hold)));
        tracked.wait_for_writers(Grace::Ahead.remaining());
        assert!(!tracked.is_open_for_writing());
        join_all(threads);
    });
}

/// What the store holds is a number here, of which every write past us makes another one.
#[test]
fn what_is_calm_before_and_after_was_written_past_by_nobody_in_between() {
    in_each_schedule(|| {
        let (tracked, stored) = (tracked(), Arc::<AtomicU64>::default());
        let writers = [(); 2].map(|()| {
            let (past, stored) = (tracked.write_past(), Arc::clone(&stored));
            let again = Arc::clone(&tracked);
            thread::spawn(move || {
                stored.fetch_add(1, SeqCst);
                drop(past);
                let past = again.write_past();
                stored.fetch_add(1, SeqCst);
                drop(past);
            })
        });
        let file = Arc::new(tempfile::tempfile().unwrap());
        let backing = Arc::new(Directory::new(File::open("/").unwrap().into()));
        let opened = Opened { backing, file };
        let calm = tracked.calm_after_others(&opened);
        let read = stored.load(SeqCst);
        thread::yield_now();
        let read_again = stored.load(SeqCst);
        assert!(calm.is_none() || tracked.calm(&opened) != calm || read == read_again);
        join_all(writers);
        assert!(tracked.calm_after_others(&opened).is_some());
    });
}
