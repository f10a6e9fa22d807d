//! The Sigstore bundle v0.3: a DSSE envelope and what it takes to check it, in one file.

use attestfs_digest::Sha256;
use serde::{Deserialize, Serialize};
use sigstore_types::{
    PayloadBytes, SignatureBytes, TimestampVerificationData, TransparencyLogEntry, X509Certificate,
};

use crate::{
    certificate::claimed_identity,
    key::{KeyHint, SigningError, SigningKey},
    statement::{Malformed, Payload},
};

/// Media type of every bundle that we write.
pub const BUNDLE_MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// The other spelling of the same version. Versions 0.1 and 0.2 are refused: their rules for proofs
/// are weaker, and a label can be rewritten by anybody.
const BUNDLE_MEDIA_TYPE_ALTERNATIVE: &str = "application/vnd.dev.sigstore.bundle+json;version=0.3";

/// DSSE payload type of an in-toto statement.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// Largest bundle that is read, in bytes. A model of 250 000 files has a `model.sig` of this size;
/// attestations refer to manifests long before.
pub const BUNDLE_MAX: usize = 64 * 1024 * 1024;

/// Largest payload that fits a bundle: base64 makes four bytes of three, and the rest of a bundle of
/// ours is below 4 KiB.
pub const PAYLOAD_MAX: usize = (BUNDLE_MAX - 4096) / 4 * 3;

/// Why bytes are no bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// More than [`BUNDLE_MAX`].
    #[error("the bundle has {length} bytes, more than the {BUNDLE_MAX} that are read")]
    TooLarge {
        /// Bytes.
        length: usize,
    },
    /// Not JSON, nested too deep, or not the fields of a bundle with exactly one signature.
    #[error("this is no Sigstore bundle: {0}")]
    Json(#[from] Malformed),
    /// Another version of the format.
    #[error("media type '{media_type}' is not supported: expected '{BUNDLE_MEDIA_TYPE}'")]
    MediaType {
        /// As found, clipped.
        media_type: String,
    },
    /// Not exactly one of key, certificate and certificate chain.
    #[error(
        "the bundle names {count} kinds of signer: expected exactly one of publicKey, certificate, x509CertificateChain"
    )]
    SignerKinds {
        /// How many it names.
        count: usize,
    },
}

/// A payload, its one signature, and who is said to have signed it. Nothing of it is verified yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Bundle {
    payload: Payload,
    payload_type: String,
    signature: SignatureBytes,
    keyid: Option<String>,
    material: VerificationMaterial,
}

/// Who is said to have signed. Not authenticated: it says which key to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignerHint {
    /// A key, by whatever name the signer chose.
    Key(String),
    /// A key without a name.
    UnnamedKey,
    /// A certificate, and whom it is said to name.
    Certificate(String),
}

impl Bundle {
    /// Puts an attestation together. Its `keyid` equals the hint, as Sigstore asks.
    pub fn attestation(payload: Payload, signature: Vec<u8>, signer: KeyHint) -> Self {
        Self::assembled(payload, signature, signer, signer.to_string())
    }

    /// Puts an OMS model signature together. Its `keyid` is empty, as OMS asks.
    pub fn model_signature(payload: Payload, signature: Vec<u8>, signer: KeyHint) -> Self {
        Self::assembled(payload, signature, signer, String::new())
    }

    /// [`Bundle::attestation`] with a key at hand.
    ///
    /// # Errors
    /// The key could not sign.
    pub fn sign_attestation(payload: Payload, key: &SigningKey) -> Result<Self, SigningError> {
        let signature = key.sign(&pae(&payload))?;
        Ok(Self::attestation(payload, signature, key.verifying_key().hint()))
    }

    /// [`Bundle::model_signature`] with a key at hand.
    ///
    /// # Errors
    /// The key could not sign.
    pub fn sign_model(payload: Payload, key: &SigningKey) -> Result<Self, SigningError> {
        let signature = key.sign(&pae(&payload))?;
        Ok(Self::model_signature(payload, signature, key.verifying_key().hint()))
    }

