//! Writing a lock so that a change of the data is a change of few lines.

use std::collections::BTreeMap;

use attestfs_digest::Sha256;

use super::entry::{Entry, LINES_MAX, LOCK_HEADER, Locked};
use crate::{manifest::Manifest, name::push_formatted, statement::sha256};

/// The file of a lock, and the manifests that belong beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenLock {
    bytes: Vec<u8>,
    manifests: Vec<Manifest>,
}

impl WrittenLock {
    /// Locks what was opened in each tree. The same contents make the same bytes.
    pub fn of(trees: &[BTreeMap<String, Locked>]) -> Self {
        Self::within(trees, LINES_MAX)
    }

    /// The same with another bound for the lines of a directory.
    pub(super) fn within(trees: &[BTreeMap<String, Locked>], lines_max: usize) -> Self {
        let mut text = format!("{LOCK_HEADER}\n");
        let mut manifests = Vec::new();
        for (number, tree) in (1..).zip(trees) {
            if trees.len() > 1 {
                push_formatted(&mut text, format_args!("[dir {number}]\n"));
            }
            let files: Vec<_> =
                tree.iter().map(|(path, locked)| (path.as_str(), *locked)).collect();
            let mut entries = lines("", &files, lines_max, &mut manifests);
            entries.sort_by_cached_key(Entry::key);
            text.extend(entries.iter().map(Entry::to_string));
        }
        Self { bytes: text.into_bytes(), manifests }
    }

    /// The file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Each is to be kept as `<its sha256>.manifest`.
    pub fn manifests(&self) -> &[Manifest] {
        &self.manifests
    }

    /// Of the file.
    pub fn sha256(&self) -> Sha256 {
        sha256(&self.bytes)
    }
}

/// The lines of a directory and of those below it, from the bottom up: where they would be more
/// than `lines_max`, a manifest takes their place. `files` are sorted and lie below the directory.
fn lines(
    directory: &str,
    files: &[(&str, Locked)],
    lines_max: usize,
    manifests: &mut Vec<Manifest>,
) -> Vec<Entry> {
    let before = manifests.len();
    let mut entries = Vec::new();
    let mut rest = files;
    while let [(path, locked), after @ ..] = rest {
        match child_directory(directory, path) {
            None => {
                let path = (*path).to_owned();
                entries.push(Entry::File { path, sha256: locked.sha256, size: locked.size });
                rest = after;
            }
            Some(child) => {
                let inside = rest.partition_point(|(path, _)| is_inside(child, path));
                entries.append(&mut lines(child, &rest[..inside], lines_max, manifests));
                rest = &rest[inside..];
            }
        }
    }
    if entries.len() <= lines_max {
        return entries;
    }
    // What it takes in has no lines of its own any more.
    manifests.truncate(before);
    let names = files.iter().map(|(path, locked)| (relative(directory, path), locked.sha256));
    let manifest = Manifest::of(names);
    let (path, sha256) = (directory.to_owned(), manifest.sha256());
    let entry = Entry::Tree { path, manifest: sha256, files: manifest.files() };
    manifests.push(manifest);
    vec![entry]
}

/// The directory in `directory` that `path` lies in; none when it lies in `directory` itself.
fn child_directory<'a>(directory: &str, path: &'a str) -> Option<&'a str> {
    let begin = path.len() - relative(directory, path).len();
    let end = path[begin..].find('/')?;
    Some(&path[..begin + end])
}

fn relative<'a>(directory: &str, path: &'a str) -> &'a str {
    let rest = path.strip_prefix(directory).unwrap_or(path);
    if directory.is_empty() { rest } else { rest.strip_prefix('/').unwrap_or(rest) }
}

fn is_inside(directory: &str, path: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}
