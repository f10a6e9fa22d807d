//! Digests of what the gate was asked for: one hashing per identity, whoever waits for it.

use std::{
    collections::HashMap, fmt, mem, num::NonZero, ops::ControlFlow, sync::Arc,
    thread::available_parallelism, time::Duration,
};

use attestfs_digest::{Digests, Outboard, ReadError, blake3_of, digests_parallel};

use super::{recent::Recent, waiters::Connection};
use crate::{
    error::Error,
    identity::Identity,
    meter::{HashedFor, meter},
    port::Clock,
    run::{Opened, StoredContent, Tracked},
    sync::{Mutex, thread},
};

/// What is to be hashed, and for whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order<'a> {
    pub(super) tracked: &'a Tracked,
    pub(super) opened: &'a Opened,
    pub(super) identity: Identity,
    /// What was published of exactly this identity: perhaps no more than its BLAKE3 has to be computed.
    pub(super) published: Option<Digests>,
    pub(super) with_outboard: bool,
    pub(super) clock: &'a dyn Clock,
    pub(super) waiting: Waiting<'a>,
}

/// Who waits for a hashing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting<'a> {
    pub(crate) connection: &'a Connection,
    /// Of the one that was waited for already.
    pub(crate) news: Option<&'a News>,
}

/// What comes of an order.
#[derive(Debug)]
pub(super) enum Hash {
    Made(Result<Hashed, NotHashed>),
    /// Somebody else is at it.
    Elsewhere(Elsewhere),
}

/// What a content was found to be when it was read from one end to the other.
#[derive(Clone, Debug)]
pub(super) struct Hashed {
    pub(super) digests: Digests,
    /// Where it was asked for.
    pub(super) outboard: Option<Arc<Outboard>>,
}

/// Why a content was not hashed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotHashed {
    /// It is another content by now.
    #[error("it changed while it was being hashed")]
    Changed,
    /// Somebody writes to it past us.
    #[error("somebody has it open for writing")]
    Open,
    /// Nobody waits for it any more.
    #[error("the filesystem was unmounted")]
    Ended,
    /// Somebody else's hashing stands still.
    #[error("its hashing has made no progress for {} seconds", STANDSTILL.as_secs())]
    Standstill,
    /// The backing store failed.
    #[error("it could not be read: {0}")]
    Unreadable(String),
}

/// A hashing by somebody else. No thread waits for it: what is to be done then is left there.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    under_way: Arc<UnderWay>,
    all: Arc<Mutex<AllUnderWay>>,
    connection: Connection,
}

/// How a hashing that was waited for came out.
#[derive(Clone, Debug)]
pub(crate) struct News {
    identity: Identity,
    outcome: Result<Hashed, NotHashed>,
}

#[derive(Debug)]
pub(super) struct Hashing {
    known: Mutex<Known>,
    under_way: Arc<Mutex<AllUnderWay>>,
    /// Threads that this machine runs at once.
    cores: usize,
}

#[derive(Debug)]
struct Known {
    digests: Recent<Identity, Digests>,
    outboards: Recent<Identity, Arc<Outboard>>,
}

#[derive(Debug, Default)]
struct AllUnderWay {
    hashings: HashMap<Identity, Arc<UnderWay>>,
    /// Whether a thread looks after those who wait.
    is_watched: bool,
}

/// One hashing, and those who wait for it.
#[derive(Debug)]
struct UnderWay {
    identity: Identity,
    state: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    bytes: u64,
    outcome: Option<Result<Hashed, NotHashed>>,
    parked: Vec<Parked>,
}

/// Somebody who waits.
struct Parked {
    go_on: Box<dyn FnOnce(News) + Send>,
    connection: Connection,
    /// The progress that was seen, and how often it was the same since.
    seen: u64,
    looks: u32,
}

