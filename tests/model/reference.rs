//! What a directory is, in memory: names, files, and who has them open.

mod files;
mod names;
mod walk;

use std::collections::BTreeMap;

use rustix::{fs::OFlags, io::Errno};
use serde_json::{Map, Value, json};
use sha2::Digest;

use crate::{
    deed::{Bytes, Deed, FileDeed, MappingSlot, Name, NameDeed, Slot},
    hand::Answer,
};

/// Does each deed at once, to bytes in memory.
pub(crate) struct Reference {
    /// What is here stays, for it may be open when its last name is gone.
    nodes: Vec<Node>,
    files: BTreeMap<Slot, OpenFile>,
    mappings: BTreeMap<MappingSlot, Mapping>,
    tenure: Option<Tenure>,
}

/// The number of a run that the mount belongs to.
pub(crate) type Tenure = usize;

type NodeId = usize;

struct Node {
    mode: u32,
    links: u64,
    /// Seconds since 1970, while it is known.
    modified: Option<u32>,
    /// Whose content it is, if it surely is one run's.
    written_by: Option<Tenure>,
    what: What,
}

enum What {
    File(Vec<u8>),
    Directory(BTreeMap<String, NodeId>),
    Link(Name),
}

#[derive(Clone, Copy)]
struct OpenFile {
    node: NodeId,
    opened_by: Option<Tenure>,
    reads: bool,
    writes: bool,
    appends: bool,
    position: u64,
}

#[derive(Clone, Copy)]
struct Mapping {
    node: NodeId,
    opened_by: Option<Tenure>,
    writable: bool,
}

impl Reference {
    /// Two directories, `d` and `e`, and these files, in the first run.
    pub(crate) fn furnished(found: &[(Name, Bytes)]) -> Self {
        let mut reference = Self::empty();
        for directory in ["d", "e"] {
            reference.must(Deed::Name(0, NameDeed::MakeDirectory(directory)));
            reference.must(Deed::Name(0, NameDeed::ChangeMode(directory, 0o755)));
        }
        for (name, bytes) in found {
            reference.must(Deed::File(0, FileDeed::Open(name, OFlags::CREATE | OFlags::WRONLY)));
            reference.must(Deed::File(0, FileDeed::WriteOn { bytes: *bytes, times: 1 }));
            reference.must(Deed::File(0, FileDeed::Close));
            reference.must(Deed::Name(0, NameDeed::ChangeMode(name, 0o644)));
        }
        reference.begin(Some(0));
        reference
    }

    fn empty() -> Self {
        let root = Node::new(0o755, What::Directory(BTreeMap::new()));
        let (files, mappings) = (BTreeMap::new(), BTreeMap::new());
        Self { nodes: vec![root], files, mappings, tenure: None }
    }

    fn must(&mut self, deed: Deed) {
        let answer = self.apply(deed);
        assert!(answer.is_ok(), "{deed:?}: {answer:?}");
    }

    /// The deed as it can be done now, with what is open, if it can be done.
    pub(crate) fn fitted(&self, deed: Deed) -> Option<Deed> {
        match deed {
            Deed::File(slot, deed) => self.fitted_to_file(slot, deed),
            Deed::Mapping(mapping, deed) => self.fitted_to_mapping(mapping, deed),
            Deed::Name(..) => Some(deed),
        }
    }

    /// Does a deed that is fitted.
    pub(crate) fn apply(&mut self, deed: Deed) -> Answer {
        match deed {
            Deed::File(slot, deed) => self.apply_to_file(slot, deed),
            Deed::Mapping(mapping, deed) => self.apply_to_mapping(mapping, deed),
            Deed::Name(_, deed) => self.apply_to_name(deed),
        }
    }

    /// All that these processes have open is closed.
    pub(crate) fn close_where(&mut self, belongs: impl Fn(usize) -> bool) {
        self.files.retain(|slot, _| !belongs(*slot));
        self.mappings.retain(|mapping, _| !belongs(*mapping));
    }

    /// What is done from now on is done in this run, or in nobody's.
    pub(crate) fn begin(&mut self, tenure: Option<Tenure>) {
        self.tenure = tenure;
    }

    /// All that has a name, and what it is.
    pub(crate) fn tree(&self) -> BTreeMap<String, Value> {
        let shown = |(name, node): (String, NodeId)| (name, self.nodes[node].shown());
        self.named().into_iter().map(shown).collect()
    }

    /// The names of all files.
    pub(crate) fn files(&self) -> Vec<String> {
        self.names_where(Node::is_file)
    }

