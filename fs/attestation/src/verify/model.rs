use attestfs_digest::Sha256;

use crate::{
    name::escaped,
    oms::{Content, Entry, EntryKind, ModelManifest},
    verify::{Found, Place, Refusal, Said, Signed, Signer},
};

/// A model signature that a trusted signer made. Says what the directory must hold.
#[derive(Clone, Debug)]
pub struct SignedModel {
    attestation: Sha256,
    signer: Signer,
    manifest: ModelManifest,
}

impl SignedModel {
    pub(super) fn new(signed: &Signed, manifest: ModelManifest) -> Self {
        Self { attestation: signed.attestation(), signer: signed.signer().clone(), manifest }
    }

    /// The name of the attestation.
    pub fn attestation(&self) -> Sha256 {
        self.attestation
    }

    /// Who signed it.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// What was signed.
    pub fn manifest(&self) -> &ModelManifest {
        &self.manifest
    }

    /// Gives up everything else.
    pub(crate) fn into_manifest(self) -> ModelManifest {
        self.manifest
    }

    /// What it says of the file of this name. None also where it lists something else than SHA-256.
    pub fn says(&self, name: &str) -> Option<Said> {
        let sha256 = self.manifest.sha256(name)?;
        Some(Said { signer: self.signer.clone(), sha256, blake3: None })
    }

    /// As much of check 9 as one file needs: it is what was signed under this name. `name` is as the
    /// file system has it.
    ///
    /// # Errors
    /// It was not signed, or its content is another one.
    pub fn file(self, name: &str, content: Content) -> Result<Covered, Refusal> {
        self.manifest.compare_file(name, &content)?;
        let files = vec![found(name, content)];
        Ok(Covered { model: self, files })
    }

    /// Check 9. `entries` are all of the directory but the signature itself; those that
    /// [`ModelManifest::ignores`] may be left out.
    ///
    /// # Errors
    /// The directory is not what was signed.
    pub fn complete(self, entries: &[Entry]) -> Result<Covered, Refusal> {
        self.manifest.compare(entries)?;
        let files = entries
            .iter()
            .filter(|entry| !self.manifest.ignores(&entry.name))
            .filter_map(|entry| match entry.kind {
                EntryKind::File(content) => Some(found(&entry.name, content)),
                _ => None,
            })
            .collect();
        Ok(Covered { model: self, files })
    }
}

/// Files that are exactly what a model signature says of them.
#[derive(Clone, Debug)]
pub struct Covered {
    model: SignedModel,
    files: Vec<Found>,
}

impl Covered {
    /// The signature.
    pub fn model(&self) -> &SignedModel {
        &self.model
    }

    /// The files.
    pub fn files(&self) -> &[Found] {
        &self.files
    }
}

fn found(name: &str, content: Content) -> Found {
    Found { place: Place::Below(escaped(name.as_bytes())), content }
}
