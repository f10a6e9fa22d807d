//! One file's content through a run: found or written, hashed or not.

use std::mem;

use attestfs_digest::{Digests, FileHasher};

use crate::{
    fact::{RunVersion, TreePath, Unsealed},
    identity::Identity,
};

/// The content of one file as the run sees it.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) state: State,
    /// Handles that may write.
    pub(crate) writers: u32,
    /// Counts the changes, so that a digest of an older content is told from one of this.
    pub(crate) changes: u64,
    /// The names under which the last fact about this version spoke of it.
    pub(crate) told_paths: Vec<TreePath>,
    /// The identity that the kernel's page cache was filled under.
    pub(crate) cached: Option<Identity>,
}

/// ```text
///           open                    hashed
///   Found --------> Material -------------------> Hashed
///     |                | \ given up                 |
///     |                |  `-----> Unhashed          |      last writer
///     | first change   |              |             |         left         digest final
///     `----------------+--------------+-------------+--> Written --> Settling --> Sealed
///                                                          ^            |  `----> Unsealed
///                                                          `------------+-----------'
///                                                              a change
/// ```
#[derive(Debug, Default)]
pub(crate) enum State {
    /// It was there before, and the run has not opened it.
    #[default]
    Found,
    /// It was there before; its digest is being computed.
    Material { version: RunVersion, identity: Identity },
    /// It was there before; its digest is known.
    Hashed { version: RunVersion, identity: Identity, digests: Digests },
    /// It was there before; it stays without digest.
    Unhashed { identity: Identity },
    /// The run changed it, and may go on. The identity is that after its last change.
    Written { version: RunVersion, identity: Identity, hasher: Box<FileHasher> },
    /// The last writer left; the digest is being completed.
    Settling { version: RunVersion, identity: Identity },
    /// The run wrote it and the digest is final.
    Sealed { version: RunVersion, identity: Identity, digests: Digests },
    /// The run wrote it and it has no digest.
    Unsealed { version: RunVersion, unsealed: Unsealed },
}

impl Content {
    /// Whether facts were told about this file, or a writer is there: it must not be forgotten.
    pub(crate) fn matters(&self) -> bool {
        self.writers > 0 || !matches!(self.state, State::Found)
    }

    /// The identity that the state vouches for.
    pub(crate) fn identity(&self) -> Option<Identity> {
        match &self.state {
            State::Material { identity, .. }
            | State::Hashed { identity, .. }
            | State::Unhashed { identity }
            | State::Written { identity, .. }
            | State::Settling { identity, .. }
            | State::Sealed { identity, .. } => Some(*identity),
            State::Found | State::Unsealed { .. } => None,
        }
    }

    pub(crate) fn identity_mut(&mut self) -> Option<&mut Identity> {
        match &mut self.state {
            State::Material { identity, .. }
            | State::Hashed { identity, .. }
            | State::Unhashed { identity }
            | State::Written { identity, .. }
            | State::Settling { identity, .. }
            | State::Sealed { identity, .. } => Some(identity),
            State::Found | State::Unsealed { .. } => None,
        }
    }

    /// The digests, when they are known and of this content.
    pub(crate) fn digests(&self) -> Option<Digests> {
        match &self.state {
            State::Hashed { digests, .. } | State::Sealed { digests, .. } => Some(*digests),
            _ => None,
        }
    }

    /// The version that the run wrote, if it did.
    pub(crate) fn own_version(&self) -> Option<RunVersion> {
        match &self.state {
            State::Written { version, .. }
            | State::Settling { version, .. }
            | State::Sealed { version, .. }
            | State::Unsealed { version, .. } => Some(*version),
            State::Found
            | State::Material { .. }
            | State::Hashed { .. }
            | State::Unhashed { .. } => None,
        }
    }

    /// Takes what a content that was being written is followed by; leaves any other state alone.
    pub(crate) fn take_written(&mut self) -> Option<(RunVersion, Identity, Box<FileHasher>)> {
        match mem::take(&mut self.state) {
            State::Written { version, identity, hasher } => Some((version, identity, hasher)),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// The word for `user.attestfs.state`.
    pub(crate) fn word(&self) -> &'static str {
        match &self.state {
            State::Written { .. } => "open",
            State::Material { .. } | State::Settling { .. } => "settling",
            State::Hashed { .. } | State::Sealed { .. } => "sealed",
            State::Found | State::Unhashed { .. } | State::Unsealed { .. } => "unsealed",
        }
    }
}