impl Default for Hashing {
    fn default() -> Self {
        let cores = available_parallelism().map_or(1, NonZero::get);
        Self { known: Mutex::default(), under_way: Arc::default(), cores }
    }
}

impl Default for Known {
    fn default() -> Self {
        Self { digests: Recent::new(DIGESTS_MAX), outboards: Recent::new(OUTBOARD_BYTES_MAX) }
    }
}

impl Hashing {
    /// The digests of exactly this content, if it was hashed here before; with its outboard, if that
    /// is wanted.
    pub(super) fn known(&self, identity: &Identity, with_outboard: bool) -> Option<Hashed> {
        let mut known = self.known.lock();
        let digests = known.digests.get(identity)?;
        if !with_outboard {
            return Some(Hashed { digests, outboard: None });
        }
        let outboard = known.outboards.get(identity)?;
        Some(Hashed { digests, outboard: Some(outboard) })
    }

    /// Hashes the content, unless somebody does already. The identity is looked at before and after,
    /// through the descriptor that will be read.
    pub(super) fn hash(&self, order: &Order<'_>) -> Hash {
        if let Some(hashed) = self.known(&order.identity, order.with_outboard) {
            return Hash::Made(Ok(hashed));
        }
        if let Some(news) = order.waiting.news.filter(|news| news.serve(order)) {
            return Hash::Made(news.outcome.clone());
        }
        let (under_way, threads) = {
            let mut all = self.under_way.lock();
            if let Some(under_way) = all.hashings.get(&order.identity).map(Arc::clone) {
                let all = Arc::clone(&self.under_way);
                let connection = order.waiting.connection.clone();
                return Hash::Elsewhere(Elsewhere { under_way, all, connection });
            }
            let state = Mutex::default();
            let under_way = Arc::new(UnderWay { identity: order.identity, state });
            all.hashings.insert(order.identity, Arc::clone(&under_way));
            (under_way, share(self.cores, all.hashings.len()))
        };
        Hash::Made(Turn { hashing: self, under_way, threads }.take(order))
    }

    /// The content is not what it was found to be.
    pub(super) fn forget(&self, identity: &Identity) {
        let mut known = self.known.lock();
        known.digests.remove(identity);
        known.outboards.remove(identity);
    }
}

/// Ends when it is dropped, so that nobody waits for one that broke off.
struct Turn<'a> {
    hashing: &'a Hashing,
    under_way: Arc<UnderWay>,
    threads: usize,
}

