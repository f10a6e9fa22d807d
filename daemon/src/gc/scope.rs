use serde::{Deserialize, Serialize};

use crate::lineage::is_under;

/// What the user wants to be freed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// Absolute and escaped: only what is at or below one of these, and there also the attestations
    /// of content that is not there, though nobody saw it go. All of it without any.
    pub paths: Vec<String>,
    /// Also attestations, of which copies that somebody made elsewhere may live.
    pub bundles: bool,
}

impl Scope {
    pub(super) fn is_named(&self) -> bool {
        !self.paths.is_empty()
    }

    /// Who names a place says that nothing of it is to be kept.
    pub(super) fn frees_bundles(&self) -> bool {
        self.bundles || self.is_named()
    }

    pub(super) fn covers(&self, path: &str) -> bool {
        !self.is_named() || self.paths.iter().any(|named| is_under(path, named))
    }
}
