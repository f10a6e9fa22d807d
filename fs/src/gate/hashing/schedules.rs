use tempfile::TempDir;

use super::{
    tests::{Found, order, zeros},
    *,
};
use crate::sync::{Condvar, in_each_schedule, join_all};

/// A file, and who wants it hashed.
struct Desk {
    _directory: TempDir,
    file: Found,
    hashing: Hashing,
}

/// Where somebody who waits is told how it came out.
#[derive(Default)]
struct Ear {
    news: Mutex<Option<News>>,
    told: Condvar,
}

impl Ear {
    fn tell(&self, news: News) {
        assert!(self.news.lock().replace(news).is_none(), "each is told once");
        self.told.notify_all();
    }

    fn hear(&self) -> News {
        let mut news = self.news.lock();
        self.told.wait_while(&mut news, |news| news.is_none());
        news.take().expect("it was waited for")
    }
}

impl Desk {
    fn new() -> Arc<Self> {
        let directory = tempfile::tempdir().unwrap();
        let hashing = Hashing { cores: 1, ..Hashing::default() };
        let file = zeros(directory.path(), 7);
        Arc::new(Self { _directory: directory, file, hashing })
    }

    /// Hashes it, or waits as often as somebody else does.
    fn hash(&self, connection: &Connection) -> Result<Hashed, NotHashed> {
        let mut news = None;
        loop {
            let waiting = Waiting { connection, news: news.as_ref() };
            match self.hashing.hash(&order(&self.file, false, waiting)) {
                Hash::Made(outcome) => return outcome,
                Hash::Elsewhere(elsewhere) => {
                    let ear = Arc::<Ear>::default();
                    let told = Arc::clone(&ear);
                    elsewhere.then(move |news| told.tell(news));
                    news = Some(ear.hear());
                }
            }
        }
    }

    fn begin(
        self: &Arc<Self>,
        connection: &Connection,
    ) -> thread::JoinHandle<Result<Hashed, NotHashed>> {
        let (desk, connection) = (Arc::clone(self), connection.clone());
        thread::spawn(move || desk.hash(&connection))
    }

    fn is_idle(&self) -> bool {
        self.hashing.under_way.lock().hashings.is_empty()
    }
}

/// Time does not pass here: whoever watches may think after many looks that nothing went on for long.
fn is_made(outcome: &Result<Hashed, NotHashed>) -> bool {
    matches!(outcome, Ok(_) | Err(NotHashed::Standstill))
}

#[test]
fn all_who_wait_for_a_hashing_are_told_how_it_came_out() {
    in_each_schedule(|| {
        let (desk, connection) = (Desk::new(), Connection::default());
        let threads = [(); 3].map(|()| desk.begin(&connection));
        let outcomes = join_all(threads);
        assert!(outcomes.iter().all(is_made), "{outcomes:?}");
        assert!(desk.is_idle());
    });
}

#[test]
fn whoever_waits_for_one_that_breaks_off_goes_on_himself() {
    in_each_schedule(|| {
        let (desk, theirs, ours) = (Desk::new(), Connection::default(), Connection::default());
        let (other, own) = (desk.begin(&theirs), desk.begin(&ours));
        theirs.end();
        let (other, own) = (other.join().unwrap(), own.join().unwrap());
        assert!(is_made(&other) || matches!(other, Err(NotHashed::Ended)), "{other:?}");
        assert!(is_made(&own), "{own:?}");
        assert!(desk.is_idle());
    });
}
