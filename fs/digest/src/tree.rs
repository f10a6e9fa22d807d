use std::{iter, ops::Range};

use blake3::hazmat::{ChainingValue, HasherExt};

use crate::{digest::Blake3, levels::Levels};

/// 64 KiB of a content, by number: the unit of verification. Only the last one of a content may be
/// shorter; it is empty only when the content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChunkGroup(u64);

impl ChunkGroup {
    /// 64 BLAKE3 chunks.
    pub(crate) const BYTES: usize = 64 * 1024;
    /// The same, as a distance in a file.
    pub(crate) const LENGTH: u64 = Self::BYTES as u64;

    pub(crate) fn at(offset: u64) -> Self {
        Self(offset / Self::LENGTH)
    }

    /// The one with the last byte of a content of `length` bytes: the first one when it is empty.
    pub(crate) fn last(length: u64) -> Self {
        Self::at(length.saturating_sub(1))
    }

    /// Those with a byte of a content of `length` bytes, in order.
    pub(crate) fn all(length: u64) -> impl Iterator<Item = Self> {
        (0..length.div_ceil(Self::LENGTH)).map(Self)
    }

    pub(crate) fn start(self) -> u64 {
        self.0 * Self::LENGTH
    }

    /// Its bytes in a content of `length` bytes.
    pub(crate) fn extent(self, length: u64) -> Range<u64> {
        self.start()..self.start().saturating_add(Self::LENGTH).min(length)
    }

    /// As an index into memory; beyond every memory where it would not fit.
    pub(crate) fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// The BLAKE3 tree of a file that changes: chunk groups below, and what is merged from them above.
///
/// A group is *known* when its chaining value is that of the bytes in the store. The tree never
/// reads; it says which groups are unknown and is given their bytes.
#[derive(Debug)]
pub(crate) struct Tree {
    length: u64,
    levels: Levels,
    /// Where the last write ended, so that the next one can go on. The root form of a content of
    /// one group comes from here too: chaining values are of no use for it.
    tail: Option<Tail>,
    /// Bytes ever given for this content: a measure of the work that somebody did for it.
    given: u64,
}

impl Tree {
    /// Of the empty content, which is known.
    pub(crate) fn new() -> Self {
        Self {
            length: 0,
            levels: Levels::default(),
            tail: Some(Tail::new(ChunkGroup::at(0))),
            given: 0,
        }
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The store holds these bytes at `offset` now, and is at least as long as their end.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.set_length(self.length.max(offset + bytes.len() as u64));
        self.given = self.given.saturating_add(bytes.len() as u64);
        for (offset, piece) in by_group(offset, bytes) {
            self.write_piece(offset, piece);
        }
    }

    /// These bytes were read back at `offset`: takes what it needs of them.
    pub(crate) fn supply(&mut self, offset: u64, bytes: &[u8]) {
        self.given = self.given.saturating_add(bytes.len() as u64);
        for (offset, piece) in by_group(offset, bytes) {
            if !self.is_known(ChunkGroup::at(offset)) {
                self.write_piece(offset, piece);
            }
        }
    }

    /// The store changed in this range, in a way nobody saw. What lies beyond the end is no matter.
    pub(crate) fn touch(&mut self, range: &Range<u64>) {
        let end = range.end.min(self.length);
        if range.start >= end {
            return;
        }
        self.levels.forget(ChunkGroup::at(range.start), ChunkGroup::at(end - 1));
        self.tail.take_if(|tail| tail.group.start() < end && range.start < tail.end);
    }

    /// The content was truncated, or extended by a hole.
    pub(crate) fn set_length(&mut self, length: u64) {
        if length == self.length {
            return;
        }
        if length == 0 {
            *self = Self::new();
            return;
        }
        let shorter = self.length.min(length);
        self.levels.set_last(ChunkGroup::last(self.length), ChunkGroup::last(length));
        if !shorter.is_multiple_of(ChunkGroup::LENGTH) {
            let cut = ChunkGroup::at(shorter);
            self.levels.forget(cut, cut);
        }
        self.tail.take_if(|tail| tail.end > length);
        self.length = length;
    }

