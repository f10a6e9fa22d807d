use std::{ffi::OsString, fmt, os::unix::ffi::OsStringExt, path::PathBuf};

use attestfs_attestation::{escaped, unescaped};
use attestfs_digest::{Digests, Sha256};
use serde::{Deserialize, Serialize};

use crate::identity::{FileKey, Identity};

/// One content of one file as one run saw it: numbered from 1 within the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunVersion(pub u64);

/// A path below one of the trees (`--dir`) of a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TreePath {
    /// Index of the tree, in the order of the `--dir` options.
    pub tree: u16,
    /// `/`-separated, relative to the tree's root, spelt by [`attestfs_attestation::escaped`]. Empty
    /// for the root itself.
    pub path: String,
}

impl TreePath {
    /// As system calls want it, relative to the tree's root.
    pub(crate) fn relative(&self) -> PathBuf {
        PathBuf::from(OsString::from_vec(unescaped(&self.path)))
    }

    /// Whether facts tell it whole. If not, no system call takes it either: it was made piece by piece.
    pub(crate) fn is_told_whole(&self) -> bool {
        self.line_bytes() <= TOLD_BYTES_MAX
    }

    /// As facts tell it: where it begins and the last name, if it is too long.
    pub(crate) fn told(self) -> Self {
        if self.is_told_whole() {
            return self;
        }
        let (above, name) = self.path.rsplit_once('/').unwrap_or_default();
        let begin = &above[..above.floor_char_boundary(BEGIN_BYTES_MAX)];
        let (begin, _) = begin.rsplit_once('/').unwrap_or_default();
        Self { tree: self.tree, path: format!("{begin}/…/{name}") }
    }

    /// Bytes that the path takes in a line of JSON.
    pub(crate) fn line_bytes(&self) -> usize {
        let bytes = |character| match character {
            '"' | '\\' => 2,
            '\0'..' ' => r"\u0000".len(),
            _ => character.len_utf8(),
        };
        self.path.chars().map(bytes).sum()
    }

    /// For a file whose directories were moved about below the mount so that no path leads to it.
    pub(crate) fn nowhere() -> Self {
        Self { tree: 0, path: "?".to_owned() }
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

/// Any path that system calls take has room: of one byte JSON makes six at the most.
const TOLD_BYTES_MAX: usize = 6 * 4096;

/// Of a path that is too long, what lies above this is told.
const BEGIN_BYTES_MAX: usize = 1024;

/// A sentence as facts tell it: cut if it is too long, for it may name several files.
pub(crate) fn told_sentence(mut sentence: String) -> String {
    if sentence.len() > SENTENCE_BYTES_MAX {
        sentence.truncate(sentence.floor_char_boundary(SENTENCE_BYTES_MAX));
        sentence.push('…');
    }
    sentence
}

/// Two of the longest names of files, and what is said of them.
const SENTENCE_BYTES_MAX: usize = 4096;

/// Who opened a file. An annotation: the mount, not the process, says which run it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Process {
    /// Thread group id as the serving process sees it.
    pub pid: Option<u32>,
    /// Of the caller, at open. Through a mount with mapped user ids the kernel tells it only of those
    /// who create something, as the id that the new file gets.
    pub uid: Option<u32>,
    /// `/proc/<pid>/exe`.
    pub executable: Option<String>,
    /// The path in `/proc/<pid>/cgroup`.
    pub cgroup: Option<String>,
}

/// Why a content that was there before the run has no digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "reason", content = "detail")]
pub enum Unknown {
    /// The file changed while it was being hashed, or before its turn came.
    #[error("it changed before it could be hashed")]
    Changed,
    /// `--inputs` excludes it.
    #[error("--inputs leaves it out")]
    NotWanted,
    /// Its apparent size exceeds the bound.
    #[error("its apparent size exceeds the bound for hashing")]
    TooLarge,
    /// It has a path that is too long to be recorded.
    #[error("its path is too long to be recorded")]
    PathTooLong,
    /// The run ended (was killed) before its turn came.
    #[error("the run ended before it was hashed")]
    RunEnded,
    /// The run was lost, or its filesystem failed, before what was hashed was synced: it may be lost as well.
    #[error("it is not known whether what was hashed reached the disk")]
    Unproven,
    /// The backing store failed.
    #[error("it could not be read: {0}")]
    Unreadable(String),
}

/// Why a content that the run wrote has no digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "reason", content = "detail")]
pub enum Unsealed {
    /// A writer is still there.
    #[error("still open for writing")]
    Open,
    /// Its apparent size exceeds the bound: mostly a hole.
    #[error("sparse: its apparent size exceeds the bound for hashing")]
    Sparse,
    /// Somebody changed it below the mount after it was sealed.
    #[error("changed below the mount")]
    ChangedBelow,
    /// A rule guards it, and the run built it on content that was not admitted: what the run may not
    /// read itself it does not vouch for.
    #[error("built on content that was not admitted: it has to be emptied first")]
    NotAdmitted,
    /// All its paths are too long to be recorded: longer than what system calls take.
    #[error("its path is too long to be recorded")]
    PathTooLong,
    /// A write was answered, and then the backing store failed.
    #[error("a part of it could not be stored: {0}")]
    NotStored(String),
    /// The run was lost, or its filesystem failed, before it was synced.
    #[error("it is not known whether it reached the disk")]
    Unproven,
    /// The backing store failed.
    #[error("it could not be read back: {0}")]
    Unreadable(String),
}

impl fmt::Display for Process {
    /// For sentences: `process 7 (/usr/bin/python3)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(pid) = self.pid else { return f.write_str("a process that cannot be seen") };
        write!(f, "process {pid}")?;
        match &self.executable {
            Some(program) => write!(f, " ({})", escaped(program.as_bytes())),
            None => Ok(()),
        }
    }
}

