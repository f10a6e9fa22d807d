//! Numbers and texts in few bytes, and records that lie side by side under one key.
//!
//! What is written to a store at one time is alike: files of one directory, made one after the
//! other by one run. A record is therefore told by its difference from the one before it.

use super::LineageError;

/// A record that can be told by its difference from another of its kind.
pub(super) trait Packed: Sized {
    /// What a message calls it.
    const NAME: &'static str;

    /// From which the first record of a block differs.
    fn origin() -> Self;

    fn pack(&self, before: &Self, into: &mut Packer);

    /// None when the bytes are no such record.
    fn unpack(before: &Self, from: &mut Unpacker<'_>) -> Option<Self>;
}

/// Records of consecutive numbers. A slot is the place within the block.
#[derive(Debug)]
pub(super) struct Block<R> {
    /// In the order of the slots.
    records: Vec<(u8, R)>,
}

impl<R> Default for Block<R> {
    fn default() -> Self {
        Self { records: Vec::new() }
    }
}

impl<R: Packed> Block<R> {
    /// # Errors
    /// [`LineageError::Damaged`].
    pub(super) fn unpacked(bytes: &[u8]) -> Result<Self, LineageError> {
        Self::unpack(bytes).ok_or_else(|| LineageError::Damaged {
            what: format!("{} bytes are no block of {} records", bytes.len(), R::NAME),
        })
    }

    fn unpack(bytes: &[u8]) -> Option<Self> {
        let mut from = Unpacker { rest: bytes };
        let mut records: Vec<(u8, R)> = Vec::new();
        let origin = R::origin();
        while !from.rest.is_empty() {
            let slot = from.byte()?;
            let in_order = records.last().is_none_or(|(before, _)| *before < slot);
            let before = records.last().map_or(&origin, |(_, record)| record);
            let record = R::unpack(before, &mut from)?;
            records.push(in_order.then_some((slot, record))?);
        }
        Some(Self { records })
    }

    pub(super) fn packed(&self) -> Vec<u8> {
        let mut into = Packer::default();
        let origin = R::origin();
        let mut before = &origin;
        for (slot, record) in &self.records {
            into.byte(*slot);
            record.pack(before, &mut into);
            before = record;
        }
        into.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn at(&self, slot: u8) -> Option<&R> {
        self.position(slot).ok().map(|position| &self.records[position].1)
    }

    pub(super) fn put(&mut self, slot: u8, record: R) {
        match self.position(slot) {
            Ok(position) => self.records[position].1 = record,
            Err(position) => self.records.insert(position, (slot, record)),
        }
    }

    pub(super) fn remove(&mut self, slot: u8) {
        if let Ok(position) = self.position(slot) {
            self.records.remove(position);
        }
    }

    pub(super) fn into_records(self) -> impl Iterator<Item = (u8, R)> {
        self.records.into_iter()
    }

    fn position(&self, slot: u8) -> Result<usize, usize> {
        self.records.binary_search_by_key(&slot, |(slot, _)| *slot)
    }
}

/// Bytes that grow.
#[derive(Debug, Default)]
pub(super) struct Packer {
    bytes: Vec<u8>,
}

impl Packer {
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(super) fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// LEB128: seven bits a byte, the lowest first, the eighth says that more follow.
    pub(super) fn number(&mut self, mut number: u64) {
        while let more @ 1.. = number >> 7 {
            self.byte(low_bits(number) | MORE);
            number = more;
        }
        self.byte(low_bits(number));
    }

    /// The way from one number to another: short when they are close, on either side.
    pub(super) fn step(&mut self, from: u64, to: u64) {
        let way = to.wrapping_sub(from).cast_signed();
        self.number((way << 1 ^ way >> 63).cast_unsigned());
    }

