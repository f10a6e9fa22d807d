//! Who of the threads that answer requests waits at the door, where the kernel hands them out.
//!
//! It hands them to those who wait there in turn. Of several, each is woken for one request, on a processor that has
//! done something else meanwhile, and that takes longer than most requests do. So as few are on duty as can be, and
//! the others stand aside. One of those looks out, every millisecond, as long as anything is asked:
//!
//! | what is seen | what follows |
//! |---|---|
//! | requests wait at the door, several times in a row | one more is on duty |
//! | somebody waits there for requests, many times in a row | one less is |
//! | nobody is at the door, and nobody has taken a request since the last look | who looks out goes there: what the others do takes long |
//!
//! Who takes a request of which it is known that it takes long has somebody else come to the door, and need not look out.
//!
//! There are more threads than are ever on duty where the store is well: they take the place of those that are *held up*
//! there by one request, which do not count as on duty.

use std::{cell::OnceCell, fmt, sync::Arc, time::Duration};

use crate::{
    meter::Operation,
    sync::{Condvar, Mutex, MutexGuard, thread_local},
};

/// The threads that answer the requests of one mount.
pub(super) struct Crew {
    state: Mutex<State>,
    /// In the order in which they came, each with its first request.
    members: Mutex<Vec<Arc<Member>>>,
    /// For those who stand aside, but the one of them who looks out.
    called: Condvar,
    lookout: Condvar,
    /// Whether a request waits at the door.
    is_waited_for: Box<dyn Fn() -> bool + Send + Sync>,
}

#[derive(Debug)]
struct State {
    threads: usize,
    /// So many are wanted at the most.
    most: usize,
    /// How many did not get on when somebody looked last.
    held_up: usize,
    /// So many had best be on duty.
    wanted: usize,
    at_door: usize,
    aside: usize,
    /// So many of those who stand aside have been called, and have not heard it yet.
    calls: usize,
    /// Those who have not answered anything yet. If they alone were at the door, nobody would hear of the end.
    strangers: usize,
    /// Requests that somebody took, ever.
    taken: u64,
    lookout: Lookout,
    looks_every: Duration,
    has_ended: bool,
}

/// Whether one of those who stand aside looks out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lookout {
    Nobody,
    Awake,
    /// Until the next request.
    Asleep,
}

/// So many times in a row the same was seen.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    requests_waiting: u32,
    somebody_waiting: u32,
}

/// How a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// In less time than it takes to wake a thread.
    Quick,
    /// It may take long: others have somebody at the door meanwhile, and the thread goes there when it is done.
    Long,
    /// As one of several that came together: the thread goes for the next one, whoever else is on duty.
    Series,
}

/// One of the threads, as others see it. On a cache line of its own, for it is written to with each request.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Member(Mutex<Progress>);

/// How far one of the threads is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// How many requests it has taken so far.
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

/// A request is being answered. When it goes, the thread goes for the next one, or stands aside until it is called.
#[derive(Debug)]
struct Turn<'c> {
    crew: &'c Crew,
    member: &'c Member,
    pace: Pace,
}

/// The place of a thread that has taken a request. When it ends there are no more: so many are at the door that one of them
/// hears of it, and tells those who stand aside.
#[derive(Debug)]
struct Seat {
    crew: Arc<Crew>,
    member: Arc<Member>,
}

thread_local! {
    /// Such a thread answers the requests of one mount, as long as it lives.
    static SEAT: OnceCell<Seat> = const { OnceCell::new() };
}

