//! What has a name.

use std::collections::BTreeMap;

use rustix::{fs::RenameFlags, io::Errno};
use serde_json::json;

use super::{
    DONE, NodeId, Reference, What, refuse_unless,
    walk::{Last, Spot},
};
use crate::{
    deed::{Name, NameDeed},
    hand::Answer,
};

impl Reference {
    pub(super) fn apply_to_name(&mut self, deed: NameDeed) -> Answer {
        match deed {
            NameDeed::Truncate(name, length) => {
                let node = self.find(name, Last::Followed)?;
                refuse_unless(!self.nodes[node].is_directory(), Errno::ISDIR)?;
                let length = usize::try_from(length).expect("files here fit into memory");
                self.change(node, |bytes| bytes.resize(length, 0));
                DONE
            }
            NameDeed::Rename(from, to, flags) => self.rename(from, to, flags),
            NameDeed::Link(from, to) => self.link(from, to),
            NameDeed::Unlink(name) => self.unlink(name),
            NameDeed::MakeDirectory(name) => {
                self.make_at(name, 0o750, What::Directory(BTreeMap::new()))
            }
            NameDeed::RemoveDirectory(name) => self.remove_directory(name),
            NameDeed::Symlink(target, name) => self.make_at(name, 0o777, What::Link(target)),
            NameDeed::ReadLink(name) => {
                let node = self.find(name, Last::AsItIs)?;
                let What::Link(target) = self.nodes[node].what else { return Err(Errno::INVAL) };
                Ok(json!(target))
            }
            NameDeed::ChangeMode(name, mode) => {
                let node = self.find(name, Last::Followed)?;
                self.nodes[node].mode = mode;
                DONE
            }
            NameDeed::SetTime(name, seconds) => {
                let node = self.find(name, Last::Followed)?;
                let stays = self.nodes[node].is_file() && !self.is_mapped_to_write(node);
                self.nodes[node].modified = stays.then_some(seconds);
                DONE
            }
            NameDeed::Stat { name, follow } => {
                let last = if follow { Last::Followed } else { Last::AsItIs };
                Ok(self.stat(self.find(name, last)?))
            }
            NameDeed::List(name) => {
                let node = self.find(name, Last::Followed)?;
                let What::Directory(entries) = &self.nodes[node].what else {
                    return Err(Errno::NOTDIR);
                };
                Ok(json!(entries.keys().collect::<Vec<_>>()))
            }
        }
    }

    fn make_at(&mut self, name: Name, mode: u32, what: What) -> Answer {
        let spot = self.walk(name, Last::AsItIs)?;
        refuse_unless(spot.node.is_none(), Errno::EXIST)?;
        let made = self.make(mode, what);
        self.entries(spot.directory).insert(spot.name, made);
        DONE
    }

    fn link(&mut self, from: Name, to: Name) -> Answer {
        let node = self.find(from, Last::AsItIs)?;
        let spot = self.walk(to, Last::AsItIs)?;
        refuse_unless(spot.node.is_none(), Errno::EXIST)?;
        refuse_unless(!self.nodes[node].is_directory(), Errno::PERM)?;
        self.nodes[node].links += 1;
        self.entries(spot.directory).insert(spot.name, node);
        DONE
    }

    fn unlink(&mut self, name: Name) -> Answer {
        let Spot { directory, name, node } = self.walk(name, Last::AsItIs)?;
        let node = node.ok_or(Errno::NOENT)?;
        refuse_unless(!self.nodes[node].is_directory(), Errno::ISDIR)?;
        self.nodes[node].links -= 1;
        self.entries(directory).remove(&name);
        DONE
    }

    fn remove_directory(&mut self, name: Name) -> Answer {
        let Spot { directory, name, node } = self.walk(name, Last::AsItIs)?;
        let node = node.ok_or(Errno::NOENT)?;
        refuse_unless(self.nodes[node].is_directory(), Errno::NOTDIR)?;
        refuse_unless(self.entries(node).is_empty(), Errno::NOTEMPTY)?;
        self.entries(directory).remove(&name);
        DONE
    }

    fn rename(&mut self, from: Name, to: Name, flags: RenameFlags) -> Answer {
        let (from, to) = (self.walk(from, Last::AsItIs)?, self.walk(to, Last::AsItIs)?);
        let exchanges = flags.contains(RenameFlags::EXCHANGE);
        let moved = from.node.ok_or(Errno::NOENT)?;
        match to.node {
            Some(_) if flags.contains(RenameFlags::NOREPLACE) => return Err(Errno::EXIST),
            None if exchanges => return Err(Errno::NOENT),
            _ => {}
        }
        refuse_unless(!self.lies_in(to.directory, moved), Errno::INVAL)?;
        let Some(other) = to.node else { return self.put(moved, &from, to) };
        let errno = if exchanges { Errno::INVAL } else { Errno::NOTEMPTY };
        refuse_unless(!self.lies_in(from.directory, other), errno)?;
        if moved == other {
            return DONE;
        }
        if exchanges {
            self.entries(from.directory).insert(from.name, other);
            self.entries(to.directory).insert(to.name, moved);
            return DONE;
        }
        self.make_way(moved, other)?;
        self.put(moved, &from, to)
    }

    /// Whether a directory is this node or lies somewhere below it.
    fn lies_in(&self, directory: NodeId, node: NodeId) -> bool {
        let What::Directory(entries) = &self.nodes[node].what else { return false };
        directory == node || entries.values().any(|entry| self.lies_in(directory, *entry))
    }

    /// `other` loses its name to what is moved.
    fn make_way(&mut self, moved: NodeId, other: NodeId) -> Result<(), Errno> {
        match (self.nodes[moved].is_directory(), self.nodes[other].is_directory()) {
            (true, false) => return Err(Errno::NOTDIR),
            (false, true) => return Err(Errno::ISDIR),
            (true, true) => refuse_unless(self.entries(other).is_empty(), Errno::NOTEMPTY)?,
            (false, false) => {}
        }
        self.nodes[other].links -= 1;
        Ok(())
    }

    fn put(&mut self, moved: NodeId, from: &Spot, to: Spot) -> Answer {
        self.entries(from.directory).remove(&from.name);
        self.entries(to.directory).insert(to.name, moved);
        DONE
    }
}
