//! What a model signature says of a directory, or of one of its files.

use std::{
    collections::{BTreeSet, HashSet},
    path::Path,
};

use attestfs_attestation::{
    Claims, Content, Covered, Examined, Found, ModelManifest, Needed, Place, Refusal, SignedModel,
    Speaking, escaped,
};

use super::{
    at_hand::{Beside, Sources},
    judge::{Completeness, Judge, Judged, NotJudged, attestable},
    tree::Tree,
};

impl Judge<'_> {
    /// A directory that a model signature covers. The signature is read before anything is hashed.
    pub(super) fn model(&self, path: &Path, signature: &[u8]) -> Result<Judged, NotJudged> {
        let model = self.signed_model(signature)?;
        let tree = Tree::look(path)?;
        let publication = self.at_hand.publication_in(path);
        // What is found is listed, or it is refused: so what speaks of it is known before.
        let listed = model.manifest().contents().collect();
        let sources = self.at_hand.sources(publication, &listed)?;
        let speaking = self.verifier(&sources).speaking(listed);
        let needed = |name: &Path| needed(&model, &speaking, name);
        let entries = tree.signed(model.manifest(), needed, self.watch)?;
        let covered = model.complete(&entries)?;
        let contents = covered.files().iter().map(|found| found.content.sha256()).collect();
        let sources = self.at_hand.sources(publication, &contents)?;
        let mut examined = self.examined(&covered, &sources)?;
        let compared = self.compare_left_out(&tree, &mut examined, covered.model().manifest())?;
        let left_out = left_out(&tree, covered.model().manifest(), &compared);
        let judged = Judged::new(examined.report()?, Completeness::Whole, covered.files());
        Ok(Judged { left_out, files: judged.files + compared.len(), ..judged })
    }

    /// Checks a file under the longest of its names that the signature lists.
    pub(super) fn file_of_given_model(
        &self,
        path: &Path,
        signature: &[u8],
        content: Content,
    ) -> Result<Judged, NotJudged> {
        let roots: Vec<_> = path.ancestors().skip(1).collect();
        let mut refusal = None;
        for root in roots.into_iter().rev() {
            match self.model_listing(signature, root, path) {
                Ok((model, name)) => {
                    let beside = self.at_hand.publication_in(root);
                    return self.one_of_model(beside, &model.file(&name, content)?);
                }
                Err(other) => refusal = refusal.or(Some(other)),
            }
        }
        Err(refusal.unwrap_or(Refusal::NoModelSignature).into())
    }

    pub(super) fn model_beside(
        &self,
        beside: &Beside,
        path: &Path,
    ) -> Option<Result<(SignedModel, String), Refusal>> {
        let signature = beside.model.as_ref()?;
        Some(self.model_listing(signature, &beside.directory, path))
    }

    /// Checks 1 to 5 of a model signature, which need nothing else.
    pub(super) fn signed_model(&self, signature: &[u8]) -> Result<SignedModel, Refusal> {
        let nothing = Claims::default();
        self.verifier(&nothing).model_signature(signature)
    }

    pub(super) fn one_of_model(
        &self,
        publications: &[Beside],
        covered: &Covered,
    ) -> Result<Judged, NotJudged> {
        let contents = covered.files().iter().map(|found| found.content.sha256());
        let contents: HashSet<_> = contents.collect();
        let sources = self.at_hand.sources(publications, &contents)?;
        let verified = self.examined(covered, &sources)?.report()?;
        Ok(Judged::new(verified, Completeness::OneOfModel, covered.files()))
    }

    /// The signature, and its name for the file, when a trusted key made it and it lists the file.
    /// Then it decides.
    pub(super) fn model_listing(
        &self,
        signature: &[u8],
        root: &Path,
        path: &Path,
    ) -> Result<(SignedModel, String), Refusal> {
        let model = self.signed_model(signature)?;
        let name = path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
        // A name that is not UTF-8 cannot be listed, and what is shown of it neither.
        if model.manifest().lists(&name) && path.to_str().is_some() {
            return Ok((model, name));
        }
        Err(Refusal::Extra { names: vec![name] })
    }

    /// What a model signature covers; what is at hand of how it was made may not contradict.
    fn examined<'s>(
        &'s self,
        covered: &Covered,
        sources: &'s Sources<'_>,
    ) -> Result<Examined<'s>, Refusal> {
        self.verifier(sources).covered(covered)
    }

    /// Files that the signature leaves out, and that the run which made the rest wrote as well. Only
    /// these are hashed.
    ///
    /// # Returns
    /// Their names.
    fn compare_left_out(
        &self,
        tree: &Tree<'_>,
        examined: &mut Examined<'_>,
        manifest: &ModelManifest,
    ) -> Result<HashSet<String>, NotJudged> {
        let names = tree.left_out(manifest).filter(|name| examined.names(&spelled(name)));
        let names: HashSet<_> = names.map(ToOwned::to_owned).collect();
        let is_named = |name: &Path| name.to_str().is_some_and(|name| names.contains(name));
        for entry in tree.hash(is_named, |_| Needed::Both, self.watch)? {
            if let Some(content) = attestable(&entry)? {
                let place = Place::Below(spelled(&entry.name));
                examined.compare(&Found { place, content })?;
            }
        }
        Ok(names)
    }
}

/// The digests of a file that the signature lists. Attestations of another content under this name say nothing of
/// the one that is listed.
fn needed(model: &SignedModel, speaking: &Speaking, name: &Path) -> Needed {
    let listed = name.to_str().and_then(|name| Some((model.says(name)?, spelled(name))));
    let Some((listed, name)) = listed else { return Needed::Both };
    let mut said = speaking.of(&Place::Below(name));
    said.retain(|said| said.sha256() == listed.sha256());
    said.push(listed);
    speaking.needed(&said)
}

/// The paths that a signature leaves out, as far as something lies there that was not compared.
fn left_out(tree: &Tree<'_>, manifest: &ModelManifest, compared: &HashSet<String>) -> Vec<String> {
    let unseen = tree.left_out(manifest).filter(|name| !compared.contains(*name));
    let paths: BTreeSet<_> = unseen.filter_map(|name| manifest.ignored_at(name)).collect();
    paths.into_iter().map(ToOwned::to_owned).collect()
}

fn spelled(name: &str) -> String {
    escaped(name.as_bytes())
}
