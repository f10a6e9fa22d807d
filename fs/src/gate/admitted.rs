use std::{fmt, sync::Arc};

use attestfs_attestation::Level;
use attestfs_digest::{Digests, Outboard};

use super::hashing::Hashed;
use crate::{
    identity::Identity,
    run::{Hold, Tracked, Verification},
};

/// Leave to read one content. Only the gate makes one.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(super) reason: Reason,
    found: Option<(Identity, Digests)>,
    outboard: Option<Arc<Outboard>>,
    hold: Option<Hold>,
}

/// Why a content may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Nothing guards it.
    Unguarded,
    /// The run wrote it.
    Own,
    /// The lock has it, and no rule guards it.
    Locked,
    /// Attestations admit it, verified as this level says.
    Vouched(Level),
    /// It was refused, and the policy is in audit mode.
    Tolerated,
    /// Whatever it was is being cut off.
    Emptied,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unguarded => f.write_str("unguarded"),
            Self::Own => f.write_str("own"),
            Self::Locked => f.write_str("locked"),
            Self::Vouched(level) => level.fmt(f),
            Self::Tolerated => f.write_str("tolerated"),
            Self::Emptied => f.write_str("emptied"),
        }
    }
}

impl Admitted {
    pub(super) fn without_look(reason: Reason) -> Self {
        Self { reason, found: None, outboard: None, hold: None }
    }

    /// After a look at the content.
    pub(super) fn found(reason: Reason, identity: Identity, hashed: &Hashed) -> Self {
        let found = Some((identity, hashed.digests));
        Self { reason, found, outboard: hashed.outboard.clone(), hold: None }
    }

    /// As long as what it leads to is open, others are kept from changing it.
    pub(super) fn holding(self, hold: Option<Hold>) -> Self {
        Self { hold, ..self }
    }

    /// For an open that truncates: there is nothing to be read that was there before.
    pub(crate) fn emptied() -> Self {
        Self::without_look(Reason::Emptied)
    }

    /// What the content was found to be when the gate looked, so that nobody has to look again.
    pub(crate) fn digests(&self) -> Option<(Identity, Digests)> {
        self.found
    }

    /// What the file was when it was held, if it is: nobody has changed it through the mount since.
    pub(crate) fn held(&self) -> Option<Identity> {
        let (identity, _) = self.found?;
        self.hold.as_ref().map(|_| identity)
    }

    /// Whether somebody vouches for what is read, so that it must come from the store.
    pub(crate) fn is_of_the_store(&self) -> bool {
        !matches!(self.reason, Reason::Unguarded | Reason::Own | Reason::Emptied)
    }

    /// Whether every chunk group is verified when it is read.
    pub(crate) fn is_verified(&self) -> bool {
        self.outboard.is_some()
    }

    /// Begins to verify what is read of the file, if that is wanted.
    pub(crate) fn verify(&self, tracked: &Tracked) -> Option<Arc<Verification>> {
        let (found, outboard) = self.found.zip(self.outboard.as_ref())?;
        Some(tracked.verify(found, outboard))
    }

    /// What keeps others from changing it: whoever has the file open keeps this. None where nothing
    /// had to be judged, and in audit mode where somebody was in the way.
    pub(crate) fn take_hold(&mut self) -> Option<Hold> {
        self.hold.take()
    }
}