impl Turn<'_> {
    fn take(self, order: &Order<'_>) -> Result<Hashed, NotHashed> {
        let outcome = self.hash(order);
        if let Ok(hashed) = &outcome {
            let mut known = self.hashing.known.lock();
            known.digests.insert(order.identity, hashed.digests, 1);
            if let Some(outboard) = &hashed.outboard {
                let weight = outboard.memory();
                known.outboards.insert(order.identity, Arc::clone(outboard), weight);
            }
        }
        self.under_way.state.lock().outcome = Some(outcome.clone());
        outcome
    }

    fn hash(&self, order: &Order<'_>) -> Result<Hashed, NotHashed> {
        // What changes from now on has another time of change.
        thread::sleep(order.identity.settles_in(order.clock.now()));
        // The time of a write past us is there before its bytes are.
        let calm = order.tracked.calm_after_others(order.opened).ok_or(NotHashed::Open)?;
        order.check_identity()?;
        let hashed = match self.hash_as_published(order)? {
            Some(hashed) => hashed,
            None => self.hash_all(order)?,
        };
        order.check_identity()?;
        if order.tracked.calm(order.opened) == Some(calm) {
            Ok(hashed)
        } else {
            Err(NotHashed::Changed)
        }
    }

    /// BLAKE3 alone, where it shows that the content is still the one whose digests were published: it is
    /// computed on all threads, and SHA-256 only on one. None where another content is found, or nothing is known.
    fn hash_as_published(&self, order: &Order<'_>) -> Result<Option<Hashed>, ReadError> {
        let Some(published) = order.published else { return Ok(None) };
        let (content, size) = (StoredContent(order.opened), order.identity.size);
        let (blake3, outboard) = blake3_of(&content, size, self.threads, &mut self.watch(order))?;
        Ok((blake3 == published.blake3).then(|| Hashed::new(published, outboard, order)))
    }

    fn hash_all(&self, order: &Order<'_>) -> Result<Hashed, ReadError> {
        let (content, size) = (StoredContent(order.opened), order.identity.size);
        let (digests, outboard) =
            digests_parallel(&content, size, self.threads, &mut self.watch(order))?;
        Ok(Hashed::new(digests, outboard, order))
    }

    /// Counts what is read, once from one end to the other, and looks whether anybody waits for it.
    fn watch(&self, order: &Order<'_>) -> impl FnMut(u64) -> ControlFlow<()> {
        let (connection, mut before) = (order.waiting.connection, 0);
        move |bytes| {
            let more = bytes - mem::replace(&mut before, bytes);
            self.under_way.state.lock().bytes += more;
            meter().hashed(HashedFor::GATE, more);
            if connection.has_ended() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
}

impl Hashed {
    fn new(digests: Digests, outboard: Outboard, order: &Order<'_>) -> Self {
        Self { digests, outboard: order.with_outboard.then(|| Arc::new(outboard)) }
    }
}

/// How many threads a hashing gets that is one of so many. Whoever came before keeps what he has.
fn share(cores: usize, hashings: usize) -> usize {
    (cores / hashings).max(1)
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let UnderWay { identity, state } = &*self.under_way;
        self.hashing.under_way.lock().hashings.remove(identity);
        let mut progress = state.lock();
        let outcome = progress.outcome.get_or_insert(Err(NotHashed::Ended)).clone();
        let parked = mem::take(&mut progress.parked);
        drop(progress);
        for Parked { go_on, .. } in parked {
            go_on(News { identity: *identity, outcome: outcome.clone() });
        }
    }
}

impl Order<'_> {
    fn check_identity(&self) -> Result<(), NotHashed> {
        let same = self.opened.stat()?.identity == self.identity;
        if same { Ok(()) } else { Err(NotHashed::Changed) }
    }
}

impl News {
    /// Whether it is what was ordered. Not if they had another use for it, nor if nobody waited for
    /// them any more. But we do.
    fn serve(&self, order: &Order<'_>) -> bool {
        self.identity == order.identity
            && match &self.outcome {
                Ok(hashed) => !order.with_outboard || hashed.outboard.is_some(),
                Err(NotHashed::Ended) => order.waiting.connection.has_ended(),
                Err(_) => true,
            }
    }
}

impl Elsewhere {
    /// Has `go_on` called when it is over, or at once if it is; by whoever hashes. What takes its time
    /// is not to be done there.
    pub(crate) fn then(self, go_on: impl FnOnce(News) + Send + 'static) {
        let Self { under_way, all, connection } = self;
        let mut progress = under_way.state.lock();
        if let Some(outcome) = progress.outcome.clone() {
            drop(progress);
            return go_on(News { identity: under_way.identity, outcome });
        }
        let (go_on, seen) = (Box::new(go_on), progress.bytes);
        progress.parked.push(Parked { go_on, connection, seen, looks: 0 });
        drop(progress);
        // Whoever stops watching looks under the same lock whether anybody waits.
        if !mem::replace(&mut all.lock().is_watched, true) {
            thread::spawn(move || watch(&all));
        }
    }
}

/// Lets those go who wait in vain, as long as anybody waits.
fn watch(all: &Mutex<AllUnderWay>) {
    loop {
        thread::sleep(LOOK);
        let hashings: Vec<_> = all.lock().hashings.values().map(Arc::clone).collect();
        for under_way in hashings {
            under_way.look();
        }
        let mut all = all.lock();
        all.is_watched = all.hashings.values().any(|it| !it.state.lock().parked.is_empty());
        if !all.is_watched {
            return;
        }
    }
}

