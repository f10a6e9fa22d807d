//! What attestfs emitted, read without its own code and judged by `openssl`, `sha256sum` and
//! `model_signing`.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    process::Command,
};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;

use crate::lab::Finish;

pub(crate) const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
pub(crate) const INCOMPLETE_RUN: &str = "https://attestfs.dev/predicate/incomplete-run/v1";

/// A Sigstore bundle with a DSSE envelope.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub(crate) payload: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    pub(crate) statement: Value,
}

impl Bundle {
    /// Reads one line of JSON.
    pub(crate) fn parse(text: &str) -> Self {
        let bundle: Value = serde_json::from_str(text).unwrap();
        let envelope = &bundle["dsseEnvelope"];
        assert_eq!(envelope["payloadType"], "application/vnd.in-toto+json");
        let decode = |value: &Value| BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap();
        let payload = decode(&envelope["payload"]);
        Self {
            statement: serde_json::from_slice(&payload).unwrap(),
            signature: decode(&envelope["signatures"][0]["sig"]),
            payload,
        }
    }

    pub(crate) fn read(path: &Path) -> Self {
        Self::parse(&fs::read_to_string(path).unwrap())
    }

    /// The bytes that DSSE signs.
    pub(crate) fn pre_authentication_encoding(&self) -> Vec<u8> {
        let head = format!("DSSEv1 28 application/vnd.in-toto+json {} ", self.payload.len());
        [head.as_bytes(), &self.payload].concat()
    }

    /// Holds the signature against a public key, by `openssl`.
    pub(crate) fn check_signature(&self, public_key: &Path) {
        let files = tempfile::tempdir().unwrap();
        let (signed, signature) = (files.path().join("signed"), files.path().join("signature"));
        fs::write(&signed, self.pre_authentication_encoding()).unwrap();
        fs::write(&signature, &self.signature).unwrap();
        let mut openssl = Command::new("openssl");
        openssl.args(["dgst", "-sha256", "-verify"]).arg(public_key);
        openssl.arg("-signature").arg(&signature).arg(&signed);
        assert_eq!(openssl.succeed().trim(), "Verified OK");
    }

    pub(crate) fn predicate_type(&self) -> &str {
        self.statement["predicateType"].as_str().unwrap()
    }

    pub(crate) fn stage(&self) -> &str {
        self.build_definition()["externalParameters"]["stage"].as_str().unwrap()
    }

    /// Where the subjects lie.
    pub(crate) fn artifact_root(&self) -> PathBuf {
        let root = &self.build_definition()["internalParameters"]["artifactRoot"];
        PathBuf::from(root.as_str().unwrap())
    }

    /// The SHA-256 of each subject by its path, read from the manifest where there are many.
    pub(crate) fn subjects(&self, state: &Path) -> BTreeMap<PathBuf, String> {
        let root = self.artifact_root();
        let subjects = self.statement["subject"].as_array().unwrap();
        let named = subjects.iter().flat_map(|subject| {
            let digest = subject["digest"]["sha256"].as_str().unwrap().to_owned();
            match subject["annotations"]["manifest"].as_str() {
                Some(_) => read_manifest(state, &digest),
                None => vec![(subject["name"].as_str().unwrap().to_owned(), digest)],
            }
        });
        named.map(|(name, digest)| (root.join(name), digest)).collect()
    }

    /// The BLAKE3 of each subject by its path.
    pub(crate) fn blake3(&self) -> BTreeMap<PathBuf, String> {
        let root = self.artifact_root();
        let subjects = self.statement["subject"].as_array().unwrap().iter();
        subjects
            .map(|subject| {
                let blake3 = subject["annotations"]["blake3"].as_str().unwrap();
                (root.join(subject["name"].as_str().unwrap()), blake3.to_owned())
            })
            .collect()
    }

