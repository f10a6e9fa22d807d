use std::sync::Arc;

use attestfs_digest::Sha256;

use crate::{
    bundle::{Bundle, BundleError},
    claims::{Claims, ClaimsError},
    statement::sha256,
    verify::Attestations,
};

/// A directory that the file lies in, or one above, and what a publication left there.
#[derive(Clone, Debug)]
pub struct Around {
    /// The absolute path of the directory, as [`crate::escaped`] spells it.
    pub root: String,
    /// The file's name relative to the directory, as [`crate::escaped`] spells it.
    pub name: String,
    /// What lies there. Whoever judges many files of one directory reads it once and shares it.
    pub beside: Arc<Beside>,
}

/// The `model.sig` and the `claims.jsonl` of one directory, parsed, and not yet believed.
#[derive(Debug, Default)]
pub struct Beside {
    model: Option<ModelFile>,
    claims: Option<Result<Claims, ClaimsError>>,
}

/// A `model.sig`.
#[derive(Debug)]
pub(super) struct ModelFile {
    /// Of its bytes, signature and all.
    pub(super) sha256: Sha256,
    pub(super) bundle: Result<Bundle, BundleError>,
}

impl Beside {
    /// Parses what lies in a directory. What cannot be parsed admits nothing.
    pub fn parse(model: Option<&[u8]>, claims: Option<&[u8]>) -> Self {
        let model =
            model.map(|bytes| ModelFile { sha256: sha256(bytes), bundle: Bundle::parse(bytes) });
        Self { model, claims: claims.map(Claims::parse) }
    }

    /// Whether nothing lies there: such a directory can be left out.
    pub fn is_empty(&self) -> bool {
        self.model.is_none() && self.claims.is_none()
    }

    pub(super) fn model(&self) -> Option<&ModelFile> {
        self.model.as_ref()
    }

    /// What cannot be read claims nothing.
    pub(super) fn claims(&self) -> Option<&Claims> {
        self.claims.as_ref()?.as_ref().ok()
    }
}

/// What travels with a file, in all directories around it, the nearest first.
#[derive(Clone, Copy)]
pub(super) struct Travelling<'a>(pub(super) &'a [Around]);

impl<'a> Travelling<'a> {
    /// The names of all attestations, each with the directory in which it lies.
    pub(super) fn names(self) -> impl Iterator<Item = (&'a Around, Sha256)> {
        let claims = self.0.iter().filter_map(|around| Some((around, around.beside.claims()?)));
        claims.flat_map(|(around, claims)| {
            claims.bundles.iter().map(move |bundle| (around, bundle.sha256()))
        })
    }

    fn claims(self) -> impl Iterator<Item = &'a Claims> {
        self.0.iter().filter_map(|around| around.beside.claims())
    }
}

impl Attestations for Travelling<'_> {
    fn naming(&self, _content: Sha256) -> Vec<Sha256> {
        self.names().map(|(_, name)| name).collect()
    }

    fn came_along(&self, name: Sha256) -> bool {
        self.claims().any(|claims| claims.came_along(name))
    }

    fn attestation(&self, name: Sha256) -> Vec<Result<Bundle, BundleError>> {
        self.claims().flat_map(|claims| claims.attestation(name)).collect()
    }

    fn manifest(&self, digest: Sha256) -> Option<Vec<u8>> {
        self.claims().find_map(|claims| claims.manifest(digest)).map(<[u8]>::to_vec)
    }
}
