//! From what a run wrote to attestations that lie where they are looked for.
//!
//! `Frozen -> Quoted -> Signed -> Published`: each step consumes the one before. What is frozen is
//! on disk, to the byte; a crash anywhere later is cured by going on from there, and whatever is
//! done twice gives the same statement digest.

mod beneath;
mod beside;
mod chain;
mod committer;
mod durable;
mod enter;
mod freeze;
mod indexes;
mod model;
mod quote;
mod record;
#[cfg(test)]
pub(crate) mod tests;
mod trees;

pub use chain::{Frozen, Published, Quoted, Signed};
pub(crate) use committer::REPORT_SUFFIX;
pub use committer::{Committer, Room};
pub use quote::{Attester, Evidence, NoAttester, QuoteError};
pub(crate) use record::join;
pub use trees::{LentTrees, TreeLease};

use std::{io, path::PathBuf};

use attestfs_attestation::{DraftError, KeyHint, SigningError};

use crate::{journal, lineage::LineageError, signer::KeyFileError};

/// Why a commit was not made, or is not finished yet.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The order names no tree of its run, or a path that leaves it.
    #[error("tree {tree} of the run has no directory '{path}' that could be attested")]
    Order {
        /// Index of the tree.
        tree: u16,
        /// Relative to the tree.
        path: String,
    },
    /// What the run saw cannot be read.
    #[error(transparent)]
    Journal(#[from] journal::ReadError),
    /// The memory of the control plane failed, or contradicts the order.
    #[error(transparent)]
    Lineage(#[from] LineageError),
    /// The names of the outputs make no statement.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// What was frozen is nothing that this program froze.
    #[error("the frozen commit cannot be read: {0}")]
    Record(#[source] serde_json::Error),
    /// The platform was asked for evidence and failed.
    #[error(transparent)]
    Quote(#[from] QuoteError),
    /// The default key is unusable.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// The key that has to sign is not here.
    #[error("the key {hint} is not at hand")]
    KeyAbsent {
        /// Of the key.
        hint: KeyHint,
    },
    /// The key is here and does not sign.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// A file of the publication cannot be written now.
    #[error("{}: {source}", path.display())]
    Write {
        /// Which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