impl UnderWay {
    fn look(&self) {
        let mut progress = self.state.lock();
        let Progress { bytes, parked, .. } = &mut *progress;
        let in_vain: Vec<_> = parked.extract_if(.., |parked| parked.is_in_vain(*bytes)).collect();
        drop(progress);
        for Parked { go_on, connection, .. } in in_vain {
            let ended = connection.has_ended();
            let reason = if ended { NotHashed::Ended } else { NotHashed::Standstill };
            go_on(News { identity: self.identity, outcome: Err(reason) });
        }
    }
}

impl Parked {
    fn is_in_vain(&mut self, bytes: u64) -> bool {
        if mem::replace(&mut self.seen, bytes) == bytes {
            self.looks += 1;
        } else {
            self.looks = 0;
        }
        self.connection.has_ended() || LOOK * self.looks >= STANDSTILL
    }
}

impl fmt::Debug for Parked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parked").field("looks", &self.looks).finish_non_exhaustive()
    }
}

impl From<ReadError> for NotHashed {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Shrank { .. } => Self::Changed,
            ReadError::Stopped | ReadError::Lent => Self::Ended,
            ReadError::Failed { source, .. } => Self::Unreadable(source.to_string()),
        }
    }
}

impl From<Error> for NotHashed {
    fn from(error: Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// Whoever waits for a hashing gives up when it has not moved for so long.
const STANDSTILL: Duration = Duration::from_secs(30);

/// How often it is looked whether those who wait do so in vain.
const LOOK: Duration = Duration::from_millis(200);

/// Digests that are remembered: some 8 MiB.
const DIGESTS_MAX: u64 = 64 * 1024;

/// Outboards that are remembered: of 1 TiB of content. Those of open files stay in any case.
const OUTBOARD_BYTES_MAX: u64 = 512 << 20;

#[cfg(test)]
#[cfg(feature = "shuttle")]
mod schedules;

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        os::fd::OwnedFd,
        path::Path,
        sync::mpsc,
        time::Instant,
    };

    use attestfs_digest::{Blake3, Sha256};
    use jiff::Timestamp;

    use super::*;
    use crate::{backing::Directory, left_behind::tests::mark_as_another};

    /// A clock that stands still.
    #[derive(Debug)]
    pub(super) struct At(Timestamp);

    impl Clock for At {
        fn now(&self) -> Timestamp {
            self.0
        }
    }

    pub(super) const LONG_AGO: At = At(Timestamp::UNIX_EPOCH);

    pub(super) type Found = (Opened, Identity, Tracked);

    /// A file of so many zeros, opened.
    pub(super) fn zeros(directory: &Path, length: u64) -> Found {
        let file = File::create_new(directory.join("file")).unwrap();
        file.set_len(length).unwrap();
        let root = OwnedFd::from(File::open(directory).unwrap());
        let file = File::open(directory.join("file")).unwrap();
        let opened = Opened { backing: Arc::new(Directory::new(root)), file: Arc::new(file) };
        let identity = opened.stat().unwrap().identity;
        (opened, identity, Tracked::new(identity.file))
    }

