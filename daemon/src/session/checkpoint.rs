//! Which events complete a checkpoint, as training frameworks write them (`--checkpoint-rule`).

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    io::{self, Read},
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
};

use attestfs_attestation::escaped;
use attestfs_digest::Digests;
use attestfs_fs::TreePath;
use parking_lot::Mutex;
use rustix::fs::FileType;
use serde::Deserialize;

use super::{
    finish,
    orders::{Assignment, Orders},
    trees::Trees,
};
use crate::client::RunLink;

/// Commits checkpoints in the background, one after the other, as the rule finds them.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    found: Sender<Found>,
    waiting: Waiting,
    committer: JoinHandle<()>,
}

/// What the watcher tells the committer.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// A directory that is a checkpoint.
    Complete(TreePath),
    /// The index of a model in several files; its directory is a checkpoint when all are there.
    Index(TreePath),
    /// The run is over.
    End,
}

/// Indexes that name files which are not there yet.
type Waiting = Arc<Mutex<HashSet<TreePath>>>;

impl Checkpoints {
    pub(crate) fn start(orders: &Arc<Orders>, link: &Arc<RunLink>) -> Self {
        let (found, next) = mpsc::channel();
        let waiting = Waiting::default();
        let committer = Committer {
            orders: Arc::clone(orders),
            link: Arc::clone(link),
            waiting: Arc::clone(&waiting),
        };
        Self { found, waiting, committer: thread::spawn(move || committer.commit_each(&next)) }
    }

    /// Watches below `outputs`; everything, when there are none.
    pub(super) fn watcher(&self, outputs: Vec<TreePath>) -> Watcher {
        let (found, waiting) = (self.found.clone(), Arc::clone(&self.waiting));
        Watcher { outputs, found, waiting, announced: Mutex::default() }
    }

    /// Waits until all that were found are committed.
    pub(crate) fn finish(self) {
        // The committer is there until it gets this; if it panicked, that was reported by then.
        self.found.send(Found::End).unwrap_or_default();
        self.committer.join().unwrap_or_default();
    }
}

struct Committer {
    orders: Arc<Orders>,
    link: Arc<RunLink>,
    waiting: Waiting,
}

impl Committer {
    fn commit_each(&self, found: &Receiver<Found>) {
        while let Ok(found) = found.recv() {
            match found {
                Found::Complete(directory) => self.commit(&directory),
                Found::Index(index) if self.is_complete(&index) => self.commit(&parent(&index)),
                Found::Index(_) => {}
                Found::End => return,
            }
        }
    }

    fn commit(&self, directory: &TreePath) {
        let Assignment { trees, console, .. } = &self.orders.assignment;
        let path = trees.path_of(directory);
        match self.orders.checkpoint(&path) {
            Ok(order) => finish::commit_checkpoint(&self.link, order, &self.orders),
            Err(failure) => {
                console.say(format_args!("no checkpoint of {}: {failure}", path.display()));
            }
        }
    }

    /// Whether every file that the index names is there. If not, it waits: the watcher announces it
    /// again when another file of its directory is sealed. It waits before it looks, so that none
    /// can come unseen in between.
    fn is_complete(&self, index: &TreePath) -> bool {
        self.waiting.lock().insert(index.clone());
        let trees = &self.orders.assignment.trees;
        let is_file = |name: &String| {
            let file = beside(index, name);
            trees.kind(&file) == Some(FileType::RegularFile)
        };
        let complete = match read(trees, index).map(|bytes| named_files(&bytes)) {
            Ok(Some(names)) => names.iter().all(is_file),
            // What is no index completes nothing, now or later.
            Ok(None) | Err(_) => false,
        };
        if complete {
            self.waiting.lock().remove(index);
        }
        complete
    }
}

