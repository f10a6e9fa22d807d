//! The manifest of a model signature (OMS), as whoever signed it may have made it.

use attestfs_attestation::{Content, Difference, HashType, ModelManifest, Payload};
use attestfs_digest::{Blake3, Digests, Sha256};

use crate::told::is_told;

target!("model", holds);

fn holds(bytes: &[u8]) {
    let manifest = match ModelManifest::read(&Payload::new(bytes.to_vec())) {
        Ok(manifest) => manifest,
        Err(error) => return is_told(&error),
    };
    // A digest takes 64 digits.
    assert!(manifest.files() <= bytes.len() / 64 && !manifest.name().is_empty());
    let compared = manifest.compare(&[]);
    let missing =
        matches!(&compared, Err(Difference::Missing { names }) if names.len() == manifest.files());
    assert!(if manifest.files() == 0 { compared.is_ok() } else { missing }, "{compared:?}");
    assert_eq!(
        manifest.contents().count(),
        if manifest.hash_type() == HashType::Sha256 { manifest.files() } else { 0 }
    );
    if let Err(Difference::Missing { names }) = compared {
        for name in names {
            is_of_one_content(&manifest, &name);
        }
    }
}

fn is_of_one_content(manifest: &ModelManifest, name: &str) {
    assert!(manifest.lists(name));
    let other = manifest.sha256(name).map(|Sha256(bytes)| Sha256(bytes.map(|byte| !byte)));
    for (sha256, is_signed) in [(manifest.sha256(name), true), (other, false)] {
        let Some(sha256) = sha256 else { continue };
        let content = Content::new(Digests { sha256, blake3: Blake3([0; 32]) }, 1);
        assert_eq!(manifest.compare_file(name, &content).is_ok(), is_signed, "{name}");
    }
}