impl Crew {
    /// Of so many threads, of which no more than `most` are on duty as long as nothing holds them up. `is_waited_for` says
    /// whether a request waits at the door.
    pub(super) fn of(
        (most, threads): (usize, usize),
        is_waited_for: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State::of(most, threads)),
            members: Mutex::default(),
            called: Condvar::new(),
            lookout: Condvar::new(),
            is_waited_for: Box::new(is_waited_for),
        })
    }

    /// The calling thread has taken a request, and does all that it takes.
    pub(super) fn turn(self: &Arc<Self>, subject: Subject, pace: Pace, work: impl FnOnce()) {
        SEAT.with(|seat| {
            let Seat { member, .. } = seat.get_or_init(|| self.join());
            let _turn = self.take(member, subject, pace);
            work();
        });
    }

    /// All that have taken a request so far.
    pub(super) fn members(&self) -> Vec<Arc<Member>> {
        self.members.lock().clone()
    }

    /// So many do not get on.
    pub(super) fn make_up_for(&self, held_up: usize) {
        let mut state = self.state.lock();
        state.held_up = held_up;
        if state.on_duty() < state.wanted {
            self.call(&mut state);
        }
    }

    fn join(self: &Arc<Self>) -> Seat {
        let member = Arc::<Member>::default();
        self.members.lock().push(Arc::clone(&member));
        let mut state = self.state.lock();
        state.strangers = state.strangers.saturating_sub(1);
        Seat { crew: Arc::clone(self), member }
    }

    fn take<'c>(&'c self, member: &'c Member, subject: Subject, pace: Pace) -> Turn<'c> {
        member.begin(subject);
        let mut state = self.state.lock();
        state.at_door = state.at_door.saturating_sub(1);
        state.taken = state.taken.wrapping_add(1);
        if state.lookout == Lookout::Asleep {
            state.lookout = Lookout::Awake;
            self.lookout.notify_one();
        }
        if pace == Pace::Long && state.at_door == 0 {
            self.call(&mut state);
        }
        Turn { crew: self, member, pace }
    }

    fn go_on(&self, pace: Pace) {
        let mut state = self.state.lock();
        if pace == Pace::Quick && state.has_enough_on_duty() {
            self.stand_aside(&mut state);
        }
        state.at_door += 1;
    }

    /// Has one come who stands aside: the one who looks out if there is no other.
    fn call(&self, state: &mut State) {
        if state.calls == state.aside {
            return;
        }
        let others = state.aside - usize::from(state.lookout != Lookout::Nobody);
        let called = if state.calls < others { &self.called } else { &self.lookout };
        state.calls += 1;
        called.notify_one();
    }

    /// Until this thread is called, or sees that it is needed.
    fn stand_aside(&self, state: &mut MutexGuard<'_, State>) {
        state.aside += 1;
        while !state.hears_call() {
            if state.lookout != Lookout::Nobody {
                self.called.wait(state);
                continue;
            }
            let is_needed = self.look_out(state);
            state.lookout = Lookout::Nobody;
            // Somebody else looks out from now on.
            self.called.notify_one();
            if is_needed {
                break;
            }
        }
        state.aside -= 1;
    }

    /// Until this thread is called, or sees that it is needed.
    ///
    /// # Returns
    /// Whether it is the latter.
    fn look_out(&self, state: &mut MutexGuard<'_, State>) -> bool {
        state.lookout = Lookout::Awake;
        let mut seen = Seen::default();
        while state.calls == 0 && !state.has_ended {
            let taken = state.taken;
            let pause = state.looks_every;
            if !self.lookout.wait_for(state, pause).timed_out() {
                continue;
            }
            match (state.taken == taken, state.at_door) {
                (true, 0) => return true,
                (true, _) => self.sleep(state),
                (false, _) => self.look(state, &mut seen),
            }
        }
        false
    }

    /// Until the next request.
    fn sleep(&self, state: &mut MutexGuard<'_, State>) {
        state.wanted = 1;
        state.lookout = Lookout::Asleep;
        self.lookout.wait(state);
        state.lookout = Lookout::Awake;
    }

    /// Looks how many had best be on duty.
    fn look(&self, state: &mut State, seen: &mut Seen) {
        if (self.is_waited_for)() {
            seen.somebody_waiting = 0;
            seen.requests_waiting += 1;
        } else {
            seen.requests_waiting = 0;
            seen.somebody_waiting = if state.at_door > 0 { seen.somebody_waiting + 1 } else { 0 };
        }
        // Of those who are aside one looks out.
        if seen.requests_waiting >= MORE_AFTER && state.wanted < state.most {
            *seen = Seen::default();
            state.wanted += 1;
            if state.on_duty() < state.wanted {
                self.call(state);
            }
        } else if seen.somebody_waiting >= LESS_AFTER {
            *seen = Seen::default();
            state.wanted = state.wanted.saturating_sub(1).max(1);
        }
    }

    /// No request comes any more: from now on nobody stands aside.
    pub(super) fn end(&self) {
        self.state.lock().has_ended = true;
        self.called.notify_all();
        self.lookout.notify_all();
    }
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crew").field("state", &self.state).finish_non_exhaustive()
    }
}

