//! What a process can do to files, and how that is written down for it.

use rustix::fs::{FallocateFlags, OFlags, RenameFlags};
use serde_json::{Value, json};

/// One of the processes.
pub(crate) type HandNumber = usize;

/// A place for an open file. Even ones belong to the first of the processes, odd ones to the second.
pub(crate) type Slot = usize;

/// A place for a mapping, which belongs to a process as a [`Slot`] does.
pub(crate) type MappingSlot = usize;

/// A path below the root of the tree.
pub(crate) type Name = &'static str;

/// How many processes there are.
pub(crate) const HANDS: usize = 2;

/// How many files may be open.
pub(crate) const SLOTS: usize = 6;

/// How many mappings there may be.
pub(crate) const MAPPINGS: usize = 4;

/// Mappings begin where the file does, and are as long as this whatever the file is.
pub(crate) const MAPPING_BYTES: usize = 4 << 20;

/// As much is read at the end of what was written.
pub(crate) const END_BYTES: usize = 4096;

/// A piece of the [pool](crate::pool::POOL).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes {
    pub(crate) start: usize,
    pub(crate) length: usize,
}

/// One thing that one process does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Deed {
    File(Slot, FileDeed),
    Mapping(MappingSlot, MappingDeed),
    Name(HandNumber, NameDeed),
}

/// Done to what is open, or is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FileDeed {
    Open(Name, OFlags),
    Close,
    Read {
        offset: u64,
        length: usize,
    },
    Write {
        offset: u64,
        bytes: Bytes,
    },
    /// Where the last such write ended, and some times one behind the other.
    WriteOn {
        bytes: Bytes,
        times: usize,
    },
    Truncate(u64),
    Allocate {
        mode: FallocateFlags,
        offset: u64,
        length: u64,
    },
    /// Into the file that is open in another slot of the same process.
    Copy {
        offset: u64,
        target: Slot,
        target_offset: u64,
        length: usize,
    },
    Sync {
        data_only: bool,
    },
    Stat,
}

/// Done to what is mapped, or is to be: shared, from the beginning of the file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum MappingDeed {
    /// Of the file that is open in a slot of the same process.
    Map {
        slot: Slot,
        writable: bool,
    },
    /// Never beyond the file's end.
    Store {
        offset: usize,
        bytes: Bytes,
    },
    /// Never beyond the file's end.
    Load {
        offset: usize,
        length: usize,
    },
    Sync,
    Unmap,
}

/// Done to what has a name, or is to have one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NameDeed {
    Truncate(Name, u64),
    Rename(Name, Name, RenameFlags),
    Link(Name, Name),
    Unlink(Name),
    MakeDirectory(Name),
    RemoveDirectory(Name),
    /// The text of the link, and its name.
    Symlink(Name, Name),
    ReadLink(Name),
    ChangeMode(Name, u32),
    /// Seconds since 1970, of both times.
    SetTime(Name, u32),
    Stat {
        name: Name,
        follow: bool,
    },
    List(Name),
}

impl Deed {
    /// Who does it.
    pub(crate) fn hand(&self) -> HandNumber {
        match *self {
            Self::File(slot, _) => slot % HANDS,
            Self::Mapping(mapping, _) => mapping % HANDS,
            Self::Name(hand, _) => hand,
        }
    }

    /// The name and the arguments of the method of `hand.py` that does it.
    pub(crate) fn request(&self) -> (&'static str, Value) {
        match self {
            Self::File(slot, deed) => deed.request(*slot),
            Self::Mapping(mapping, deed) => deed.request(*mapping),
            Self::Name(_, deed) => deed.request(),
        }
    }
}

impl FileDeed {
    fn request(&self, slot: Slot) -> (&'static str, Value) {
        match *self {
            Self::Open(name, flags) => ("open", json!([slot, name, flags.bits()])),
            Self::Close => ("close", json!([slot])),
            Self::Read { offset, length } => ("read", json!([slot, offset, length])),
            Self::Write { offset, bytes: Bytes { start, length } } => {
                ("write", json!([slot, offset, start, length]))
            }
            Self::WriteOn { bytes: Bytes { start, length }, times } => {
                ("write_on", json!([slot, start, length, times]))
            }
            Self::Truncate(length) => ("truncate", json!([slot, length])),
            Self::Allocate { mode, offset, length } => {
                ("allocate", json!([slot, mode.bits(), offset, length]))
            }
            Self::Copy { offset, target, target_offset, length } => {
                ("copy", json!([slot, offset, target, target_offset, length]))
            }
            Self::Sync { data_only } => ("sync", json!([slot, data_only])),
            Self::Stat => ("stat_open", json!([slot])),
        }
    }
}

impl MappingDeed {
    fn request(&self, mapping: MappingSlot) -> (&'static str, Value) {
        match *self {
            Self::Map { slot, writable } => {
                ("map", json!([mapping, slot, MAPPING_BYTES, writable]))
            }
            Self::Store { offset, bytes: Bytes { start, length } } => {
                ("store", json!([mapping, offset, start, length]))
            }
            Self::Load { offset, length } => ("load", json!([mapping, offset, length])),
            Self::Sync => ("sync_mapping", json!([mapping])),
            Self::Unmap => ("unmap", json!([mapping])),
        }
    }
}

impl NameDeed {
    fn request(&self) -> (&'static str, Value) {
        match *self {
            Self::Truncate(name, length) => ("truncate_name", json!([name, length])),
            Self::Rename(from, to, flags) => ("rename", json!([from, to, flags.bits()])),
            Self::Link(from, to) => ("link", json!([from, to])),
            Self::Unlink(name) => ("unlink", json!([name])),
            Self::MakeDirectory(name) => ("make_directory", json!([name])),
            Self::RemoveDirectory(name) => ("remove_directory", json!([name])),
            Self::Symlink(target, name) => ("symlink", json!([target, name])),
            Self::ReadLink(name) => ("read_link", json!([name])),
            Self::ChangeMode(name, mode) => ("change_mode", json!([name, mode])),
            Self::SetTime(name, seconds) => ("set_time", json!([name, seconds])),
            Self::Stat { name, follow } => ("stat", json!([name, follow])),
            Self::List(name) => ("list", json!([name])),
        }
    }
}
