//! A bundle, and the `model.sig` that it may be.

use attestfs_attestation::{Bundle, Claims, Verifier};

use crate::{
    told::is_told,
    trusted::{SIGNED, SIGNERS, now},
};

target!("bundle", holds);

fn holds(bytes: &[u8]) {
    match Bundle::parse(bytes) {
        Ok(bundle) => is_as_written(&bundle, bytes.len()),
        Err(error) => is_told(&error),
    }
    is_believed_only_if_signed(bytes);
}

/// A bundle that came from this many bytes.
fn is_as_written(bundle: &Bundle, length: usize) {
    let again = Bundle::parse(&bundle.to_json()).unwrap();
    assert_eq!(&again, bundle);
    assert_eq!((again.sha256(), again.pae()), (bundle.sha256(), bundle.pae()));
    let certificates: usize = bundle.certificates().iter().map(|der| der.len()).sum();
    assert!(bundle.payload().bytes().len() + bundle.signature().len() + certificates < length);
}

fn is_believed_only_if_signed(bytes: &[u8]) {
    let nothing = Claims::default();
    match Verifier::new(&SIGNERS, &nothing, now()).model_signature(bytes) {
        Ok(model) => assert!(SIGNED.contains(&model.attestation()), "nobody signed this"),
        Err(refusal) => is_told(&refusal),
    }
}
