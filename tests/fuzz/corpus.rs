//! What the targets begin with. `writing.rs` wrote it; what was found later lies beside.

use std::{
    fs,
    path::{Path, PathBuf},
};

use attestfs_attestation::{Claims, MaterialReport, Origin, Verifier};
use attestfs_digest::{Blake3, Digests, Sha256};

use crate::{
    claims::verified,
    trusted::{SIGNERS, now},
};

/// Of all files.
const CORPUS_BYTES_MAX: usize = 100_000;

/// Whom the certificates of the corpus name.
pub(crate) const SIGNER: &str = "spiffe://hub.example/model/llm";

/// The seeds of a target.
pub(crate) fn of(target: &str) -> Vec<Vec<u8>> {
    let mut files: Vec<_> =
        fs::read_dir(folder().join(target)).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// One file of the corpus.
pub(crate) fn read(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).unwrap()
}

/// Of the file that attestations in the corpus speak of. Nobody computes its BLAKE3 here.
pub(crate) fn weights() -> Digests {
    Digests { sha256: Sha256::of(b"weights"), blake3: Blake3([7; 32]) }
}

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus")
}

/// A corpus that is refused at once would test nothing.
#[test]
fn the_corpus_is_small_and_good() {
    let targets = fs::read_dir(folder()).unwrap().map(|target| target.unwrap().path());
    let bytes: usize = targets.map(|target| sizes(&target)).sum();
    assert!(bytes < CORPUS_BYTES_MAX, "{bytes} bytes");
    for (seed, signer) in [("bundle/model.json", "trainer"), ("bundle/certificate.json", "hub")] {
        let nothing = Claims::default();
        let verifier = Verifier::new(&SIGNERS, &nothing, now());
        assert_eq!(
            verifier.model_signature(&read(seed)).unwrap().signer().names().next(),
            Some(signer)
        );
    }
    let claims = Claims::parse(&read("claims/trained.jsonl")).unwrap();
    let [trained] = &verified(&claims).unwrap().attestations[..] else { panic!("one") };
    let known = |material: &MaterialReport| matches!(material.origin, Origin::Attested(_));
    assert!(trained.materials.iter().any(known), "{trained:?}");
}

fn sizes(target: &Path) -> usize {
    let files =
        fs::read_dir(target).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap().len());
    files.sum()
}
