//! What a job was told is done.

use std::{collections::BTreeMap, fs, path::Path};

use sha2::{Digest, Sha256};

/// What holds of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It was being changed.
    Nothing,
    /// It was being written, and begins so.
    Begins {
        length: usize,
        sha256: String,
    },
    Holds {
        sha256: String,
    },
    Gone,
}

/// What holds of each file of the job, by its name. Also whether the job has begun.
pub(crate) fn read(path: &Path) -> (BTreeMap<String, Known>, bool) {
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut files = BTreeMap::new();
    let mut begun = false;
    // The last line is whole: each is one write.
    for line in text.lines() {
        let words: Vec<_> = line.split('\t').collect();
        let (name, known) = match words[..] {
            ["begun"] => {
                begun = true;
                continue;
            }
            ["touched", name] => (name, Known::Nothing),
            ["synced", name, length, sha256] => {
                let length = length.parse().unwrap();
                (name, Known::Begins { length, sha256: sha256.to_owned() })
            }
            ["closed", name, sha256] => (name, Known::Holds { sha256: sha256.to_owned() }),
            ["gone", name] => (name, Known::Gone),
            _ => panic!("{line:?}"),
        };
        files.insert(name.to_owned(), known);
    }
    (files, begun)
}

impl Known {
    /// Holds it against the store.
    pub(crate) fn check(&self, stored: &Path) {
        let content = fs::read(stored).ok();
        match self {
            Self::Nothing => {}
            Self::Gone => assert!(content.is_none(), "{} is there", stored.display()),
            Self::Holds { sha256 } => {
                let content = content.unwrap_or_else(|| panic!("{} is lost", stored.display()));
                assert_eq!(sha256_of(&content), *sha256, "{}", stored.display());
            }
            Self::Begins { length, sha256 } => {
                let content = content.unwrap_or_else(|| panic!("{} is lost", stored.display()));
                assert!(content.len() >= *length, "{}: {}", stored.display(), content.len());
                assert_eq!(sha256_of(&content[..*length]), *sha256, "{}", stored.display());
            }
        }
    }
}

pub(crate) fn sha256_of(content: &[u8]) -> String {
    attestfs_digest::Sha256(Sha256::digest(content).into()).to_string()
}
