//! The threads that answer the requests of one mount: enough of them, whatever hangs in the store.
//!
//! The FUSE library starts as many threads as it is told, and each fetches one request after the other until the end.
//! The kernel hands requests to those that wait for one in turn, so that each one more makes small requests slower. Hence
//! most of them *rest*: after they have answered a request, and before they fetch the next one. Who is *held up* by one
//! request is not counted among those who are awake, and another one is woken in its place.

use std::{
    cell::OnceCell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::meter::Operation;

/// All threads of one mount.
#[derive(Debug)]
pub(super) struct Crew {
    /// So many are awake that nothing holds up.
    wanted: usize,
    roll: Mutex<Roll>,
    /// Somebody may stop resting.
    called: Condvar,
    /// Whether more are awake than are wanted: each request looks, and takes no lock for that.
    is_crowded: AtomicBool,
}

/// Who is there, and who is awake.
#[derive(Debug, Default)]
struct Roll {
    /// In the order in which they came, each with its first request.
    members: Vec<Arc<Member>>,
    /// How many of them do not rest, or have been called.
    awake: usize,
    /// How many of them were held up when somebody looked last.
    held_up: usize,
    /// How many have been called and do not know yet.
    calls: usize,
    /// No request comes any more.
    has_ended: bool,
}

/// One of the threads, as others see it. On a cache line of its own, for it is written to with each request.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Member(Mutex<Progress>);

/// How far one of the threads is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// How many requests it has fetched so far.
    requests: u64,
    /// What the last of them is about, until it is answered and all that it takes is done.
    pub(super) under_way: Option<Subject>,
}

/// What a request wants of which file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) operation: Operation,
    /// As the kernel names it.
    pub(super) inode: u64,
}

impl Crew {
    /// One of which so many are awake that nothing holds up, once all have answered a request.
    pub(super) fn of(wanted: usize) -> Arc<Self> {
        Arc::new(Self {
            wanted,
            roll: Mutex::default(),
            called: Condvar::new(),
            is_crowded: AtomicBool::default(),
        })
    }

    /// The calling thread does all that a request takes.
    pub(super) fn turn(self: &Arc<Self>, subject: Subject, work: impl FnOnce()) {
        SEAT.with(|seat| {
            let Seat { member, .. } = seat.get_or_init(|| self.join());
            let _turn = Turn::begin(member, subject);
            work();
        });
    }

    /// The calling thread rests until it is wanted, if it is not wanted now.
    pub(super) fn rest(&self) {
        if self.is_crowded.load(Relaxed) {
            self.rest_until_called();
        }
    }

    /// All that have answered a request so far.
    pub(super) fn members(&self) -> Vec<Arc<Member>> {
        self.roll.lock().members.clone()
    }

    /// So many are held up now. Wakes others in their place, as far as there are any.
    pub(super) fn make_up_for(&self, held_up: usize) {
        let mut roll = self.roll.lock();
        roll.held_up = held_up;
        while roll.awake < (self.wanted + held_up).min(roll.members.len()) {
            roll.awake += 1;
            roll.calls += 1;
            self.called.notify_one();
        }
        self.look_around(&roll);
    }

    /// No request comes any more: whoever rests is to find that out.
    pub(super) fn end(&self) {
        let mut roll = self.roll.lock();
        roll.has_ended = true;
        self.look_around(&roll);
        self.called.notify_all();
    }

    fn join(self: &Arc<Self>) -> Seat {
        let member = Arc::<Member>::default();
        let mut roll = self.roll.lock();
        roll.members.push(Arc::clone(&member));
        roll.awake += 1;
        self.look_around(&roll);
        Seat { crew: Arc::clone(self), member }
    }

    fn rest_until_called(&self) {
        let mut roll = self.roll.lock();
        if !self.is_crowded_by(&roll) {
            return;
        }
        roll.awake -= 1;
        self.look_around(&roll);
        self.called.wait_while(&mut roll, |roll| roll.calls == 0 && !roll.has_ended);
        roll.calls = roll.calls.saturating_sub(1);
    }

    fn is_crowded_by(&self, roll: &Roll) -> bool {
        roll.awake > self.wanted + roll.held_up && !roll.has_ended
    }

    fn look_around(&self, roll: &MutexGuard<'_, Roll>) {
        self.is_crowded.store(self.is_crowded_by(roll), Relaxed);
    }
}

impl Member {
    pub(super) fn progress(&self) -> Progress {
        *self.0.lock()
    }
}

/// A thread is at work as long as this lives.
struct Turn<'member>(&'member Member);

impl<'member> Turn<'member> {
    fn begin(member: &'member Member, subject: Subject) -> Self {
        let mut progress = member.0.lock();
        progress.requests += 1;
        progress.under_way = Some(subject);
        Self(member)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.0.lock().under_way = None;
    }
}

thread_local! {
    /// Such a thread answers the requests of one mount, as long as it lives.
    static SEAT: OnceCell<Seat> = const { OnceCell::new() };
}

/// The place of the calling thread.
#[derive(Debug)]
struct Seat {
    crew: Arc<Crew>,
    member: Arc<Member>,
}

impl Drop for Seat {
    /// The thread ends: the kernel has no more requests. It tells that only to those who ask. So many are awake that one of
    /// them does, and tells those who rest.
    fn drop(&mut self) {
        self.crew.end();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::mpsc::{Receiver, Sender, channel},
        thread,
        time::Duration,
    };

