use std::ops::Range;

use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, merge_subtrees_non_root as merge,
    merge_subtrees_root as merge_root,
};
use sha2::Digest;

use crate::{
    content::{ReadAt, ReadError},
    digest::{Blake3, Digests, Sha256},
    reader::{Progress, Reader},
    tree::ChunkGroup,
};

/// The chaining values of a content's chunk groups: with them a part of the content can be verified
/// without the rest. Kept in memory by whoever made it; there is no form of it on disk.
///
/// Memory: 32 bytes per 64 KiB of content, one two-thousandth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outboard {
    length: u64,
    groups: Vec<ChainingValue>,
}

impl Outboard {
    /// Reads a content of `length` bytes from one end to the other, reporting bytes read.
    ///
    /// # Errors
    /// As [`digests_with_progress`](crate::digests_with_progress).
    pub fn of<C: ReadAt + ?Sized>(
        content: &C,
        length: u64,
        progress: &mut Progress<'_>,
    ) -> Result<(Digests, Self), ReadError> {
        let mut sha256 = sha2::Sha256::new();
        let mut groups = Vec::new();
        let mut only_group = blake3::Hasher::new();
        Reader::new(content, length, progress).read_to_end(0, |offset, bytes| {
            sha256.update(bytes);
            groups.extend(values(offset, bytes));
            if length <= ChunkGroup::LENGTH {
                only_group.update(bytes);
            }
        })?;
        let outboard = Self { length, groups };
        let blake3 = outboard.root().unwrap_or_else(|| Blake3(only_group.finalize().into()));
        Ok((Digests { sha256: Sha256(sha256.finalize().into()), blake3 }, outboard))
    }

    /// Of a content whose chunk groups have these values.
    pub(crate) fn of_groups(length: u64, groups: Vec<ChainingValue>) -> Self {
        Self { length, groups }
    }

    /// What `b3sum` prints. None for a content of one group or none: its root has another form.
    pub(crate) fn root(&self) -> Option<Blake3> {
        if self.groups.len() < 2 {
            return None;
        }
        let (left, right) = self.groups.split_at(left_width(&self.groups));
        Some(Blake3(merge_root(&subtree(left), &subtree(right), Mode::Hash).into()))
    }

    /// Whether the content begins with chunk groups of these values.
    pub(crate) fn begins_with(&self, groups: &[ChainingValue]) -> bool {
        self.groups.starts_with(groups)
    }

    /// Bytes in the content.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes that this takes in memory.
    pub fn memory(&self) -> u64 {
        self.groups.capacity() as u64 * size_of::<ChainingValue>() as u64
    }

    /// The whole chunk groups that hold `range`, as far as the content has them.
    pub fn cover(&self, range: &Range<u64>) -> Range<u64> {
        let end = range.end.min(self.length);
        if range.start >= end {
            return end..end;
        }
        ChunkGroup::at(range.start).start()..ChunkGroup::at(end - 1).extent(self.length).end
    }

    /// Whether the content has exactly these bytes at `start`. They must be whole chunk groups, as
    /// [`Outboard::cover`] gives them; others are not verified, which is `false`.
    pub fn verify(&self, start: u64, bytes: &[u8]) -> bool {
        let end = start.saturating_add(bytes.len() as u64);
        if self.cover(&(start..end)) != (start..end) {
            return false;
        }
        let first = ChunkGroup::at(start).index();
        let known = self.groups.get(first..).unwrap_or_default();
        values(start, bytes).zip(known).all(|(value, known)| value == *known)
    }
}

/// The values of the chunk groups of a content that has `bytes` at `offset`, where a group starts.
pub(crate) fn values(offset: u64, bytes: &[u8]) -> impl Iterator<Item = ChainingValue> {
    let offsets = (offset..).step_by(ChunkGroup::BYTES);
    bytes.chunks(ChunkGroup::BYTES).zip(offsets).map(|(group, offset)| {
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(offset).update(group);
        hasher.finalize_non_root()
    })
}

