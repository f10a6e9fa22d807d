use std::sync::Arc;

use super::*;
use crate::sync::{in_each_schedule, join_all, thread};

/// Writes that have been through each station, by their numbers.
#[derive(Debug, Default)]
struct Passed {
    stored: Mutex<Vec<u64>>,
    hashed: Mutex<Vec<u64>>,
}

#[derive(Clone, Debug, Default)]
struct Desk {
    line: Arc<Line>,
    passed: Arc<Passed>,
}

impl Desk {
    /// One write as [`WriteHandle`](crate::write::WriteHandle) makes it.
    fn write(&self) {
        let mut place = self.line.enter();
        place.wait_to_store();
        self.passed.stored.lock().push(place.number);
        place.stored();
        self.passed.hashed.lock().push(place.number);
    }

    /// One that is refused before its turn, or breaks off.
    fn give_up(&self) {
        drop(self.line.enter());
    }

    /// One that is no write and changes all of the file.
    fn truncate(&self) {
        let place = self.line.enter();
        place.wait_to_be_first();
        self.passed.stored.lock().push(place.number);
        self.passed.hashed.lock().push(place.number);
    }

    fn begin(&self, change: fn(&Self)) -> thread::JoinHandle<()> {
        let desk = self.clone();
        thread::spawn(move || change(&desk))
    }
}

#[test]
fn writes_are_stored_and_hashed_in_the_order_in_which_they_came() {
    in_each_schedule(|| {
        let desk = Desk::default();
        let changes: [fn(&Desk); 5] =
            [Desk::write, Desk::truncate, Desk::give_up, Desk::write, Desk::write];
        let threads = changes.map(|change| desk.begin(change));
        join_all(threads);
        let stored = desk.passed.stored.lock();
        assert!(stored.is_sorted(), "{stored:?}");
        assert_eq!((&*stored, stored.len()), (&*desk.passed.hashed.lock(), 4));
        assert!(desk.line.is_empty());
    });
}

#[test]
fn no_more_stand_in_line_than_there_is_room_for() {
    in_each_schedule(|| {
        let desk = Desk::default();
        let threads: Vec<_> = (0..=LENGTH_MAX + 1).map(|_| desk.begin(Desk::write)).collect();
        let Counts { entered, stored, hashed } = *desk.line.counts.lock();
        assert!(entered - hashed <= LENGTH_MAX && hashed <= stored && stored <= entered);
        join_all(threads);
    });
}

#[test]
fn whoever_waits_for_the_line_finds_all_stored_and_hashed_that_was_answered_before() {
    in_each_schedule(|| {
        let desk = Desk::default();
        let threads: Vec<_> = (0..4).map(|_| desk.begin(Desk::write)).collect();
        let answered = desk.line.counts.lock().entered;
        desk.line.wait_until_empty();
        let hashed = desk.passed.hashed.lock().clone();
        assert!((0..answered).all(|number| hashed.contains(&number)), "{answered} {hashed:?}");
        join_all(threads);
    });
}
