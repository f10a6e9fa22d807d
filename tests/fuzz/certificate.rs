//! What may be given as the certificates of an authority, as a key, or as the certificate of a signer.

use std::sync::LazyLock;

use attestfs_attestation::{Authority, Claims, SigningKey, Verifier, VerifyingKey};
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

use crate::{
    corpus,
    told::is_told,
    trusted::{SIGNED, SIGNERS, now},
};

target!("certificate", holds);

/// A bundle that somebody signed by a certificate.
static BUNDLE: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_slice(&corpus::read("bundle/certificate.json")).unwrap());

fn holds(bytes: &[u8]) {
    if let Err(error) = Authority::new(bytes, None) {
        is_told(&error);
    }
    match VerifyingKey::from_pem(bytes) {
        Ok(key) => assert_eq!(VerifyingKey::from_pem(key.to_pem().as_bytes()).unwrap(), key),
        Err(error) => is_told(&error),
    }
    match SigningKey::from_pem(bytes) {
        Ok(key) => drop(SigningKey::from_pem(key.to_pem().as_bytes()).unwrap()),
        Err(error) => is_told(&error),
    }
    vouches_only_for_its_own_signature(bytes);
}

/// These bytes in place of the certificate of the signer.
fn vouches_only_for_its_own_signature(der: &[u8]) {
    let mut bundle = BUNDLE.clone();
    let chain = &mut bundle["verificationMaterial"]["x509CertificateChain"]["certificates"];
    chain[0] = json!({"rawBytes": BASE64_STANDARD.encode(der)});
    let nothing = Claims::default();
    match Verifier::new(&SIGNERS, &nothing, now()).model_signature(bundle.to_string().as_bytes()) {
        Ok(model) => {
            assert!(SIGNED.contains(&model.attestation()));
            assert_eq!(model.signer().to_string(), corpus::SIGNER);
        }
        Err(refusal) => is_told(&refusal),
    }
}
