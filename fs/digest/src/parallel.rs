use std::{
    collections::BTreeMap,
    slice::ChunksMut,
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Receiver, Sender, TryRecvError},
    },
    thread,
};

use blake3::hazmat::ChainingValue;

use crate::{
    content::{ReadAt, ReadError},
    crew::{Watch, crew},
    digest::{Blake3, Digests, Sha256},
    midstate::Midstate,
    outboard::{Outboard, values},
    reader::{Progress, Source},
    tree::ChunkGroup,
};

/// The BLAKE3 of a content, on several threads that each read their own pieces of it. Holes count as zeros
/// and are not read. Takes 256 KiB of memory per thread beside what it returns.
///
/// Reports bytes read, some 4 MiB at a time.
///
/// # Errors
/// As [`digests_with_progress`](crate::digests_with_progress). Where several pieces cannot be read, the
/// first one is named.
pub fn blake3_of<C: ReadAt + Sync + ?Sized>(
    content: &C,
    length: u64,
    threads: usize,
    progress: &mut Progress<'_>,
) -> Result<(Blake3, Outboard), ReadError> {
    if length <= ChunkGroup::LENGTH {
        let (digests, outboard) = Outboard::of(content, length, progress)?;
        return Ok((digests.blake3, outboard));
    }
    let mut groups = blank(length)?;
    let threads = threads.min(groups.len().div_ceil(PIECE_GROUPS));
    let pieces = Mutex::new(Pieces::of(&mut groups));
    let outcomes = crew(threads, progress, |watch| {
        hash_pieces(&mut Source::new(content, length), &pieces, watch)
    });
    first_error(outcomes)?;
    let outboard = Outboard::of_groups(length, groups);
    Ok((outboard.root().expect("it has more than one group"), outboard))
}

/// Both digests of a content: the calling thread computes SHA-256, which is one chain, while the others read
/// and compute BLAKE3. So it takes as long as SHA-256 alone from two threads on. Takes 1 MiB of memory per
/// thread beside what it returns.
///
/// # Errors
/// As [`digests_with_progress`](crate::digests_with_progress).
pub fn digests_parallel<C: ReadAt + Sync + ?Sized>(
    content: &C,
    length: u64,
    threads: usize,
    progress: &mut Progress<'_>,
) -> Result<(Digests, Outboard), ReadError> {
    if threads < 2 || length <= ChunkGroup::LENGTH {
        return Outboard::of(content, length, progress);
    }
    digests_from(Midstate::default(), content, length, threads, progress)
}

/// As [`digests_parallel`], of a content of more than one chunk group, by two threads at least, where the SHA-256 of
/// a number of its first pieces is made already. These are read all the same, last.
pub(crate) fn digests_from<C: ReadAt + Sync + ?Sized>(
    begun: Midstate,
    content: &C,
    length: u64,
    threads: usize,
    progress: &mut Progress<'_>,
) -> Result<(Digests, Outboard), ReadError> {
    let mut groups = blank(length)?;
    let helpers = threads.max(2) - 1;
    let helpers = helpers.min(groups.len().div_ceil(PIECE_GROUPS));
    let (free, buffers) = mpsc::channel();
    let (hashed, in_any_order) = mpsc::channel();
    for _ in 0..helpers * BUFFERS_PER_HELPER {
        free.send(Vec::new()).expect("its other end is here");
    }
    let (again, ahead) = Pieces::split(ChunkGroup::at(begun.length()), &mut groups);
    let work = Mutex::new(Work { ahead, again, buffers });
    let sha256 = thread::scope(|scope| {
        for _ in 0..helpers {
            let (work, hashed) = (&work, hashed.clone());
            scope.spawn(move || hash_ahead(&mut Source::new(content, length), work, &hashed));
        }
        drop(hashed);
        // Takes both channels, so that the helpers end when this does.
        chain(begun, in_any_order, free, progress)
    })?;
    let outboard = Outboard::of_groups(length, groups);
    let blake3 = outboard.root().expect("it has more than one group");
    Ok((Digests { sha256, blake3 }, outboard))
}