    /// Reads a bundle and checks its shape, nothing else.
    ///
    /// Base64 may be standard or URL-safe. Nesting is bounded by the parser at 128 levels.
    ///
    /// # Errors
    /// An unknown field is one too: other verifiers refuse it as well.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() > BUNDLE_MAX {
            return Err(BundleError::TooLarge { length: bytes.len() });
        }
        let wire: Wire = serde_json::from_slice(bytes).map_err(Malformed::from)?;
        known_media_type(&wire.media_type)?;
        wire.verification_material.names_one_signer()?;
        let [signature] = wire.dsse_envelope.signatures;
        Ok(Self {
            payload: Payload::new(wire.dsse_envelope.payload.into_bytes()),
            payload_type: wire.dsse_envelope.payload_type,
            signature: signature.sig,
            keyid: signature.keyid,
            material: wire.verification_material,
        })
    }

    /// One line of JSON without line end.
    pub fn to_json(&self) -> Vec<u8> {
        let wire = Wire {
            media_type: BUNDLE_MEDIA_TYPE.to_owned(),
            verification_material: self.material.clone(),
            dsse_envelope: Envelope {
                payload: PayloadBytes::from_bytes(self.payload.bytes()),
                payload_type: self.payload_type.clone(),
                signatures: [Signature { sig: self.signature.clone(), keyid: self.keyid.clone() }],
            },
        };
        serde_json::to_vec(&wire).expect("a bundle is structs, lists and strings")
    }

    /// What was signed, verified or not.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// Gives up everything else.
    pub fn into_payload(self) -> Payload {
        self.payload
    }

    /// The name of the attestation.
    pub fn sha256(&self) -> Sha256 {
        self.payload.sha256()
    }

    /// Signed too, through the PAE.
    pub fn payload_type(&self) -> &str {
        &self.payload_type
    }

    /// ASN.1 DER.
    pub fn signature(&self) -> &[u8] {
        self.signature.as_bytes()
    }

    /// Who is said to have signed.
    pub fn signer(&self) -> SignerHint {
        match &self.material.public_key {
            None => SignerHint::Certificate(claimed_identity(&self.certificates())),
            Some(PublicKey { hint: Some(hint), .. }) if !hint.is_empty() => {
                SignerHint::Key(hint.clone())
            }
            Some(_) => SignerHint::UnnamedKey,
        }
    }

    /// The signer's certificate in DER, and those that came along with it; none when a key signed.
    pub fn certificates(&self) -> Vec<&[u8]> {
        let chain = self.material.x509_certificate_chain.iter();
        let chain = chain.flat_map(|chain| &chain.certificates);
        let all = self.material.certificate.iter().chain(chain);
        all.map(|certificate| certificate.raw_bytes.as_bytes()).collect()
    }

    /// The bytes that the signature covers.
    pub fn pae(&self) -> Vec<u8> {
        sigstore_types::pae(&self.payload_type, self.payload.bytes())
    }

    fn assembled(payload: Payload, signature: Vec<u8>, signer: KeyHint, keyid: String) -> Self {
        Self {
            payload,
            payload_type: PAYLOAD_TYPE.to_owned(),
            signature: SignatureBytes::new(signature),
            keyid: Some(keyid),
            material: VerificationMaterial::key(signer),
        }
    }
}

/// What a signature of ours covers: the DSSE pre-authentication encoding of a statement.
pub fn pae(payload: &Payload) -> Vec<u8> {
    sigstore_types::pae(PAYLOAD_TYPE, payload.bytes())
}

