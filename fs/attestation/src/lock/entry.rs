//! What the lines of a lock hold, and how they are spelt.

use std::fmt;

use attestfs_digest::Sha256;

use crate::name::{escaped, push_formatted, unescaped};

/// The first line.
pub const LOCK_HEADER: &str = "# attestfs lock, version 1";

/// Largest lock that is read, in bytes. Manifests are bounded by themselves.
pub const LOCK_MAX: usize = 64 * 1024 * 1024;

/// What the directory of a lock's manifests is called beyond the lock.
pub const MANIFESTS_SUFFIX: &str = ".d";

/// What a manifest is called in there.
pub fn manifest_name(manifest: Sha256) -> String {
    format!("{manifest}.manifest")
}

/// Most bytes of all manifests of a lock: some four million files.
pub(super) const MANIFESTS_MAX: usize = 512 * 1024 * 1024;

/// Most lines of one directory. Of one that would have more, a manifest is kept.
pub(super) const LINES_MAX: usize = crate::manifest::LISTED_MAX;

/// The path of the tree's root as a line has it.
pub(super) const ROOT: &str = "./";

/// What precedes the digest of a manifest.
pub(super) const TREE: &str = "tree:";

/// A content that a run opened and that is to be locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locked {
    /// Of the whole content.
    pub sha256: Sha256,
    /// Bytes. For people, who see in a diff what became of a file; the digest decides.
    pub size: u64,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// `<path> <sha256> <size>`.
    File { path: String, sha256: Sha256, size: u64 },
    /// `<path>/ tree:<sha256> <files>`: everything below a directory, in a manifest.
    Tree { path: String, manifest: Sha256, files: usize },
}

impl Entry {
    /// Where it stands among the others: in the order of the bytes of its path, that of a directory
    /// ending in `/`, the root first.
    pub(super) fn key(&self) -> Vec<u8> {
        match self {
            Self::File { path, .. } => unescaped(path),
            Self::Tree { path, .. } if path.is_empty() => Vec::new(),
            Self::Tree { path, .. } => unescaped(&format!("{path}/")),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, sha256, size } => writeln!(f, "{} {sha256} {size}", spelt(path)),
            Self::Tree { path, manifest, files } => {
                let path = if path.is_empty() { "." } else { &spelt(path) };
                writeln!(f, "{path}/ {TREE}{manifest} {files}")
            }
        }
    }
}

/// An escaped path on one line: what a terminal or an editor would obey instead of showing is
/// written byte by byte, as `\xHH`. [`crate::unescaped`] reads it.
pub(super) fn spelt(path: &str) -> String {
    let mut spelt = String::with_capacity(path.len());
    for character in path.chars() {
        if is_obeyed(character) {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                push_formatted(&mut spelt, format_args!(r"\x{byte:02x}"));
            }
        } else {
            spelt.push(character);
        }
    }
    spelt
}

/// The path that a line means; none when [`spelt`] writes it otherwise.
pub(super) fn meant(text: &str) -> Option<String> {
    let path = escaped(&unescaped(text));
    (spelt(&path) == text).then_some(path)
}

/// Control characters, and those that hide or reorder what is around them.
fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        )
}
