use std::ops::ControlFlow;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::testing::{Watched, judged, pattern};

#[cfg(unix)]
mod lending;

const GROUP: usize = ChunkGroup::BYTES;

#[test]
fn a_new_file_has_the_digests_of_the_empty_content() {
    assert_eq!(finished(&mut FileHasher::new(), b""), []);
    assert_eq!(finished(&mut FileHasher::unread(0), b""), []);
}

#[test]
fn sequential_writing_needs_no_read_at_all() {
    let bytes = pattern(3 * GROUP + 1);
    for size in [999, 4096, GROUP, GROUP + 1, bytes.len()] {
        let mut hasher = FileHasher::new();
        write_in_pieces(&mut hasher, 0, &bytes, size);
        assert_eq!(hasher.bytes_to_read(), 0);
        assert_eq!(finished(&mut hasher, &bytes), []);
    }
}

#[test]
fn sequential_writing_into_a_file_of_full_length_needs_no_read_at_all() {
    let bytes = pattern(2 * GROUP + 1);
    let mut hasher = FileHasher::new();
    hasher.set_length(bytes.len() as u64);
    write_in_pieces(&mut hasher, 0, &bytes, 10_000);
    assert_eq!(finished(&mut hasher, &bytes), []);
}

#[test]
fn writing_on_after_a_flush_needs_no_read_at_all() {
    let bytes = pattern(2 * GROUP);
    let mut hasher = FileHasher::new();
    let mut written = 0;
    for end in [1, 1, 1000, GROUP - 1, GROUP, GROUP + 1, 2 * GROUP] {
        hasher.write(written as u64, &bytes[written..end]);
        written = end;
        assert_eq!(finished(&mut hasher, &bytes[..end]), [], "up to {end}");
    }
}

#[test]
fn an_append_to_an_unread_file_reads_it_once() {
    let bytes = pattern(GROUP + 500);
    let mut hasher = FileHasher::unread(GROUP as u64 + 100);
    hasher.write(GROUP as u64 + 100, &bytes[GROUP + 100..]);
    assert_eq!(hasher.bytes_to_read(), GROUP as u64 + 500);
    assert_read_once(&finished(&mut hasher, &bytes), 0..bytes.len());
    assert_eq!(finished(&mut hasher, &bytes), []);
}

#[test]
fn only_touched_groups_are_read_back() {
    let mut bytes = pattern(9 * GROUP);
    // SHA-256 begins anew after any change, so only the tree is told of these.
    let mut hasher = FileHasher::new();
    hasher.write(0, &bytes);
    for group in [2, 5] {
        let changed = group * GROUP + 10;
        bytes[changed] ^= 1;
        hasher.tree.touch(&(changed as u64..changed as u64 + 1));
    }
    assert_eq!(hasher.bytes_to_read(), 2 * GROUP as u64);
    let watched = Watched::new(&bytes);
    let blake3 = hasher.finish(&watched).unwrap().blake3;
    assert_eq!(blake3, judged(&bytes).blake3);
    let group = |index: u64| index * GROUP as u64..(index + 1) * GROUP as u64;
    assert_eq!(watched.reads(), [group(2), group(5)]);
}

#[test]
fn an_append_after_a_hole_reads_from_the_hole_on() {
    let mut bytes = pattern(4 * GROUP);
    bytes[GROUP + 10..3 * GROUP].fill(0);
    let mut hasher = FileHasher::new();
    hasher.write(0, &bytes[..GROUP + 10]);
    hasher.write(3 * GROUP as u64, &bytes[3 * GROUP..]);
    assert_eq!(hasher.bytes_to_read(), 3 * GROUP as u64);
    assert_read_once(&finished(&mut hasher, &bytes), GROUP..4 * GROUP);
}

#[test]
fn a_patched_header_sends_sha256_back_to_the_start_and_the_tree_nowhere() {
    let mut bytes = pattern(3 * GROUP);
    let mut hasher = FileHasher::new();
    hasher.write(0, &bytes);
    bytes[3] = !bytes[3];
    hasher.write(3, &bytes[3..4]);
    assert_eq!(hasher.tree.unknown_before(u64::MAX).count(), 1);
    assert_read_once(&finished(&mut hasher, &bytes), 0..3 * GROUP);
}

#[test]
fn an_overwrite_from_the_start_is_a_new_stream() {
    let (old, new) = (pattern(2 * GROUP), vec![7; 2 * GROUP]);
    let mut hasher = FileHasher::new();
    hasher.write(0, &old);
    write_in_pieces(&mut hasher, 0, &new, 5000);
    assert_eq!(finished(&mut hasher, &new), []);
}

#[test]
fn a_write_of_nothing_far_away_changes_nothing() {
    let mut hasher = FileHasher::new();
    hasher.write(1 << 40, b"");
    assert_eq!(hasher.length(), 0);
    assert_eq!(finished(&mut hasher, b""), []);
}

