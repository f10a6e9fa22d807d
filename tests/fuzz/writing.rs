//! Writes the corpus anew: `cargo test --test fuzz write_the_corpus -- --ignored`. The private keys of those who sign
//! it end with the process, so nobody can sign anything else for them.

use std::{collections::BTreeMap, fs, slice};

use attestfs_attestation::{
    ArtifactRoot, Bundle, Claims, Commit, CommitKind, Content, Draft, Entry, EntryKind, Inputs,
    Locked, Manifest, Material, MaterialDigests, Outcome, Output, Payload, RunDescription,
    SigningKey, WrittenLock, model_statement,
};
use attestfs_daemon::{
    control::{FromClient, Hello, Request, encode},
    publication::name_key,
};
use attestfs_digest::Sha256;
use attestfs_fs::{Fact, Process, RunVersion, TreePath};
use base64::prelude::{BASE64_STANDARD, Engine};
use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
    date_time_ymd,
};
use serde_json::{Value, json};

use crate::{
    corpus::{SIGNER, folder, weights},
    index,
    trusted::now,
};

#[test]
#[ignore = "it writes what the others read"]
fn write_the_corpus() {
    let key = SigningKey::generate().unwrap();
    let hub = Hub::new();
    write("trusted/key.pub", key.verifying_key().to_pem());
    write("trusted/authority.pem", pem("CERTIFICATE", &hub.authority));
    write_attestations(&key, &hub);
    write_lists();
    write_policies(&key, &hub);
    write_messages();
    write_facts_and_indexes();
}

