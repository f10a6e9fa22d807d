//! `claims.jsonl`: the attestations that travel with an artifact, one bundle a line.

use attestfs_digest::Sha256;
use serde::{Deserialize, Serialize};
use sigstore_types::PayloadBytes;

use crate::{
    bundle::{BUNDLE_MAX, Bundle},
    statement::sha256,
};

/// Its name in a directory. Never a subject and always in `ignore_paths`.
pub const CLAIMS_FILE: &str = "claims.jsonl";

/// Largest file that is read, in bytes.
pub const CLAIMS_MAX: usize = 4 * BUNDLE_MAX;

/// Most lines that are read and written.
pub const CLAIMS_LINES_MAX: usize = 4096;

const MANIFEST_MEDIA_TYPE: &str = "application/vnd.attestfs.manifest.v1+json";

/// Why a file is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimsError {
    /// More than [`CLAIMS_MAX`].
    #[error("{CLAIMS_FILE} has {length} bytes, more than the {CLAIMS_MAX} that are read")]
    TooLarge {
        /// Bytes.
        length: usize,
    },
    /// More than [`CLAIMS_LINES_MAX`].
    #[error("{CLAIMS_FILE} has more than the {CLAIMS_LINES_MAX} lines that are read")]
    TooManyLines,
}

/// What travels with an artifact. Nothing of it is verified, and anybody may have removed lines.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    /// In the order of the file: the artifact's own attestation first, then its ancestors.
    pub bundles: Vec<Bundle>,
    /// The manifests that these refer to.
    pub manifests: Vec<Vec<u8>>,
    /// Lines that are neither; in-toto wants them skipped.
    pub skipped: usize,
}

impl Claims {
    /// Reads a file.
    ///
    /// # Errors
    /// It is larger than what is read. A line that is no bundle is counted, and no error.
    pub fn parse(bytes: &[u8]) -> Result<Self, ClaimsError> {
        if bytes.len() > CLAIMS_MAX {
            return Err(ClaimsError::TooLarge { length: bytes.len() });
        }
        let mut claims = Self::default();
        for (number, line) in lines(bytes).enumerate() {
            if number >= CLAIMS_LINES_MAX {
                return Err(ClaimsError::TooManyLines);
            }
            claims.add(line);
        }
        Ok(claims)
    }

    /// Writes a file: bundles first, in their order, as many lines as are read again.
    pub fn to_jsonl(&self) -> Vec<u8> {
        let bundles = self.bundles.iter().map(Bundle::to_json);
        let manifests = self.manifests.iter().map(|manifest| manifest_line(manifest));
        let mut bytes = Vec::new();
        for line in bundles.chain(manifests).take(CLAIMS_LINES_MAX) {
            if bytes.len() + line.len() >= CLAIMS_MAX {
                break;
            }
            bytes.extend_from_slice(&line);
            bytes.push(b'\n');
        }
        bytes
    }

    /// The attestation of this name.
    pub fn bundle(&self, attestation: Sha256) -> Option<&Bundle> {
        self.bundles.iter().find(|bundle| bundle.sha256() == attestation)
    }

    /// The manifest of this digest.
    pub fn manifest(&self, digest: Sha256) -> Option<&[u8]> {
        self.manifests.iter().map(Vec::as_slice).find(|manifest| sha256(manifest) == digest)
    }

    fn add(&mut self, line: &[u8]) {
        if let Ok(bundle) = Bundle::parse(line) {
            self.bundles.push(bundle);
        } else if let Some(manifest) = parse_manifest_line(line) {
            self.manifests.push(manifest);
        } else {
            self.skipped += 1;
        }
    }
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty())
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ManifestLine {
    media_type: String,
    content: PayloadBytes,
}

fn manifest_line(manifest: &[u8]) -> Vec<u8> {
    let line = ManifestLine {
        media_type: MANIFEST_MEDIA_TYPE.to_owned(),
        content: PayloadBytes::from_bytes(manifest),
    };
    serde_json::to_vec(&line).expect("two strings")
}

fn parse_manifest_line(line: &[u8]) -> Option<Vec<u8>> {
    let line: ManifestLine = serde_json::from_slice(line).ok()?;
    (line.media_type == MANIFEST_MEDIA_TYPE).then(|| line.content.into_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{key::KeyHint, statement::Payload};

    fn bundle(text: &str) -> Bundle {
        let payload = Payload::new(text.as_bytes().to_vec());
        Bundle::attestation(payload, vec![1], KeyHint(Sha256([2; 32])))
    }

    #[test]
    fn an_empty_file_claims_nothing() {
        let claims = Claims::parse(b"").unwrap();
        assert!(claims.bundles.is_empty() && claims.manifests.is_empty());
        assert_eq!(claims.skipped, 0);
        assert!(claims.to_jsonl().is_empty());
    }

    #[test]
    fn too_much_is_not_read() {
        let length = CLAIMS_MAX + 1;
        assert_eq!(
            Claims::parse(&vec![b'\n'; length]).unwrap_err(),
            ClaimsError::TooLarge { length }
        );
        let lines = "x\n".repeat(CLAIMS_LINES_MAX);
        assert_eq!(Claims::parse(lines.as_bytes()).unwrap().skipped, CLAIMS_LINES_MAX);
        let one_more = format!("{lines}x");
        assert_eq!(Claims::parse(one_more.as_bytes()).unwrap_err(), ClaimsError::TooManyLines);
    }

    #[test]
    fn no_more_is_written_than_is_read_again() {
        let claims =
            Claims { bundles: vec![bundle("a"); CLAIMS_LINES_MAX + 1], ..Claims::default() };
        assert_eq!(Claims::parse(&claims.to_jsonl()).unwrap().bundles.len(), CLAIMS_LINES_MAX);
    }

    #[test]
    fn unknown_lines_are_skipped() {
        let mut bytes =
            b"not json\r\n\n{\"mediaType\":\"application/x\",\"content\":\"AAAA\"}\n".to_vec();
        bytes.extend_from_slice(&bundle("a").to_json());
        let claims = Claims::parse(&bytes).unwrap();
        assert_eq!(claims.bundles, [bundle("a")]);
        assert_eq!(claims.skipped, 2);
    }

    #[test]
    fn bundles_and_manifests_are_found_by_their_digests() {
        let written = Claims {
            bundles: vec![bundle("a"), bundle("b")],
            manifests: vec![b"list\n".to_vec()],
            skipped: 0,
        };
        let claims = Claims::parse(&written.to_jsonl()).unwrap();
        assert_eq!(claims.bundles, written.bundles);
        assert_eq!(claims.bundle(bundle("b").sha256()), Some(&bundle("b")));
        assert_eq!(claims.bundle(Sha256([0; 32])), None);
        assert_eq!(claims.manifest(sha256(b"list\n")), Some(&b"list\n"[..]));
        assert_eq!(claims.manifest(Sha256([0; 32])), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            drop(Claims::parse(&bytes));
        }
    }
}
