//! `claims.jsonl`, and what is believed of files beside which it lies.

use attestfs_attestation::{
    Attested, Claims, Content, Found, Origin, Place, Refusal, Verified, Verifier,
};

use crate::{
    corpus::weights,
    told::is_told,
    trusted::{SIGNED, SIGNERS, now},
};

target!("claims", holds);

fn holds(bytes: &[u8]) {
    let claims = match Claims::parse(bytes) {
        Ok(claims) => claims,
        Err(error) => return is_told(&error),
    };
    is_as_written(&claims, bytes.len());
    match verified(&claims) {
        Ok(verified) => verified.attestations.iter().for_each(is_signed),
        Err(refusal) => is_told(&refusal),
    }
}

/// What is believed of the file of which the corpus speaks, when only this lies beside it.
pub(crate) fn verified(claims: &Claims) -> Result<Verified, Refusal> {
    let place = Place::Below("model.safetensors".to_owned());
    let found = Found { place, content: Content::new(weights(), 7) };
    Verifier::new(&SIGNERS, claims, now()).files(&[found])
}

/// Claims that came from this many bytes.
fn is_as_written(claims: &Claims, length: usize) {
    let again = Claims::parse(&claims.to_jsonl()).unwrap();
    assert_eq!((&again.bundles, &again.manifests), (&claims.bundles, &claims.manifests));
    assert_eq!(again.skipped, 0);
    let manifests: usize = claims.manifests.iter().map(Vec::len).sum();
    assert!(manifests <= length && claims.bundles.len() + claims.skipped <= length);
}

/// And so is all from which it was made, as far as that is believed.
fn is_signed(attested: &Attested) {
    assert!(SIGNED.contains(&attested.attestation), "nobody signed {attested:?}");
    for material in &attested.materials {
        if let Origin::Attested(origin) = &material.origin {
            is_signed(origin);
        }
    }
}