/// What a mount tells the control plane, in the order in which it happened. A journal of these is
/// all that lineage is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "fact")]
pub enum Fact {
    /// The run first opened content that it did not write: a material. Its digest follows in
    /// [`Fact::Hashed`] or [`Fact::NotHashed`].
    Opened {
        /// Of the content found.
        version: RunVersion,
        /// At open.
        identity: Identity,
        /// At open.
        path: TreePath,
        /// Who.
        by: Process,
    },
    /// The run opened a material of several links, and may have done so by this name as well: the
    /// kernel says which file it opens, not by which of its names.
    OpenedAs {
        /// As in [`Fact::Opened`].
        version: RunVersion,
        /// Another name than those that were told of this version.
        path: TreePath,
    },
    /// The digest of a material, of exactly this identity.
    Hashed {
        /// As in [`Fact::Opened`].
        version: RunVersion,
        /// What was hashed.
        identity: Identity,
        /// The digests.
        digests: Digests,
    },
    /// A material stays without digest.
    NotHashed {
        /// As in [`Fact::Opened`].
        version: RunVersion,
        /// Why.
        unknown: Unknown,
    },
    /// The run began to write a new version of this file.
    Written {
        /// Of the content that is being written.
        version: RunVersion,
        /// Which file.
        file: FileKey,
        /// At that time.
        path: TreePath,
        /// Who.
        by: Process,
    },
    /// The last writer left and the digest is final. Comes again for the same version, with the same
    /// digests, when its identity or name changes (rename, chmod): the last one counts.
    Sealed {
        /// As in [`Fact::Written`].
        version: RunVersion,
        /// What a `stat` says of this content now.
        identity: Identity,
        /// The digests.
        digests: Digests,
        /// The name now, of several the one that was seen last; none when the file is unlinked.
        path: Option<TreePath>,
        /// The other names that passed through the mount: hard links. More of them may follow in
        /// [`Fact::AlsoNamed`].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        also: Vec<TreePath>,
    },
    /// A version that the run wrote stays without digest.
    Unsealed {
        /// As in [`Fact::Written`].
        version: RunVersion,
        /// Why.
        unsealed: Unsealed,
        /// As in [`Fact::Sealed`].
        path: Option<TreePath>,
        /// As in [`Fact::Sealed`].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        also: Vec<TreePath>,
    },
    /// More of the names with which this version was just told as [`Fact::Sealed`] or
    /// [`Fact::Unsealed`]: those that found no place there. Other files may be told of in between.
    AlsoNamed {
        /// As in [`Fact::Written`].
        version: RunVersion,
        /// None that was told already.
        also: Vec<TreePath>,
    },
    /// The content of this version, which the run wrote, is gone: overwritten by this run as a later
    /// version, or unlinked.
    Gone {
        /// As in [`Fact::Written`].
        version: RunVersion,
    },
    /// The gate refused to let this content be read, or would have in audit mode; or what was
    /// published, or is being read, was to be changed. Told when it happens; the same refusal to the same process not
    /// twice within a second.
    Refused {
        /// By which name.
        path: TreePath,
        /// Of the content, where it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<Sha256>,
        /// The number of the check that failed.
        check: u8,
        /// A sentence.
        reason: String,
        /// What whoever reads this can do about it.
        next_step: String,
        /// Whether the open failed; not in audit mode.
        enforced: bool,
        /// Who wanted to read or to change it.
        by: Process,
    },
    /// Published content that the run did not write lost its last name through the mount.
    Removed {
        /// Which file.
        file: FileKey,
        /// The name that went last.
        path: TreePath,
        /// Who.
        by: Process,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: String) -> TreePath {
        TreePath { tree: 1, path }
    }

    #[test]
    fn a_path_that_system_calls_take_is_told_whole_whatever_is_in_it() {
        for byte in [b'a', b'\n', b'\x01', b'"', b'\\', b'\xff'] {
            let longest = path(escaped(&[byte; 4095]));
            assert_eq!(longest.clone().told(), longest);
        }
    }

    #[test]
    fn of_a_path_that_is_too_long_the_beginning_and_the_name_are_told() {
        let (directory, name) = (format!("{}/", "ä".repeat(127)), "\u{1}".repeat(255));
        let long = path(directory.repeat(100) + &name);
        let told = long.clone().told();
        assert_eq!(told, path(directory.repeat(4) + "…/" + &name));
        assert!(!long.is_told_whole() && told.is_told_whole());
    }

    #[test]
    fn no_sentence_is_longer_than_is_read() {
        let longest = "ä".repeat(SENTENCE_BYTES_MAX / 2);
        assert_eq!(told_sentence(longest.clone()), longest);
        assert_eq!(told_sentence(longest.clone() + "b"), longest + "…");
    }
}