    use super::*;

    const SUBJECT: Subject = Subject { operation: Operation::Read, inode: 7 };

    /// Threads of a crew, whose requests come from here and not from a kernel.
    struct Deck {
        crew: Arc<Crew>,
        /// By thread: each other message begins a request, and the next one ends it.
        hands: Vec<Sender<()>>,
        /// Who waits for a request.
        waiting: Receiver<usize>,
    }

    impl Deck {
        fn of(wanted: usize, all: usize) -> Self {
            let crew = Crew::of(wanted);
            let (tell, waiting) = channel();
            let hand = |number| {
                let (crew, tell) = (Arc::clone(&crew), tell.clone());
                let (hand, messages) = channel();
                thread::spawn(move || serve(&crew, &messages, || tell.send(number).is_ok()));
                hand
            };
            let deck =
                Self { hands: (0..all).map(hand).collect(), crew: Arc::clone(&crew), waiting };
            assert_eq!(deck.waiting.iter().take(all).count(), all);
            deck
        }

        /// One where each has fetched a request and is at it.
        fn all_at_work(wanted: usize, all: usize) -> Self {
            let deck = Self::of(wanted, all);
            (0..all).for_each(|number| deck.begin(number));
            deck
        }

        fn begin(&self, number: usize) {
            let at_work = || self.crew.members().iter().filter(|it| it.is_at_work()).count();
            let before = at_work();
            self.hands[number].send(()).unwrap();
            while at_work() == before {
                thread::yield_now();
            }
        }

        fn finish(&self, number: usize) {
            self.hands[number].send(()).unwrap();
        }

        fn next_waiting(&self) -> usize {
            self.waiting.recv_timeout(Duration::from_secs(20)).unwrap()
        }

        fn nobody_else_waits(&self) -> bool {
            self.waiting.recv_timeout(Duration::from_millis(100)).is_err()
        }

        /// These finish what they are at, and rest.
        fn bring_to_rest(&self, numbers: impl IntoIterator<Item = usize>) {
            numbers.into_iter().for_each(|number| self.finish(number));
            assert!(self.nobody_else_waits());
        }

        fn awake(&self) -> usize {
            self.crew.roll.lock().awake
        }
    }

    impl Member {
        fn is_at_work(&self) -> bool {
            self.progress().under_way.is_some()
        }
    }

    fn serve(crew: &Arc<Crew>, messages: &Receiver<()>, mut wait: impl FnMut() -> bool) {
        while wait() && messages.recv().is_ok() {
            crew.turn(SUBJECT, || messages.recv().unwrap_or_default());
            crew.rest();
        }
    }

    #[test]
    fn as_many_as_are_wanted_go_on_and_the_others_rest() {
        let deck = Deck::all_at_work(2, 5);
        deck.bring_to_rest(0..3);
        assert_eq!(deck.awake(), 2);
        for number in [3, 4, 4, 3] {
            deck.finish(number);
            assert_eq!(deck.next_waiting(), number);
            deck.begin(number);
        }
    }

    #[test]
    fn nobody_rests_before_enough_others_have_had_a_request() {
        let deck = Deck::of(2, 3);
        for number in [0, 1, 0, 1] {
            deck.begin(number);
            deck.finish(number);
            assert_eq!(deck.next_waiting(), number);
        }
        deck.begin(2);
        deck.bring_to_rest([2]);
    }

    #[test]
    fn as_many_are_woken_as_are_held_up_and_rest_when_these_are_back() {
        let deck = Deck::all_at_work(2, 5);
        deck.bring_to_rest(0..3);
        deck.crew.make_up_for(2);
        let woken = [deck.next_waiting(), deck.next_waiting()];
        assert!(deck.nobody_else_waits());
        assert!(woken.iter().all(|number| *number < 3), "{woken:?}");
        for number in [3, 4] {
            deck.finish(number);
            assert_eq!(deck.next_waiting(), number);
        }
        deck.crew.make_up_for(0);
        for number in woken {
            deck.begin(number);
        }
        deck.bring_to_rest(woken);
        assert_eq!(deck.awake(), 2);
    }

    #[test]
    fn no_more_are_woken_than_there_are() {
        let deck = Deck::all_at_work(1, 2);
        deck.bring_to_rest([0]);
        for _ in 0..3 {
            deck.crew.make_up_for(2);
        }
        assert_eq!((deck.awake(), deck.next_waiting()), (2, 0));
        assert!(deck.nobody_else_waits());
    }

    #[test]
    fn the_first_that_ends_wakes_all_who_rest() {
        let mut deck = Deck::all_at_work(1, 4);
        deck.bring_to_rest(0..3);
        deck.finish(3);
        assert_eq!(deck.next_waiting(), 3);
        drop(deck.hands.pop());
        let mut woken = [deck.next_waiting(), deck.next_waiting(), deck.next_waiting()];
        woken.sort_unstable();
        assert_eq!(woken, [0, 1, 2]);
    }

    #[test]
    fn a_turn_is_over_also_when_it_breaks_off() {
        let crew = Crew::of(1);
        let work = || crew.turn(SUBJECT, || panic!("the work"));
        assert!(catch_unwind(AssertUnwindSafe(work)).is_err());
        assert!(!crew.members()[0].is_at_work());
    }
}