    /// The unknown groups before `end`, in order.
    pub(crate) fn unknown_before(&self, end: u64) -> impl Iterator<Item = ChunkGroup> {
        ChunkGroup::all(end.min(self.length)).filter(|&group| !self.is_known(group))
    }

    /// What `b3sum` prints; none as long as a group is unknown.
    pub(crate) fn root(&mut self) -> Option<Blake3> {
        self.settle();
        if self.has_one_group() {
            return self.covering_tail().map(Tail::root);
        }
        self.levels.root(ChunkGroup::last(self.length))
    }

    fn is_known(&self, group: ChunkGroup) -> bool {
        self.covering_tail().is_some_and(|tail| tail.group == group)
            || (!self.has_one_group() && self.levels.is_fresh(group))
    }

    fn has_one_group(&self) -> bool {
        self.length <= ChunkGroup::LENGTH
    }

    /// A piece that lies in one group.
    fn write_piece(&mut self, offset: u64, piece: &[u8]) {
        let group = ChunkGroup::at(offset);
        if offset == group.start() {
            self.settle();
            self.tail = Some(Tail::new(group));
        }
        self.levels.forget(group, group);
        self.tail.take_if(|tail| tail.group == group && offset < tail.end);
        if let Some(tail) = self.tail.as_mut().filter(|tail| tail.end == offset) {
            tail.absorb(piece);
        }
    }

    /// The tail is about to move or the root is asked for: keeps what it knows of its group.
    fn settle(&mut self) {
        let value = self
            .covering_tail()
            .filter(|tail| !tail.is_empty() && self.reaches(tail.group))
            .map(|tail| (tail.group, tail.chaining_value()));
        if let Some((group, value)) = value {
            self.levels.store(group, value);
        }
    }

    /// The tail, if it has seen its whole group.
    fn covering_tail(&self) -> Option<&Tail> {
        self.tail.as_ref().filter(|tail| tail.end == tail.group.extent(self.length).end)
    }

    /// Whether memory may be taken for this group. One write far into a sparse file would claim it
    /// for the whole hole; a group out of reach stays unknown, and is read back later.
    ///
    /// Whoever gave every byte before a group reaches it. So reading back from the start, or from
    /// where a sequential writer is, always ends with every group known.
    fn reaches(&self, group: ChunkGroup) -> bool {
        let paid_for = self.given.saturating_mul(REACH_FACTOR);
        group.start() <= paid_for.saturating_add(REACH_MIN)
    }
}

/// A chunk group of which the bytes up to `end` were seen, in order.
#[derive(Debug)]
struct Tail {
    group: ChunkGroup,
    end: u64,
    hasher: blake3::Hasher,
}

impl Tail {
    fn new(group: ChunkGroup) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(group.start());
        Self { group, end: group.start(), hasher }
    }

    fn is_empty(&self) -> bool {
        self.end == self.group.start()
    }

    /// The next bytes of this group.
    fn absorb(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.end += bytes.len() as u64;
    }

    /// Of a tail that is not empty.
    fn chaining_value(&self) -> ChainingValue {
        self.hasher.finalize_non_root()
    }

    /// Of the first group, when it is the only one.
    fn root(&self) -> Blake3 {
        Blake3(self.hasher.finalize().into())
    }
}

/// Cuts bytes at the borders of chunk groups; each piece with its offset.
fn by_group(offset: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let mut at = offset;
    let mut rest = bytes;
    iter::from_fn(move || {
        let left_in_group = ChunkGroup::LENGTH - at % ChunkGroup::LENGTH;
        let length = usize::try_from(left_in_group).map_or(rest.len(), |left| left.min(rest.len()));
        let (piece, after) = rest.split_at(length);
        let piece_at = at;
        at += length as u64;
        rest = after;
        (!piece.is_empty()).then_some((piece_at, piece))
    })
}

