//! What a job was told is done, and what holds of the files after stages were published.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use sha2::{Digest, Sha256};

/// What the stages of a round have left, as far as it was acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The SHA-256 of each file of each stage that was published, by its path, as long as nobody has touched it since.
    published: BTreeMap<String, BTreeMap<String, String>>,
    /// What was synced by the job, likewise, of whichever stage.
    synced: BTreeMap<String, String>,
    /// By stages that were cut off, in whose directories nothing was published since.
    touched: BTreeSet<String>,
    /// How much of the telling was read.
    read: usize,
}

impl Told {
    /// Takes in what the job of a stage has told, and whether the stage is published.
    pub(crate) fn take(&mut self, telling: &Path, stage: &str, is_published: bool) {
        let text = fs::read_to_string(telling).unwrap_or_default();
        let mut holds = BTreeMap::new();
        for line in text[self.read..].lines() {
            let words: Vec<_> = line.split('\t').collect();
            match words[..] {
                ["touched", path] => self.touch(path),
                ["synced", path, sha256] => {
                    self.synced.insert(path.to_owned(), sha256.to_owned());
                }
                ["holds", path, sha256] => {
                    holds.insert(path.to_owned(), sha256.to_owned());
                }
                _ => panic!("{line:?}"),
            }
        }
        self.read = text.len();
        if is_published {
            let directory = holds.keys().find_map(|path| path.split('/').next());
            self.touched.retain(|path| path.split('/').next() != directory);
            self.published.insert(stage.to_owned(), holds);
        }
    }

    fn touch(&mut self, path: &str) {
        self.touched.insert(path.to_owned());
        self.synced.remove(path);
        for files in self.published.values_mut() {
            files.remove(path);
        }
    }

    /// Each stage that was published, and what is still to be there of it.
    pub(crate) fn published(&self) -> impl Iterator<Item = (&String, &BTreeMap<String, String>)> {
        self.published.iter()
    }

    /// What the job has synced and not touched again.
    pub(crate) fn synced(&self) -> impl Iterator<Item = (&String, &String)> {
        self.synced.iter()
    }

    /// Whether somebody has begun to change anything in this directory.
    pub(crate) fn is_any_touched(&self, directory: &str) -> bool {
        self.touched.iter().any(|path| path.split('/').next() == Some(directory))
    }
}

pub(crate) fn sha256_of(content: &[u8]) -> String {
    attestfs_digest::Sha256(Sha256::digest(content).into()).to_string()
}