    /// How many bytes two texts share at their beginning, and what follows.
    pub(super) fn text(&mut self, before: &str, text: &str) {
        let pairs = before.bytes().zip(text.bytes());
        let shared = pairs.take_while(|(one, other)| one == other).count();
        self.number(shared as u64);
        self.number((text.len() - shared) as u64);
        self.bytes(&text.as_bytes()[shared..]);
    }
}

/// Bytes that are read from the front. Whatever cannot be what was packed gives none.
#[derive(Debug)]
pub(super) struct Unpacker<'a> {
    rest: &'a [u8],
}

impl<'a> Unpacker<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*bytes)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & !MORE);
            number |= bits << shift;
            if byte & MORE == 0 {
                return (number >> shift == bits).then_some(number);
            }
        }
        None
    }

    /// Where the way leads that begins at `from`.
    pub(super) fn step(&mut self, from: u64) -> Option<u64> {
        let way = self.number()?;
        Some(from.wrapping_add(way >> 1 ^ (way & 1).wrapping_neg()))
    }

    pub(super) fn text(&mut self, before: &str) -> Option<String> {
        let shared = usize::try_from(self.number()?).ok()?;
        let others = usize::try_from(self.number()?).ok()?;
        let (others, rest) = self.rest.split_at_checked(others)?;
        self.rest = rest;
        let shared = before.as_bytes().get(..shared)?;
        String::from_utf8([shared, others].concat()).ok()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the lowest seven bits are wanted")]
fn low_bits(number: u64) -> u8 {
    number as u8 & !MORE
}

const MORE: u8 = 0x80;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Block, Packed, Packer, Unpacker};

    #[derive(Clone, Debug, PartialEq)]
    struct Line(u64, String);

    impl Packed for Line {
        const NAME: &'static str = "line";

        fn origin() -> Self {
            Self(0, String::new())
        }

        fn pack(&self, before: &Self, into: &mut Packer) {
            into.step(before.0, self.0);
            into.text(&before.1, &self.1);
        }

        fn unpack(before: &Self, from: &mut Unpacker<'_>) -> Option<Self> {
            Some(Self(from.step(before.0)?, from.text(&before.1)?))
        }
    }

    #[test]
    fn numbers_come_back_and_small_ones_are_short() {
        for (number, length) in [(0, 1), (127, 1), (128, 2), (1 << 14, 3), (u64::MAX, 10)] {
            let mut into = Packer::default();
            into.number(number);
            assert_eq!(into.bytes.len(), length);
            let mut from = Unpacker::of(&into.bytes);
            assert_eq!(from.number(), Some(number));
            assert!(from.is_empty());
        }
    }

    #[test]
    fn steps_are_short_on_either_side() {
        for (before, after, length) in
            [(5, 5, 1), (5, 4, 1), (u64::MAX, 3, 1), (0, 63, 1), (0, 64, 2), (0, 1 << 63, 10)]
        {
            let mut into = Packer::default();
            into.step(before, after);
            assert_eq!(into.bytes.len(), length, "from {before} to {after}");
            assert_eq!(Unpacker::of(&into.bytes).step(before), Some(after));
        }
    }

    #[test]
    fn texts_may_part_in_the_middle_of_a_character() {
        let mut into = Packer::default();
        into.text("café", "cafè");
        assert_eq!(Unpacker::of(&into.bytes).text("café"), Some("cafè".to_owned()));
        assert_eq!(Unpacker::of(&into.bytes).text("ca"), None);
    }

    #[test]
    fn what_was_not_packed_is_refused() {
        for (bytes, why) in [
            (&[0x80][..], "a number without end"),
            (&[0xff; 11], "a number of more than 64 bits"),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], "the same by one bit"),
        ] {
            assert_eq!(Unpacker::of(bytes).number(), None, "{why}");
        }
        let mut block = Block::default();
        block.put(3, Line(1, "a".to_owned()));
        let packed = block.packed();
        for length in 1..packed.len() {
            assert!(Block::<Line>::unpacked(&packed[..length]).is_err(), "cut at {length}");
        }
        assert!(Block::<Line>::unpacked(&packed.repeat(2)).is_err(), "one slot twice");
    }

    proptest! {
        #[test]
        fn a_block_comes_back_as_it_was(
            puts in prop::collection::vec((any::<u8>(), any::<u64>(), "[a-cé]{0,5}"), 0..40),
            removes in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut block = Block::default();
            let mut expected = std::collections::BTreeMap::new();
            for (slot, number, text) in puts {
                block.put(slot, Line(number, text.clone()));
                expected.insert(slot, Line(number, text));
            }
            for slot in removes {
                block.remove(slot);
                expected.remove(&slot);
            }
            let packed = Block::<Line>::unpacked(&block.packed()).unwrap();
            prop_assert_eq!(packed.at(0), expected.get(&0));
            prop_assert!(packed.into_records().eq(expected));
        }
    }
}
