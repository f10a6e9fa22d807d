use attestfs_digest::Sha256;

use crate::verify::Attestations;

/// What a store has published: the attestations themselves, and in which order they came.
pub trait Publications: Attestations {
    /// What this store published under this name below this artifact root, the oldest first. `root`
    /// is the absolute path that statements record; `name` is relative to it, and `model.sig` names
    /// the model signatures themselves. A path has one history, as a part of whichever root its
    /// content was published.
    ///
    /// # Errors
    /// The store cannot tell. Then nothing is admitted.
    fn history(&self, root: &str, name: &str) -> Result<Vec<Publication>, Unavailable>;
}

/// One publication of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The name of the attestation.
    pub statement: Sha256,
    /// The content that it published under the name. Of `model.sig`: the digest of its payload.
    pub content: Sha256,
}

/// The store cannot answer: a sentence that says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);
