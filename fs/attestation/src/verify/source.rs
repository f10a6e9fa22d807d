use attestfs_digest::Sha256;

use crate::{
    bundle::{Bundle, BundleError},
    claims::Claims,
};

/// Where attestations come from. Whatever it gives may be hostile; what it cannot give counts as
/// not there.
pub trait Attestations {
    /// The names of attestations that may speak of this content, the newest first: those that an
    /// index lists for it, and all that lie beside the artifact.
    fn naming(&self, content: Sha256) -> Vec<Sha256>;

    /// Whether the attestation lies beside the artifact, or somebody named it. What only an index
    /// led to has the same content, and may be about anything and by anybody.
    fn came_along(&self, name: Sha256) -> bool;

    /// What is kept under the name of an attestation, the digest of its payload. More than one, if
    /// several sources have it or several keys signed it.
    fn attestation(&self, name: Sha256) -> Vec<Result<Bundle, BundleError>>;

    /// The manifest with this digest.
    fn manifest(&self, digest: Sha256) -> Option<Vec<u8>>;
}

impl Attestations for Claims {
    fn naming(&self, _content: Sha256) -> Vec<Sha256> {
        self.bundles.iter().map(Bundle::sha256).collect()
    }

    fn came_along(&self, name: Sha256) -> bool {
        self.bundle(name).is_some()
    }

    fn attestation(&self, name: Sha256) -> Vec<Result<Bundle, BundleError>> {
        self.bundles.iter().filter(|bundle| bundle.sha256() == name).cloned().map(Ok).collect()
    }

    fn manifest(&self, digest: Sha256) -> Option<Vec<u8>> {
        self.manifest(digest).map(<[u8]>::to_vec)
    }
}

/// Several sources, asked in their order.
#[expect(missing_debug_implementations, reason = "sources need not be printable")]
pub struct Several<'a>(pub Vec<&'a dyn Attestations>);

impl Attestations for Several<'_> {
    fn naming(&self, content: Sha256) -> Vec<Sha256> {
        self.0.iter().flat_map(|source| source.naming(content)).collect()
    }

    fn came_along(&self, name: Sha256) -> bool {
        self.0.iter().any(|source| source.came_along(name))
    }

    fn attestation(&self, name: Sha256) -> Vec<Result<Bundle, BundleError>> {
        self.0.iter().flat_map(|source| source.attestation(name)).collect()
    }

    fn manifest(&self, digest: Sha256) -> Option<Vec<u8>> {
        self.0.iter().find_map(|source| source.manifest(digest))
    }
}
