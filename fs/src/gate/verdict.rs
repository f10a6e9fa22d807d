use std::fmt;

use attestfs_attestation::{Level, Refusal};
use attestfs_digest::Sha256;

use super::{
    admitted::{Admitted, Reason},
    hashing::{Elsewhere, Hashed},
};
use crate::{error::Error, fact::TreePath, identity::Identity, run::Hold};

/// What `user.attestfs.verdict` says of a guarded file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The run wrote it.
    Own,
    /// The lock has it, and no rule guards it.
    Locked,
    /// Attestations admit it, verified as this level says.
    Admitted(Level),
    /// Why, and what can be done about it: a line each.
    Refused { reason: String, next_step: String },
}

impl Verdict {
    /// Of a file that nothing guards there is none.
    pub(super) fn of(admitted: &Admitted) -> Option<Self> {
        match admitted.reason {
            Reason::Own => Some(Self::Own),
            Reason::Locked => Some(Self::Locked),
            Reason::Vouched(level) => Some(Self::Admitted(level)),
            Reason::Unguarded | Reason::Tolerated | Reason::Emptied => None,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("admitted: own"),
            Self::Locked => f.write_str("admitted: locked"),
            Self::Admitted(level) => write!(f, "admitted: {level}"),
            Self::Refused { reason, next_step } => {
                write!(f, "refused: {reason}\nnext: {next_step}")
            }
        }
    }
}

/// What keeps a file from being admitted.
#[derive(Debug)]
pub(super) enum Stop {
    /// It cannot be said as soon as it is asked for.
    Later,
    /// It can be said when somebody else has hashed it.
    Elsewhere(Elsewhere),
    /// Somebody is in the way, who is waited for.
    InTheWay,
    /// The content changed while it was being looked at.
    Changed,
    /// The backing store says no.
    Failed(Error),
    /// The gate says no.
    Refused(Box<Refused>),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// One refusal.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) path: TreePath,
    pub(super) refusal: Refusal,
    /// Whether it keeps the file from being opened; not in audit mode.
    pub(super) enforced: bool,
    /// The content, as far as it was looked at.
    pub(super) found: Option<(Identity, Hashed)>,
    /// Of content that may be read all the same, and that the lock has.
    pub(super) hold: Option<Hold>,
}

impl Refused {
    /// What whoever is refused is answered.
    pub(super) fn error(&self) -> Error {
        match self.refusal {
            Refusal::OpenForWriting { .. } | Refusal::OpenForReading { .. } => Error::InUse,
            _ => Error::Refused,
        }
    }

    pub(super) fn sha256(&self) -> Option<Sha256> {
        self.found.as_ref().map(|(_, hashed)| hashed.digests.sha256)
    }
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        Self::Refused(Box::new(refused))
    }
}
