//! What is open or mapped.

use rustix::{
    fs::{FallocateFlags, OFlags},
    io::Errno,
};
use serde_json::{Value, json};

use super::{DONE, Mapping, NodeId, OpenFile, Reference, What, content, refuse_unless, walk::Last};
use crate::{
    deed::{
        Bytes, Deed, END_BYTES, FileDeed, HANDS, HandNumber, MAPPING_BYTES, MAPPINGS, MappingDeed,
        MappingSlot, Name, SLOTS, Slot,
    },
    hand::Answer,
};

impl Reference {
    /// In a slot that is free for what is to be opened, and taken for what is open.
    pub(super) fn fitted_to_file(&self, slot: Slot, deed: FileDeed) -> Option<Deed> {
        let opens = matches!(deed, FileDeed::Open(..));
        let fits = |slot: &Slot| self.files.contains_key(slot) != opens;
        let slot = pick(slot, (0..SLOTS).filter(fits))?;
        let FileDeed::Copy { offset, target, target_offset, length } = deed else {
            return Some(Deed::File(slot, deed));
        };
        let target = pick(target, self.files_of(slot % HANDS))?;
        Some(Deed::File(slot, FileDeed::Copy { offset, target, target_offset, length }))
    }

    /// What is stored and loaded lies within the file: to touch what is beyond would kill the process.
    pub(super) fn fitted_to_mapping(&self, slot: MappingSlot, deed: MappingDeed) -> Option<Deed> {
        let maps = matches!(deed, MappingDeed::Map { .. });
        let fits = |slot: &MappingSlot| self.mappings.contains_key(slot) != maps;
        let mapping = pick(slot, (0..MAPPINGS).filter(fits))?;
        let deed = match deed {
            MappingDeed::Map { slot, writable } => {
                let slot = pick(slot, self.files_of(mapping % HANDS))?;
                MappingDeed::Map { slot, writable }
            }
            MappingDeed::Store { offset, bytes } => {
                let (offset, length) = self.within(mapping, offset, bytes.length)?;
                let writable = self.mappings[&mapping].writable;
                writable
                    .then_some(MappingDeed::Store { offset, bytes: Bytes { length, ..bytes } })?
            }
            MappingDeed::Load { offset, length } => {
                let (offset, length) = self.within(mapping, offset, length)?;
                MappingDeed::Load { offset, length }
            }
            MappingDeed::Sync | MappingDeed::Unmap => deed,
        };
        Some(Deed::Mapping(mapping, deed))
    }

    fn files_of(&self, hand: HandNumber) -> impl Iterator<Item = Slot> {
        self.files.keys().copied().filter(move |slot| slot % HANDS == hand)
    }

    /// As much of the mapping as the file has. None when it is empty.
    fn within(&self, mapping: MappingSlot, offset: usize, length: usize) -> Option<(usize, usize)> {
        let end = self.bytes(self.mappings[&mapping].node).len().min(MAPPING_BYTES);
        let offset = offset.checked_rem(end)?;
        Some((offset, length.min(end - offset)))
    }

    pub(super) fn apply_to_file(&mut self, slot: Slot, deed: FileDeed) -> Answer {
        match deed {
            FileDeed::Open(name, flags) => return self.open(slot, name, flags),
            FileDeed::Close => {
                self.files.remove(&slot);
                return DONE;
            }
            _ => {}
        }
        let file = self.files[&slot];
        match deed {
            FileDeed::Open(..) | FileDeed::Close | FileDeed::Sync { .. } => DONE,
            FileDeed::Stat => Ok(self.stat(file.node)),
            FileDeed::Read { offset, length } => {
                refuse_unless(file.reads, Errno::BADF)?;
                let bytes = self.bytes(file.node);
                let (start, end) = (index(offset).min(bytes.len()), index(offset) + length);
                Ok(content(&bytes[start..end.min(bytes.len())]))
            }
            FileDeed::Write { offset, bytes } => self.write(file, offset, bytes),
            FileDeed::WriteOn { bytes, times } => self.write_on(slot, bytes, times),
            FileDeed::Truncate(length) => {
                refuse_unless(file.writes, Errno::INVAL)?;
                self.change(file.node, |bytes| bytes.resize(index(length), 0));
                DONE
            }
            FileDeed::Allocate { mode, offset, length } => {
                refuse_unless(file.writes, Errno::BADF)?;
                self.change(file.node, |bytes| allocate(bytes, mode, index(offset), index(length)));
                DONE
            }
            FileDeed::Copy { offset, target, target_offset, length } => {
                let target = self.files[&target];
                self.copy((file, index(offset)), (target, index(target_offset)), length)
            }
        }
    }

