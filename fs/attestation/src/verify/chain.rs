use std::collections::{HashMap, HashSet};

use attestfs_digest::Sha256;

use crate::{
    provenance::role,
    statement::ResourceDescriptor,
    verify::{
        Attested, MaterialReport, Origin, Refusal, Subjects, Verifier, Vouched, subjects::manifest,
    },
};

/// Most stages in a row that are followed.
const DEPTH_MAX: usize = 64;

/// Most attestations that are followed in all.
const ATTESTATIONS_MAX: usize = 4096;

/// Check 10. An attestation refers to others by the digest of their payloads, so a cycle cannot be
/// made; a diamond can, and each attestation is followed once.
pub(super) struct Chain<'a> {
    verifier: &'a Verifier<'a>,
    followed: HashMap<Sha256, Subjects>,
}

/// What a run used of an attestation's subjects.
enum Used<'a> {
    /// A content.
    Content(Sha256),
    /// One of these at least: the manifests do not say which.
    Any(&'a HashSet<Sha256>),
    /// Something whose digest nobody knows.
    Unknown,
}

impl<'a> Chain<'a> {
    pub(super) fn new(verifier: &'a Verifier<'a>) -> Self {
        Self { verifier, followed: HashMap::new() }
    }

    /// Follows everything that this run read back to where it came from.
    pub(super) fn follow(
        &mut self,
        vouched: &Vouched,
        files: Vec<String>,
    ) -> Result<Attested, Refusal> {
        self.attested(vouched, files, 0)
    }

    fn attested(
        &mut self,
        vouched: &Vouched,
        files: Vec<String>,
        depth: usize,
    ) -> Result<Attested, Refusal> {
        let dependencies = &vouched.provenance().build_definition.resolved_dependencies;
        let in_manifests = self.in_manifests(dependencies);
        let materials = dependencies
            .iter()
            .map(|dependency| self.material(dependency, &in_manifests, depth))
            .collect::<Result<_, _>>()?;
        Ok(Attested::of(vouched, files, materials))
    }

    fn material(
        &mut self,
        dependency: &ResourceDescriptor,
        in_manifests: &HashSet<Sha256>,
        depth: usize,
    ) -> Result<MaterialReport, Refusal> {
        let origin = match publisher(dependency, in_manifests)? {
            None => Origin::Outside,
            Some((attestation, used)) => {
                self.origin(attestation, &used, depth).map_err(|refusal| Refusal::Chain {
                    material: dependency.name.clone().unwrap_or_default(),
                    attestation,
                    refusal: Box::new(refusal),
                })?
            }
        };
        Ok(MaterialReport::of(dependency, origin))
    }

    fn origin(
        &mut self,
        attestation: Sha256,
        used: &Used<'_>,
        depth: usize,
    ) -> Result<Origin, Refusal> {
        if let Some(subjects) = self.followed.get(&attestation) {
            named(subjects, used)?;
            return Ok(Origin::ShownAlready(attestation));
        }
        if depth >= DEPTH_MAX || self.followed.len() >= ATTESTATIONS_MAX {
            return Ok(Origin::TooFar(attestation));
        }
        let (vouched, subjects) = match self.verifier.first_vouched(attestation) {
            None | Some(Err(Refusal::ManifestNotSeen { .. })) => {
                return Ok(Origin::NotSeen(attestation));
            }
            Some(verdict) => verdict?,
        };
        named(&subjects, used)?;
        self.followed.insert(attestation, subjects);
        let attested = self.attested(&vouched, Vec::new(), depth + 1)?;
        Ok(Origin::Attested(Box::new(attested)))
    }

    /// The content of the manifests that are at hand.
    fn in_manifests(&self, dependencies: &[ResourceDescriptor]) -> HashSet<Sha256> {
        let manifests = dependencies
            .iter()
            .filter(|dependency| dependency.annotation("role") == Some(role::MATERIALS))
            .filter_map(|dependency| dependency.digest.sha256())
            .filter_map(|digest| manifest(digest, self.verifier.source()).ok());
        let mut contents = HashSet::new();
        for listing in manifests {
            contents.extend(listing.files().map(|(_, content)| content));
        }
        contents
    }
}

/// The attestation that published a dependency, and what of it was used.
fn publisher<'a>(
    dependency: &ResourceDescriptor,
    in_manifests: &'a HashSet<Sha256>,
) -> Result<Option<(Sha256, Used<'a>)>, Refusal> {
    let digest = dependency.digest.sha256();
    if dependency.annotation("role") == Some(role::ATTESTATION) {
        let used = if in_manifests.is_empty() { Used::Unknown } else { Used::Any(in_manifests) };
        return Ok(digest.map(|attestation| (attestation, used)));
    }
    let Some(attestation) = dependency.annotation("attestation") else {
        return Ok(None);
    };
    match attestation.parse() {
        Ok(attestation) => Ok(Some((attestation, digest.map_or(Used::Unknown, Used::Content)))),
        Err(_not_a_digest) => Err(Refusal::Dependency),
    }
}

fn named(subjects: &Subjects, used: &Used<'_>) -> Result<(), Refusal> {
    let is_named = match used {
        Used::Content(content) => subjects.has(*content),
        Used::Any(contents) => contents.iter().any(|content| subjects.has(*content)),
        Used::Unknown => true,
    };
    if is_named { Ok(()) } else { Err(Refusal::MaterialNotNamed) }
}
