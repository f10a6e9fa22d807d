//! The order of the writes of one file, of which some were answered before they were stored.

use crate::sync::{Condvar, Mutex};

/// Where the writes of one file stand in line, in the order in which they came: each is stored after the
/// one before is stored, and hashed after the one before is hashed. So one is stored while another is
/// hashed and a third is received.
#[derive(Debug, Default)]
pub(crate) struct Line {
    counts: Mutex<Counts>,
    moved: Condvar,
}

/// How many writes there were so far. Each number is at most the one before it.
#[derive(Debug, Default)]
struct Counts {
    entered: u64,
    stored: u64,
    hashed: u64,
}

/// The place of one write. Whoever drops it lets the next one pass, in order.
#[derive(Debug)]
pub(crate) struct Place<'line> {
    line: &'line Line,
    number: u64,
    stored: bool,
}

impl Line {
    /// Takes the place behind the last one; waits while too many stand in line.
    pub(crate) fn enter(&self) -> Place<'_> {
        let mut counts = self.counts.lock();
        self.moved.wait_while(&mut counts, |counts| counts.entered - counts.hashed >= LENGTH_MAX);
        let number = counts.entered;
        counts.entered += 1;
        Place { line: self, number, stored: false }
    }

    /// Whether nobody stands in line.
    pub(crate) fn is_empty(&self) -> bool {
        let counts = self.counts.lock();
        counts.hashed == counts.entered
    }

    /// Waits until nobody stands in line: all that was answered is stored and hashed.
    pub(crate) fn wait_until_empty(&self) {
        let mut counts = self.counts.lock();
        self.moved.wait_while(&mut counts, |counts| counts.hashed < counts.entered);
    }

    fn move_on(&self, is_turn: impl Fn(&Counts) -> bool, step: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.lock();
        self.moved.wait_while(&mut counts, |counts| !is_turn(counts));
        step(&mut counts);
        self.moved.notify_all();
    }
}

impl Place<'_> {
    /// Waits until all earlier writes are stored.
    pub(crate) fn wait_to_store(&self) {
        let mut counts = self.line.counts.lock();
        self.line.moved.wait_while(&mut counts, |counts| counts.stored < self.number);
    }

    /// Whether all earlier writes are stored and hashed.
    pub(crate) fn is_first(&self) -> bool {
        self.line.counts.lock().hashed == self.number
    }

    /// Whether nobody has come since.
    pub(crate) fn is_last(&self) -> bool {
        self.line.counts.lock().entered == self.number + 1
    }

    /// The write is stored, and the next one's turn comes. Waits until all earlier writes are hashed.
    pub(crate) fn stored(&mut self) {
        self.let_store();
        self.wait_to_be_first();
    }

    /// Waits until all earlier writes are stored and hashed.
    pub(crate) fn wait_to_be_first(&self) {
        let mut counts = self.line.counts.lock();
        self.line.moved.wait_while(&mut counts, |counts| counts.hashed < self.number);
    }

    fn let_store(&mut self) {
        if !self.stored {
            self.stored = true;
            self.line.move_on(|counts| counts.stored == self.number, |counts| counts.stored += 1);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.let_store();
        self.line.move_on(|counts| counts.hashed == self.number, |counts| counts.hashed += 1);
    }
}

/// One is stored, one is hashed, and one is there when either is done. More would only keep threads from
/// the requests of others.
const LENGTH_MAX: u64 = 3;

#[cfg(test)]
#[cfg(feature = "shuttle")]
mod schedules;

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use super::*;

    #[test]
    fn each_stage_is_passed_in_the_order_of_entry() {
        let line = Line::default();
        let (stored, hashed) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let places = Mutex::new((0..200).collect::<std::collections::VecDeque<u64>>());
        thread::scope(|threads| {
            for _ in 0..6 {
                threads.spawn(|| {
                    loop {
                        // Numbers are taken and the line is entered in one order.
                        let mut left = places.lock();
                        let Some(number) = left.pop_front() else { return };
                        let mut place = line.enter();
                        drop(left);
                        place.wait_to_store();
                        stored.lock().push(number);
                        place.stored();
                        hashed.lock().push(number);
                    }
                });
            }
        });
        let expected: Vec<u64> = (0..200).collect();
        assert_eq!(*stored.lock(), expected);
        assert_eq!(*hashed.lock(), expected);
        line.wait_until_empty();
    }

    #[test]
    fn a_full_line_keeps_the_next_one_out() {
        let line = Line::default();
        let places: Vec<_> = (0..LENGTH_MAX).map(|_| line.enter()).collect();
        let (entered, enters) = mpsc::channel();
        thread::scope(|threads| {
            threads.spawn(|| {
                drop(line.enter());
                entered.send(()).unwrap();
            });
            assert!(enters.recv_timeout(Duration::from_millis(100)).is_err());
            drop(places);
            enters.recv_timeout(Duration::from_secs(20)).unwrap();
        });
    }

    #[test]
    fn who_gives_up_lets_the_next_one_pass() {
        let line = Line::default();
        drop(line.enter());
        let mut place = line.enter();
        place.wait_to_store();
        place.stored();
        drop(place);
        line.wait_until_empty();
    }
}