    /// The SHA-256 of each material by its path; none where the statement says that it is unknown.
    pub(crate) fn materials(&self) -> BTreeMap<PathBuf, Option<String>> {
        let all = self.build_definition()["resolvedDependencies"].as_array().unwrap().iter();
        let materials = all.filter(|dependency| dependency["annotations"]["role"] == "material");
        materials
            .map(|material| {
                let uri = material["uri"].as_str().unwrap();
                let path = uri.strip_prefix("file://").unwrap();
                let path = &path[path.find('/').unwrap()..];
                let digest = material["digest"]["sha256"].as_str();
                (unescaped(path), digest.map(str::to_owned))
            })
            .collect()
    }

    fn build_definition(&self) -> &Value {
        let predicate = &self.statement["predicate"];
        match self.predicate_type() {
            INCOMPLETE_RUN => &predicate["run"]["buildDefinition"],
            _ => &predicate["buildDefinition"],
        }
    }
}

/// A path as it stands in a URI, with its reserved characters as `%` and two digits.
fn unescaped(path: &str) -> PathBuf {
    let mut parts = path.split('%');
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at(2);
        bytes.extend(hex::decode(digits).unwrap());
        bytes.extend_from_slice(rest.as_bytes());
    }
    OsString::from_vec(bytes).into()
}

/// The attestations of a state directory, each under the name that its payload gives it.
pub(crate) fn attestations(state: &Path) -> Vec<Bundle> {
    let mut bundles = Vec::new();
    for path in files_below(&state.join("attestations")) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let Some(named) = name.strip_suffix(".sigstore.json") else { continue };
        let bundle = Bundle::read(&path);
        assert_eq!(sha256_of(&bundle.payload), named);
        bundles.push(bundle);
    }
    bundles
}

/// The one attestation of a state directory.
pub(crate) fn only_attestation(state: &Path) -> Bundle {
    let mut bundles = attestations(state);
    assert_eq!(bundles.len(), 1, "{bundles:#?}");
    bundles.remove(0)
}

/// What `sha256sum` says of each of these files.
pub(crate) fn sha256sum(files: &[PathBuf]) -> BTreeMap<PathBuf, String> {
    if files.is_empty() {
        return BTreeMap::new();
    }
    let printed = Command::new("sha256sum").args(["--zero", "--"]).args(files).succeed();
    let lines = printed.split_terminator('\0').map(|line| line.split_once("  ").unwrap());
    lines.map(|(digest, path)| (path.into(), digest.to_owned())).collect()
}

/// Holds digests by path against `sha256sum`.
pub(crate) fn check_digests(digests: &BTreeMap<PathBuf, String>) {
    let paths: Vec<_> = digests.keys().cloned().collect();
    assert_eq!(*digests, sha256sum(&paths));
}

/// Holds digests by path against `b3sum`.
pub(crate) fn check_blake3(digests: &BTreeMap<PathBuf, String>) {
    for (path, digest) in digests {
        let printed = Command::new("b3sum").arg("--no-names").arg(path).succeed();
        assert_eq!(printed.trim(), digest, "{}", path.display());
    }
}

/// Verifies a directory and its `model.sig` by the reference implementation.
pub(crate) fn check_model_signature(model_signing: &Path, directory: &Path, public_key: &Path) {
    let mut verify = Command::new(model_signing);
    verify.args(["verify", "key"]).arg(directory).arg("--public_key").arg(public_key);
    verify.arg("--signature").arg(directory.join("model.sig"));
    verify.succeed();
}

/// All regular files below a directory, sorted, but `model.sig` and `claims.jsonl`.
pub(crate) fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            files.append(&mut files_below(&path));
        } else if kind.is_file() && !travels_with_a_model(&path) {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn travels_with_a_model(path: &Path) -> bool {
    path.ends_with("model.sig") || path.ends_with("claims.jsonl")
}

/// Of a manifest: `sha256sum` format, named by its own digest. Names with escapes are not expected.
fn read_manifest(state: &Path, digest: &str) -> Vec<(String, String)> {
    let path = state.join("attestations").join(format!("{digest}.manifest"));
    let text = fs::read_to_string(path).unwrap();
    assert_eq!(sha256_of(text.as_bytes()), digest);
    let lines = text.lines().map(|line| line.split_once("  ").unwrap());
    lines.map(|(digest, name)| (name.to_owned(), digest.to_owned())).collect()
}

fn sha256_of(bytes: &[u8]) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(bytes))
}
