//! One file's content through a run: found or written, hashed or not.

use std::{mem, sync::Arc};

use attestfs_digest::Digests;

use super::{chasing::Chased, seal::Follower, verification::Verification};
use crate::{
    error::Error,
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
    /// How many names the file had had when those of a material were told last.
    pub(crate) told_names: u64,
    /// The identity that the kernel's page cache was filled under.
    pub(crate) cached: Option<Identity>,
    /// The identity under which attestations last admitted what was found.
    pub(crate) vouched: Option<Identity>,
    /// The identity under which, and how much had been published when, the run was last allowed to
    /// change it.
    pub(crate) permitted: Option<(Identity, u64)>,
    /// How many verifications of the file there had been when the run last changed it.
    pub(crate) written_over: u64,
    /// What was read behind those who write past us: nothing that was told of the content counts. None where
    /// nobody does.
    pub(crate) past: Option<Arc<Chased>>,
    /// Why something that was answered was not stored. Until it is emptied, it is not what was written.
    pub(crate) lost: Option<Error>,
    /// The run built it on found content that was not vouched for: to read it takes an attestation,
    /// as if the run had not written it.
    pub(crate) tainted: bool,
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
    Written { version: RunVersion, identity: Identity, hasher: Follower },
    /// The last writer left; the digest is being completed. Or it was touched below the mount since it
    /// was sealed, and is looked at `again`.
    Settling { version: RunVersion, identity: Identity, again: bool },
    /// The run wrote it and the digest is final.
    Sealed { version: RunVersion, identity: Identity, digests: Digests },
    /// The run wrote it and it has no digest. Without identity it may be anything by now.
    Unsealed { version: RunVersion, unsealed: Unsealed, identity: Option<Identity> },
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
            State::Unsealed { identity, .. } => *identity,
            State::Found => None,
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
            State::Unsealed { identity, .. } => identity.as_mut(),
            State::Found => None,
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

    /// Whether the run wrote what has this identity, and built it on nothing that was not vouched for.
    /// What others change below while it is being written becomes a part of it.
    pub(crate) fn is_own(&self, identity: &Identity) -> bool {
        let written = match &self.state {
            State::Written { .. } => true,
            State::Settling { identity: last, again: false, .. }
            | State::Sealed { identity: last, .. } => last == identity,
            State::Unsealed { identity: left, .. } => left.as_ref() == Some(identity),
            _ => false,
        };
        written && !self.tainted
    }

    /// Whether the run changed it since this verification of it began, and built that on nothing that
    /// was not vouched for.
    pub(crate) fn has_written_over(&self, verification: &Verification) -> bool {
        verification.number <= self.written_over && !self.tainted
    }

    /// Whether these are the digests of what the run wrote, likewise.
    pub(crate) fn is_sealed_as(&self, written: &Digests) -> bool {
        let sealed = match &self.state {
            State::Sealed { digests, .. } => digests == written,
            _ => false,
        };
        sealed && !self.tainted
    }

    /// What the run was allowed to change has another identity by its own doing.
    pub(crate) fn move_on(&mut self, before: Identity, after: Identity) {
        if let Some((identity, _)) = &mut self.permitted
            && *identity == before
        {
            *identity = after;
        }
    }

    /// The run changes what it finds, which has this identity: from now on that is a part of what it
    /// wrote.
    pub(crate) fn build_on(&mut self, found: &Identity) {
        if !self.is_own(found) && found.size > 0 && self.vouched != Some(*found) {
            self.tainted = true;
        }
    }

    /// Takes what a content that was being written is followed by; leaves any other state alone.
    pub(crate) fn take_written(&mut self) -> Option<(RunVersion, Identity, Follower)> {
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

#[cfg(test)]
mod tests {
    use attestfs_digest::digests;

    use super::*;
    use crate::identity::FileKey;

    fn identity(ctime_ns: i64) -> Identity {
        let file = FileKey { filesystem: 1, inode: 2, born_ns: 3 };
        Identity { file, size: 1, mtime_ns: 0, ctime_ns }
    }

    #[test]
    fn what_was_touched_below_since_the_last_writer_left_is_not_its_own() {
        let (version, identity, digests) =
            (RunVersion(1), identity, digests(&b"1"[..], 1).unwrap());
        let left = identity(7);
        let states = [
            State::Settling { version, identity: left, again: false },
            State::Sealed { version, identity: left, digests },
            State::Unsealed { version, unsealed: Unsealed::Sparse, identity: Some(left) },
        ];
        for state in states {
            let content = Content { state, ..Content::default() };
            assert!(content.is_own(&left), "{content:?}");
            assert!(!content.is_own(&identity(8)), "{content:?}");
        }
    }
}
