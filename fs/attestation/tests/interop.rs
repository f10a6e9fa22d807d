//! What we write is read and verified by code that we did not write.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use attestfs_attestation::{
    ArtifactRoot, Bundle, Commit, CommitKind, Content, Entry, EntryKind, Inputs, Outcome, Output,
    Payload, RunDescription, SigningKey, model_statement,
};
use attestfs_digest::{Blake3, Digests, Sha256};
use sigstore_crypto::VerificationKey;
use sigstore_types::{Bundle as TheirBundle, DerPublicKey, SignatureContent, Statement};

const DIGESTS: Digests = Digests { sha256: Sha256([1; 32]), blake3: Blake3([2; 32]) };

#[test]
fn sigstore_verifies_our_attestations() {
    let key = SigningKey::generate().unwrap();
    let payload = commit().draft().unwrap().payload;
    let bundle = Bundle::sign_attestation(payload.clone(), &key).unwrap();
    let statement = their_verdict(&bundle, &key, &payload);
    assert_eq!(statement.predicate_type, "https://slsa.dev/provenance/v1");
    assert_eq!(statement.subject[0].name, "model.bin");
}

#[test]
fn sigstore_verifies_our_model_signatures() {
    let key = SigningKey::generate().unwrap();
    let content = Content::new(DIGESTS, 7);
    let entry = Entry { name: "model.bin".to_owned(), kind: EntryKind::File(content) };
    let payload = model_statement("model", &[entry]).unwrap();
    let bundle = Bundle::sign_model(payload.clone(), &key).unwrap();
    let statement = their_verdict(&bundle, &key, &payload);
    assert_eq!(statement.predicate_type, "https://model_signing/signature/v1.0");
}

#[test]
fn sigstore_reads_our_private_keys() {
    let key = SigningKey::generate().unwrap();
    let pem = key.to_pem();
    let (_, der) = pem_rfc7468::decode_vec(pem.as_bytes()).unwrap();
    let theirs = sigstore_crypto::KeyPair::from_pkcs8_der(&der).unwrap();
    let signature = theirs.sign(b"message").unwrap();
    assert!(key.verifying_key().verifies(b"message", signature.as_bytes()));
}

/// The statement, if their code reads the bundle and finds its signature good.
fn their_verdict(bundle: &Bundle, key: &SigningKey, payload: &Payload) -> Statement {
    let json = String::from_utf8(bundle.to_json()).unwrap();
    let theirs = TheirBundle::from_json(&json).unwrap();
    let envelope = match &theirs.content {
        SignatureContent::DsseEnvelope(envelope) => Some(envelope),
        _ => None,
    }
    .unwrap();
    assert_eq!(envelope.payload.as_bytes(), payload.bytes());
    let public = DerPublicKey::from_pem(&key.verifying_key().to_pem()).unwrap();
    VerificationKey::from_spki(&public)
        .unwrap()
        .verify(envelope.pae(), &envelope.signature.sig)
        .unwrap();
    serde_json::from_slice(envelope.payload.as_bytes()).unwrap()
}

fn commit() -> Commit {
    let output = Output { name: "model.bin".to_owned(), digests: DIGESTS, size: 7 };
    Commit {
        run: run(),
        root: ArtifactRoot { name: "model".to_owned(), path: "/data/model".to_owned() },
        kind: CommitKind::StageEnd(Outcome::Success),
        finished: "2026-01-02T03:05:00Z".parse().unwrap(),
        outputs: vec![output],
        left_out: Vec::new(),
        materials: Vec::new(),
    }
}

fn run() -> RunDescription {
    RunDescription {
        id: "train-1".to_owned(),
        stage: "train".to_owned(),
        command: vec!["python".to_owned(), "train.py".to_owned()],
        executable: None,
        working_directory: "/data".to_owned(),
        uid: 1000,
        host: "node".to_owned(),
        kernel: "Linux 6.18.0".to_owned(),
        cgroup: None,
        trees: vec!["/data".to_owned()],
        declared_inputs: Vec::new(),
        declared_outputs: vec!["/data/model".to_owned()],
        inputs: Inputs::Opened,
        labels: BTreeMap::new(),
        started: "2026-01-02T03:04:05Z".parse().unwrap(),
        lock: None,
        attestfs_version: "0.1.0".to_owned(),
    }
}
