use std::collections::{BTreeMap, BTreeSet};

use attestfs_digest::Sha256;
use serde::{Deserialize, Serialize};

use super::{Content, OmsError};
use crate::{name::is_canonical, statement::sha256};

/// Its name in a directory. Never a subject and always in `ignore_paths`.
pub const MODEL_SIGNATURE_FILE: &str = "model.sig";

/// `predicateType` of a model signature.
pub const MODEL_SIGNATURE_TYPE: &str = "https://model_signing/signature/v1.0";

/// What every other implementation leaves out when it signs, at the root only.
pub(super) const GIT_PATHS: [&str; 4] = [".git", ".gitattributes", ".github", ".gitignore"];

/// Which digest of a file a model signature holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HashType {
    /// The one that every implementation checks.
    Sha256,
    /// The default BLAKE3: 32 bytes, no key, no context.
    Blake3,
}

impl HashType {
    fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Blake3 => "blake3",
        }
    }

    /// The digest of this kind, if it is known.
    pub(super) fn of(self, content: &Content) -> Option<[u8; 32]> {
        match self {
            Self::Sha256 => Some(content.sha256().0),
            Self::Blake3 => content.blake3().map(|blake3| blake3.0),
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct Predicate {
    pub(super) resources: Vec<Resource>,
    pub(super) serialization: Serialization,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Resource {
    name: String,
    digest: String,
    algorithm: String,
}

impl Resource {
    fn read(&self, hash_type: HashType) -> Result<[u8; 32], OmsError> {
        if self.name == "." {
            return Err(OmsError::SingleFile);
        }
        if !is_canonical(&self.name) {
            return Err(OmsError::Name { name: clip(&self.name) });
        }
        let digest: Option<Sha256> = self.digest.parse().ok();
        digest
            .filter(|_| self.algorithm == hash_type.name())
            .map(|digest| digest.0)
            .ok_or_else(|| OmsError::Digest { name: clip(&self.name), expected: hash_type.name() })
    }
}

impl From<(&str, Sha256)> for Resource {
    fn from((name, digest): (&str, Sha256)) -> Self {
        Self {
            name: name.to_owned(),
            digest: digest.to_string(),
            algorithm: HashType::Sha256.name().to_owned(),
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct Serialization {
    method: String,
    hash_type: String,
    /// Required by other implementations. A link that is there is refused whatever this says.
    allow_symlinks: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ignore_paths: Option<Vec<String>>,
}

impl Serialization {
    pub(super) fn ours(ignore_paths: Vec<String>) -> Self {
        Self {
            method: "files".to_owned(),
            hash_type: HashType::Sha256.name().to_owned(),
            allow_symlinks: false,
            ignore_paths: Some(ignore_paths),
        }
    }

    pub(super) fn hash_type(&self) -> Result<HashType, OmsError> {
        if self.method != "files" {
            return Err(OmsError::Method { method: clip(&self.method) });
        }
        match self.hash_type.as_str() {
            "sha256" => Ok(HashType::Sha256),
            "blake3" => Ok(HashType::Blake3),
            other => Err(OmsError::HashType { hash_type: clip(other) }),
        }
    }

    /// A signature of before `ignore_paths` existed left out what git keeps.
    pub(super) fn ignored(&self) -> Result<BTreeSet<String>, OmsError> {
        let Some(paths) = &self.ignore_paths else {
            return Ok(GIT_PATHS.map(ToOwned::to_owned).into());
        };
        match paths.iter().find(|path| !is_plain(path)) {
            Some(path) => Err(OmsError::IgnorePath { path: clip(path) }),
            None => Ok(paths.iter().cloned().collect()),
        }
    }
}

/// The resources of a statement, each name once.
pub(super) struct Listed {
    pub(super) resources: BTreeMap<String, [u8; 32]>,
    pub(super) root: Sha256,
    pub(super) in_order: bool,
}

impl Listed {
    pub(super) fn read(listed: &[Resource], hash_type: HashType) -> Result<Self, OmsError> {
        let mut resources = BTreeMap::new();
        let mut digests = Vec::with_capacity(listed.len());
        for resource in listed {
            let digest = resource.read(hash_type)?;
            if resources.insert(resource.name.clone(), digest).is_some() {
                return Err(OmsError::Duplicate { name: clip(&resource.name) });
            }
            digests.push(digest);
        }
        if resources.is_empty() {
            return Err(OmsError::Empty);
        }
        Ok(Self {
            resources,
            root: root_digest(digests.into_iter()),
            in_order: listed.is_sorted_by(|left, right| left.name < right.name),
        })
    }
}

/// SHA-256 over the raw digests in their order. It does not bind names: attestations refer to a
/// model by its payload's digest instead.
pub(super) fn root_digest(digests: impl Iterator<Item = [u8; 32]>) -> Sha256 {
    sha256(&digests.flatten().collect::<Vec<u8>>())
}

pub(super) fn is_plain(path: &str) -> bool {
    is_canonical(path) && !path.contains(['*', '?', '['])
}

pub(super) fn clip(text: &str) -> String {
    text.chars().take(200).collect()
}
