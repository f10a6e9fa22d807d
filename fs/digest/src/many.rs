use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::{
    content::{ReadAt, ReadError},
    crew::{Watch, crew},
    digest::Sha256,
    lanes::{self, Lane},
    midstate::Midstate,
    reader::{Progress, Source},
};

/// The SHA-256 of each of many contents, several at a time on each of several threads, in the lanes of
/// vectors where the CPU has them. `open` gives an item's content and length when its turn comes. At most 16
/// contents per thread are open, and take 64 KiB each. Those that come late end late: give the longest
/// ones first.
///
/// Reports bytes read of all of them, some 4 MiB at a time. Whatever was not done when it is stopped has
/// [`ReadError::Stopped`].
pub fn sha256_many<T, C, O>(
    items: &[T],
    open: O,
    threads: usize,
    progress: &mut Progress<'_>,
) -> Vec<Result<Sha256, ReadError>>
where
    T: Sync,
    C: ReadAt,
    O: Fn(&T) -> io::Result<(C, u64)> + Sync,
{
    let threads = threads.clamp(1, items.len().max(1));
    let seats = items.len().div_ceil(threads).min(SEATS_MAX);
    let turn = AtomicUsize::new(0);
    let next = || {
        let index = turn.fetch_add(1, Ordering::Relaxed);
        items.get(index).map(|item| (index, open(item).map(Seat::of)))
    };
    let answers = crew(threads, progress, |watch| hash_side_by_side(next, seats, watch));
    let mut in_order: Vec<_> = items.iter().map(|_| Err(ReadError::Stopped)).collect();
    for (index, answer) in answers.into_iter().flatten() {
        in_order[index] = answer;
    }
    in_order
}

/// An item's number, and the answer to it.
type Answer = (usize, Result<Sha256, ReadError>);

/// What one thread does: whenever a seat is free, the next item takes it.
fn hash_side_by_side<C: ReadAt>(
    next: impl Fn() -> Option<(usize, io::Result<Seat<C>>)>,
    seats: usize,
    mut watch: Watch<'_>,
) -> Vec<Answer> {
    let mut answers = Vec::new();
    let mut seated: Vec<(usize, Seat<C>)> = Vec::new();
    loop {
        while seated.len() < seats
            && let Some((index, opened)) = next()
        {
            match opened {
                Ok(seat) => seated.push((index, seat)),
                Err(source) => answers.push((index, Err(ReadError::Failed { offset: 0, source }))),
            }
        }
        if seated.is_empty() || watch.read(read_all(&mut seated, &mut answers)).is_err() {
            return answers;
        }
        lanes::compress(seated.iter_mut().map(|(_, seat)| seat.take()).collect());
        let done = seated.extract_if(.., |(_, seat)| seat.is_done());
        answers.extend(done.map(|(index, seat)| (index, Ok(seat.midstate.digest()))));
    }
}

/// Reads the next piece of each, and says how much that was. Who cannot be read leaves with that answer.
fn read_all<C: ReadAt>(seated: &mut Vec<(usize, Seat<C>)>, answers: &mut Vec<Answer>) -> usize {
    let mut read = 0;
    seated.retain_mut(|(index, seat)| match seat.read() {
        Ok(()) => {
            read += seat.piece.len();
            true
        }
        Err(error) => {
            answers.push((*index, Err(error)));
            false
        }
    });
    read
}

/// A content that is being hashed.
struct Seat<C> {
    source: Source<C>,
    midstate: Midstate,
    /// What was read last.
    piece: Vec<u8>,
}

impl<C: ReadAt> Seat<C> {
    fn of((content, length): (C, u64)) -> Self {
        Self {
            source: Source::new(content, length),
            midstate: Midstate::default(),
            piece: Vec::new(),
        }
    }

    fn read(&mut self) -> Result<(), ReadError> {
        self.source.read(self.midstate.length(), PIECE_BYTES, &mut self.piece)
    }

    fn take(&mut self) -> Lane<'_> {
        self.midstate.take(&self.piece)
    }

    fn is_done(&self) -> bool {
        self.midstate.length() == self.source.length()
    }
}

/// As many as the widest vector has lanes.
const SEATS_MAX: usize = 16;