    pub(super) fn apply_to_mapping(&mut self, mapping: MappingSlot, deed: MappingDeed) -> Answer {
        if let MappingDeed::Map { slot, writable } = deed {
            let OpenFile { node, opened_by, reads, writes, .. } = self.files[&slot];
            refuse_unless(reads && (writes || !writable), Errno::ACCESS)?;
            self.mappings.insert(mapping, Mapping { node, opened_by, writable });
            return DONE;
        }
        let node = self.mappings[&mapping].node;
        match deed {
            MappingDeed::Map { .. } | MappingDeed::Sync => DONE,
            MappingDeed::Store { offset, bytes } => {
                let bytes = bytes.of_pool();
                self.change(node, |stored| {
                    stored[offset..offset + bytes.len()].copy_from_slice(bytes);
                });
                DONE
            }
            MappingDeed::Load { offset, length } => {
                Ok(content(&self.bytes(node)[offset..offset + length]))
            }
            MappingDeed::Unmap => {
                self.mappings.remove(&mapping);
                DONE
            }
        }
    }

    /// Whether a mapping may yet be written back, which moves the time of modification.
    pub(super) fn is_mapped_to_write(&self, node: NodeId) -> bool {
        self.mappings.values().any(|mapping| mapping.node == node && mapping.writable)
    }

    fn open(&mut self, slot: Slot, name: Name, flags: OFlags) -> Answer {
        let (creates, access) = (flags.contains(OFlags::CREATE), flags & OFlags::ACCMODE);
        let is_new = flags.contains(OFlags::CREATE | OFlags::EXCL);
        let last = if is_new { Last::AsItIs } else { Last::Followed };
        let spot = self.walk(name, last)?;
        let node = match spot.node {
            Some(_) if is_new => return Err(Errno::EXIST),
            Some(node) => node,
            None if creates => {
                let made = self.make(0o640, What::File(Vec::new()));
                self.entries(spot.directory).insert(spot.name, made);
                made
            }
            None => return Err(Errno::NOENT),
        };
        if self.nodes[node].is_directory() {
            let only_looks = !creates && access == OFlags::RDONLY && !flags.contains(OFlags::TRUNC);
            return if only_looks { Ok(json!("directory")) } else { Err(Errno::ISDIR) };
        }
        let (reads, writes) = (access != OFlags::WRONLY, access != OFlags::RDONLY);
        let appends = flags.contains(OFlags::APPEND);
        let file = OpenFile { node, opened_by: self.tenure, reads, writes, appends, position: 0 };
        self.files.insert(slot, file);
        if flags.contains(OFlags::TRUNC) {
            self.change(node, Vec::clear);
        }
        DONE
    }

    fn write(&mut self, file: OpenFile, offset: u64, bytes: Bytes) -> Answer {
        refuse_unless(file.writes, Errno::BADF)?;
        let offset = if file.appends { self.bytes(file.node).len() } else { index(offset) };
        self.change(file.node, |stored| put(stored, offset, bytes.of_pool()));
        Ok(json!([bytes.length, self.seen(file)]))
    }

    fn write_on(&mut self, slot: Slot, bytes: Bytes, times: usize) -> Answer {
        let mut file = self.files[&slot];
        for _ in 0..times {
            let end = self.bytes(file.node).len() as u64;
            let position = if file.appends { end } else { file.position };
            self.write(file, position, bytes)?;
            file.position = position + bytes.length as u64;
        }
        self.files.insert(slot, file);
        Ok(json!([times * bytes.length, self.seen(file)]))
    }

    fn seen(&self, file: OpenFile) -> Value {
        let bytes = self.bytes(file.node);
        let end = || content(&bytes[bytes.len().saturating_sub(END_BYTES)..]);
        json!([bytes.len(), file.reads.then(end)])
    }

    fn copy(
        &mut self,
        (source, offset): (OpenFile, usize),
        (target, target_offset): (OpenFile, usize),
        length: usize,
    ) -> Answer {
        let may = source.reads && target.writes && !target.appends;
        refuse_unless(may, Errno::BADF)?;
        let bytes = self.bytes(source.node);
        let length = length.min(bytes.len().saturating_sub(offset));
        let overlap = target_offset + length > offset && target_offset < offset + length;
        refuse_unless(source.node != target.node || !overlap, Errno::INVAL)?;
        if length > 0 {
            let piece = bytes[offset..offset + length].to_vec();
            self.change(target.node, |stored| put(stored, target_offset, &piece));
        }
        Ok(json!(length))
    }
}

/// The one that is wanted if it is among them, and else any.
fn pick(wanted: usize, among: impl Iterator<Item = usize>) -> Option<usize> {
    let among: Vec<usize> = among.collect();
    let other = || among.get(wanted.checked_rem(among.len())?).copied();
    if among.contains(&wanted) { Some(wanted) } else { other() }
}

fn put(stored: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if stored.len() < end {
        stored.resize(end, 0);
    }
    stored[offset..end].copy_from_slice(bytes);
}

fn allocate(stored: &mut Vec<u8>, mode: FallocateFlags, offset: usize, length: usize) {
    let end = offset + length;
    if !mode.contains(FallocateFlags::KEEP_SIZE) && stored.len() < end {
        stored.resize(end, 0);
    }
    if mode.intersects(FallocateFlags::PUNCH_HOLE | FallocateFlags::ZERO_RANGE) {
        let (offset, end) = (offset.min(stored.len()), end.min(stored.len()));
        stored[offset..end].fill(0);
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("files here fit into memory")
}