#[test]
fn a_touch_of_nothing_changes_nothing() {
    let bytes = pattern(100);
    let mut hasher = FileHasher::new();
    hasher.write(0, &bytes);
    hasher.touch(50..50);
    hasher.touch(100..u64::MAX);
    assert_eq!(finished(&mut hasher, &bytes), []);
}

#[test]
fn a_store_that_shrank_is_an_error_and_can_be_told_so() {
    let bytes = pattern(GROUP + 50);
    let mut hasher = FileHasher::unread(2 * GROUP as u64);
    let error = hasher.finish(&bytes[..]).unwrap_err();
    assert!(
        matches!(error, ReadError::Shrank { offset, .. } if offset == GROUP as u64 + 50),
        "{error}"
    );
    hasher.set_length(GROUP as u64 + 50);
    finished(&mut hasher, &bytes);
}

#[test]
fn progress_ends_with_the_bytes_that_had_to_be_read() {
    let bytes = pattern((1 << 20) + 2 * GROUP);
    let mut hasher = FileHasher::unread(bytes.len() as u64);
    let mut seen = Vec::new();
    hasher
        .finish_with_progress(&bytes[..], &mut |done| {
            seen.push(done);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(seen, [1 << 20, bytes.len() as u64]);
}

#[test]
fn a_finish_that_was_stopped_goes_on_where_it_was() {
    let bytes = pattern(3 << 20);
    let mut hasher = FileHasher::unread(bytes.len() as u64);
    let error = hasher
        .finish_with_progress(&bytes[..], &mut |done| match done {
            ..=0x10_0000 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        })
        .unwrap_err();
    assert!(matches!(error, ReadError::Stopped));
    assert_eq!(hasher.bytes_to_read(), 2 << 20);
    let reads = finished(&mut hasher, &bytes);
    assert_eq!(reads.first().map(|read| read.start), Some(1 << 20));
}

#[test]
fn a_file_above_the_bound_of_the_tree_is_read_whole() {
    let mut hasher = FileHasher::new();
    hasher.write(0, b"head");
    hasher.set_length(TREE_LENGTH_MAX + 1);
    assert_eq!(hasher.bytes_to_read(), TREE_LENGTH_MAX + 1);
    let watched = Watched::new(b"head");
    let error = hasher.finish(&watched).unwrap_err();
    assert!(matches!(error, ReadError::Shrank { offset: 4, .. }));
    assert_eq!(watched.reads().first(), Some(&(0..4)));
}

/// Two writers in turns leave every group unknown, however long the file, though SHA-256 has seen
/// all of it.
#[test]
fn writers_in_turns_leave_nothing_out_of_reach() {
    let bytes = pattern(300 * GROUP);
    let mut hasher = FileHasher::new();
    for (index, group) in bytes.chunks(GROUP).enumerate() {
        let (start, half) = (index * GROUP, GROUP / 2);
        hasher.write(start as u64, &group[..half]);
        hasher.write((start + GROUP) as u64, b"?");
        hasher.write((start + half) as u64, &group[half..]);
    }
    hasher.set_length(bytes.len() as u64);
    hasher.write(bytes.len() as u64, b"!");
    let whole = [&bytes[..], b"!"].concat();
    finished(&mut hasher, &whole);
}

/// What may happen to a file, in units that make borders likely.
#[derive(Clone, Debug)]
enum Step {
    Write { offset: usize, length: usize },
    Append(usize),
    Touch { offset: usize, length: usize },
    Punch { offset: usize, length: usize },
    SetLength(usize),
    Finish,
    FinishStopped,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let place = || (near_a_border(5), near_a_border(2));
    let step = prop_oneof![
        3 => place().prop_map(|(offset, length)| Step::Write { offset, length }),
        4 => near_a_border(2).prop_map(Step::Append),
        1 => place().prop_map(|(offset, length)| Step::Touch { offset, length }),
        1 => place().prop_map(|(offset, length)| Step::Punch { offset, length }),
        1 => near_a_border(5).prop_map(Step::SetLength),
        2 => Just(Step::Finish),
        1 => Just(Step::FinishStopped),
    ];
    vec(step, 1..16)
}

fn near_a_border(groups_max: usize) -> impl Strategy<Value = usize> {
    (0..groups_max, prop_oneof![Just(0), 0..3_usize, 0..GROUP])
        .prop_map(|(groups, more)| groups * GROUP + more)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_history_in_memory_ends_with_the_digests_of_the_bytes(steps in steps()) {
        let mut memory = Followed::new(Vec::new());
        memory.live_through(steps);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn any_history_of_a_sparse_file_ends_with_the_digests_of_its_bytes(steps in steps()) {
        let mut file = Followed::new(tempfile::tempfile().unwrap());
        file.live_through(steps);
    }
}

/// A store, what it must hold, and the hasher that follows it.
struct Followed<S> {
    store: S,
    model: Vec<u8>,
    hasher: FileHasher,
}

impl<S: Store> Followed<S> {
    fn new(store: S) -> Self {
        Self { store, model: Vec::new(), hasher: FileHasher::new() }
    }

    fn live_through(&mut self, steps: Vec<Step>) {
        for (seed, step) in (1_u8..).zip(steps) {
            self.apply(step, seed);
        }
        self.apply(Step::Finish, 0);
    }

    fn apply(&mut self, step: Step, seed: u8) {
        match step {
            Step::Write { offset, length } => self.write(offset, &vec![seed; length]),
            Step::Append(length) => self.write(self.model.len(), &vec![seed; length]),
            Step::Touch { offset, length } => self.touch(offset, length, seed),
            Step::Punch { offset, length } => self.punch(offset, length),
            Step::SetLength(length) => {
                self.model.resize(length, 0);
                self.store.set_length(length);
                self.hasher.set_length(length as u64);
            }
            Step::Finish => {
                let digests = self.hasher.finish(self.store.content()).unwrap();
                assert_eq!(digests, judged(&self.model));
                assert_eq!(self.hasher.bytes_to_read(), 0);
            }
            Step::FinishStopped => {
                let stop = &mut |_| ControlFlow::Break(());
                let nothing_to_do = self.hasher.bytes_to_read() == 0;
                let answer = self.hasher.finish_with_progress(self.store.content(), stop);
                assert_eq!(answer.is_ok(), nothing_to_do);
            }
        }
        assert_eq!(self.hasher.length(), self.model.len() as u64);
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        if !bytes.is_empty() {
            let end = offset + bytes.len();
            self.model.resize(self.model.len().max(end), 0);
            self.model[offset..end].copy_from_slice(bytes);
            self.store.write(offset, bytes);
        }
        self.hasher.write(offset as u64, bytes);
    }

    /// Changes the store behind the hasher's back.
    fn touch(&mut self, offset: usize, length: usize, seed: u8) {
        let end = (offset + length).min(self.model.len());
        let start = offset.min(end);
        self.model[start..end].fill(seed);
        self.store.write(start, &self.model[start..end]);
        self.hasher.touch(offset as u64..(offset + length) as u64);
    }

    fn punch(&mut self, offset: usize, length: usize) {
        let end = (offset + length).min(self.model.len());
        let start = offset.min(end);
        self.model[start..end].fill(0);
        self.store.punch(start, end - start);
        self.hasher.touch(start as u64..end as u64);
    }
}

/// Where the bytes of a test lie.
trait Store {
    type Content: ReadAt + ?Sized;
    fn content(&self) -> &Self::Content;
    fn write(&mut self, offset: usize, bytes: &[u8]);
    fn punch(&mut self, offset: usize, length: usize);
    fn set_length(&mut self, length: usize);
}

impl Store for Vec<u8> {
    type Content = [u8];

    fn content(&self) -> &[u8] {
        self
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        self.resize(self.len().max(end), 0);
        self[offset..end].copy_from_slice(bytes);
    }

    fn punch(&mut self, offset: usize, length: usize) {
        self[offset..offset + length].fill(0);
    }

    fn set_length(&mut self, length: usize) {
        self.resize(length, 0);
    }
}

#[cfg(target_os = "linux")]
impl Store for std::fs::File {
    type Content = Self;

    fn content(&self) -> &Self {
        self
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        std::os::unix::fs::FileExt::write_all_at(self, bytes, offset as u64).unwrap();
    }

    fn punch(&mut self, offset: usize, length: usize) {
        use rustix::fs::{FallocateFlags, fallocate};
        if length == 0 {
            return;
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if fallocate(&*self, flags, offset as u64, length as u64).is_err() {
            self.write(offset, &vec![0; length]);
        }
    }

    fn set_length(&mut self, length: usize) {
        self.set_len(length as u64).unwrap();
    }
}

fn write_in_pieces(hasher: &mut FileHasher, offset: u64, bytes: &[u8], size: usize) {
    for (index, piece) in bytes.chunks(size).enumerate() {
        hasher.write(offset + (index * size) as u64, piece);
    }
}

/// Checks the digests against the libraries and says what was read for them.
fn finished(hasher: &mut FileHasher, bytes: &[u8]) -> Vec<Range<u64>> {
    let watched = Watched::new(bytes);
    assert_eq!(hasher.finish(&watched).unwrap(), judged(bytes));
    watched.reads()
}

fn assert_read_once(reads: &[Range<u64>], expected: Range<usize>) {
    let bounds = |read: &Range<u64>| (read.start, read.end);
    let expected = (expected.start as u64, expected.end as u64);
    assert_eq!(reads.iter().map(bounds).collect::<Vec<_>>(), [expected]);
}
