use std::path::PathBuf;

use attestfs_attestation::Refusal;

use super::at_hand::PassedOver;

/// Publications that do not speak of the artifact, and the check that each fails, the nearest
/// first.
#[derive(Debug, Default)]
pub(super) struct Passed(Vec<(PathBuf, Refusal)>);

impl Passed {
    pub(super) fn add(&mut self, publication: PathBuf, refusal: Refusal) {
        self.0.push((publication, refusal));
    }

    /// When nothing admits the artifact: of all refusals the one that came furthest, which says
    /// most about it, and of several the nearest.
    pub(super) fn furthest(self, last: Refusal) -> Refusal {
        let refusals = self.0.into_iter().rev().map(|(_, refusal)| refusal);
        refusals.fold(last, |furthest, refusal| refusal.or_further(furthest))
    }

    pub(super) fn reasons(self) -> impl Iterator<Item = PassedOver> {
        let passed = self.0.into_iter();
        passed.map(|(publication, refusal)| PassedOver::new(&publication, refusal))
    }
}
