//! Which events complete a checkpoint, as training frameworks write them (`--checkpoint-rule`).

use std::{
    collections::HashSet,
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
};

use attestfs_digest::Digests;
use attestfs_fs::TreePath;
use parking_lot::Mutex;

use super::{finish, orders::Orders};
use crate::client::RunLink;

/// Commits checkpoints in the background, one after the other, as the rule finds them.
#[derive(Debug)]
pub(super) struct Checkpoints {
    found: Sender<Found>,
    committer: JoinHandle<()>,
}

/// What the watcher tells the committer.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Complete(TreePath),
    /// The run is over.
    End,
}

impl Checkpoints {
    pub(super) fn start(orders: &Arc<Orders>, link: &Arc<RunLink>) -> Self {
        let (found, next) = mpsc::channel();
        let (orders, link) = (Arc::clone(orders), Arc::clone(link));
        let committer = thread::spawn(move || commit_each(&next, &orders, &link));
        Self { found, committer }
    }

    /// Watches below `outputs`; everything, when there are none.
    pub(super) fn watcher(&self, outputs: Vec<TreePath>) -> Watcher {
        Watcher { outputs, found: self.found.clone(), announced: Mutex::default() }
    }

    /// Waits until all that were found are committed.
    pub(super) fn finish(self) {
        // The committer is there until it gets this; if it panicked, that was reported by then.
        self.found.send(Found::End).unwrap_or_default();
        self.committer.join().unwrap_or_default();
    }
}

fn commit_each(found: &Receiver<Found>, orders: &Orders, link: &RunLink) {
    while let Ok(Found::Complete(directory)) = found.recv() {
        let path = orders.plan.path_of(&directory);
        match orders.checkpoint(&path) {
            Ok(order) => finish::commit_checkpoint(link, order, orders),
            Err(failure) => orders
                .plan
                .console
                .say(format_args!("no checkpoint of {}: {failure}", path.display())),
        }
    }
}

/// Looks at what happens below the outputs and names the directories that have become checkpoints.
#[derive(Debug)]
pub(super) struct Watcher {
    outputs: Vec<TreePath>,
    found: Sender<Found>,
    /// Completing files and their content, because each is told again when its metadata changes.
    announced: Mutex<HashSet<(TreePath, Digests)>>,
}

impl Watcher {
    /// A file below the outputs has its digest, or a sealed file has a new name.
    pub(super) fn sealed(&self, path: &TreePath, digests: Digests) {
        let Some(directory) = completed_by_file(&path.path) else {
            return;
        };
        if self.announced.lock().insert((path.clone(), digests)) {
            self.announce(TreePath { tree: path.tree, path: directory.to_owned() });
        }
    }

    /// A directory has a new name.
    pub(super) fn directory_renamed(&self, from: &TreePath, to: &TreePath) {
        if is_temporary(last(&from.path)) && !is_temporary(last(&to.path)) {
            self.announce(to.clone());
        }
    }

    fn announce(&self, directory: TreePath) {
        let watched =
            self.outputs.is_empty() || self.outputs.iter().any(|output| output.covers(&directory));
        if watched {
            // Nobody listens any more when the run is over: its end commits everything.
            self.found.send(Found::Complete(directory)).unwrap_or_default();
        }
    }
}

/// The directory that is a whole checkpoint once this file is there:
/// torch DCP's `.metadata` (renamed last), the index of a sharded model, or a model in one file. Below
/// a temporary name nothing is whole: the rename will tell.
fn completed_by_file(path: &str) -> Option<&str> {
    let (directory, name) = path.rsplit_once('/')?;
    let completes = name == ".metadata"
        || name == "model.safetensors"
        || name.ends_with(".safetensors.index.json")
        || name.ends_with(".bin.index.json");
    (completes && !directory.split('/').any(is_temporary)).then_some(directory)
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

    fn announced(outputs: &[&str], events: impl Fn(&Watcher)) -> Vec<String> {
        let (found, next) = mpsc::channel();
        let outputs = outputs.iter().map(|output| path(output)).collect();
        let watcher = Watcher { outputs, found, announced: Mutex::default() };
        events(&watcher);
        drop(watcher);
        let directory = |found| match found {
            Found::Complete(directory) => directory.path,
            Found::End => panic!("the watcher does not end"),
        };
        next.iter().map(directory).collect()
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
        assert_eq!(seen, ["dcp", "hf", "small"]);
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
}
