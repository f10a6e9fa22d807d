//! What a store holds, looked at below the mount.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use attestfs_digest::Digests;

use crate::common::digests_of;

/// Everything below a directory, by its path.
pub(crate) type Tree = BTreeMap<String, Entry>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) content: Content,
    pub(crate) mode: u32,
    /// Directories have as many as the filesystem wants.
    links: Option<u64>,
    note: Option<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    File(Box<Digests>),
    Link(PathBuf),
    Directory,
}

pub(crate) fn tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    collect(root, "", &mut tree);
    tree
}

fn collect(directory: &Path, prefix: &str, tree: &mut Tree) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        let found = Entry::at(&entry.path());
        if found.content == Content::Directory {
            collect(&entry.path(), &format!("{name}/"), tree);
        }
        tree.insert(name, found);
    }
}

impl Entry {
    fn at(path: &Path) -> Self {
        let stat = fs::symlink_metadata(path).unwrap();
        let content = match stat.file_type() {
            kind if kind.is_dir() => Content::Directory,
            kind if kind.is_symlink() => Content::Link(fs::read_link(path).unwrap()),
            _ => Content::File(Box::new(digests_of(path))),
        };
        let links = (content != Content::Directory).then_some(stat.nlink());
        let mut note = vec![0; 64];
        let length = rustix::fs::lgetxattr(path, "user.note", &mut note).ok();
        let note = length.map(|length| note[..length].to_vec());
        Self { content, mode: stat.mode(), links, note }
    }

    pub(crate) fn digests(&self) -> Option<Digests> {
        match &self.content {
            Content::File(digests) => Some(**digests),
            Content::Link(_) | Content::Directory => None,
        }
    }
}
