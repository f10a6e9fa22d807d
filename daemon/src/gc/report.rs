use attestfs_digest::Sha256;
use serde::{Deserialize, Serialize};

/// What is freed, or can be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GarbageReport {
    /// Names exactly this choice of files. Whoever agrees to it says so by this name.
    pub plan: Sha256,
    /// Whether it is done.
    pub freed: bool,
    /// Journals of runs that have ended and are wholly taken in.
    pub journals: Amount,
    /// Answers to the commit orders of such runs.
    pub reports: Amount,
    /// Directories of such runs that an interrupted attempt has emptied.
    pub empty: u64,
    /// Attestations none of whose subjects is left.
    pub bundles: Amount,
    /// Manifests that no other attestation mentions.
    pub manifests: Amount,
    /// Bytes of the indexes that say what later lines say again.
    pub repeated: u64,
    /// Artifact roots of these attestations, each once, sorted.
    pub gone: Vec<String>,
    /// Kept: their files are all gone, but copies of them may live elsewhere, and nobody asked for
    /// attestations to be freed.
    pub spared: Kept,
    /// Kept: files are not where they were, and nobody saw them go. They may have been moved.
    pub unseen: Kept,
    /// Kept: their file system is not there now.
    pub away: Kept,
}

/// How many files, and how much is in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Files.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Attestations that were kept for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// How many.
    pub attestations: u64,
    /// Their artifact roots, each once, sorted.
    pub roots: Vec<String>,
}

impl GarbageReport {
    /// The most artifact roots in one list, so that the answer fits a frame.
    pub const ROOTS_MAX: usize = 1000;

    /// Whether there is nothing to free.
    pub fn is_empty(&self) -> bool {
        self.total().files + self.empty + self.repeated == 0
    }

    /// Of all kinds.
    pub fn total(&self) -> Amount {
        let kinds = [self.journals, self.reports, self.bundles, self.manifests];
        kinds.into_iter().fold(Amount::default(), Amount::and)
    }
}

impl Amount {
    pub(super) fn of(files: impl Iterator<Item = u64>) -> Self {
        files.fold(Self::default(), |sum, bytes| sum.and(Self { files: 1, bytes }))
    }

    fn and(self, other: Self) -> Self {
        Self { files: self.files + other.files, bytes: self.bytes + other.bytes }
    }
}