/// As much of a file as an index has.
fn read(trees: &Trees, index: &TreePath) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    trees.open_file(index)?.take(INDEX_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Far above the indexes of the largest models.
const INDEX_BYTES_MAX: u64 = 64 << 20;

/// The files that the index of a sharded model names: the values of its `weight_map`.
fn named_files(index: &[u8]) -> Option<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index: Index = serde_json::from_slice(index).ok()?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    let plain = |name: &String| !name.is_empty() && !name.contains('/') && name != "..";
    (!names.is_empty() && names.iter().all(plain)).then_some(names)
}

fn parent(path: &TreePath) -> TreePath {
    let above = path.path.rsplit_once('/').map_or("", |(directory, _)| directory);
    TreePath { tree: path.tree, path: above.to_owned() }
}

/// Another name in the directory of a file.
fn beside(path: &TreePath, name: &str) -> TreePath {
    let directory = parent(path);
    let path = match directory.path.as_str() {
        "" => escaped(name.as_bytes()),
        above => format!("{above}/{}", escaped(name.as_bytes())),
    };
    TreePath { path, ..directory }
}

/// Looks at what happens below the outputs and names the directories that have become checkpoints.
#[derive(Debug)]
pub(super) struct Watcher {
    outputs: Vec<TreePath>,
    found: Sender<Found>,
    waiting: Waiting,
    /// Completing files and their content, because each is told again when its metadata changes.
    announced: Mutex<HashSet<(TreePath, Digests)>>,
}

impl Watcher {
    /// A file below the outputs has its digest, or a sealed file has a new name.
    pub(crate) fn sealed(&self, path: &TreePath, digests: Digests) {
        let directory = parent(path);
        self.wake(&directory);
        let completes = completes(last(&path.path));
        if completes == Completes::Nothing || directory.path.split('/').any(is_temporary) {
            return;
        }
        if self.announced.lock().insert((path.clone(), digests)) {
            match completes {
                Completes::Index => self.announce(&directory, Found::Index(path.clone())),
                _ => self.announce(&directory, Found::Complete(directory.clone())),
            }
        }
    }

    /// A directory has a new name.
    pub(crate) fn directory_renamed(&self, from: &TreePath, to: &TreePath) {
        if is_temporary(last(&from.path)) && !is_temporary(last(&to.path)) {
            self.announce(to, Found::Complete(to.clone()));
        }
    }

    /// Announces the indexes of this directory again that wait for their files.
    fn wake(&self, directory: &TreePath) {
        let waiting = self.waiting.lock();
        let here = waiting.iter().filter(|index| parent(index) == *directory);
        for index in here {
            self.found.send(Found::Index(index.clone())).unwrap_or_default();
        }
    }

    fn announce(&self, directory: &TreePath, found: Found) {
        let watched =
            self.outputs.is_empty() || self.outputs.iter().any(|output| output.covers(directory));
        if watched {
            // Nobody listens any more when the run is over: its end commits everything.
            self.found.send(found).unwrap_or_default();
        }
    }
}

/// What the directory of a file becomes when the file is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Completes {
    /// A whole checkpoint: torch DCP's `.metadata` is renamed last, and a model may be one file.
    Directory,
    /// A model in several files, once all that the index names are there.
    Index,
    Nothing,
}

fn completes(name: &str) -> Completes {
    match name {
        ".metadata" | "model.safetensors" => Completes::Directory,
        _ if name.ends_with(".index.json") => Completes::Index,
        _ => Completes::Nothing,
    }
}

/// Names under which directories are written before they are renamed: Orbax, Lightning, Hugging
/// Face trainers.
fn is_temporary(name: &str) -> bool {
    name.contains(".orbax-checkpoint-tmp")
        || name.starts_with("tmp-")
        || name.starts_with(".tmp")
        || matches!(name.rsplit_once('.'), Some((_, "tmp" | "partial")))
}