/// In bytes of content. Takes 8 KiB of memory.
const REACH_MIN: u64 = 16 << 20;

/// At most eight nodes of memory per group that was hashed.
const REACH_FACTOR: u64 = 8;

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::testing::pattern;

    const GROUP: usize = ChunkGroup::BYTES;

    #[test]
    fn every_length_has_the_root_of_b3sum() {
        let around = |length: usize| [length - 1, length, length + 1];
        let lengths = (1..=9).flat_map(|groups| around(groups * GROUP));
        for length in [0, 1, 1023, 1024, 1025].into_iter().chain(lengths) {
            let bytes = pattern(length);
            let mut tree = Tree::new();
            tree.write(0, &bytes);
            assert_eq!(tree.root(), Some(Blake3::of(&bytes)), "{length} bytes");
        }
    }

    #[test]
    fn growth_from_one_group_to_two_and_back_keeps_the_root() {
        let bytes = pattern(2 * GROUP);
        let mut tree = Tree::new();
        for length in [GROUP - 1, GROUP, GROUP + 1, 2 * GROUP, GROUP + 1, GROUP, 1, 0] {
            let from = length.min(usize::try_from(tree.length()).unwrap());
            tree.set_length(length as u64);
            tree.write(from as u64, &bytes[from..length]);
            assert_eq!(root_after_supply(&mut tree, &bytes), Blake3::of(&bytes[..length]));
        }
    }

    #[test]
    fn what_was_truncated_to_nothing_does_not_come_back() {
        let zeros = vec![0; 2 * GROUP];
        let mut tree = Tree::new();
        tree.write(0, &pattern(2 * GROUP));
        tree.set_length(0);
        tree.set_length(2 * ChunkGroup::LENGTH);
        assert_eq!(tree.root(), None);
        assert_eq!(root_after_supply(&mut tree, &zeros), Blake3::of(&zeros));
    }

    #[test]
    fn sequential_writes_of_any_size_leave_nothing_unknown() {
        let bytes = pattern(3 * GROUP + 100);
        for size in [1000, 4096, GROUP - 1, GROUP, GROUP + 1, 3 * GROUP] {
            let mut tree = Tree::new();
            for (index, piece) in bytes.chunks(size).enumerate() {
                tree.write((index * size) as u64, piece);
            }
            assert_eq!(tree.root(), Some(Blake3::of(&bytes)), "pieces of {size}");
        }
    }

    #[test]
    fn a_root_is_refused_while_a_group_is_unknown() {
        let bytes = pattern(5 * GROUP);
        let mut tree = Tree::new();
        tree.write(0, &bytes);
        for group in 0..5 {
            let start = group * ChunkGroup::LENGTH;
            tree.touch(&(start + 5..start + 6));
            assert_eq!(tree.root(), None);
            assert_eq!(tree.unknown_before(u64::MAX).collect::<Vec<_>>(), [ChunkGroup(group)]);
            tree.supply(0, &bytes);
        }
        assert_eq!(tree.root(), Some(Blake3::of(&bytes)));
    }

    #[test]
    fn a_touch_makes_exactly_its_groups_unknown() {
        let mut tree = Tree::new();
        tree.write(0, &pattern(4 * GROUP));
        tree.touch(&(ChunkGroup::LENGTH..ChunkGroup::LENGTH));
        assert_eq!(tree.unknown_before(u64::MAX).count(), 0);
        tree.touch(&(ChunkGroup::LENGTH - 1..ChunkGroup::LENGTH + 1));
        tree.touch(&(4 * ChunkGroup::LENGTH..u64::MAX));
        assert_eq!(
            tree.unknown_before(u64::MAX).collect::<Vec<_>>(),
            [ChunkGroup(0), ChunkGroup(1)]
        );
    }

    #[test]
    fn a_write_elsewhere_keeps_the_last_group() {
        let mut bytes = pattern(2 * GROUP + 10);
        let mut tree = Tree::new();
        tree.write(0, &bytes);
        bytes[..GROUP].fill(1);
        tree.write(0, &bytes[..GROUP]);
        assert_eq!(tree.root(), Some(Blake3::of(&bytes)));
    }

    #[test]
    fn a_write_far_into_a_hole_claims_no_memory_for_the_hole() {
        let mut tree = Tree::new();
        tree.write(1 << 39, &pattern(3 * GROUP));
        tree.write((1 << 62) - 7, b"far beyond");
        tree.set_length(i64::MAX.unsigned_abs());
        assert_eq!(tree.levels.memory_nodes(), 0);
    }

    /// A change to a tree, in units that make borders likely.
    #[derive(Clone, Debug)]
    enum Step {
        Write { offset: usize, length: usize },
        Touch { offset: usize, length: usize },
        SetLength(usize),
        Append(usize),
        Root,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let offset = || near_a_border(40);
        let length = || near_a_border(6);
        let step = prop_oneof![
            4 => (offset(), length()).prop_map(|(offset, length)| Step::Write { offset, length }),
            2 => (offset(), length()).prop_map(|(offset, length)| Step::Touch { offset, length }),
            2 => offset().prop_map(Step::SetLength),
            3 => length().prop_map(Step::Append),
            3 => Just(Step::Root),
        ];
        vec(step, 1..30)
    }

    fn near_a_border(groups_max: usize) -> impl Strategy<Value = usize> {
        let groups = prop_oneof![Just(0), 0..4_usize, 0..groups_max];
        let more = prop_oneof![Just(0), 0..3_usize, 0..GROUP];
        (groups, more).prop_map(|(groups, more)| groups * GROUP + more)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_history_ends_with_the_root_of_the_bytes(steps in steps()) {
            let mut model = Model::default();
            for (seed, step) in (1_u8..).zip(steps) {
                model.apply(step, seed);
            }
            model.apply(Step::Root, 0);
        }
    }

    /// A tree and what it is told about.
    struct Model {
        bytes: Vec<u8>,
        tree: Tree,
    }

    impl Default for Model {
        fn default() -> Self {
            Self { bytes: Vec::new(), tree: Tree::new() }
        }
    }

    impl Model {
        fn apply(&mut self, step: Step, seed: u8) {
            match step {
                Step::Write { offset, length } => self.write(offset, length, seed),
                Step::Append(length) => self.write(self.bytes.len(), length, seed),
                Step::Touch { offset, length } => {
                    let end = (offset + length).min(self.bytes.len());
                    self.bytes[offset.min(end)..end].fill(seed);
                    self.tree.touch(&(offset as u64..(offset + length) as u64));
                }
                Step::SetLength(length) => {
                    self.bytes.resize(length, 0);
                    self.tree.set_length(length as u64);
                }
                Step::Root => {
                    let root = root_after_supply(&mut self.tree, &self.bytes);
                    assert_eq!(root, Blake3::of(&self.bytes));
                }
            }
        }

        fn write(&mut self, offset: usize, length: usize, seed: u8) {
            if length == 0 {
                return;
            }
            let end = offset + length;
            self.bytes.resize(self.bytes.len().max(end), 0);
            self.bytes[offset..end].fill(seed);
            self.tree.write(offset as u64, &self.bytes[offset..end]);
        }
    }

    fn root_after_supply(tree: &mut Tree, bytes: &[u8]) -> Blake3 {
        let unknown: Vec<_> = tree.unknown_before(u64::MAX).collect();
        for group in unknown {
            let extent = group.extent(tree.length());
            let range =
                usize::try_from(extent.start).unwrap()..usize::try_from(extent.end).unwrap();
            tree.supply(extent.start, &bytes[range]);
        }
        tree.root().expect("every unknown group was supplied")
    }
}
