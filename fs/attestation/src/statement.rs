//! in-toto Statement v1 and the bytes it is signed as.

use std::{collections::BTreeMap, fmt, str::Utf8Error};

use attestfs_digest::{Digests, Sha256};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// `_type` of every statement that we write or read.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// The bytes that are signed, and their name.
///
/// There is no canonical form: the bytes are kept and never serialized again. Their SHA-256 names
/// the attestation, whoever signs it, whenever, and whatever a log adds to its bundle.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload {
    bytes: Vec<u8>,
    sha256: Sha256,
}

impl Payload {
    /// The bytes of a statement or, on the way in, whatever somebody signed.
    pub fn new(bytes: Vec<u8>) -> Self {
        let sha256 = sha256(&bytes);
        Self { bytes, sha256 }
    }

    /// Serializes a statement, once.
    pub fn of<P: Serialize>(statement: &Statement<P>) -> Self {
        Self::new(serde_json::to_vec(statement).expect("statements are structs, lists and strings"))
    }

    /// What is signed, less the DSSE framing.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The name of the attestation.
    pub fn sha256(&self) -> Sha256 {
        self.sha256
    }

    /// Reads the fields that every statement has, and nothing of the predicate.
    ///
    /// # Errors
    /// Not JSON, or a field is missing or given twice.
    pub fn header(&self) -> Result<Header, Malformed> {
        self.read()
    }

    /// Reads the whole statement, once the header says that its predicate is a `P`.
    ///
    /// # Errors
    /// As [`Payload::header`], for the predicate too; or it is nested deeper than 128 levels.
    pub fn statement<P: DeserializeOwned>(&self) -> Result<Statement<P>, Malformed> {
        self.read()
    }

    /// JSON is text, also in fields that nobody reads: there the parser does not look.
    fn read<T: DeserializeOwned>(&self) -> Result<T, Malformed> {
        Ok(serde_json::from_str(str::from_utf8(&self.bytes)?)?)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({}, {} bytes)", self.sha256, self.bytes.len())
    }
}

/// Bytes are not the JSON that was expected: what and where. Only the text of the parser's error, so
/// that refusals can be compared and kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(String);

impl From<serde_json::Error> for Malformed {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string().chars().take(300).collect())
    }
}

impl From<Utf8Error> for Malformed {
    fn from(error: Utf8Error) -> Self {
        Self(error.to_string())
    }
}

/// What has to be known of a statement before its predicate can be read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Header {
    /// Must be [`STATEMENT_TYPE`].
    #[serde(rename = "_type")]
    pub statement_type: String,
    /// Says what the predicate is.
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
}

/// A claim (the predicate) about things with digests (the subjects).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement<P> {
    /// [`STATEMENT_TYPE`].
    #[serde(rename = "_type")]
    pub statement_type: String,
    /// Never empty; each has a digest.
    pub subject: Vec<ResourceDescriptor>,
    /// Says what `predicate` is.
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    /// The claim.
    pub predicate: P,
}

impl<P> Statement<P> {
    /// A statement of the version that we write.
    pub fn new(subject: Vec<ResourceDescriptor>, predicate_type: &str, predicate: P) -> Self {
        Self {
            statement_type: STATEMENT_TYPE.to_owned(),
            subject,
            predicate_type: predicate_type.to_owned(),
            predicate,
        }
    }
}

/// Something that a statement speaks of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceDescriptor {
    /// Local to the statement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Global.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Makes it immutable.
    #[serde(default, skip_serializing_if = "DigestSet::is_empty")]
    pub digest: DigestSet,
    /// MIME.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Ours are strings, numbers too: tools that read JSON into doubles round a size.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, Value>,
}

impl ResourceDescriptor {
    /// A file: SHA-256 alone in the digest set, because one widespread verifier refuses a subject
    /// with any other; BLAKE3 and the size in the annotations.
    pub fn file(name: &str, digests: &Digests, size: u64) -> Self {
        Self::named(name, digests.sha256)
            .annotated("blake3", digests.blake3)
            .annotated("size", size)
    }