/// Pieces of all seats stay in the cache of a core together.
const PIECE_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::{ops::ControlFlow, sync::atomic::AtomicU64};

    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        reader::unwatched,
        testing::{judged, pattern},
    };

    #[test]
    fn no_items_have_no_digests() {
        assert!(sha256_many(&[], memory, 2, &mut unwatched).is_empty());
    }

    #[test]
    fn items_of_any_length_have_the_digests_of_the_library_in_their_order() {
        let bytes = pattern(3 * PIECE_BYTES);
        let lengths = [0, 1, 64, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES];
        for count in [1, 2, 16, 17, 40] {
            let items: Vec<_> =
                (0..count).map(|index| &bytes[..lengths[index % lengths.len()]]).collect();
            for threads in [0, 1, 2, 3] {
                let digests = sha256_many(&items, memory, threads, &mut unwatched);
                for (item, digest) in items.iter().zip(digests) {
                    assert_eq!(digest.unwrap(), judged(item).sha256, "{count} items");
                }
            }
        }
    }

    #[test]
    fn an_item_that_cannot_be_read_or_opened_spoils_no_other() {
        let bytes = pattern(100);
        let items: Vec<usize> = (0..100).collect();
        let open = |&item: &usize| match item % 4 {
            0 => Err(io::Error::other("no such item")),
            1 => Ok((&bytes[..item], 101)),
            _ => Ok((&bytes[..item], item as u64)),
        };
        let digests = sha256_many(&items, open, 2, &mut unwatched);
        for (item, digest) in digests.into_iter().enumerate() {
            match item % 4 {
                0 => assert!(matches!(digest, Err(ReadError::Failed { .. })), "{item}"),
                1 => assert!(
                    matches!(digest, Err(ReadError::Shrank { offset, .. }) if offset == item as u64),
                    "{item}"
                ),
                _ => assert_eq!(digest.unwrap(), judged(&bytes[..item]).sha256),
            }
        }
    }

    #[test]
    fn no_more_than_sixteen_are_open_on_a_thread() {
        let (open, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let items = [(); 100];
        let digests =
            sha256_many(&items, |()| Ok((Counted::new(&open, &most), 5)), 2, &mut unwatched);
        assert!(digests.iter().all(Result::is_ok));
        assert!(most.into_inner() <= 2 * SEATS_MAX);
    }

    #[test]
    fn progress_rises_to_the_sum_of_all_lengths() {
        let bytes = pattern(3 << 20);
        let items = [&bytes[..], &bytes[..5], &bytes[..1 << 20], &bytes[..2 << 20]];
        let mut seen = Vec::new();
        sha256_many(&items, memory, 2, &mut |done| {
            seen.push(done);
            ControlFlow::Continue(())
        });
        assert!(seen.is_sorted());
        assert_eq!(seen.last(), Some(&((6 << 20) + 5)));
    }

    #[test]
    fn what_was_not_done_at_a_stop_says_so() {
        let read = AtomicU64::new(0);
        let items = [(); 40];
        let open = |()| Ok((Endless(&read), 1 << 50));
        let answers = sha256_many(&items, |&item| open(item), 2, &mut |_| ControlFlow::Break(()));
        assert_eq!(answers.len(), 40);
        assert!(answers.iter().all(|answer| matches!(answer, Err(ReadError::Stopped))));
        assert!(read.into_inner() < 1 << 30);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn any_lengths_have_the_digests_of_the_library(
            lengths in vec(prop_oneof![0..300_usize, 0..3 * PIECE_BYTES], 0..50),
            threads in 1..4_usize,
        ) {
            let bytes = pattern(3 * PIECE_BYTES);
            let items: Vec<_> = lengths.iter().map(|&length| &bytes[..length]).collect();
            for (item, digest) in items.iter().zip(sha256_many(&items, memory, threads, &mut unwatched)) {
                prop_assert_eq!(digest.unwrap(), judged(item).sha256);
            }
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "stands for an opening that may fail")]
    fn memory<'a>(bytes: &&'a [u8]) -> io::Result<(&'a [u8], u64)> {
        Ok((bytes, bytes.len() as u64))
    }

    /// Zeros, and how many of them were read.
    struct Endless<'a>(&'a AtomicU64);

    impl ReadAt for Endless<'_> {
        fn read_at(&self, _offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.fetch_add(buffer.len() as u64, Ordering::Relaxed);
            Ok(buffer.len())
        }
    }

    /// Zeros that count how many contents are open, and the most that were.
    struct Counted<'a> {
        open: &'a AtomicUsize,
    }

    impl<'a> Counted<'a> {
        fn new(open: &'a AtomicUsize, most: &AtomicUsize) -> Self {
            most.fetch_max(open.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            Self { open }
        }
    }

    impl ReadAt for Counted<'_> {
        fn read_at(&self, _offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
            Ok(buffer.len())
        }
    }

    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