/// What one thread of [`blake3_of`] does.
fn hash_pieces<C: ReadAt>(
    source: &mut Source<C>,
    pieces: &Mutex<Pieces<'_>>,
    mut watch: Watch<'_>,
) -> Result<(), ReadError> {
    let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
    let mut bytes = Vec::new();
    while let Some(piece) = next() {
        let outcome = piece.hash(source, &mut bytes).and_then(|()| watch.read(bytes.len()));
        if outcome.is_err() {
            watch.stop();
            return outcome;
        }
    }
    Ok(())
}

/// Pieces are taken from left to right and finished once taken. So the leftmost failure is among these, and
/// who only stopped did so because of it.
fn first_error(outcomes: Vec<Result<(), ReadError>>) -> Result<(), ReadError> {
    let place = |error: &ReadError| match error {
        ReadError::Shrank { offset, .. } | ReadError::Failed { offset, .. } => *offset,
        ReadError::Stopped | ReadError::Lent => u64::MAX,
    };
    outcomes.into_iter().filter_map(Result::err).min_by_key(place).map_or(Ok(()), Err)
}

/// What a helper of [`digests_parallel`] tells.
enum Hashed {
    /// The piece of this number, if it could be read.
    Piece(usize, Result<Vec<u8>, ReadError>),
    /// So many bytes whose SHA-256 is made already.
    Again(Result<u64, ReadError>),
}

/// What a helper of [`digests_parallel`] does: reads and hashes one piece after the other, and hands on what
/// it read. While it may read no further ahead, it reads what nobody waits for.
fn hash_ahead<C: ReadAt>(source: &mut Source<C>, work: &Mutex<Work<'_>>, hashed: &Sender<Hashed>) {
    let mut own = Vec::new();
    loop {
        let next = work.lock().unwrap_or_else(PoisonError::into_inner).next();
        let told = match next {
            Next::Piece(piece, mut bytes) => {
                let (index, outcome) = (piece.index, piece.hash(source, &mut bytes));
                Hashed::Piece(index, outcome.map(|()| bytes))
            }
            Next::Again(piece) => {
                Hashed::Again(piece.hash(source, &mut own).map(|()| own.len() as u64))
            }
            Next::Nothing => return,
        };
        if hashed.send(told).is_err() {
            return;
        }
    }
}

/// What is left to do for the helpers.
struct Work<'a> {
    ahead: Pieces<'a>,
    /// Those whose SHA-256 is made already.
    again: Pieces<'a>,
    /// For the pieces ahead: who has one may read on.
    buffers: Receiver<Vec<u8>>,
}

enum Next<'a> {
    Piece(Piece<'a>, Vec<u8>),
    Again(Piece<'a>),
    Nothing,
}

impl<'a> Work<'a> {
    /// Where there is nothing else to do a buffer is waited for with the lock held: then the buffers in use are those
    /// of the leftmost pieces, and the one that SHA-256 needs next is among them.
    fn next(&mut self) -> Next<'a> {
        if self.ahead.is_empty() {
            return self.again.next().map_or(Next::Nothing, Next::Again);
        }
        let buffer = match self.buffers.try_recv() {
            Ok(buffer) => buffer,
            Err(TryRecvError::Disconnected) => return Next::Nothing,
            Err(TryRecvError::Empty) => match self.again.next() {
                Some(piece) => return Next::Again(piece),
                None => match self.buffers.recv() {
                    Ok(buffer) => buffer,
                    Err(_) => return Next::Nothing,
                },
            },
        };
        self.ahead.next().map_or(Next::Nothing, |piece| Next::Piece(piece, buffer))
    }
}

/// The SHA-256 of pieces that come in any order, each with its number; of those in `begun` it is made.
fn chain(
    begun: Midstate,
    pieces: Receiver<Hashed>,
    free: Sender<Vec<u8>>,
    progress: &mut Progress<'_>,
) -> Result<Sha256, ReadError> {
    let mut midstate = begun;
    let mut next = ChunkGroup::at(midstate.length()).index() / PIECE_GROUPS;
    let (mut early, mut done) = (BTreeMap::new(), 0);
    let mut read = |bytes| {
        done += bytes;
        progress(done).is_continue().then_some(()).ok_or(ReadError::Stopped)
    };
    for hashed in pieces {
        match hashed {
            Hashed::Again(bytes) => read(bytes?)?,
            Hashed::Piece(index, piece) => {
                early.insert(index, piece);
            }
        }
        while let Some(piece) = early.remove(&next) {
            let bytes = piece?;
            midstate.absorb(&bytes);
            next += 1;
            read(bytes.len() as u64)?;
            // Helpers that have nothing to read any more take none.
            free.send(bytes).unwrap_or_default();
        }
    }
    Ok(midstate.digest())
}