fn known_media_type(media_type: &str) -> Result<(), BundleError> {
    match media_type {
        BUNDLE_MEDIA_TYPE | BUNDLE_MEDIA_TYPE_ALTERNATIVE => Ok(()),
        other => Err(BundleError::MediaType { media_type: other.chars().take(120).collect() }),
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wire {
    media_type: String,
    verification_material: VerificationMaterial,
    dsse_envelope: Envelope,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope {
    payload: PayloadBytes,
    payload_type: String,
    /// Exactly one: a second signature would ride along unchecked.
    signatures: [Signature; 1],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    sig: SignatureBytes,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keyid: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct VerificationMaterial {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public_key: Option<PublicKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<X509Certificate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    x509_certificate_chain: Option<CertificateChain>,
    #[serde(default)]
    tlog_entries: Vec<TransparencyLogEntry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timestamp_verification_data: Option<TimestampVerificationData>,
}

impl VerificationMaterial {
    fn key(hint: KeyHint) -> Self {
        let public_key = PublicKey { hint: Some(hint.to_string()), ..PublicKey::default() };
        Self { public_key: Some(public_key), ..Self::default() }
    }

    fn names_one_signer(&self) -> Result<(), BundleError> {
        let count = usize::from(self.public_key.is_some())
            + usize::from(self.certificate.is_some())
            + usize::from(self.x509_certificate_chain.is_some());
        if count == 1 { Ok(()) } else { Err(BundleError::SignerKinds { count }) }
    }
}

/// `rawBytes` and `keyDetails` come from model signing before 1.1.0 and are not looked at: a key
/// that came with the signature proves nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PublicKey {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    raw_bytes: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_details: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CertificateChain {
    certificates: Vec<X509Certificate>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::statement::sha256;

    const VECTORS: [&str; 3] = [
        include_str!("../vectors/python-key.sig"),
        include_str!("../vectors/profile-key.sig"),
        include_str!("../vectors/python-certificate.sig"),
    ];

    fn valid() -> Value {
        serde_json::from_str(VECTORS[1]).unwrap()
    }

    fn error(change: impl FnOnce(&mut Value)) -> BundleError {
        let mut bundle = valid();
        change(&mut bundle);
        Bundle::parse(bundle.to_string().as_bytes()).unwrap_err()
    }

    fn json_error(change: impl FnOnce(&mut Value)) -> String {
        match error(change) {
            BundleError::Json(malformed) => malformed.to_string(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn another_number_of_signatures_than_one_is_refused() {
        let signatures = |bundle: &mut Value| bundle["dsseEnvelope"]["signatures"].take();
        json_error(|bundle| bundle["dsseEnvelope"]["signatures"] = json!([]));
        let two = |bundle: &mut Value| {
            let one = signatures(bundle)[0].clone();
            bundle["dsseEnvelope"]["signatures"] = json!([one, one]);
        };
        assert!(json_error(two).contains("trailing"));
    }

    #[test]
    fn another_media_type_is_refused() {
        for media_type in [
            "",
            "application/vnd.dev.sigstore.bundle+json;version=0.1",
            "application/vnd.dev.sigstore.bundle+json;version=0.2",
            "application/vnd.dev.sigstore.bundle.v0.4+json",
        ] {
            let refused = error(|bundle| bundle["mediaType"] = json!(media_type));
            assert!(matches!(refused, BundleError::MediaType { .. }), "{media_type}");
        }
    }

    #[test]
    fn another_number_of_signers_than_one_is_refused() {
        let none = error(|bundle| bundle["verificationMaterial"] = json!({}));
        assert_eq!(none, BundleError::SignerKinds { count: 0 });
        let two = error(|bundle| {
            bundle["verificationMaterial"]["certificate"] = json!({"rawBytes": "AAAA"});
        });
        assert_eq!(two, BundleError::SignerKinds { count: 2 });
    }

    #[test]
    fn an_unknown_field_is_refused_wherever_it_stands() {
        for pointer in [
            "",
            "/verificationMaterial",
            "/verificationMaterial/publicKey",
            "/dsseEnvelope",
            "/dsseEnvelope/signatures/0",
        ] {
            let refused = json_error(|bundle| bundle.pointer_mut(pointer).unwrap()["x"] = json!(1));
            assert!(refused.contains("unknown field `x`"), "{pointer}: {refused}");
        }
    }

    #[test]
    fn more_than_the_bound_is_not_read() {
        let length = BUNDLE_MAX + 1;
        assert_eq!(
            Bundle::parse(&vec![b' '; length]).unwrap_err(),
            BundleError::TooLarge { length }
        );
        let read = Bundle::parse(&vec![b'x'; BUNDLE_MAX]);
        assert!(matches!(read, Err(BundleError::Json(_))));
    }

    #[test]
    fn the_largest_payload_makes_a_bundle_that_is_read_again() {
        let hint = KeyHint(Sha256([0; 32]));
        let bundle = Bundle::attestation(Payload::new(vec![0; PAYLOAD_MAX]), vec![0; 150], hint);
        let length = bundle.to_json().len();
        assert!((BUNDLE_MAX - 4096..=BUNDLE_MAX).contains(&length), "{length}");
    }

    #[test]
    fn deep_nesting_is_refused_and_does_not_overflow_the_stack() {
        let deep = "[".repeat(1_000_000);
        for prefix in ["", r#"{"mediaType":"#, r#"{"verificationMaterial":{"tlogEntries":"#] {
            assert!(Bundle::parse(format!("{prefix}{deep}").as_bytes()).is_err());
        }
    }

    #[test]
    fn keyid_may_be_absent_null_empty_or_anything() {
        for keyid in [Value::Null, json!(""), json!("anything")] {
            let mut bundle = valid();
            bundle["dsseEnvelope"]["signatures"][0]["keyid"] = keyid;
            Bundle::parse(bundle.to_string().as_bytes()).unwrap();
        }
        let mut bundle = valid();
        let signature = bundle["dsseEnvelope"]["signatures"][0].as_object_mut().unwrap();
        signature.remove("keyid");
        Bundle::parse(bundle.to_string().as_bytes()).unwrap();
    }

    #[test]
    fn what_other_tools_wrote_is_read_to_the_byte() {
        let [python, profile, certificate] =
            VECTORS.map(|text| Bundle::parse(text.as_bytes()).unwrap());
        assert_eq!(
            python.sha256().to_string(),
            "b644a33619f06a0e21c2f8901e5e40b3d2a9daaf889df27a521d9ba8a7d9d01d"
        );
        assert_eq!(
            sha256(&python.pae()).to_string(),
            "f1c85b0c1fe9e64c5401b5eb2d4bd301bf1f6f1e486a0cf5de7ab35b96b34eaa"
        );
        assert_eq!(
            sha256(&profile.pae()).to_string(),
            "d2ad1fbf820163540983d664b0c76bbe28a0a0f2328a29e6fb526ce48c20c073"
        );
        assert!(matches!(python.signer(), SignerHint::Key(_)));
        let claimed = "a certificate of 'CN=vec-signer'".to_owned();
        assert_eq!(certificate.signer(), SignerHint::Certificate(claimed));
        assert_eq!(profile.to_json(), VECTORS[1].trim_end().as_bytes());
    }

    #[test]
    fn a_signature_from_before_hints_is_read() {
        let mut bundle = valid();
        bundle["verificationMaterial"] =
            json!({"publicKey": {"rawBytes": "AAAA", "keyDetails": "PKIX_ECDSA_P384_SHA_384"}});
        let bundle = Bundle::parse(bundle.to_string().as_bytes()).unwrap();
        assert_eq!(bundle.signer(), SignerHint::UnnamedKey);
    }

    #[test]
    fn url_safe_base64_is_read_as_well() {
        let payload = Payload::new(vec![0xfb, 0xff, 0xfe]);
        let hint = KeyHint(Sha256([0; 32]));
        let bundle = Bundle::attestation(payload.clone(), vec![0xff], hint);
        let text = String::from_utf8(bundle.to_json()).unwrap();
        assert!(text.contains("+//+"));
        let url_safe = text.replace("+//+", "-__-");
        assert_eq!(Bundle::parse(url_safe.as_bytes()).unwrap().payload(), &payload);
    }

    #[test]
    fn the_signed_bytes_are_those_of_the_dsse_specification() {
        let empty = Payload::new(b"{}".to_vec());
        assert_eq!(pae(&empty), b"DSSEv1 28 application/vnd.in-toto+json 2 {}");
        assert_eq!(
            sha256(&pae(&empty)).to_string(),
            "4842cb1ba6fed6e460d8a0d56f6b64ccf1f1e11f7714a7f282080d5780251b63"
        );
        let accented = Payload::new("{\"é\":1}".as_bytes().to_vec());
        assert_eq!(
            sha256(&pae(&accented)).to_string(),
            "04b1cdb9618d713ca87fe1a65885f1e22959825f74a2664b88e6e9351f403d42"
        );
    }

    #[test]
    fn the_keyid_is_the_hint_for_sigstore_and_empty_for_oms() {
        let key = SigningKey::generate().unwrap();
        let hint = key.verifying_key().hint().to_string();
        let payload = Payload::new(b"{}".to_vec());
        let keyid = |bundle: Bundle| -> String {
            let json: Value = serde_json::from_slice(&bundle.to_json()).unwrap();
            assert_eq!(json["verificationMaterial"]["publicKey"]["hint"], hint.as_str());
            json["dsseEnvelope"]["signatures"][0]["keyid"].as_str().unwrap().to_owned()
        };
        assert_eq!(keyid(Bundle::sign_attestation(payload.clone(), &key).unwrap()), hint);
        assert_eq!(keyid(Bundle::sign_model(payload, &key).unwrap()), "");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            prop_assert!(Bundle::parse(&bytes).is_err());
        }

        #[test]
        fn a_mutated_bundle_is_refused_or_survives_being_written(
            which in 0..3_usize,
            at: proptest::sample::Index,
            byte: u8,
        ) {
            let mut bytes = VECTORS[which].as_bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(bundle) = Bundle::parse(&bytes) {
                prop_assert_eq!(Bundle::parse(&bundle.to_json()).unwrap(), bundle);
            }
        }

        #[test]
        fn any_payload_survives_being_written(payload: Vec<u8>, signature: Vec<u8>) {
            let hint = KeyHint(Sha256([7; 32]));
            let bundle = Bundle::attestation(Payload::new(payload), signature, hint);
            prop_assert_eq!(Bundle::parse(&bundle.to_json()).unwrap(), bundle);
        }
    }
}
