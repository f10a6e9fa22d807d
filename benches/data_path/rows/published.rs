//! A model that a stage has published, for rows that read one.

use std::path::{Path, PathBuf};

use crate::{
    mounted::{Mounted, Outputs, Reads},
    place::Place,
    work::{self, MEBIBYTE, attribute, wait_until_sealed},
};

/// Where the weights lie in the tree.
const WEIGHTS: &str = "model/weights.bin";

/// A directory `tree` of a place, with one large file whose attestation is at hand.
#[derive(Debug)]
pub(crate) struct Published<'p> {
    place: &'p Place,
    pub(crate) tree: PathBuf,
}

impl<'p> Published<'p> {
    pub(crate) fn new(place: &'p Place, length: u64) -> Self {
        let tree = place.directory("tree");
        let mounted = Mounted::new(place, &tree, &[]);
        mounted.open_stage(Outputs::Below("model"));
        std::fs::create_dir(mounted.path.join("model")).unwrap();
        let weights = mounted.path.join(WEIGHTS);
        work::write(&weights, length, MEBIBYTE);
        wait_until_sealed(&weights);
        mounted.close_stage();
        Self { place, tree }
    }

    /// The file, past every mount.
    pub(crate) fn weights(&self) -> PathBuf {
        self.tree.join(WEIGHTS)
    }

    pub(crate) fn model(&self) -> PathBuf {
        self.tree.join("model")
    }

    /// A mount for reading that guards it at this level.
    pub(crate) fn guarded(&self, level: &str, reads: Reads) -> Mounted<'p> {
        Mounted::guarded(self.place, &self.tree, level, reads)
    }

    /// A mount for reading that guards nothing.
    pub(crate) fn unguarded(&self, reads: Reads) -> Mounted<'p> {
        Mounted::unguarded(self.place, &self.tree, reads)
    }
}

/// The file in a mount.
pub(crate) fn weights_in(mounted: &Mounted<'_>) -> PathBuf {
    mounted.path.join(WEIGHTS)
}

/// What the gate has not admitted at this level was not measured as such.
pub(crate) fn check_admitted(weights: &Path, level: &str) {
    let verdict = attribute(weights, "user.attestfs.verdict");
    assert_eq!(verdict, Some(format!("admitted: {level}")), "{}", weights.display());
}
