//! The indexes of a state directory: which attestation speaks of which name, file or content.

use std::{cell::RefCell, fs};

use attestfs_attestation::{Attestations, Publications};
use attestfs_daemon::{
    config::{Environment, StateDir},
    publication::{Published, name_key},
};
use attestfs_digest::Sha256;
use attestfs_fs::{BundleSource, FileKey, Identity};
use tempfile::TempDir;

use crate::corpus::weights;

target!("index", holds);

thread_local! {
    static PLACE: RefCell<TempDir> = RefCell::new(TempDir::with_prefix("attestfs-fuzz-").unwrap());
}

/// The file of which the corpus speaks.
pub(crate) const FILE: Identity = Identity {
    file: FileKey { filesystem: 0x10, inode: 12, born_ns: 3 },
    size: 7,
    mtime_ns: 1,
    ctime_ns: 2,
};

/// The artifact of which it speaks, and a name in it.
pub(crate) const NAME: (&str, &str) = ("/data/model", "model.safetensors");

fn holds(bytes: &[u8]) {
    PLACE.with_borrow(|place| {
        let state = StateDir::resolve(Some(place.path()), &Environment::default()).unwrap();
        state.prepare().unwrap();
        for index in ["subjects.index", "names.index", "files.index"] {
            fs::write(state.attestations().join(index), bytes).unwrap();
        }
        says_only_what_is_written(&Published::of(&state), bytes);
    });
}

fn says_only_what_is_written(published: &Published, bytes: &[u8]) {
    let written = |words: &[String]| {
        let line = words.join(" ");
        bytes.split(|byte| *byte == b'\n').any(|found| found == line.as_bytes())
    };
    let (root, name) = NAME;
    let key = name_key(root, name).to_string();
    for publication in published.history(root, name).unwrap() {
        let digests = [publication.content, publication.statement].map(|digest| digest.to_string());
        assert!(written(&[&[key.clone()][..], &digests].concat()));
    }
    for statement in published.naming(weights().sha256) {
        assert!(written(&[weights().sha256, statement].map(|digest: Sha256| digest.to_string())));
    }
    if let Some(file) = published.published(&FILE).unwrap() {
        let end = format!(" {}", file.statement);
        let line = |line: &[u8]| {
            line.ends_with(end.as_bytes()) && line.starts_with(b"0000000000000010:12 ")
        };
        assert!(bytes.split(|byte| *byte == b'\n').any(line));
    }
}
