//! From a path to what it names.

use std::collections::{BTreeMap, VecDeque};

use rustix::io::Errno;

use super::{NodeId, ROOT, Reference, What};
use crate::deed::Name;

/// Where a path ends.
pub(super) struct Spot {
    pub(super) directory: NodeId,
    pub(super) name: String,
    /// None when the name is free.
    pub(super) node: Option<NodeId>,
}

/// What becomes of a symbolic link at the end of a path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    Followed,
    AsItIs,
}

impl Reference {
    pub(super) fn walk(&self, path: Name, last: Last) -> Result<Spot, Errno> {
        let mut rest: VecDeque<&str> = path.split('/').collect();
        let (mut directory, mut links) = (ROOT, 0);
        loop {
            let What::Directory(entries) = &self.nodes[directory].what else {
                return Err(Errno::NOTDIR);
            };
            let name =
                rest.pop_front().expect("what a path or link ends in is no directory to enter");
            let node = entries.get(name).copied();
            let is_last = rest.is_empty();
            match node.map(|node| &self.nodes[node].what) {
                Some(What::Link(target)) if !is_last || last == Last::Followed => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(Errno::LOOP);
                    }
                    target.rsplit('/').for_each(|part| rest.push_front(part));
                }
                _ if is_last => return Ok(Spot { directory, name: name.to_owned(), node }),
                None => return Err(Errno::NOENT),
                Some(_) => directory = node.expect("it was looked at"),
            }
        }
    }

    /// What is there.
    pub(super) fn find(&self, path: Name, last: Last) -> Result<NodeId, Errno> {
        self.walk(path, last)?.node.ok_or(Errno::NOENT)
    }

    pub(super) fn entries(&mut self, directory: NodeId) -> &mut BTreeMap<String, NodeId> {
        match &mut self.nodes[directory].what {
            What::Directory(entries) => entries,
            What::File(_) | What::Link(_) => unreachable!("a walk ends in a directory"),
        }
    }
}

/// As the kernel has it.
const LINKS_MAX: usize = 40;