impl State {
    fn of(most: usize, threads: usize) -> Self {
        Self {
            threads,
            most,
            held_up: 0,
            wanted: 1,
            at_door: threads,
            aside: 0,
            calls: 0,
            strangers: threads,
            taken: 0,
            lookout: Lookout::Nobody,
            looks_every: LOOKS_EVERY,
            has_ended: false,
        }
    }

    fn on_duty(&self) -> usize {
        (self.threads - self.aside).saturating_sub(self.held_up)
    }

    /// Whether the others can do without one more. Somebody must be at the door, and tell of the end.
    fn has_enough_on_duty(&self) -> bool {
        let is_known = self.strangers == 0 && !self.has_ended;
        is_known && self.at_door > 0 && self.on_duty() > self.wanted
    }

    /// Whether one who stands aside is to come.
    fn hears_call(&mut self) -> bool {
        let is_called = self.calls > 0;
        self.calls -= usize::from(is_called);
        is_called || self.has_ended
    }
}

impl Member {
    pub(super) fn progress(&self) -> Progress {
        *self.0.lock()
    }

    fn begin(&self, subject: Subject) {
        let mut progress = self.0.lock();
        progress.requests += 1;
        progress.under_way = Some(subject);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.member.0.lock().under_way = None;
        self.crew.go_on(self.pace);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.crew.end();
    }
}

/// Such a request takes longer than to wake a thread, and two at once are answered in half the time.
const LOOKS_EVERY: Duration = Duration::from_millis(1);

/// A request waits a moment even where one thread answers all: until that is awake, or has heard of a close.
const MORE_AFTER: u32 = 3;

/// Where two have enough to do, one of them waits now and then.
const LESS_AFTER: u32 = 8;