/// Of one group or more.
fn subtree(groups: &[ChainingValue]) -> ChainingValue {
    match groups {
        [group] => *group,
        groups => {
            let (left, right) = groups.split_at(left_width(groups));
            merge(&subtree(left), &subtree(right), Mode::Hash)
        }
    }
}

/// The left side of a node of two groups or more is a full tree, as large as it can be.
fn left_width(groups: &[ChainingValue]) -> usize {
    groups.len().next_power_of_two() / 2
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        reader::unwatched,
        testing::{judged, pattern},
    };

    const GROUP: usize = ChunkGroup::BYTES;

    fn outboard(bytes: &[u8]) -> Outboard {
        Outboard::of(bytes, bytes.len() as u64, &mut unwatched).unwrap().1
    }

    #[test]
    fn every_length_has_the_digests_of_the_libraries() {
        let around = |groups: usize| [groups * GROUP - 1, groups * GROUP, groups * GROUP + 1];
        for length in [0, 1, 1023, 1024, 1025].into_iter().chain((1..=9).flat_map(around)) {
            let bytes = pattern(length);
            let (digests, outboard) =
                Outboard::of(&bytes[..], length as u64, &mut unwatched).unwrap();
            assert_eq!(digests, judged(&bytes), "{length} bytes");
            assert_eq!(outboard.length(), length as u64);
            assert!(outboard.verify(0, &bytes), "{length} bytes");
        }
    }

    #[test]
    fn what_is_not_whole_groups_is_not_verified() {
        let bytes = pattern(2 * GROUP + 10);
        let outboard = outboard(&bytes);
        let end = bytes.len();
        for (start, stop) in [(1, GROUP), (0, GROUP - 1), (0, 1), (2 * GROUP, end - 1), (1, 1)] {
            let verified = outboard.verify(start as u64, &bytes[start..stop]);
            assert_eq!(verified, start == stop, "{start}..{stop}");
        }
        assert!(!outboard.verify(2 * GROUP as u64, &pattern(11)), "a byte beyond the end");
        assert!(!outboard.verify(u64::MAX, &bytes[..GROUP]));
        assert!(!outboard.verify(end as u64, &[0]));
    }

    #[test]
    fn the_cover_is_made_of_whole_groups_and_ends_with_the_content() {
        let outboard = outboard(&pattern(2 * GROUP + 10));
        let group = GROUP as u64;
        assert_eq!(outboard.cover(&(0..1)), 0..group);
        assert_eq!(outboard.cover(&(group - 1..group + 1)), 0..2 * group);
        assert_eq!(outboard.cover(&(2 * group + 3..u64::MAX)), 2 * group..2 * group + 10);
        let end = 2 * group + 10;
        assert_eq!(outboard.cover(&(end..end + 1)), end..end);
        assert_eq!(outboard.cover(&(u64::MAX..u64::MAX)), end..end);
    }

    #[test]
    fn a_group_in_the_place_of_another_is_not_verified() {
        let bytes = vec![7; 3 * GROUP];
        let mut other = bytes.clone();
        other[2 * GROUP] = 8;
        let outboard = outboard(&other);
        assert!(outboard.verify(0, &bytes[..2 * GROUP]));
        assert!(!outboard.verify(2 * GROUP as u64, &bytes[..GROUP]));
    }

    #[test]
    fn a_stop_is_obeyed() {
        let stop = &mut |_bytes| ControlFlow::Break(());
        let error = Outboard::of(&pattern(5)[..], 5, stop).unwrap_err();
        assert!(matches!(error, ReadError::Stopped));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_changed_byte_is_noticed_where_it_lies(
            length in 1..4 * GROUP,
            place: prop::sample::Index,
            flip in 1..=255u8,
        ) {
            let mut bytes = pattern(length);
            let outboard = outboard(&bytes);
            let place = place.index(length);
            bytes[place] ^= flip;
            for start in (0..length).step_by(GROUP) {
                let group = start..length.min(start + GROUP);
                let changed = group.contains(&place);
                prop_assert_eq!(outboard.verify(start as u64, &bytes[group]), !changed);
            }
        }
    }
}
