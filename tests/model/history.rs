//! What happens in a trial, and how it is made up.

use proptest::{prelude::*, sample::select};
use rustix::fs::{FallocateFlags, OFlags, RenameFlags};

use crate::{
    deed::{
        Bytes, Deed, FileDeed, HANDS, HandNumber, MAPPINGS, MappingDeed, Name, NameDeed, SLOTS,
        Slot,
    },
    pool::POOL_BYTES,
};

/// What happens from a mount to its end.
#[derive(Clone, Debug)]
pub(crate) struct History {
    /// Whether another process looks at all files meanwhile.
    pub(crate) is_watched: bool,
    pub(crate) steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// With what is open then; left out if nothing is.
    Do(Deed),
    /// A process ends at once, and another one takes its place.
    Kill(HandNumber),
    /// What a checkpoint begins with.
    Rest,
    /// The run of the mount ends, and another one begins.
    Begin,
    /// The run of the mount ends.
    Idle,
    /// The kernel forgets what nobody uses.
    Forget,
}

/// Few names and few places: what is rare in life meets often here.
pub(crate) fn history() -> impl Strategy<Value = History> {
    let is_watched = prop::bool::weighted(0.3);
    let steps = prop::collection::vec(step(), 1..200);
    (is_watched, steps).prop_map(|(is_watched, steps)| History { is_watched, steps })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        60 => on_file().prop_map(Step::Do),
        25 => on_mapping().prop_map(Step::Do),
        25 => on_names().prop_map(Step::Do),
        1 => hand().prop_map(Step::Kill),
        2 => Just(Step::Rest),
        2 => Just(Step::Begin),
        1 => Just(Step::Idle),
        1 => Just(Step::Forget),
    ]
}

fn on_file() -> impl Strategy<Value = Deed> {
    let deed = prop_oneof![
        12 => (file(), open_flags()).prop_map(|(name, flags)| FileDeed::Open(name, flags)),
        5 => Just(FileDeed::Close),
        5 => (offset(), length()).prop_map(|(offset, length)| FileDeed::Read { offset, length }),
        8 => (offset(), bytes()).prop_map(|(offset, bytes)| FileDeed::Write { offset, bytes }),
        8 => (bytes(), 1..5_usize).prop_map(|(bytes, times)| FileDeed::WriteOn { bytes, times }),
        3 => offset().prop_map(FileDeed::Truncate),
        3 => (allocation(), offset(), length())
            .prop_map(|(mode, offset, length)| {
                FileDeed::Allocate { mode, offset, length: length as u64 }
            }),
        2 => any::<bool>().prop_map(|data_only| FileDeed::Sync { data_only }),
        3 => Just(FileDeed::Stat),
    ];
    let copy = (slot(), slot(), offset(), offset(), length());
    prop_oneof![
        16 => (slot(), deed).prop_map(|(slot, deed)| Deed::File(slot, deed)),
        1 => copy.prop_map(|(slot, target, offset, target_offset, length)| {
            Deed::File(slot, FileDeed::Copy { offset, target, target_offset, length })
        }),
    ]
}

fn on_mapping() -> impl Strategy<Value = Deed> {
    let place = || offset().prop_map(|offset| usize::try_from(offset).expect("it is small"));
    let deed = prop_oneof![
        6 => (place(), bytes()).prop_map(|(offset, bytes)| MappingDeed::Store { offset, bytes }),
        3 => (place(), length()).prop_map(|(offset, length)| MappingDeed::Load { offset, length }),
        1 => Just(MappingDeed::Sync),
        2 => Just(MappingDeed::Unmap),
    ];
    let map = (slot(), prop::bool::weighted(0.8));
    let map = map.prop_map(|(slot, writable)| MappingDeed::Map { slot, writable });
    (0..MAPPINGS, prop_oneof![1 => map, 3 => deed])
        .prop_map(|(mapping, deed)| Deed::Mapping(mapping, deed))
}