/// Pieces of a content that nobody has taken yet, from left to right.
struct Pieces<'a> {
    taken: usize,
    groups: ChunksMut<'a, ChainingValue>,
}

impl<'a> Pieces<'a> {
    fn of(groups: &'a mut [ChainingValue]) -> Self {
        Self { taken: 0, groups: groups.chunks_mut(PIECE_GROUPS) }
    }

    /// Those before `middle`, where a piece begins, and those from there on.
    fn split(middle: ChunkGroup, groups: &'a mut [ChainingValue]) -> (Self, Self) {
        let (before, rest) = groups.split_at_mut(middle.index());
        let taken = middle.index() / PIECE_GROUPS;
        (Self::of(before), Self { taken, ..Self::of(rest) })
    }

    fn is_empty(&self) -> bool {
        self.groups.len() == 0
    }

    fn next(&mut self) -> Option<Piece<'a>> {
        let groups = self.groups.next()?;
        let index = self.taken;
        self.taken += 1;
        Some(Piece { index, groups })
    }
}

/// Some chunk groups that lie side by side.
struct Piece<'a> {
    index: usize,
    /// Their values, to be filled in.
    groups: &'a mut [ChainingValue],
}

impl Piece<'_> {
    /// Leaves in `bytes` what was read.
    fn hash<C: ReadAt>(self, source: &mut Source<C>, bytes: &mut Vec<u8>) -> Result<(), ReadError> {
        let start = self.index as u64 * PIECE_BYTES as u64;
        source.read(start, PIECE_BYTES, bytes)?;
        for (group, value) in self.groups.iter_mut().zip(values(start, bytes)) {
            *group = value;
        }
        Ok(())
    }
}

/// One value for each chunk group, to be filled in. A length that nobody checked may be larger than any memory.
fn blank(length: u64) -> Result<Vec<ChainingValue>, ReadError> {
    let count = ChunkGroup::last(length).index().saturating_add(1);
    let mut groups = Vec::new();
    groups
        .try_reserve_exact(count)
        .map_err(|error| ReadError::Failed { offset: 0, source: error.into() })?;
    groups.resize(count, [0; 32]);
    Ok(groups)
}

/// 256 KiB stay in the cache of a core between reading and hashing.
pub(crate) const PIECE_GROUPS: usize = 4;
pub(crate) const PIECE_BYTES: usize = PIECE_GROUPS * ChunkGroup::BYTES;

/// Enough that neither side waits for the other at each piece.
const BUFFERS_PER_HELPER: usize = 4;

#[cfg(test)]
mod tests {
    use std::{
        io,
        ops::ControlFlow,
        sync::atomic::{AtomicU64, Ordering},
        time::Duration,
    };

    use super::*;
    use crate::{
        reader::unwatched,
        testing::{judged, pattern},
    };

    const GROUP: usize = ChunkGroup::BYTES;

    /// Around the borders of chunk groups and pieces.
    fn lengths() -> impl Iterator<Item = usize> {
        let around = |length: usize| [length - 1, length, length + 1];
        [0, 1]
            .into_iter()
            .chain([1, 2, 4, 5, 8, 19].into_iter().flat_map(move |groups| around(groups * GROUP)))
    }

    #[test]
    fn every_length_has_the_digests_of_the_libraries_on_any_number_of_threads() {
        for length in lengths() {
            let bytes = pattern(length);
            let alone = Outboard::of(&bytes[..], length as u64, &mut unwatched).unwrap();
            assert_eq!(alone.0, judged(&bytes));
            for threads in [0, 1, 2, 3, 7] {
                let both =
                    digests_parallel(&bytes[..], length as u64, threads, &mut unwatched).unwrap();
                assert_eq!(both, alone, "{length} bytes, {threads} threads");
                let blake3 = blake3_of(&bytes[..], length as u64, threads, &mut unwatched).unwrap();
                assert_eq!(
                    blake3,
                    (alone.0.blake3, alone.1.clone()),
                    "{length} bytes, {threads} threads"
                );
            }
        }
    }