fn write(name: &str, bytes: impl AsRef<[u8]>) {
    let path = folder().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn write_attestations(key: &SigningKey, hub: &Hub) {
    let model = model();
    write("model/model.json", model.bytes());
    write("bundle/model.json", Bundle::sign_model(model.clone(), key).unwrap().to_json());
    write("bundle/certificate.json", hub.signed(model));
    write("certificate/signer.der", &hub.signer);
    write("certificate/authority.pem", pem("CERTIFICATE", &hub.authority));
    write("certificate/key.pub", key.verifying_key().to_pem());
    let (prepared, trained) = (prepared(), trained(prepared().payload.sha256()));
    write("statement/prepared.json", prepared.payload.bytes());
    write("statement/trained.json", trained.payload.bytes());
    write("statement/incomplete.json", incomplete().payload.bytes());
    let attestation = |draft: &Draft| Bundle::sign_attestation(draft.payload.clone(), key).unwrap();
    write("bundle/prepared.json", attestation(&prepared).to_json());
    let claims = Claims {
        bundles: vec![attestation(&trained), attestation(&prepared)],
        manifests: vec![list().bytes().to_vec()],
        skipped: 0,
    };
    write("claims/trained.jsonl", claims.to_jsonl());
}

/// Who signs by a certificate.
struct Hub {
    authority: Vec<u8>,
    signer: Vec<u8>,
    key: SigningKey,
}

impl Hub {
    fn new() -> Self {
        let (authority_key, signer_key) =
            (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut authority = params("hub", KeyUsagePurpose::KeyCertSign);
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = Issuer::from_params(&authority, &authority_key);
        let mut signer = params("signer", KeyUsagePurpose::DigitalSignature);
        signer.subject_alt_names = vec![SanType::URI(SIGNER.try_into().unwrap())];
        Self {
            signer: signer.signed_by(&signer_key, &issuer).unwrap().der().to_vec(),
            authority: authority.self_signed(&authority_key).unwrap().der().to_vec(),
            key: SigningKey::from_pem(pem("PRIVATE KEY", signer_key.serialized_der()).as_bytes())
                .unwrap(),
        }
    }

    fn signed(&self, payload: Payload) -> String {
        let bundle = Bundle::sign_model(payload, &self.key).unwrap();
        let mut bundle: Value = serde_json::from_slice(&bundle.to_json()).unwrap();
        let chain = [&self.signer, &self.authority]
            .map(|der| json!({"rawBytes": BASE64_STANDARD.encode(der)}));
        bundle["verificationMaterial"] = json!({"x509CertificateChain": {"certificates": chain}});
        bundle.to_string()
    }
}

fn params(name: &str, usage: KeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2099, 1, 1));
    params.key_usages = vec![usage];
    params
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> =
        text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn model() -> Payload {
    let entry = |name: &str| Entry {
        name: name.to_owned(),
        kind: EntryKind::File(Content::new(weights(), 7)),
    };
    model_statement(
        "model",
        &["config.json", "model.safetensors", "tokenizer/vocab.json"].map(entry),
    )
    .unwrap()
}

fn prepared() -> Draft {
    let material = Material {
        name: "raw.csv".to_owned(),
        uri: "file://node/raw/raw.csv".to_owned(),
        digests: MaterialDigests::Unknown("it changed before it could be hashed".to_owned()),
        size: 4,
        declared: true,
        attestation: None,
    };
    let outputs = vec![output("train.csv"), output("valid.csv")];
    let root = ArtifactRoot { name: "clean".to_owned(), path: "/data/clean".to_owned() };
    let commit = Commit { outputs, materials: vec![material], root, ..commit("prepare") };
    commit.draft().unwrap()
}

fn trained(prepared: Sha256) -> Draft {
    let material = Material {
        name: "clean/train.csv".to_owned(),
        uri: "file://node/data/clean/train.csv".to_owned(),
        digests: MaterialDigests::Known(weights()),
        size: 7,
        declared: false,
        attestation: Some(prepared),
    };
    let outputs = vec![output("model.safetensors"), output("config.json")];
    Commit { outputs, materials: vec![material], ..commit("train") }.draft().unwrap()
}

fn incomplete() -> Draft {
    let kind = CommitKind::StageEnd(Outcome::Failed { exit_code: Some(1), signal: None });
    Commit { kind, outputs: vec![output("model.safetensors")], ..commit("train") }.draft().unwrap()
}

fn output(name: &str) -> Output {
    Output { name: name.to_owned(), digests: weights(), size: 7 }
}

fn commit(stage: &str) -> Commit {
    Commit {
        run: run(stage),
        root: ArtifactRoot { name: "model".to_owned(), path: "/data/model".to_owned() },
        kind: CommitKind::StageEnd(Outcome::Success),
        finished: now(),
        outputs: Vec::new(),
        left_out: Vec::new(),
        materials: Vec::new(),
    }
}

fn run(stage: &str) -> RunDescription {
    RunDescription {
        id: format!("{stage}-1"),
        stage: stage.to_owned(),
        command: vec!["python3".to_owned(), format!("{stage}.py")],
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
        labels: BTreeMap::from([("seed".to_owned(), "1".to_owned())]),
        started: now(),
        lock: None,
        attestfs_version: "0.1.0".to_owned(),
    }
}

/// Files with and without awkward names.
fn list() -> Manifest {
    let sha256 = weights().sha256;
    Manifest::of([("a b", sha256), ("c/d\ne", sha256), (r"f\xff", sha256), ("é", sha256)])
}

fn write_lists() {
    write("manifest/files.manifest", list().bytes());
    let locked = Locked { sha256: weights().sha256, size: 7 };
    let tree: BTreeMap<_, _> = ["a b", "c/d", "é"].map(|path| (path.to_owned(), locked)).into();
    write("lock/one.lock", WrittenLock::of(slice::from_ref(&tree)).bytes());
    write("lock/two.lock", WrittenLock::of(&[tree.clone(), tree]).bytes());
    let line = format!("c/ tree:{} {}\n", list().sha256(), list().files());
    write("lock/manifest.lock", format!("# attestfs lock, version 1\n{line}"));
}

fn write_policies(key: &SigningKey, hub: &Hub) {
    write(
        "policy/files.toml",
        "version = 1\nmode = \"audit\"\n\n[signers]\ntrainer.key = \"key.pub\"\nhub.ca = \"authority.pem\"\n\
         hub.san = \"spiffe://hub.example/*\"\n\n[[rule]]\npaths = [\"**/*.safetensors\", \"m?del[a-z]/*\"]\n\
         level = \"rehash\"\nsigned_by = [\"trainer\", \"hub\"]\nthreshold = 2\nstages = [\"train\"]\n\
         kinds = [\"slsa-provenance\"]\n\n[[rule]]\npaths = [\"**/*.pkl\"]\nrefuse = \"no pickles\"\n",
    );
    let (key, ca) = (key.verifying_key().to_pem(), pem("CERTIFICATE", &hub.authority));
    let pin = format!("sha256:{}", weights().sha256);
    write(
        "policy/within.toml",
        format!(
            "version = 0x1\n[signers.a]\nkey = '''\n{key}'''\n[signers.b]\nca = '''\n{ca}'''\nsan = \"*\"\n\
             [[rule]]\npaths = ['x']\nlevel = \"stat\"\nall_of = [\"a\", \"b\"]\nattestation = \"{pin}\"\n"
        ),
    );
}

fn write_messages() {
    let call = |id, request| FromClient::Call { id, request: Box::new(request) };
    let begin = Request::RunBegin { description: Box::new(run("train")), signer: None };
    let ask = Request::Digests { identities: vec![index::FILE] };
    let calls =
        [call(1, Request::Status), call(2, begin), call(3, ask)].map(|call| encode(&call).unwrap());
    write("control/hello", encode(&Hello::ours()).unwrap());
    write("control/calls", calls.concat());
    let push = json!({"push": {"id": 1, "push": {"push": "checkpoint", "run": "train-1", "path": "/data/model"}}});
    let reply = json!({"reply": {"id": 2, "answer": {"refused": {
        "code": "key", "message": "there is none", "next_step": "make one",
    }}}});
    write("control/replies", [push, reply].map(|message| encode(&message).unwrap()).concat());
}

fn write_facts_and_indexes() {
    let version = RunVersion(1);
    let path = TreePath { tree: 0, path: r"model/a\xff.bin".to_owned() };
    let by = Process { pid: Some(7), uid: Some(1000), ..Process::default() };
    let facts = [
        Fact::Opened { version, identity: index::FILE, path: path.clone(), by: by.clone() },
        Fact::Hashed { version, identity: index::FILE, digests: weights() },
        Fact::Written { version, file: index::FILE.file, path: path.clone(), by },
        Fact::Sealed {
            version,
            identity: index::FILE,
            digests: weights(),
            path: Some(path),
            also: Vec::new(),
        },
        Fact::Gone { version },
    ];
    let lines = facts.map(|fact| serde_json::to_string(&fact).unwrap() + "\n");
    write("journal/run.jsonl", lines.concat());
    let (root, name) = index::NAME;
    let (key, sha256, blake3) = (name_key(root, name), weights().sha256, weights().blake3);
    let statement = Sha256::of(b"statement");
    write("index/names.index", format!("{key} {sha256} {statement}\n{key} {statement} {sha256}\n"));
    write("index/subjects.index", format!("{sha256} {statement}\n"));
    write(
        "index/files.index",
        format!("0000000000000010:12 3 7 1 2 {sha256} {blake3} {statement}\n"),
    );
}