    /// A name and a digest.
    pub fn named(name: &str, sha256: Sha256) -> Self {
        Self {
            name: Some(name.to_owned()),
            digest: DigestSet::sha256_only(sha256),
            ..Self::default()
        }
    }

    /// The same with one more annotation.
    #[must_use]
    pub fn annotated(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.annotations.insert(key.to_owned(), Value::String(value.to_string()));
        self
    }

    /// An annotation that is text.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key)?.as_str()
    }
}

/// Digests by algorithm. Only `sha256` is believed; others are kept and ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DigestSet(BTreeMap<String, String>);

impl DigestSet {
    /// What we write.
    pub fn sha256_only(sha256: Sha256) -> Self {
        Self(BTreeMap::from([("sha256".to_owned(), sha256.to_string())]))
    }

    /// The one algorithm that is believed; none too when its text is no SHA-256.
    pub fn sha256(&self) -> Option<Sha256> {
        self.0.get("sha256")?.parse().ok()
    }

    /// Whether there is no digest at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> Sha256 {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    Sha256(digest.as_ref().try_into().expect("a SHA-256 has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use attestfs_digest::Blake3;
    use serde::de::IgnoredAny;

    use super::*;

    #[test]
    fn a_statement_is_serialized_once_and_read_back() {
        let digests = Digests { sha256: Sha256([1; 32]), blake3: Blake3([2; 32]) };
        let subject = ResourceDescriptor::file("model.bin", &digests, u64::MAX);
        let statement = Statement::new(vec![subject], "https://example.com/x/v1", Value::Null);
        let payload = Payload::of(&statement);
        let text = String::from_utf8(payload.bytes().to_vec()).unwrap();
        let expected = format!(
            r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"name":"model.bin","digest":{{"sha256":"{}"}},"annotations":{{"blake3":"{}","size":"18446744073709551615"}}}}],"predicateType":"https://example.com/x/v1","predicate":null}}"#,
            "01".repeat(32),
            "02".repeat(32)
        );
        assert_eq!(text, expected);
        assert_eq!(payload.statement::<Value>().unwrap(), statement);
        assert_eq!(payload.header().unwrap().predicate_type, "https://example.com/x/v1");
    }

    #[test]
    fn a_field_given_twice_is_refused() {
        let twice = br#"{"_type":"a","_type":"b","predicateType":"c"}"#;
        assert!(Payload::new(twice.to_vec()).header().is_err());
    }

    #[test]
    fn what_is_no_text_is_no_statement_even_where_nobody_looks() {
        let text = br#"{"_type":"a","subject":[],"predicateType":"b","predicate":{},"x":"?"}"#;
        assert!(Payload::new(text.to_vec()).header().is_ok());
        let torn: Vec<u8> =
            text.iter().map(|&byte| if byte == b'?' { 0xff } else { byte }).collect();
        let payload = Payload::new(torn);
        let place = text.iter().position(|&byte| byte == b'?').unwrap();
        let refused = payload.header().unwrap_err().to_string();
        assert!(refused.contains(&format!("index {place}")), "{refused}");
        assert_eq!(payload.statement::<IgnoredAny>().unwrap_err().to_string(), refused);
    }

    #[test]
    fn deep_nesting_does_not_overflow_the_stack() {
        let deep = format!(
            r#"{{"_type":"a","subject":[],"predicateType":"b","predicate":{}{}}}"#,
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        let payload = Payload::new(deep.into_bytes());
        assert_eq!(payload.header().unwrap().predicate_type, "b");
        assert!(payload.statement::<Value>().is_err());
    }

    #[test]
    fn a_payload_is_named_by_its_digest() {
        assert_eq!(
            Payload::new(Vec::new()).sha256().to_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