    #[test]
    fn pieces_that_come_too_early_wait_for_those_before_them() {
        let bytes = pattern(30 * GROUP);
        let content = LateStart(&bytes);
        let (digests, _) =
            digests_parallel(&content, bytes.len() as u64, 3, &mut unwatched).unwrap();
        assert_eq!(digests, judged(&bytes));
    }

    #[test]
    fn progress_rises_to_the_length() {
        let bytes = pattern(11 << 20);
        for threads in [1, 2, 3] {
            for hash in [blake3_alone, both] {
                let mut seen = vec![0];
                let watch = &mut |done| {
                    seen.push(done);
                    ControlFlow::Continue(())
                };
                hash(&bytes[..], bytes.len() as u64, threads, watch).unwrap();
                assert!(seen.is_sorted() && seen.len() > 2, "{seen:?}");
                assert_eq!(seen.last(), Some(&(bytes.len() as u64)));
            }
        }
    }

    #[test]
    fn a_stop_is_obeyed_before_much_more_is_read() {
        for hash in [blake3_alone::<Endless>, both] {
            let content = Endless::default();
            let stop = &mut |_| ControlFlow::Break(());
            let error = hash(&content, 1 << 40, 3, stop).unwrap_err();
            assert!(matches!(error, ReadError::Stopped));
            assert!(content.0.load(Ordering::Relaxed) < 1 << 30);
        }
    }

    #[test]
    fn the_leftmost_failure_is_told() {
        let bytes = pattern(40 * GROUP);
        for shorter in [0, 1, 9 * GROUP - 1, 39 * GROUP] {
            for hash in [blake3_alone, both] {
                let error =
                    hash(&bytes[..shorter], bytes.len() as u64, 3, &mut unwatched).unwrap_err();
                assert!(
                    matches!(error, ReadError::Shrank { offset, .. } if offset == shorter as u64),
                    "{error}"
                );
            }
        }
    }

    #[test]
    fn a_length_beyond_all_memory_is_an_error() {
        for hash in [blake3_alone, both] {
            let error = hash(&b""[..], u64::MAX, 2, &mut unwatched).unwrap_err();
            assert!(matches!(error, ReadError::Failed { .. }), "{error}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_sparse_file_has_the_digests_of_what_it_reads_as() {
        use std::os::unix::fs::FileExt;
        let length = 50 * GROUP;
        let file = tempfile::tempfile().unwrap();
        file.set_len(length as u64).unwrap();
        for group in [3, 17, 18, 40] {
            file.write_all_at(&pattern(GROUP + 5), (group * GROUP) as u64).unwrap();
        }
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let (blake3, _) = blake3_of(&file, length as u64, 3, &mut unwatched).unwrap();
        assert_eq!(blake3, judged(&bytes).blake3);
        let (digests, _) = digests_parallel(&file, length as u64, 3, &mut unwatched).unwrap();
        assert_eq!(digests, judged(&bytes));
    }

    fn blake3_alone<C: ReadAt + Sync + ?Sized>(
        content: &C,
        length: u64,
        threads: usize,
        progress: &mut Progress<'_>,
    ) -> Result<(), ReadError> {
        blake3_of(content, length, threads, progress).map(|_| ())
    }

    fn both<C: ReadAt + Sync + ?Sized>(
        content: &C,
        length: u64,
        threads: usize,
        progress: &mut Progress<'_>,
    ) -> Result<(), ReadError> {
        digests_parallel(content, length, threads, progress).map(|_| ())
    }

    /// Its first bytes are read when the others have been.
    struct LateStart<'a>(&'a [u8]);

    impl ReadAt for LateStart<'_> {
        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
            if offset == 0 {
                thread::sleep(Duration::from_millis(50));
            }
            self.0.read_at(offset, buffer)
        }
    }

    /// Zeros, and how many of them were read.
    #[derive(Default)]
    struct Endless(AtomicU64);

    impl ReadAt for Endless {
        fn read_at(&self, _offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
            buffer.fill(0);
            self.0.fetch_add(buffer.len() as u64, Ordering::Relaxed);
            Ok(buffer.len())
        }
    }
}