    /// The names of those files whose content the run of this moment surely wrote.
    pub(crate) fn outputs(&self) -> Vec<String> {
        let is_ours = |node: &Node| self.tenure.is_some() && node.written_by == self.tenure;
        self.names_where(|node| node.is_file() && is_ours(node))
    }

    fn names_where(&self, is_meant: impl Fn(&Node) -> bool) -> Vec<String> {
        let named = self.named().into_iter();
        named.filter(|(_, node)| is_meant(&self.nodes[*node])).map(|(name, _)| name).collect()
    }

    fn named(&self) -> Vec<(String, NodeId)> {
        let mut named = vec![(String::new(), ROOT)];
        let mut next = 0;
        while let Some((path, node)) = named.get(next).cloned() {
            if let What::Directory(entries) = &self.nodes[node].what {
                let below = |name: &String| match path.as_str() {
                    "" => name.clone(),
                    path => format!("{path}/{name}"),
                };
                named.extend(entries.iter().map(|(name, node)| (below(name), *node)));
            }
            next += 1;
        }
        named.split_off(1)
    }

    fn make(&mut self, mode: u32, what: What) -> NodeId {
        self.nodes.push(Node { written_by: self.tenure, ..Node::new(mode, what) });
        self.nodes.len() - 1
    }

    fn stat(&self, node: NodeId) -> Value {
        Value::Object(self.nodes[node].attributes())
    }

    /// In which runs those opened it who have it open.
    fn openers(&self, node: NodeId) -> impl Iterator<Item = Option<Tenure>> {
        let files = self.files.values().map(|file| (file.node, file.opened_by));
        let mappings = self.mappings.values().map(|mapping| (mapping.node, mapping.opened_by));
        files.chain(mappings).filter(move |(opened, _)| *opened == node).map(|(_, by)| by)
    }

    /// Its content is another from now on.
    fn change(&mut self, node: NodeId, change: impl FnOnce(&mut Vec<u8>)) {
        let is_of_one = self.openers(node).all(|by| by == self.tenure);
        let written_by = self.tenure.filter(|_| is_of_one);
        let node = &mut self.nodes[node];
        (node.modified, node.written_by) = (None, written_by);
        if let What::File(bytes) = &mut node.what {
            change(bytes);
        }
    }

    fn bytes(&self, node: NodeId) -> &[u8] {
        match &self.nodes[node].what {
            What::File(bytes) => bytes,
            What::Directory(_) | What::Link(_) => &[],
        }
    }
}

impl Node {
    fn new(mode: u32, what: What) -> Self {
        Self { mode, links: 1, modified: None, written_by: None, what }
    }

    fn is_file(&self) -> bool {
        matches!(self.what, What::File(_))
    }

    fn is_directory(&self) -> bool {
        matches!(self.what, What::Directory(_))
    }

    /// All but the time of modification.
    fn shown(&self) -> Value {
        let mut shown = self.attributes();
        shown.remove("modified");
        match &self.what {
            What::File(bytes) => shown.insert("content".to_owned(), content(bytes)),
            What::Link(target) => shown.insert("target".to_owned(), json!(target)),
            What::Directory(_) => None,
        };
        Value::Object(shown)
    }

    /// As `hand.py` shows them. Without the time of modification where it is not known.
    fn attributes(&self) -> Map<String, Value> {
        let shown = match &self.what {
            What::File(bytes) => {
                json!({"kind": "file", "size": bytes.len(), "links": self.links})
            }
            What::Link(target) => {
                json!({"kind": "link", "size": target.len(), "links": self.links})
            }
            What::Directory(_) => json!({"kind": "directory"}),
        };
        let Value::Object(mut shown) = shown else { unreachable!("it was written so above") };
        shown.insert("mode".to_owned(), json!(self.mode));
        if let Some(seconds) = self.modified {
            shown.insert("modified".to_owned(), json!(u64::from(seconds) * 1_000_000_000));
        }
        shown
    }
}

const ROOT: NodeId = 0;

/// How bytes are told of: by their number and their SHA-256.
pub(crate) fn content(bytes: &[u8]) -> Value {
    json!([bytes.len(), hex::encode(sha2::Sha256::digest(bytes))])
}

/// What a deed answers that has nothing to say.
const DONE: Answer = Ok(Value::Null);

fn refuse_unless(holds: bool, errno: Errno) -> Result<(), Errno> {
    if holds { Ok(()) } else { Err(errno) }
}
