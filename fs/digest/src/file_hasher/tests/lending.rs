//! Somebody reads the store behind the writer, and knows nothing of what is changed meanwhile.

use std::{
    collections::VecDeque,
    fs::File,
    os::unix::fs::FileExt,
    panic,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::*;
use crate::feed_all;

#[test]
fn what_was_fed_behind_the_writer_is_not_read_again() {
    let bytes = pattern(3 * GROUP + 7);
    let mut hasher = FileHasher::trailing(0);
    hasher.write(0, &bytes[..2 * GROUP]);
    let mut chain = hasher.lend(1).unwrap();
    hasher.write(2 * GROUP as u64, &bytes[2 * GROUP..]);
    assert_eq!(chain.wanted(), 0..2 * GROUP as u64);
    chain.feed(&bytes[..2 * GROUP]);
    assert!(hasher.give_back(chain));

    let mut chain = hasher.lend(1).unwrap();
    assert_eq!(chain.wanted(), 2 * GROUP as u64..bytes.len() as u64);
    chain.feed(&bytes[2 * GROUP..]);
    assert!(hasher.give_back(chain));
    assert_eq!(hasher.bytes_to_read(), 0);
    assert_eq!(finished(&mut hasher, &bytes), []);
}

#[test]
fn only_the_eager_part_is_hashed_at_once() {
    let bytes = pattern(1000);
    let mut hasher = FileHasher::trailing(300);
    write_in_pieces(&mut hasher, 0, &bytes, 70);
    assert_eq!(hasher.lend(0).unwrap().wanted(), 300..1000);

    let mut hasher = FileHasher::unread_trailing(1000, 300);
    write_in_pieces(&mut hasher, 0, &bytes, 1000);
    assert_eq!(hasher.lend(0).unwrap().wanted(), 300..1000);
}

#[test]
fn what_nobody_borrowed_is_read_by_finish() {
    let bytes = pattern(2 * GROUP);
    let mut hasher = FileHasher::trailing(10);
    write_in_pieces(&mut hasher, 0, &bytes, 5000);
    assert_eq!(hasher.bytes_to_read(), bytes.len() as u64);
    assert_read_once(&finished(&mut hasher, &bytes), 0..bytes.len());
    assert_eq!(finished(&mut hasher, &bytes), []);
}

#[test]
fn one_chain_is_lent_at_a_time() {
    let mut hasher = FileHasher::trailing(0);
    hasher.write(0, b"content");
    let chain = hasher.lend(0).unwrap();
    assert!(hasher.is_lent() && hasher.lend(0).is_none());
    assert!(hasher.give_back(chain));
    assert!(!hasher.is_lent() && hasher.lend(0).is_some());
}

#[test]
fn a_chain_is_lent_from_the_least_length_on() {
    let mut hasher = FileHasher::trailing(2);
    hasher.write(0, b"1234567");
    assert!(hasher.lend(6).is_none() && !hasher.is_lent());
    assert_eq!(hasher.lend(5).unwrap().wanted(), 2..7);
}

#[test]
fn no_digest_is_given_while_the_chain_is_lent() {
    let mut hasher = FileHasher::trailing(0);
    hasher.write(0, b"content");
    let chain = hasher.lend(0).unwrap();
    assert!(matches!(hasher.finish(&b"content"[..]), Err(ReadError::Lent)));
    assert!(hasher.give_back(chain));
    assert_read_once(&finished(&mut hasher, b"content"), 0..7);
}

#[test]
fn no_digest_of_an_empty_file_is_given_while_the_chain_is_lent() {
    let mut hasher = FileHasher::new();
    let chain = hasher.lend(0).unwrap();
    assert!(matches!(hasher.finish(&b""[..]), Err(ReadError::Lent)));
    drop(chain);
    assert_eq!(finished(&mut hasher, b""), []);
}

#[test]
fn a_chain_that_was_dropped_begins_anew() {
    let bytes = pattern(GROUP);
    let mut hasher = FileHasher::new();
    hasher.write(0, &bytes);
    drop(hasher.lend(0).unwrap());
    assert!(!hasher.is_lent());
    assert_eq!(hasher.lend(0).unwrap().wanted(), 0..GROUP as u64);
    assert_read_once(&finished(&mut hasher, &bytes), 0..GROUP);
}

#[test]
fn a_chain_that_was_lost_in_a_panic_begins_anew() {
    let mut hasher = FileHasher::new();
    hasher.write(1, b"content");
    let chain = hasher.lend(0).unwrap();
    let answer = panic::catch_unwind(move || {
        assert!(chain.wanted().is_empty(), "the borrower fails");
    });
    assert!(answer.is_err() && !hasher.is_lent());
    finished(&mut hasher, b"\0content");
}

#[test]
fn a_change_below_the_cursor_drops_the_chain_and_one_above_does_not() {
    let write = |hasher: &mut FileHasher, at| hasher.write(at, b"!");
    let touch = |hasher: &mut FileHasher, at| hasher.touch(at..at + 1);
    for change in [write, touch, FileHasher::set_length] {
        for (at, kept) in [(0, false), (499, false), (500, true), (501, true), (700, true)] {
            let mut hasher = FileHasher::trailing(0);
            hasher.write(0, &[7; 600]);
            let mut chain = hasher.lend(0).unwrap();
            chain.feed(&[7; 500]);
            change(&mut hasher, at);
            assert_eq!(hasher.give_back(chain), kept, "at {at}");
            let cursor = if kept { 500 } else { 0 };
            assert_eq!(hasher.lend(0).unwrap().wanted().start, cursor, "at {at}");
        }
    }
}

#[test]
fn a_chain_that_was_lent_by_another_hasher_is_refused() {
    let mut hasher = FileHasher::trailing(0);
    hasher.write(0, b"old content");
    let mut old = hasher.lend(0).unwrap();
    old.feed(b"old content");
    // What happens when a file turns out to be another one than was followed.
    hasher = FileHasher::unread_trailing(11, 0);
    let new = hasher.lend(0).unwrap();
    assert!(!hasher.give_back(old));
    assert!(hasher.is_lent());
    assert!(hasher.give_back(new));
    assert_read_once(&finished(&mut hasher, b"new content"), 0..11);
}

#[test]
fn a_chain_takes_no_more_than_is_wanted() {
    let mut hasher = FileHasher::trailing(0);
    hasher.write(0, b"1234");
    let mut chain = hasher.lend(0).unwrap();
    chain.feed(b"123456");
    assert_eq!(chain.cursor(), 4);
    assert!(hasher.give_back(chain));
    assert_eq!(finished(&mut hasher, b"1234"), []);
}

#[test]
fn a_file_above_the_bound_of_the_tree_lends_nothing() {
    let mut hasher = FileHasher::unread(TREE_LENGTH_MAX + 1);
    assert!(hasher.lend(0).is_none());
    hasher.set_length(TREE_LENGTH_MAX);
    assert!(hasher.lend(0).is_some());
}

/// One thread writes, patches and truncates; another reads behind it without a lock.
#[test]
fn a_borrower_on_another_thread_never_spoils_a_digest() {
    for seed in 0..16 {
        let file = tempfile::tempfile().unwrap();
        let hasher = Mutex::new(FileHasher::trailing(seed % 3 * 10_000));
        let done = AtomicBool::new(false);
        let kept = thread::scope(|scope| {
            let borrower = scope.spawn(|| borrow_until(&done, &hasher, &file));
            write_and_patch(seed, &hasher, &file);
            done.store(true, Ordering::Release);
            borrower.join().unwrap()
        });
        let mut hasher = hasher.into_inner().unwrap();
        let length = usize::try_from(hasher.length()).unwrap();
        let mut bytes = vec![0; length];
        FileExt::read_exact_at(&file, &mut bytes, 0).unwrap();
        assert_eq!(hasher.finish(&file).unwrap(), judged(&bytes), "seed {seed}, kept {kept}");
    }
}

/// The store is changed outside the lock, and the hasher told afterwards.
fn write_and_patch(seed: u64, hasher: &Mutex<FileHasher>, file: &File) {
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut below = |limit: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % limit
    };
    for step in 0..400_u64 {
        let length = hasher.lock().unwrap().length();
        let bytes = vec![step.to_le_bytes()[0]; usize::try_from(1 + below(9_000)).unwrap()];
        let offset = match below(40) {
            0 => below(length + 1),
            1 => {
                let shorter = below(length + 1);
                file.set_len(shorter).unwrap();
                hasher.lock().unwrap().set_length(shorter);
                continue;
            }
            _ => length,
        };
        file.write_all_at(&bytes, offset).unwrap();
        hasher.lock().unwrap().write(offset, &bytes);
    }
}