fn on_names() -> impl Strategy<Value = Deed> {
    let modes = select(&[0o600, 0o644, 0o755, 0o444]);
    let deed = prop_oneof![
        2 => (file(), offset()).prop_map(|(name, length)| NameDeed::Truncate(name, length)),
        6 => (any_name(), any_name(), renaming())
            .prop_map(|(from, to, flags)| NameDeed::Rename(from, to, flags)),
        3 => (any_name(), any_name()).prop_map(|(from, to)| NameDeed::Link(from, to)),
        3 => any_name().prop_map(NameDeed::Unlink),
        2 => any_name().prop_map(NameDeed::MakeDirectory),
        1 => any_name().prop_map(NameDeed::RemoveDirectory),
        1 => (select(TARGETS), any_name()).prop_map(|(target, name)| NameDeed::Symlink(target, name)),
        1 => any_name().prop_map(NameDeed::ReadLink),
        2 => (any_name(), modes).prop_map(|(name, mode)| NameDeed::ChangeMode(name, mode)),
        2 => (any_name(), 1..u32::MAX / 2).prop_map(|(name, time)| NameDeed::SetTime(name, time)),
        4 => (any_name(), any::<bool>()).prop_map(|(name, follow)| NameDeed::Stat { name, follow }),
        2 => select(DIRECTORIES).prop_map(NameDeed::List),
    ];
    (hand(), deed).prop_map(|(hand, deed)| Deed::Name(hand, deed))
}

fn hand() -> impl Strategy<Value = HandNumber> {
    0..HANDS
}

fn slot() -> impl Strategy<Value = Slot> {
    0..SLOTS
}

fn file() -> impl Strategy<Value = Name> {
    prop_oneof![10 => select(FILES), 1 => any_name()]
}

fn any_name() -> impl Strategy<Value = Name> {
    prop_oneof![6 => select(FILES), 3 => select(DIRECTORIES), 1 => select(LINKS)]
}

fn open_flags() -> impl Strategy<Value = OFlags> {
    let access = prop_oneof![
        1 => Just(OFlags::RDONLY),
        1 => Just(OFlags::WRONLY),
        3 => Just(OFlags::RDWR),
    ];
    let creation = prop_oneof![
        3 => Just(OFlags::empty()),
        6 => Just(OFlags::CREATE),
        1 => Just(OFlags::CREATE | OFlags::EXCL),
    ];
    let maybe = |flag, weight| prop_oneof![1 => Just(flag), weight => Just(OFlags::empty())];
    let change = (maybe(OFlags::TRUNC, 4), maybe(OFlags::APPEND, 3));
    (access, creation, change)
        .prop_map(|(access, creation, (truncate, append))| access | creation | truncate | append)
}

fn allocation() -> impl Strategy<Value = FallocateFlags> {
    let (keep, zero) = (FallocateFlags::KEEP_SIZE, FallocateFlags::ZERO_RANGE);
    let modes =
        [FallocateFlags::empty(), keep, FallocateFlags::PUNCH_HOLE | keep, zero, zero | keep];
    select(modes.to_vec())
}

fn renaming() -> impl Strategy<Value = RenameFlags> {
    prop_oneof![
        5 => Just(RenameFlags::empty()),
        1 => Just(RenameFlags::NOREPLACE),
        2 => Just(RenameFlags::EXCHANGE),
    ]
}

fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => Just(0),
        2 => 0..20_000_u64,
        2 => 0..4_000_000_u64,
        2 => select(&[1, 4095, 4096, 65_535, 65_536, 65_537, 524_288, 1_048_576, 2_097_151]),
    ]
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => 1..10_000_usize,
        2 => 10_000..300_000_usize,
        2 => select(&[1, 4096, 65_535, 65_536, 131_072, 524_288, 1_048_576]),
        1 => 300_000..=LENGTH_MAX,
    ]
}

fn bytes() -> impl Strategy<Value = Bytes> {
    (0..POOL_BYTES - LENGTH_MAX, length()).prop_map(|(start, length)| Bytes { start, length })
}

const LENGTH_MAX: usize = 3 << 20;

const FILES: &[Name] = &["a", "b", "d/a", "e/a", "d/e/a"];

const DIRECTORIES: &[Name] = &["d", "e", "d/e"];

const LINKS: &[Name] = &["l", "d/l", "l/a"];

const TARGETS: &[Name] = &["a", "d", "e", "e/a", "l"];