#[cfg(test)]
#[cfg(feature = "shuttle")]
mod schedules;

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        panic::{AssertUnwindSafe, catch_unwind},
        sync::mpsc::{self, Receiver, Sender},
        thread::{self, JoinHandle, ThreadId},
    };

    use super::*;

    const SUBJECT: Subject = Subject { operation: Operation::Read, inode: 7 };

    type Request = (Pace, Box<dyn FnOnce() + Send>);

    /// As the kernel hands out requests.
    #[derive(Default)]
    struct Door {
        requests: Mutex<(VecDeque<Request>, bool)>,
        news: Condvar,
    }

    impl Door {
        fn ask(&self, pace: Pace, request: impl FnOnce() + Send + 'static) {
            self.requests.lock().0.push_back((pace, Box::new(request)));
            self.news.notify_one();
        }

        /// None when it is over.
        fn wait(&self) -> Option<Request> {
            let mut requests = self.requests.lock();
            self.news.wait_while(&mut requests, |(waiting, over)| waiting.is_empty() && !*over);
            requests.0.pop_front()
        }

        fn end(&self) {
            self.requests.lock().1 = true;
            self.news.notify_all();
        }
    }

    /// Threads that answer what is asked at a door, by a crew where no request is ever seen waiting.
    struct Served {
        door: Arc<Door>,
        crew: Arc<Crew>,
        threads: Vec<JoinHandle<()>>,
    }

    impl Served {
        fn by(most: usize, threads: usize) -> Self {
            let (door, crew) = (Arc::<Door>::default(), Crew::of((most, threads), || false));
            let serve = |_| {
                let (door, crew) = (Arc::clone(&door), Arc::clone(&crew));
                thread::spawn(move || {
                    while let Some((pace, request)) = door.wait() {
                        crew.turn(SUBJECT, pace, request);
                    }
                })
            };
            let threads = (0..threads).map(serve).collect();
            Self { door, crew, threads }
        }

        /// Asks and waits for the answer: which thread gave it.
        fn ask(&self) -> ThreadId {
            let (tell, told) = mpsc::channel();
            self.door.ask(Pace::Quick, move || tell.send(thread::current().id()).unwrap());
            told.recv_timeout(PATIENCE).unwrap()
        }

        /// A request that is under way until what is answered is dropped.
        fn ask_for_long(&self, pace: Pace) -> Sender<()> {
            let ((end, ended), (tell, told)) = (mpsc::channel(), mpsc::channel());
            self.door.ask(pace, move || {
                tell.send(()).unwrap();
                wait_for_end(&ended);
            });
            told.recv_timeout(PATIENCE).unwrap();
            end
        }

        fn end(self) {
            self.door.end();
            self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        }
    }

    fn wait_for_end(ended: &Receiver<()>) {
        assert!(ended.recv().is_err());
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn requests_that_come_one_after_the_other_are_answered_by_one_thread() {
        let served = Served::by(3, 4);
        // Who looks out takes the place of one that gets no processor for a moment, as is right and another matter.
        served.crew.state.lock().looks_every = PATIENCE;
        // Until each has answered something.
        (0..1000).for_each(|_| _ = served.ask());
        let one = served.ask();
        assert!((0..100).all(|_| served.ask() == one));
        served.end();
    }

    #[test]
    fn a_request_that_takes_long_keeps_no_other_waiting() {
        let served = Served::by(3, 4);
        (0..1000).for_each(|_| _ = served.ask());
        let long: Vec<_> = (0..3).map(|_| served.ask_for_long(Pace::Quick)).collect();
        served.ask();
        drop(long);
        served.ask();
        served.end();
    }

    #[test]
    fn those_who_stand_aside_hear_of_the_end() {
        for requests in (0..12).chain([1000]) {
            let served = Served::by(3, 4);
            (0..requests).for_each(|_| _ = served.ask());
            served.end();
        }
    }

    #[test]
    fn who_takes_long_has_somebody_come_to_the_door_and_goes_there_afterwards() {
        let crew = Crew::of((1, 2), || false);
        *crew.state.lock() = State { strangers: 0, at_door: 1, aside: 1, ..State::of(1, 2) };
        let member = Member::default();
        let turn = crew.take(&member, SUBJECT, Pace::Long);
        assert_eq!(crew.state.lock().calls, 1);
        *crew.state.lock() = State { at_door: 1, strangers: 0, ..State::of(1, 2) };
        drop(turn);
        assert_eq!(crew.state.lock().at_door, 2);
    }

    #[test]
    fn who_is_held_up_is_not_on_duty() {
        let served = Served::by(2, 8);
        (0..1000).for_each(|_| _ = served.ask());
        let held_up: Vec<_> = (0..5).map(|_| served.ask_for_long(Pace::Quick)).collect();
        served.crew.make_up_for(5);
        let long = served.ask_for_long(Pace::Long);
        served.ask();
        drop((held_up, long));
        served.crew.make_up_for(0);
        served.ask();
        served.end();
    }

    #[test]
    fn a_turn_is_over_also_when_it_breaks_off() {
        let crew = Crew::of((1, 1), || false);
        let work = || crew.turn(SUBJECT, Pace::Quick, || panic!("the work"));
        assert!(catch_unwind(AssertUnwindSafe(work)).is_err());
        assert_eq!(crew.members()[0].progress().under_way, None);
        assert_eq!(crew.state.lock().at_door, 1);
    }

    #[test]
    fn as_many_are_on_duty_as_have_enough_to_do() {
        let (busy, idle) = (Crew::of((3, 4), || true), Crew::of((3, 4), || false));
        let (mut state, mut seen) = (State::of(3, 4), Seen::default());
        let mut wanted_after = |crew: &Crew, looks, at_door| {
            state.at_door = at_door;
            (0..looks).for_each(|_| crew.look(&mut state, &mut seen));
            state.wanted
        };
        assert_eq!(wanted_after(&busy, MORE_AFTER - 1, 0), 1);
        assert_eq!(wanted_after(&idle, 1, 1), 1);
        assert_eq!(wanted_after(&busy, MORE_AFTER, 0), 2);
        assert_eq!(wanted_after(&busy, 10 * MORE_AFTER, 0), 3, "no more are wanted");
        assert_eq!(wanted_after(&idle, 10 * LESS_AFTER, 0), 3, "nobody waits for requests");
        assert_eq!(wanted_after(&idle, LESS_AFTER, 1), 2);
        assert_eq!(wanted_after(&idle, 10 * LESS_AFTER, 1), 1);
    }
}
