use std::fmt;

use attestfs_digest::{Blake3, Digests, Sha256};
use serde::Serialize;

use crate::name::is_canonical;

/// Something below the directory that is signed or verified: everything but directories that hold
/// something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the directory, `/` between components, exactly as the file system has it. Of a
    /// name that is not UTF-8 any approximation: it is only shown.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
}

/// What lies under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File(Content),
    /// A symbolic link, whatever it points to.
    Symlink,
    /// A directory without entries.
    EmptyDirectory,
    /// A pipe, socket or device.
    Special,
    /// Its name is not UTF-8.
    NotUtf8,
    /// A regular file that the caller does not let be signed, and why: a sentence for people.
    Withheld(String),
}

/// What a regular file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Content {
    /// Of the whole content.
    pub digests: Known,
    /// Bytes.
    pub size: u64,
}

/// Which digests of a content are known, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Known {
    /// Both were computed.
    Both(Digests),
    /// Only this one was.
    Sha256 {
        /// As it was computed.
        sha256: Sha256,
    },
    /// Only BLAKE3 was. That the SHA-256 belongs to it says the only signer who speaks of the content:
    /// enough to verify what he signed, and for nothing else.
    Blake3(Digests),
}

impl Content {
    /// Of which both digests were computed.
    pub fn new(digests: Digests, size: u64) -> Self {
        Self { digests: Known::Both(digests), size }
    }

    /// The SHA-256, computed or stated.
    pub fn sha256(&self) -> Sha256 {
        match self.digests {
            Known::Both(digests) | Known::Blake3(digests) => digests.sha256,
            Known::Sha256 { sha256 } => sha256,
        }
    }

    /// The BLAKE3, if it was computed.
    pub fn blake3(&self) -> Option<Blake3> {
        match self.digests {
            Known::Both(digests) | Known::Blake3(digests) => Some(digests.blake3),
            Known::Sha256 { .. } => None,
        }
    }

    /// Whether its SHA-256 is what a signer says and not what somebody computed.
    pub fn is_by_blake3(&self) -> bool {
        matches!(self.digests, Known::Blake3(_))
    }
}

impl Entry {
    /// The one place that decides what can be signed.
    pub(super) fn signable(&self) -> Result<Content, OmsRefusal> {
        let name = self.name.clone();
        match &self.kind {
            EntryKind::File(_) if !is_canonical(&name) => Err(OmsRefusal::Name { name }),
            EntryKind::File(content) if content.is_by_blake3() => {
                let reason = "nobody has computed its SHA-256".to_owned();
                Err(OmsRefusal::Withheld { name, reason })
            }
            EntryKind::File(content) => Ok(*content),
            EntryKind::Symlink => Err(OmsRefusal::Symlink { name }),
            EntryKind::EmptyDirectory => Err(OmsRefusal::EmptyDirectory { name }),
            EntryKind::Special => Err(OmsRefusal::Special { name }),
            EntryKind::NotUtf8 => Err(OmsRefusal::NotUtf8 { name }),
            EntryKind::Withheld(reason) => {
                Err(OmsRefusal::Withheld { name, reason: reason.clone() })
            }
        }
    }
}

/// Why one entry keeps a directory from being signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OmsRefusal {
    /// Verifiers would follow it to content that nobody signed.
    #[error(
        "'{name}' is a symbolic link: a model signature covers files themselves, as in a copy made with cp -rL"
    )]
    Symlink {
        /// Of the link.
        name: String,
    },
    /// A model signature cannot hold it, and verifiers would not miss it.
    #[error("'{name}' is an empty directory, which a model signature cannot protect: remove it")]
    EmptyDirectory {
        /// Of the directory.
        name: String,
    },
    /// Not content.
    #[error("'{name}' is a pipe, socket or device: move it away")]
    Special {
        /// Of the file.
        name: String,
    },
    /// JSON cannot hold its name.
    #[error("'{name}' is not named in UTF-8: rename it")]
    NotUtf8 {
        /// As far as it can be shown.
        name: String,
    },
    /// The caller's own reason.
    #[error("'{name}': {reason}")]
    Withheld {
        /// Of the file.
        name: String,
        /// A sentence.
        reason: String,
    },
    /// A fault of the caller, not of the directory.
    #[error("'{name}' is no path below the directory, or is listed twice")]
    Name {
        /// As given.
        name: String,
    },
    /// A signature over nothing.
    #[error("the directory '{name}' holds no file that could be signed")]
    Nothing {
        /// Of the directory.
        name: String,
    },
    /// No verifier of ours would read it.
    #[error(
        "{files} files make a model.sig that is too large to be read again: sign a directory with fewer, or pack them"
    )]
    TooMany {
        /// How many would be listed.
        files: usize,
    },
}

impl OmsRefusal {
    /// What whoever verifies the directory can do about it.
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::Symlink { .. } => {
                "if it has taken the place of a file, copy the directory again; of a cache whose names are links verify what they lead to, or a copy made with cp -rL"
            }
            _ => "do as it says, or copy the directory again",
        }
    }
}

/// Everything that keeps a directory from being signed, so that one look is enough. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OmsRefusals(pub Vec<OmsRefusal>);

impl fmt::Display for OmsRefusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_MAX: usize = 20;
        let shown: Vec<String> = self.0.iter().take(SHOWN_MAX).map(ToString::to_string).collect();
        f.write_str(&shown.join("; "))?;
        match self.0.len().saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl std::error::Error for OmsRefusals {}