    pub(super) fn order<'a>(
        (opened, identity, tracked): &'a Found,
        with_outboard: bool,
        waiting: Waiting<'a>,
    ) -> Order<'a> {
        let (identity, published, clock) = (*identity, None, &LONG_AGO);
        Order { tracked, opened, identity, published, with_outboard, clock, waiting }
    }

    /// Hashes it, or waits as often as somebody else does.
    fn hash(
        hashing: &Hashing,
        file: &Found,
        with_outboard: bool,
        connection: &Connection,
    ) -> Result<Hashed, NotHashed> {
        let mut news = None;
        loop {
            let waiting = Waiting { connection, news: news.as_ref() };
            match hashing.hash(&order(file, with_outboard, waiting)) {
                Hash::Made(outcome) => return outcome,
                Hash::Elsewhere(elsewhere) => {
                    let (tell, told) = mpsc::channel();
                    elsewhere.then(move |news| tell.send(news).unwrap());
                    news = Some(told.recv().unwrap());
                }
            }
        }
    }

    #[test]
    fn a_content_is_hashed_once_however_many_wait_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = zeros(directory.path(), 64 << 20);
        let (hashing, connection) = (Hashing::default(), Connection::default());
        let hash = || hash(&hashing, &file, true, &connection).unwrap().outboard.unwrap();
        let outboards: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(hash)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        // Who hashes for himself has an outboard of his own.
        assert!(outboards.iter().all(|outboard| Arc::ptr_eq(outboard, &outboards[0])));
        let known = hashing.known(&file.1, true).unwrap().outboard.unwrap();
        assert!(Arc::ptr_eq(&known, &outboards[0]));
        assert!(hashing.under_way.lock().hashings.is_empty());
    }

    #[test]
    fn what_is_too_large_to_be_remembered_is_hashed_once_for_all_who_wait() {
        let directory = tempfile::tempdir().unwrap();
        let file = zeros(directory.path(), 64 << 20);
        let (hashing, connection) = (Hashing::default(), Connection::default());
        hashing.known.lock().outboards = Recent::new(0);
        let hash = || hash(&hashing, &file, true, &connection).unwrap().outboard.unwrap();
        thread::scope(|scope| {
            let first = scope.spawn(hash);
            while hashing.under_way.lock().hashings.is_empty() {
                thread::yield_now();
            }
            let second = scope.spawn(hash);
            assert!(Arc::ptr_eq(&first.join().unwrap(), &second.join().unwrap()));
        });
        assert!(hashing.known(&file.1, true).is_none());
    }

    #[test]
    fn what_is_known_without_outboard_is_hashed_again_for_whoever_wants_one() {
        let directory = tempfile::tempdir().unwrap();
        let file = zeros(directory.path(), 100_000);
        let (hashing, connection) = (Hashing::default(), Connection::default());
        let plain = hash(&hashing, &file, false, &connection).unwrap();
        assert!(plain.outboard.is_none() && hashing.known(&file.1, true).is_none());
        let with = hash(&hashing, &file, true, &connection).unwrap();
        assert_eq!(with.digests, plain.digests);
        assert_eq!(with.outboard.unwrap().length(), 100_000);
    }

    #[test]
    fn of_published_content_only_the_blake3_is_computed() {
        let directory = tempfile::tempdir().unwrap();
        let file = zeros(directory.path(), 1_000_000);
        let connection = Connection::default();
        let waiting = Waiting { connection: &connection, news: None };
        // Nobody would find this SHA-256.
        let blake3 = Blake3::of(&vec![0; 1_000_000]);
        let published = Digests { sha256: Sha256([7; 32]), blake3 };
        for with_outboard in [false, true] {
            let order =
                Order { published: Some(published), ..order(&file, with_outboard, waiting) };
            let Hash::Made(hashed) = Hashing::default().hash(&order) else { panic!("nobody else") };
            let hashed = hashed.unwrap();
            assert_eq!(hashed.digests, published);
            assert_eq!(hashed.outboard.is_some(), with_outboard);
        }
    }

    #[test]
    fn what_is_not_what_was_published_is_hashed_as_if_nothing_had_been() {
        let directory = tempfile::tempdir().unwrap();
        let file = zeros(directory.path(), 1_000_000);
        let connection = Connection::default();
        let waiting = Waiting { connection: &connection, news: None };
        let zeros = vec![0; 1_000_000];
        let found = Digests { sha256: Sha256::of(&zeros), blake3: Blake3::of(&zeros) };
        let published = Some(Digests { blake3: Blake3([7; 32]), ..found });
        let order = Order { published, ..order(&file, true, waiting) };
        let Hash::Made(hashed) = Hashing::default().hash(&order) else { panic!("nobody else") };
        assert_eq!(hashed.unwrap().digests, found);
    }

    #[test]
    fn those_who_hash_at_once_share_the_cores_and_none_goes_without() {
        assert_eq!([1, 2, 3, 8, 9].map(|hashings| share(8, hashings)), [8, 4, 2, 1, 1]);
        assert_eq!([1, 2].map(|hashings| share(1, hashings)), [1, 1]);
    }

    #[test]
    fn what_was_found_to_be_wrong_is_hashed_again() {
        let directory = tempfile::tempdir().unwrap();
        let file = zeros(directory.path(), 100_000);
        let (hashing, connection) = (Hashing::default(), Connection::default());
        hash(&hashing, &file, true, &connection).unwrap();
        hashing.forget(&file.1);
        assert!(hashing.known(&file.1, false).is_none());
        assert!(hashing.known(&file.1, true).is_none());
    }

    #[test]
    fn a_content_of_another_identity_is_not_hashed_and_not_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let file = zeros(directory.path(), 10);
        let (hashing, connection) = (Hashing::default(), Connection::default());
        fs::write(directory.path().join("file"), b"changed").unwrap();
        let hashed = hash(&hashing, &file, false, &connection);
        assert_eq!(hashed.unwrap_err(), NotHashed::Changed);
        assert!(hashing.known(&file.1, false).is_none());
    }

    #[test]
    fn a_content_that_changes_while_it_is_hashed_is_not_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let file = zeros(directory.path(), 256 << 20);
        let (hashing, connection) = (Hashing::default(), Connection::default());
        let hashed = thread::scope(|scope| {
            let hash = scope.spawn(|| hash(&hashing, &file, false, &connection));
            thread::sleep(Duration::from_millis(20));
            let other = File::options().append(true).open(directory.path().join("file")).unwrap();
            other.set_len((256 << 20) + 1).unwrap();
            hash.join().unwrap()
        });
        assert_eq!(hashed.unwrap_err(), NotHashed::Changed);
        assert!(hashing.known(&file.1, false).is_none());
    }

    #[test]
    fn what_somebody_may_write_past_us_is_not_hashed() {
        let directory = tempfile::tempdir().unwrap();
        let file = zeros(directory.path(), 7);
        let (hashing, connection) = (Hashing::default(), Connection::default());
        let past = file.2.write_past();
        let hashed = hash(&hashing, &file, false, &connection);
        assert_eq!(hashed.unwrap_err(), NotHashed::Open);
        drop(past);
        assert!(hash(&hashing, &file, false, &connection).is_ok());
    }

    #[test]
    fn what_somebody_may_write_past_a_server_that_has_ended_is_not_hashed() {
        let directory = tempfile::tempdir().unwrap();
        let file = zeros(directory.path(), 7);
        let (hashing, connection) = (Hashing::default(), Connection::default());
        let left = File::options().write(true).open(directory.path().join("file")).unwrap();
        mark_as_another(&left);
        let hashed = hash(&hashing, &file, false, &connection);
        assert_eq!(hashed.unwrap_err(), NotHashed::Open);
        drop(left);
        assert!(hash(&hashing, &file, false, &connection).is_ok());
    }

    #[test]
    fn what_somebody_wrote_past_us_while_it_was_hashed_is_not_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let file = zeros(directory.path(), 256 << 20);
        let (hashing, connection) = (Hashing::default(), Connection::default());
        let hashed = thread::scope(|scope| {
            let hash = scope.spawn(|| hash(&hashing, &file, false, &connection));
            while hashing.under_way.lock().hashings.is_empty() {
                thread::yield_now();
            }
            thread::sleep(Duration::from_millis(20));
            drop(file.2.write_past());
            hash.join().unwrap()
        });
        assert_eq!(hashed.unwrap_err(), NotHashed::Changed);
        assert!(hashing.known(&file.1, false).is_none());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "it looks at how long hashing takes")]
    fn a_content_is_not_hashed_before_its_time_of_change_has_passed() {
        let directory = tempfile::tempdir().unwrap();
        let file = zeros(directory.path(), 7);
        let connection = Connection::default();
        let waiting = Waiting { connection: &connection, news: None };
        let changed = Timestamp::from_nanosecond(file.1.ctime_ns.into()).unwrap();
        let clock = &At(changed + Duration::from_millis(1));
        let order = Order { clock, ..order(&file, false, waiting) };
        let began = Instant::now();
        assert!(matches!(Hashing::default().hash(&order), Hash::Made(Ok(_))));
        assert!(began.elapsed() >= Duration::from_millis(19), "{:?}", began.elapsed());
    }

    #[test]
    fn the_end_of_the_connection_ends_hashing_and_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let file = zeros(directory.path(), 15 << 30);
        let (hashing, theirs) = (Hashing::default(), Connection::default());
        let ours = Connection::default();
        thread::scope(|scope| {
            let other = scope.spawn(|| hash(&hashing, &file, false, &theirs));
            thread::sleep(Duration::from_millis(50));
            let waiting = scope.spawn(|| hash(&hashing, &file, false, &ours));
            thread::sleep(Duration::from_millis(50));
            ours.end();
            assert_eq!(waiting.join().unwrap().unwrap_err(), NotHashed::Ended);
            assert!(!other.is_finished(), "they are still at it");
            theirs.end();
            assert_eq!(other.join().unwrap().unwrap_err(), NotHashed::Ended);
        });
    }

    #[test]
    fn whoever_waits_for_one_that_stands_still_is_told_so() {
        let directory = tempfile::tempdir().unwrap();
        let file = zeros(directory.path(), 1);
        let identity = file.1;
        let (hashing, connection) = (Hashing::default(), Connection::default());
        let state = Mutex::default();
        let under_way = Arc::new(UnderWay { identity, state });
        hashing.under_way.lock().hashings.insert(identity, Arc::clone(&under_way));
        // By nobody but the test.
        hashing.under_way.lock().is_watched = true;
        let waiting = Waiting { connection: &connection, news: None };
        let order = order(&file, false, waiting);
        let Hash::Elsewhere(elsewhere) = hashing.hash(&order) else { panic!("it is under way") };
        let (tell, told) = mpsc::channel();
        elsewhere.then(move |news| tell.send(news).unwrap());
        let looks = STANDSTILL.as_millis() / LOOK.as_millis();
        for look in 0..looks - 1 {
            under_way.look();
            assert!(told.try_recv().is_err(), "{look}");
        }
        under_way.state.lock().bytes += 1;
        for _ in 0..looks {
            under_way.look();
            assert!(told.try_recv().is_err(), "it went on meanwhile");
        }
        under_way.look();
        assert_eq!(told.recv().unwrap().outcome.unwrap_err(), NotHashed::Standstill);
    }

    #[test]
    fn whoever_waits_for_one_whose_connection_ended_hashes_himself() {
        let directory = tempfile::tempdir().unwrap();
        let file = zeros(directory.path(), 256 << 20);
        let (hashing, theirs) = (Hashing::default(), Connection::default());
        let ours = Connection::default();
        let hash = |connection| hash(&hashing, &file, false, connection);
        thread::scope(|scope| {
            let other = scope.spawn(|| hash(&theirs));
            thread::sleep(Duration::from_millis(20));
            let waiting = scope.spawn(|| hash(&ours));
            thread::sleep(Duration::from_millis(20));
            theirs.end();
            assert_eq!(other.join().unwrap().unwrap_err(), NotHashed::Ended);
            assert!(waiting.join().unwrap().is_ok());
        });
    }
}
