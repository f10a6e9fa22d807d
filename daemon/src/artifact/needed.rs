//! What attestations say of files that nobody has read yet: by that, BLAKE3 alone may show what they are.
//!
//! Whatever may be held against a file later is asked here, by every name that the file may have there. What is asked
//! too much can only make more to be computed.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use attestfs_attestation::{Needed, Place, Said, Speaking};
use attestfs_digest::Sha256;

use super::{
    at_hand::Given,
    claimed::behind,
    judge::{Judge, NotJudged, spelled},
};

impl Judge<'_> {
    /// Of a single file.
    pub(super) fn needed_of_file(&self, path: &Path) -> Result<Needed, NotJudged> {
        let models = self.said_by_models(path);
        let paths = [path.to_path_buf()];
        let listed = models.iter().map(Said::sha256).collect();
        let speaking = self.speaking_of(&paths, listed)?;
        let said = [said_below(&speaking, path), models].concat();
        Ok(or_both(speaking.needed(&said)))
    }

    /// Of each of the files of a directory that no model signature covers.
    pub(super) fn needed_of_tree(&self, paths: &[PathBuf]) -> Result<Vec<Needed>, NotJudged> {
        let speaking = self.speaking_of(paths, HashSet::new())?;
        let needed = |path: &PathBuf| speaking.needed(&said_below(&speaking, path));
        Ok(paths.iter().map(needed).map(or_both).collect())
    }

    /// All that may speak of what these files are said to hold: by what lies around them, by the state that published
    /// something at their paths, or by these contents, which a model signature lists.
    fn speaking_of(
        &self,
        paths: &[PathBuf],
        listed: HashSet<Sha256>,
    ) -> Result<Speaking, NotJudged> {
        let around = self.speaking(&HashSet::new())?;
        let mut contents = listed;
        contents
            .extend(paths.iter().flat_map(|path| said_below(&around, path)).map(|it| it.sha256()));
        contents
            .extend(self.at_hand.published_at(paths.iter().map(|path| spelled(&behind(path))))?);
        self.speaking(&contents)
    }

    fn speaking(&self, contents: &HashSet<Sha256>) -> Result<Speaking, NotJudged> {
        let sources = self.at_hand.sources(self.at_hand.publications(), contents)?;
        // What travels with the artifact may name any content.
        let any = Sha256([0; 32]);
        Ok(self.verifier(&sources).speaking(contents.iter().copied().chain([any])))
    }

    fn said_by_models(&self, path: &Path) -> Vec<Said> {
        let says = |signature: &[u8], root: &Path| {
            let (model, name) = self.model_listing(signature, root, path).ok()?;
            model.says(&name)
        };
        match self.at_hand.given() {
            Some(Given::Model(signature)) => {
                path.ancestors().skip(1).filter_map(|root| says(signature, root)).collect()
            }
            Some(Given::Claims(_)) => Vec::new(),
            None => {
                let beside = self.at_hand.publications().iter();
                beside.filter_map(|it| says(it.model.as_deref()?, &it.directory)).collect()
            }
        }
    }
}

/// Of a file by its path, wherever it was, and by its names relative to the directories above it.
fn said_below(speaking: &Speaking, path: &Path) -> Vec<Said> {
    let below = path.ancestors().skip(1).filter_map(|root| path.strip_prefix(root).ok());
    let below = below.map(|name| Place::Below(spelled(name)));
    let places = below.chain([Place::Anywhere(spelled(path))]);
    places.flat_map(|place| speaking.of(&place)).collect()
}

/// Where no model signature decides, what is found may lead to attestations that nothing else does, and these may give
/// a BLAKE3.
fn or_both(needed: Needed) -> Needed {
    match needed {
        Needed::Sha256 => Needed::Both,
        needed => needed,
    }
}