/// Gives back how often a chain was kept.
fn borrow_until(done: &AtomicBool, hasher: &Mutex<FileHasher>, file: &File) -> usize {
    let mut kept = 0;
    while !done.load(Ordering::Acquire) {
        let Some(mut chain) = hasher.lock().unwrap().lend(1) else { continue };
        let mut piece = [0; 16_000];
        while !chain.wanted().is_empty() {
            match FileExt::read_at(file, &mut piece, chain.cursor()).unwrap() {
                0 => break,
                read => chain.feed(&piece[..read]),
            }
        }
        kept += usize::from(hasher.lock().unwrap().give_back(chain));
    }
    kept
}

/// What the writer, the store, the hasher and the borrower do, in any order.
#[derive(Clone, Debug)]
enum Act {
    Order(Change),
    /// The store makes the next change, or half of it.
    Store,
    /// The hasher is told of the oldest change that was made.
    Tell,
    Lend {
        least: u64,
    },
    Feed {
        length: usize,
    },
    GiveBack,
    Lose,
    Finish,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, length: usize },
    Append { length: usize },
    Touch { offset: usize, length: usize },
    SetLength(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let change = prop_oneof![
        2 => (0..4000_usize, 0..1000_usize)
            .prop_map(|(offset, length)| Change::Write { offset, length }),
        6 => (1..1000_usize).prop_map(|length| Change::Append { length }),
        1 => (0..4000_usize, 0..500_usize)
            .prop_map(|(offset, length)| Change::Touch { offset, length }),
        1 => (0..5000_usize).prop_map(Change::SetLength),
    ];
    let act = prop_oneof![
        4 => change.prop_map(Act::Order),
        6 => Just(Act::Store),
        5 => Just(Act::Tell),
        4 => prop_oneof![Just(0), 0..800_u64].prop_map(|least| Act::Lend { least }),
        6 => (0..1500_usize).prop_map(|length| Act::Feed { length }),
        3 => Just(Act::GiveBack),
        1 => Just(Act::Lose),
        1 => Just(Act::Finish),
    ];
    vec(act, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn any_interleaving_with_a_borrower_ends_with_the_digests_of_the_bytes(
        eager in prop_oneof![Just(0), 0..2000_u64, Just(u64::MAX)],
        acts in acts(),
    ) {
        let mut scene = Scene::new(eager);
        for (seed, act) in (1..).zip(acts) {
            scene.play(act, seed);
        }
        scene.play(Act::Finish, 0);
    }
}

/// What the store does in one go.
enum Stored {
    Bytes { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

/// What the hasher is told when it is done.
enum Told {
    Nothing,
    Write { offset: usize, bytes: Vec<u8> },
    Touch(Range<u64>),
    Length(usize),
}

/// A store that is changed in steps, a hasher that is told late, and a borrower in between.
struct Scene {
    /// Of the file when everything that was ordered is done.
    length: usize,
    store: Vec<u8>,
    to_store: VecDeque<(Stored, Told)>,
    to_tell: VecDeque<Told>,
    hasher: FileHasher,
    borrowed: Option<Chain>,
}

impl Scene {
    fn new(eager: u64) -> Self {
        Self {
            length: 0,
            store: Vec::new(),
            to_store: VecDeque::new(),
            to_tell: VecDeque::new(),
            hasher: FileHasher::trailing(eager),
            borrowed: None,
        }
    }

    fn play(&mut self, act: Act, seed: u8) {
        match act {
            Act::Order(change) => self.order(change, seed),
            Act::Store => self.store_next(),
            Act::Tell => self.tell_next(),
            Act::Lend { least } => self.lend(least),
            Act::Feed { length } => self.feed(length),
            Act::GiveBack => {
                if let Some(chain) = self.borrowed.take() {
                    self.hasher.give_back(chain);
                }
            }
            Act::Lose => self.borrowed = None,
            Act::Finish => self.finish(),
        }
    }

    fn order(&mut self, change: Change, seed: u8) {
        match change {
            Change::Write { offset, length } => self.write(offset, length, seed),
            Change::Append { length } => self.write(self.length, length, seed),
            Change::Touch { offset, length } => {
                let end = (offset + length).min(self.length);
                let offset = offset.min(end);
                let range = offset as u64..end as u64;
                let bytes = vec![seed; end - offset];
                self.to_store.push_back((Stored::Bytes { offset, bytes }, Told::Touch(range)));
            }
            Change::SetLength(length) => {
                self.length = length;
                self.to_store.push_back((Stored::Length(length), Told::Length(length)));
            }
        }
    }

    /// The store makes it in two halves, and somebody may look in between.
    fn write(&mut self, offset: usize, length: usize, seed: u8) {
        if length == 0 {
            return;
        }
        let bytes = vec![seed; length];
        let half = length / 2;
        self.length = self.length.max(offset + length);
        for (at, piece, told) in [
            (offset, &bytes[..half], Told::Nothing),
            (offset + half, &bytes[half..], Told::Write { offset, bytes: bytes.clone() }),
        ] {
            self.to_store.push_back((Stored::Bytes { offset: at, bytes: piece.to_vec() }, told));
        }
    }

    fn store_next(&mut self) {
        let Some((stored, told)) = self.to_store.pop_front() else { return };
        match stored {
            Stored::Bytes { offset, bytes } if !bytes.is_empty() => {
                let end = offset + bytes.len();
                self.store.resize(self.store.len().max(end), 0);
                self.store[offset..end].copy_from_slice(&bytes);
            }
            Stored::Bytes { .. } => {}
            Stored::Length(length) => self.store.resize(length, 0),
        }
        self.to_tell.push_back(told);
    }

    fn tell_next(&mut self) {
        match self.to_tell.pop_front() {
            None | Some(Told::Nothing) => {}
            Some(Told::Write { offset, bytes }) => self.hasher.write(offset as u64, &bytes),
            Some(Told::Touch(range)) => self.hasher.touch(range),
            Some(Told::Length(length)) => self.hasher.set_length(length as u64),
        }
    }

    fn lend(&mut self, least: u64) {
        let lent = self.hasher.lend(least);
        assert!(lent.is_none() || self.borrowed.is_none());
        if let Some(chain) = lent {
            assert!(chain.wanted().end - chain.wanted().start >= least);
            self.borrowed = Some(chain);
        }
        assert_eq!(self.hasher.is_lent(), self.borrowed.is_some());
    }

    /// Reads the store as it is at this moment.
    fn feed(&mut self, length: usize) {
        let Some(chain) = &mut self.borrowed else { return };
        let cursor = usize::try_from(chain.cursor()).unwrap();
        let rest = self.store.get(cursor..).unwrap_or_default();
        feed_all(&mut [(chain, &rest[..rest.len().min(length)])]);
    }

    /// When the writer is done and everything was told, with or without the borrower.
    fn finish(&mut self) {
        while !self.to_store.is_empty() {
            self.store_next();
        }
        while !self.to_tell.is_empty() {
            self.tell_next();
        }
        if let Some(chain) = self.borrowed.take() {
            assert!(matches!(self.hasher.finish(&self.store[..]), Err(ReadError::Lent)));
            self.hasher.give_back(chain);
        }
        finished(&mut self.hasher, &self.store);
        assert_eq!(self.hasher.bytes_to_read(), 0);
    }
}
