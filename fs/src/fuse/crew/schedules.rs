use std::collections::VecDeque;

use super::*;
use crate::sync::{in_each_schedule, join_all, thread};

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

    fn is_waited_for(&self) -> bool {
        !self.requests.lock().0.is_empty()
    }

    fn end(&self) {
        self.requests.lock().1 = true;
        self.news.notify_all();
    }
}

/// So many requests are under way until all of them are.
#[derive(Default)]
struct Meeting {
    there: Mutex<usize>,
    more: Condvar,
}

impl Meeting {
    fn of(&self, expected: usize) {
        let mut there = self.there.lock();
        *there += 1;
        self.more.notify_all();
        self.more.wait_while(&mut there, |there| *there < expected);
    }
}

struct Served {
    door: Arc<Door>,
    crew: Arc<Crew>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Served {
    fn by(most: usize, threads: usize) -> Self {
        let door = Arc::<Door>::default();
        let seen = Arc::clone(&door);
        let crew = Crew::of((most, threads), move || seen.is_waited_for());
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

    /// Asks for so many that go on when all of them are under way, and waits for that.
    fn meet(&self, requests: usize, pace: Pace) {
        let meeting = Arc::<Meeting>::default();
        for _ in 0..requests {
            let meeting = Arc::clone(&meeting);
            self.door.ask(pace, move || meeting.of(requests + 1));
        }
        meeting.of(requests + 1);
    }

    fn end(self) {
        self.door.end();
        join_all(self.threads);
        let state = self.crew.state.lock();
        assert_eq!((state.aside, state.has_ended), (0, true), "{state:?}");
    }
}

#[test]
fn as_many_requests_as_there_are_threads_are_under_way_at_once() {
    in_each_schedule(|| {
        let served = Served::by(2, 4);
        for round in 0..3 {
            // Now one alone has enough to do, now all are needed.
            (0..round).for_each(|_| served.meet(1, Pace::Quick));
            served.meet(4, Pace::Quick);
        }
        served.end();
    });
}

#[test]
fn whoever_takes_long_has_others_come_to_the_door() {
    in_each_schedule(|| {
        let served = Served::by(1, 3);
        for pace in [Pace::Quick, Pace::Long, Pace::Quick, Pace::Series] {
            served.meet(3, Pace::Quick);
            served.meet(1, pace);
            served.meet(2, pace);
        }
        served.end();
    });
}

#[test]
fn others_take_the_place_of_those_who_are_held_up() {
    in_each_schedule(|| {
        let served = Served::by(1, 3);
        served.meet(3, Pace::Quick);
        let watchdog = thread::spawn({
            let crew = Arc::clone(&served.crew);
            move || (0..3).for_each(|held_up| crew.make_up_for(held_up))
        });
        served.meet(3, Pace::Quick);
        served.meet(1, Pace::Quick);
        watchdog.join().unwrap();
        served.crew.make_up_for(0);
        served.meet(3, Pace::Quick);
        served.end();
    });
}

#[test]
fn all_hear_of_the_end_whatever_they_do() {
    in_each_schedule(|| {
        // Some have stood aside by then, and some have not answered anything.
        let served = Served::by(2, 4);
        (0..3).for_each(|_| served.door.ask(Pace::Quick, || {}));
        served.end();
    });
}