fn last(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use attestfs_digest::{Blake3, Sha256};

    use super::*;

    fn path(path: &str) -> TreePath {
        TreePath { tree: 0, path: path.to_owned() }
    }

    fn found(outputs: &[&str], waiting: &[&str], events: impl Fn(&Watcher)) -> Vec<Found> {
        let (found, next) = mpsc::channel();
        let outputs = outputs.iter().map(|output| path(output)).collect();
        let waiting = waiting.iter().map(|index| path(index)).collect();
        let waiting = Arc::new(Mutex::new(waiting));
        let watcher = Watcher { outputs, found, waiting, announced: Mutex::default() };
        events(&watcher);
        drop(watcher);
        next.iter().collect()
    }

    /// Directories and indexes, in the order of their announcement.
    fn announced(outputs: &[&str], events: impl Fn(&Watcher)) -> Vec<String> {
        let name = |found| match found {
            Found::Complete(path) | Found::Index(path) => path.path,
            Found::End => panic!("the watcher does not end"),
        };
        found(outputs, &[], events).into_iter().map(name).collect()
    }

    fn digests(content: &[u8]) -> Digests {
        Digests { sha256: Sha256::of(content), blake3: Blake3::of(content) }
    }

    #[test]
    fn a_directory_that_loses_its_temporary_name_is_a_checkpoint() {
        let seen = announced(&["out"], |watcher| {
            watcher.directory_renamed(&path("out/1.orbax-checkpoint-tmp-7"), &path("out/1"));
            watcher.directory_renamed(&path("out/tmp-checkpoint-9"), &path("out/checkpoint-9"));
            watcher.directory_renamed(&path("out/a"), &path("out/b"));
            watcher.directory_renamed(&path("out/a.tmp"), &path("out/b.tmp"));
            watcher.directory_renamed(&path("else/a.tmp"), &path("else/a"));
        });
        assert_eq!(seen, ["out/1", "out/checkpoint-9"]);
    }

    #[test]
    fn the_file_that_is_written_last_completes_a_checkpoint() {
        let seen = announced(&[], |watcher| {
            watcher.sealed(&path("dcp/.metadata"), digests(b"1"));
            watcher.sealed(&path("dcp/.metadata.tmp"), digests(b"1"));
            watcher.sealed(&path("hf/model.safetensors.index.json"), digests(b"1"));
            watcher.sealed(&path("hf/model-00001-of-00002.safetensors"), digests(b"1"));
            watcher.sealed(&path("small/model.safetensors"), digests(b"1"));
            watcher.sealed(&path("a/tmp-9/model.safetensors"), digests(b"1"));
        });
        assert_eq!(seen, ["dcp", "hf/model.safetensors.index.json", "small"]);
    }

    #[test]
    fn a_file_that_is_told_again_announces_nothing_new() {
        let seen = announced(&[], |watcher| {
            watcher.sealed(&path("a/model.safetensors"), digests(b"1"));
            watcher.sealed(&path("a/model.safetensors"), digests(b"1"));
            watcher.sealed(&path("a/model.safetensors"), digests(b"2"));
        });
        assert_eq!(seen, ["a", "a"]);
    }

    #[test]
    fn an_index_that_waits_is_announced_again_when_a_file_beside_it_is_sealed() {
        let index = "hf/model.safetensors.index.json";
        let seen = found(&["hf"], &[index], |watcher| {
            watcher.sealed(&path("hf/model-2-of-2.safetensors"), digests(b"1"));
            watcher.sealed(&path("other/model-2-of-2.safetensors"), digests(b"1"));
        });
        assert_eq!(seen, [Found::Index(path(index))]);
    }

    #[test]
    fn an_index_names_plain_files_or_is_none() {
        let names = |text: &str| named_files(text.as_bytes());
        let two = names(r#"{"weight_map": {"a": "1.bin", "b": "2.bin", "c": "1.bin"}}"#).unwrap();
        assert_eq!(two.into_iter().collect::<Vec<_>>(), ["1.bin", "2.bin"]);
        for none in ["", "{}", r#"{"weight_map": {}}"#, r#"{"weight_map": {"a": "../1.bin"}}"#] {
            assert_eq!(names(none), None, "{none}");
        }
    }
}
