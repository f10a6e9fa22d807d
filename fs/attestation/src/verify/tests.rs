//! One group of tests for each check, refusals first.

use attestfs_digest::Sha256;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    bundle::{Bundle, BundleError, PAYLOAD_TYPE},
    claims::Claims,
    key::SigningKey,
    oms::{Content, Entry, EntryKind, model_statement},
    run::{Commit, CommitKind, Material, Outcome},
    statement::{Payload, sha256},
    testing::{commit, content, digests, material, output},
    verify::{
        Attestations, Attested, Found, Needed, NothingPublished, Origin, Place, Refusal, Said,
        Several, Subjects, TrustedSigners, Verified, Verifier,
    },
};

/// Keys have no time.
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// A pipeline's keys, and the attestations that it published.
struct Pipeline {
    key: SigningKey,
    published: Claims,
}

impl Pipeline {
    fn new() -> Self {
        Self { key: SigningKey::generate().unwrap(), published: Claims::default() }
    }

    fn publish(&mut self, commit: &Commit) -> Sha256 {
        let draft = commit.draft().unwrap();
        let manifests = draft.manifests.iter().map(|manifest| manifest.bytes().to_vec());
        self.published.manifests.extend(manifests);
        self.publish_payload(draft.payload)
    }

    /// Signs whatever it is told: what a trusted signer could do.
    fn publish_payload(&mut self, payload: Payload) -> Sha256 {
        let bundle = Bundle::sign_attestation(payload, &self.key).unwrap();
        self.published.bundles.push(bundle);
        self.published.bundles.last().unwrap().sha256()
    }

    /// The statement of a commit, changed and signed.
    fn publish_changed(&mut self, commit: &Commit, change: impl FnOnce(&mut Value)) -> Sha256 {
        let payload = commit.draft().unwrap().payload;
        let mut statement: Value = serde_json::from_slice(payload.bytes()).unwrap();
        change(&mut statement);
        self.publish_payload(Payload::new(statement.to_string().into_bytes()))
    }

    /// Changes the file of the last attestation, after it was signed.
    fn tamper(&mut self, change: impl FnOnce(&mut Value)) {
        let bundle = self.published.bundles.pop().unwrap();
        let mut json: Value = serde_json::from_slice(&bundle.to_json()).unwrap();
        change(&mut json);
        let bundle = Bundle::parse(json.to_string().as_bytes()).unwrap();
        self.published.bundles.push(bundle);
    }

    fn keys(&self) -> TrustedSigners {
        TrustedSigners::keys([self.key.verifying_key()])
    }

    fn files(&self, files: &[Found]) -> Result<Verified, Refusal> {
        Verifier::new(&self.keys(), &self.published, NOW).files(files)
    }

    fn file(&self, name: &str, text: &str) -> Result<Verified, Refusal> {
        self.files(&[below(name, text)])
    }

    fn directory(&self, signature: &[u8], entries: &[Entry]) -> Result<Verified, Refusal> {
        let keys = self.keys();
        let verifier = Verifier::new(&keys, &self.published, NOW);
        let covered = verifier.model_signature(signature)?.complete(entries)?;
        verifier.covered(&covered)?.report()
    }

    fn sign_model(&self, entries: &[Entry]) -> Vec<u8> {
        let payload = model_statement("model", entries).unwrap();
        Bundle::sign_model(payload, &self.key).unwrap().to_json()
    }
}

/// A stage that made `model.bin` and `config.json`.
fn trained() -> Commit {
    Commit {
        outputs: vec![output("model.bin", "WEIGHTS"), output("sub/config.json", "{}")],
        ..commit("train")
    }
}

fn trained_pipeline() -> Pipeline {
    let mut pipeline = Pipeline::new();
    pipeline.publish(&trained());
    pipeline
}

fn below(name: &str, text: &str) -> Found {
    Found { place: Place::Below(name.to_owned()), content: content(text) }
}

fn anywhere(path: &str, text: &str) -> Found {
    Found { place: Place::Anywhere(path.to_owned()), content: content(text) }
}

fn entry(name: &str, text: &str) -> Entry {
    Entry { name: name.to_owned(), kind: EntryKind::File(content(text)) }
}

fn model_directory() -> Vec<Entry> {
    vec![entry("model.bin", "WEIGHTS"), entry("sub/config.json", "{}")]
}

/// A refusal, with the number of its check and something to do about it.
fn refused(result: Result<Verified, Refusal>, check: u8) -> Refusal {
    let refusal = result.unwrap_err();
    assert_eq!(refusal.check().0, check, "{refusal}");
    assert!(!refusal.next_step().is_empty());
    refusal
}

// Check 1.

#[test]
fn an_artifact_without_an_attestation_is_refused() {
    let refusal = refused(Pipeline::new().file("model.bin", "WEIGHTS"), 1);
    let name = "model.bin".to_owned();
    assert_eq!(refusal, Refusal::Unattested { name });
}

#[test]
fn an_attestation_about_something_else_is_none() {
    let refusal = refused(trained_pipeline().file("other.bin", "OTHER"), 1);
    assert!(matches!(refusal, Refusal::Unattested { .. }));
}

#[test]
fn what_a_stranger_signed_about_another_file_is_no_news() {
    let mut pipeline = trained_pipeline();
    pipeline.key = SigningKey::generate().unwrap();
    for found in [below("other.bin", "OTHER"), anywhere("/data/other.bin", "OTHER")] {
        let refusal = refused(pipeline.files(&[found]), 1);
        assert!(matches!(refusal, Refusal::Unattested { .. }));
    }
    refused(pipeline.files(&[anywhere("/elsewhere/sub/config.json", "{}")]), 3);
}

/// Keeps one broken file under one name.
struct Broken(Sha256);

impl Attestations for Broken {
    fn naming(&self, _content: Sha256) -> Vec<Sha256> {
        vec![self.0]
    }

    fn came_along(&self, _name: Sha256) -> bool {
        true
    }

    fn attestation(&self, _name: Sha256) -> Vec<Result<Bundle, BundleError>> {
        vec![Bundle::parse(b"{}")]
    }

    fn manifest(&self, _digest: Sha256) -> Option<Vec<u8>> {
        Some(b"broken".to_vec())
    }
}

#[test]
fn a_file_that_is_no_bundle_is_refused_and_hides_no_good_one() {
    let pipeline = trained_pipeline();
    let keys = pipeline.keys();
    let broken = Broken(pipeline.published.bundles[0].sha256());
    let files = [below("model.bin", "WEIGHTS")];
    let refusal = refused(Verifier::new(&keys, &broken, NOW).files(&files), 1);
    assert!(matches!(refusal, Refusal::Bundle(_)));

    let both = Several(vec![&broken, &pipeline.published]);
    Verifier::new(&keys, &both, NOW).files(&files).unwrap();
}

#[test]
fn several_sources_have_what_one_of_them_has() {
    let mut pipeline = trained_pipeline();
    pipeline.published.manifests.push(b"list".to_vec());
    let several = Several(vec![&NothingPublished, &pipeline.published]);
    let name = pipeline.published.bundles[0].sha256();
    assert!(several.came_along(name) && !NothingPublished.came_along(name));
    assert_eq!(several.naming(Sha256([0; 32])), [name]);
    assert_eq!(several.manifest(sha256(b"list")), Some(b"list".to_vec()));
    assert_eq!(NothingPublished.manifest(sha256(b"list")), None);
}

#[test]
fn a_model_signature_that_is_no_bundle_is_refused() {
    let refusal = refused(trained_pipeline().directory(b"", &[]), 1);
    assert!(matches!(refusal, Refusal::Bundle(_)));
}

// Check 2.

#[test]
fn a_payload_that_is_no_statement_is_refused() {
    let mut pipeline = trained_pipeline();
    pipeline.tamper(|bundle| bundle["dsseEnvelope"]["payloadType"] = json!("text/plain"));
    let refusal = refused(pipeline.file("model.bin", "WEIGHTS"), 2);
    let found = "text/plain".to_owned();
    assert_eq!(refusal, Refusal::PayloadType { found });
}

// Check 3.

#[test]
fn a_strangers_signature_is_refused_by_the_name_of_its_key() {
    let mut pipeline = trained_pipeline();
    let stranger = pipeline.key.verifying_key().hint().to_string();
    pipeline.key = SigningKey::generate().unwrap();
    let refusal = refused(pipeline.file("model.bin", "WEIGHTS"), 3);
    assert_eq!(refusal, Refusal::UntrustedSigner { hint: stranger });
}

#[test]
fn without_trusted_keys_nothing_is_trusted() {
    let pipeline = trained_pipeline();
    let keys = TrustedSigners::default();
    let verifier = Verifier::new(&keys, &pipeline.published, NOW);
    refused(verifier.files(&[below("model.bin", "WEIGHTS")]), 3);
}

#[test]
fn a_hint_that_names_another_key_is_refused() {
    let mut pipeline = trained_pipeline();
    pipeline.tamper(|bundle| bundle["verificationMaterial"]["publicKey"]["hint"] = json!("me"));
    refused(pipeline.file("model.bin", "WEIGHTS"), 3);
}

#[test]
fn a_certificate_is_refused_as_such() {
    let mut pipeline = trained_pipeline();
    pipeline.tamper(|bundle| {
        bundle["verificationMaterial"] = json!({"certificate": {"rawBytes": "AAAA"}});
    });
    let refusal = refused(pipeline.file("model.bin", "WEIGHTS"), 3);
    assert_eq!(refusal, Refusal::CertificateSigner);
}

#[test]
fn a_signature_that_does_not_name_its_key_is_tried_with_all() {
    let mut pipeline = trained_pipeline();
    for nameless in [json!({"hint": ""}), json!({})] {
        pipeline.tamper(|bundle| bundle["verificationMaterial"]["publicKey"] = nameless);
        pipeline.file("model.bin", "WEIGHTS").unwrap();
    }
    pipeline.key = SigningKey::generate().unwrap();
    refused(pipeline.file("model.bin", "WEIGHTS"), 4);
}

#[test]
fn no_more_signers_are_trusted_than_the_bound() {
    let key = SigningKey::generate().unwrap().verifying_key();
    let one_too_many = 0..=TrustedSigners::MAX;
    let signers = TrustedSigners::keys(one_too_many.map(|_| key.clone()));
    assert_eq!(signers.names().count(), TrustedSigners::MAX);
}

#[test]
fn the_hint_of_other_sigstore_tools_names_the_key_too() {
    let mut pipeline = trained_pipeline();
    let key = pipeline.key.verifying_key();
    let base64 = key.to_pem().lines().filter(|line| !line.starts_with('-')).collect::<String>();
    let der = sigstore_types::PayloadBytes::from_base64(&base64).unwrap();
    let hint = sigstore_types::Sha256Hash::from(sha256(der.as_bytes()).0).to_base64();
    pipeline.tamper(|bundle| bundle["verificationMaterial"]["publicKey"]["hint"] = json!(hint));
    pipeline.file("model.bin", "WEIGHTS").unwrap();
}

// Check 4.

#[test]
fn a_payload_that_was_changed_after_signing_is_refused() {
    let mut pipeline = trained_pipeline();
    let forged = Commit { outputs: vec![output("model.bin", "EVIL")], ..trained() };
    let payload = forged.draft().unwrap().payload;
    let base64 = sigstore_types::PayloadBytes::from_bytes(payload.bytes()).to_base64();
    pipeline.tamper(|bundle| bundle["dsseEnvelope"]["payload"] = json!(base64));
    let refusal = refused(pipeline.file("model.bin", "EVIL"), 4);
    assert!(matches!(refusal, Refusal::BadSignature { .. }));
}

#[test]
fn a_signature_from_another_attestation_is_refused() {
    let mut pipeline = trained_pipeline();
    let other = Bundle::sign_attestation(Payload::new(b"{}".to_vec()), &pipeline.key).unwrap();
    let other: Value = serde_json::from_slice(&other.to_json()).unwrap();
    pipeline.tamper(|bundle| {
        bundle["dsseEnvelope"]["signatures"] = other["dsseEnvelope"]["signatures"].clone();
    });
    refused(pipeline.file("model.bin", "WEIGHTS"), 4);
}

#[test]
fn a_stranger_who_signs_the_same_payload_does_not_hide_the_good_signature() {
    let mut pipeline = trained_pipeline();
    let good = pipeline.published.bundles.pop().unwrap();
    let stranger = SigningKey::generate().unwrap();
    let bad = Bundle::sign_attestation(good.payload().clone(), &stranger).unwrap();
    pipeline.published.bundles = vec![bad, good];
    pipeline.file("model.bin", "WEIGHTS").unwrap();
}

// Check 5.

fn refused_statement(change: impl FnOnce(&mut Value)) -> Refusal {
    let mut pipeline = Pipeline::new();
    pipeline.publish_changed(&trained(), change);
    refused(pipeline.file("model.bin", "WEIGHTS"), 5)
}

#[test]
fn a_statement_of_an_unknown_type_is_refused() {
    let refusal = refused_statement(|statement| {
        statement["_type"] = json!("https://in-toto.io/Statement/v2");
    });
    assert!(matches!(refusal, Refusal::UnknownStatement { .. }));
    let refusal = refused_statement(|statement| statement["predicateType"] = json!("x"));
    assert!(matches!(refusal, Refusal::UnknownPredicate { .. }));
}

#[test]
fn provenance_by_another_builder_or_of_another_build_is_refused() {
    let refusal = refused_statement(|statement| {
        statement["predicate"]["buildDefinition"]["buildType"] = json!("https://example.com/x");
    });
    let found = "https://example.com/x".to_owned();
    assert_eq!(refusal, Refusal::UnknownBuildType { found });
    let refusal = refused_statement(|statement| {
        statement["predicate"]["runDetails"]["builder"]["id"] = json!("https://example.com/x");
    });
    assert!(matches!(refusal, Refusal::UnknownBuilder { .. }));
}

#[test]
fn a_field_that_is_missing_or_an_unknown_influence_is_refused() {
    let refusal = refused_statement(|statement| {
        let parameters = &mut statement["predicate"]["buildDefinition"]["internalParameters"];
        parameters.as_object_mut().unwrap().remove("outcome");
    });
    assert!(refusal.to_string().contains("outcome"));
    let refusal = refused_statement(|statement| {
        statement["predicate"]["buildDefinition"]["externalParameters"]["force"] = json!(true);
    });
    assert!(refusal.to_string().contains("force"));
}

#[test]
fn an_unknown_field_elsewhere_is_ignored() {
    let mut pipeline = Pipeline::new();
    pipeline.publish_changed(&trained(), |statement| {
        statement["extension"] = json!(1);
        statement["subject"][0]["annotations"]["extension"] = json!({"a": 1});
        statement["predicate"]["runDetails"]["byproducts"] = json!([]);
    });
    pipeline.file("model.bin", "WEIGHTS").unwrap();
}

#[test]
fn a_model_signature_and_a_run_do_not_stand_for_each_other() {
    let mut pipeline = trained_pipeline();
    let run = pipeline.published.bundles[0].to_json();
    let refusal = refused(pipeline.directory(&run, &model_directory()), 5);
    assert_eq!(refusal, Refusal::NoModelSignature);

    let model = pipeline.sign_model(&model_directory());
    pipeline.published.bundles = vec![Bundle::parse(&model).unwrap()];
    refused(pipeline.file("model", "WEIGHTS"), 5);
}

// Check 6.

#[test]
fn what_a_run_without_success_left_behind_is_refused() {
    let failed = Outcome::Failed { exit_code: Some(1), signal: None };
    for (outcome, word) in [(failed, "failed"), (Outcome::Unknown, "unknown")] {
        let kind = CommitKind::StageEnd(outcome);
        let mut pipeline = Pipeline::new();
        pipeline.publish(&Commit { kind, ..trained() });
        let refusal = refused(pipeline.file("model.bin", "WEIGHTS"), 6);
        assert!(refusal.to_string().contains(word), "{refusal}");
    }
}

#[test]
fn provenance_that_admits_failure_is_refused_whatever_its_type() {
    let mut pipeline = Pipeline::new();
    pipeline.publish_changed(&trained(), |statement| {
        let parameters = &mut statement["predicate"]["buildDefinition"]["internalParameters"];
        parameters["outcome"] = json!("failed");
    });
    refused(pipeline.file("model.bin", "WEIGHTS"), 6);
}

#[test]
fn a_checkpoint_is_accepted_and_a_later_failure_does_not_take_it_back() {
    let mut pipeline = Pipeline::new();
    let kind = CommitKind::Checkpoint;
    pipeline.publish(&Commit { kind, ..trained() });
    let kind = CommitKind::StageEnd(Outcome::Unknown);
    pipeline.publish(&Commit { kind, ..trained() });
    pipeline.published.bundles.reverse();
    pipeline.file("model.bin", "WEIGHTS").unwrap();
}

// Check 7.

#[test]
fn two_attested_files_cannot_be_swapped() {
    let pipeline = trained_pipeline();
    for (name, text) in [("model.bin", "{}"), ("sub/config.json", "WEIGHTS")] {
        let refusal = refused(pipeline.file(name, text), 8);
        assert!(matches!(refusal, Refusal::DigestMismatch { .. }));
    }
}

#[test]
fn attested_content_under_another_name_is_refused() {
    let refusal = refused(trained_pipeline().file("sub/model.bin", "WEIGHTS"), 7);
    let Refusal::WrongSubject { attested_as, .. } = refusal else { panic!("{refusal}") };
    assert_eq!(attested_as, "model.bin");
}

#[test]
fn where_the_root_is_where_it_was_the_whole_path_counts() {
    let pipeline = trained_pipeline();
    pipeline.files(&[anywhere("/data/model/model.bin", "WEIGHTS")]).unwrap();
    refused(pipeline.files(&[anywhere("/data/model/x/model.bin", "WEIGHTS")]), 7);
    refused(pipeline.files(&[anywhere("/data/model/model.bin", "{}")]), 8);
}

#[test]
fn a_moved_artifact_keeps_its_names() {
    let pipeline = trained_pipeline();
    pipeline.files(&[anywhere("/elsewhere/model.bin", "WEIGHTS")]).unwrap();
    pipeline.files(&[anywhere("/elsewhere/sub/config.json", "{}")]).unwrap();
    refused(pipeline.files(&[anywhere("/elsewhere/renamed.bin", "WEIGHTS")]), 7);
    refused(pipeline.files(&[anywhere("/elsewhere/xmodel.bin", "WEIGHTS")]), 7);
}

#[test]
fn files_of_a_moved_artifact_cannot_be_swapped_by_shadowing_a_suffix() {
    let mut pipeline = Pipeline::new();
    pipeline.publish(&Commit {
        outputs: vec![output("x.bin", "outer"), output("sub/x.bin", "inner")],
        ..commit("train")
    });
    refused(pipeline.files(&[anywhere("/elsewhere/sub/x.bin", "outer")]), 8);
}

#[test]
fn subjects_in_a_manifest_are_named_by_it_and_nothing_without_it() {
    let mut pipeline = Pipeline::new();
    let outputs = (0..=1000).map(|number| output(&format!("f{number}"), &number.to_string()));
    pipeline.publish(&Commit { outputs: outputs.collect(), ..commit("train") });
    pipeline.file("f1000", "1000").unwrap();
    refused(pipeline.file("f1000", "1"), 8);
    refused(pipeline.file("other", "1"), 7);

    pipeline.published.manifests[0].push(b'\n');
    let refusal = refused(pipeline.file("f1000", "1000"), 7);
    assert!(matches!(refusal, Refusal::ManifestNotSeen { .. }));
}

/// Has a manifest of its own for every digest.
struct Forged<'a>(&'a Claims, Vec<u8>);

impl Attestations for Forged<'_> {
    fn naming(&self, content: Sha256) -> Vec<Sha256> {
        self.0.naming(content)
    }

    fn came_along(&self, _name: Sha256) -> bool {
        true
    }

    fn attestation(&self, name: Sha256) -> Vec<Result<Bundle, BundleError>> {
        self.0.attestation(name)
    }

    fn manifest(&self, _digest: Sha256) -> Option<Vec<u8>> {
        Some(self.1.clone())
    }
}

#[test]
fn a_manifest_of_another_digest_is_none() {
    let mut pipeline = Pipeline::new();
    let outputs = (0..=1000).map(|number| output(&format!("f{number}"), &number.to_string()));
    pipeline.publish(&Commit { outputs: outputs.collect(), ..commit("train") });
    let keys = pipeline.keys();
    let forged = Forged(&pipeline.published, format!("{}  evil\n", sha256(b"EVIL")).into_bytes());
    let refusal = refused(Verifier::new(&keys, &forged, NOW).files(&[below("evil", "EVIL")]), 7);
    assert!(matches!(refusal, Refusal::ManifestNotSeen { .. }));
}

#[test]
fn subjects_that_cannot_be_told_apart_are_refused() {
    let changes: [fn(&mut Value); 4] = [
        |statement| statement["subject"][1]["name"] = json!("model.bin"),
        |statement| statement["subject"][0]["digest"] = json!({"sha512": "00"}),
        |statement| statement["subject"][0]["annotations"]["size"] = json!("many"),
        |statement| statement["subject"][0]["annotations"]["manifest"] = json!("tar"),
    ];
    for change in changes {
        let mut pipeline = Pipeline::new();
        pipeline.publish_changed(&trained(), change);
        let refusal = refused(pipeline.file("model.bin", "WEIGHTS"), 7);
        assert!(matches!(refusal, Refusal::Subjects { .. }));
    }
}

// Check 8.

#[test]
fn a_changed_file_is_refused_with_both_digests() {
    let refusal = refused(trained_pipeline().file("model.bin", "EVIL"), 8);
    let text = refusal.to_string();
    assert!(text.contains(&sha256(b"WEIGHTS").to_string()));
    assert!(text.contains(&sha256(b"EVIL").to_string()));
}

#[test]
fn a_statement_that_contradicts_itself_is_refused() {
    for (key, value) in [("size", "6"), ("blake3", &"00".repeat(32))] {
        let mut pipeline = Pipeline::new();
        pipeline.publish_changed(&trained(), |statement| {
            statement["subject"][0]["annotations"][key] = json!(value);
        });
        refused(pipeline.file("model.bin", "WEIGHTS"), 8);
    }
}

#[test]
fn of_several_attestations_of_one_name_the_one_that_fits_counts() {
    let mut pipeline = Pipeline::new();
    let older = Commit { outputs: vec![output("model.bin", "OLDER")], ..commit("train") };
    pipeline.publish(&older);
    let newer = pipeline.publish(&trained());
    let verified = pipeline.file("model.bin", "WEIGHTS").unwrap();
    assert_eq!(verified.attestations[0].attestation, newer);
}

#[test]
fn all_files_of_a_tree_must_be_attested() {
    let pipeline = trained_pipeline();
    let mut files = vec![below("model.bin", "WEIGHTS"), below("sub/config.json", "{}")];
    let verified = pipeline.files(&files).unwrap();
    assert_eq!(verified.attestations[0].files, ["model.bin", "sub/config.json"]);
    files.push(below("evil.py", "import os"));
    refused(pipeline.files(&files), 1);
}

// Check 9.

#[test]
fn a_directory_that_is_not_what_was_signed_is_refused() {
    let pipeline = trained_pipeline();
    let signature = pipeline.sign_model(&model_directory());
    let mut changed = model_directory();
    changed[0] = entry("model.bin", "EVIL");
    refused(pipeline.directory(&signature, &changed), 8);
    let refusal = refused(pipeline.directory(&signature, &model_directory()[..1]), 9);
    assert!(refusal.to_string().contains("'sub/config.json'"));
    let mut added = model_directory();
    added.push(entry("evil.py", "import os"));
    let refusal = refused(pipeline.directory(&signature, &added), 9);
    assert!(refusal.to_string().contains("'evil.py'"));
    added[2].kind = EntryKind::Symlink;
    refused(pipeline.directory(&signature, &added), 9);
}

#[test]
fn a_signed_directory_is_accepted_and_shows_how_it_was_made() {
    let pipeline = trained_pipeline();
    let mut entries = model_directory();
    entries.push(entry("adopted.txt", "by hand"));
    let signature = pipeline.sign_model(&entries);
    entries.push(entry("claims.jsonl", "whatever"));
    let verified = pipeline.directory(&signature, &entries).unwrap();
    let model = verified.model.unwrap();
    assert_eq!((model.name.as_str(), model.files), ("model", 3));
    assert_eq!(model.signer.to_string(), pipeline.key.verifying_key().hint().to_string());
    assert_eq!(verified.attestations[0].files, ["model.bin", "sub/config.json"]);
    assert_eq!(verified.without_provenance, ["adopted.txt"]);
}

#[test]
fn one_file_of_a_signed_directory_is_what_was_signed_under_its_name() {
    let pipeline = Pipeline::new();
    let keys = pipeline.keys();
    let verifier = Verifier::new(&keys, &pipeline.published, NOW);
    let signature = pipeline.sign_model(&model_directory());
    let check = |name: &str, content: Content| {
        let covered = verifier.model_signature(&signature)?.file(name, content)?;
        verifier.covered(&covered)?.report()
    };
    check("model.bin", content("WEIGHTS")).unwrap();
    refused(check("model.bin", content("{}")), 8);
    refused(check("other.bin", content("WEIGHTS")), 9);
}

#[test]
fn equal_content_that_is_attested_elsewhere_is_no_obstacle_to_a_signed_directory() {
    let mut pipeline = trained_pipeline();
    pipeline.publish(&Commit {
        outputs: vec![output("elsewhere.json", "[]"), output("b.txt", "older")],
        ..commit("other")
    });
    let entries = [entry("a.json", "[]"), entry("b.txt", "newer")];
    let signature = pipeline.sign_model(&entries);
    let verified = pipeline.directory(&signature, &entries).unwrap();
    assert_eq!(verified.without_provenance, ["a.json", "b.txt"]);
}

#[test]
fn a_broken_attestation_of_a_signed_file_is_refused() {
    let mut pipeline = trained_pipeline();
    let signature = pipeline.sign_model(&model_directory());
    pipeline.tamper(|bundle| bundle["dsseEnvelope"]["signatures"][0]["sig"] = json!("AAAA"));
    refused(pipeline.directory(&signature, &model_directory()), 4);
}

/// An index of contents, in which anybody's runs are.
struct Indexed<'a>(&'a Claims);

impl Attestations for Indexed<'_> {
    fn naming(&self, content: Sha256) -> Vec<Sha256> {
        self.0.naming(content)
    }

    fn came_along(&self, _name: Sha256) -> bool {
        false
    }

    fn attestation(&self, name: Sha256) -> Vec<Result<Bundle, BundleError>> {
        self.0.attestation(name)
    }

    fn manifest(&self, digest: Sha256) -> Option<Vec<u8>> {
        self.0.manifest(digest).map(<[u8]>::to_vec)
    }
}

#[test]
fn what_a_stranger_signed_and_only_an_index_led_to_refuses_no_signed_directory() {
    let (mut stranger, pipeline) = (Pipeline::new(), trained_pipeline());
    stranger.publish(&Commit { outputs: trained().outputs, ..commit("strange") });
    let signature = pipeline.sign_model(&model_directory());
    let keys = pipeline.keys();
    let check = |source: &dyn Attestations| {
        let verifier = Verifier::new(&keys, source, NOW);
        let covered = verifier.model_signature(&signature)?.complete(&model_directory())?;
        verifier.covered(&covered)?.report()
    };
    let indexed = Indexed(&stranger.published);
    let verified = check(&indexed).unwrap();
    let [passed] = verified.passed_over.as_slice() else { panic!("{verified:?}") };
    assert_eq!(passed.attestation, stranger.published.bundles[0].sha256());
    assert_eq!(passed.refusal.check().0, 3);
    let verified = check(&Several(vec![&pipeline.published, &indexed])).unwrap();
    assert_eq!((verified.attestations.len(), verified.passed_over.len()), (1, 1));
    refused(check(&stranger.published), 3);
    refused(check(&Several(vec![&indexed, &stranger.published])), 3);
    let nobody_else = Verifier::new(&keys, &indexed, NOW).files(&[below("model.bin", "WEIGHTS")]);
    refused(nobody_else, 3);
}

#[test]
fn a_broken_attestation_that_an_index_led_to_is_refused_when_its_signer_is_trusted() {
    let mut pipeline = trained_pipeline();
    let signature = pipeline.sign_model(&model_directory());
    pipeline.tamper(|bundle| bundle["dsseEnvelope"]["signatures"][0]["sig"] = json!("AAAA"));
    let (keys, indexed) = (pipeline.keys(), Indexed(&pipeline.published));
    let verifier = Verifier::new(&keys, &indexed, NOW);
    let model = verifier.model_signature(&signature).unwrap();
    let covered = model.complete(&model_directory()).unwrap();
    assert_eq!(verifier.covered(&covered).err().unwrap().check().0, 4);
}

#[test]
fn what_a_signature_leaves_out_is_held_against_the_attestation_of_the_rest() {
    let mut pipeline = Pipeline::new();
    let outputs = vec![output("model.bin", "WEIGHTS"), output(".gitignore", "*.tmp")];
    pipeline.publish(&Commit { outputs, ..commit("train") });
    pipeline.publish(&Commit { outputs: vec![output(".git/x", "x")], ..commit("other") });
    let entries = [entry("model.bin", "WEIGHTS"), entry(".gitignore", "*.tmp")];
    let signature = pipeline.sign_model(&entries);
    let keys = pipeline.keys();
    let verifier = Verifier::new(&keys, &pipeline.published, NOW);
    let covered = verifier.model_signature(&signature).unwrap().complete(&entries).unwrap();
    let mut examined = verifier.covered(&covered).unwrap();
    assert!(examined.names(".gitignore"));
    assert!(!examined.names(".gitattributes"), "nobody wrote it");
    assert!(!examined.names(".git/x"), "another run, perhaps in another directory");
    let refusal = examined.compare(&below(".gitignore", "*")).unwrap_err();
    assert_eq!(refusal.check().0, 8);
    examined.compare(&below(".gitignore", "*.tmp")).unwrap();
    let verified = examined.report().unwrap();
    assert_eq!(verified.attestations[0].files, ["model.bin", ".gitignore"]);
}

// Check 10.

/// Cleans `raw`, published by nobody; then trains on what was cleaned.
fn cleaned_and_trained(pipeline: &mut Pipeline) -> (Sha256, Sha256) {
    let cleaned = pipeline.publish(&Commit {
        outputs: vec![output("clean.csv", "1,2")],
        materials: vec![material("raw.csv", "1;2")],
        ..commit("clean")
    });
    let trained = pipeline
        .publish(&Commit { materials: vec![from(cleaned, "clean/clean.csv", "1,2")], ..trained() });
    (cleaned, trained)
}

fn from(attestation: Sha256, name: &str, text: &str) -> Material {
    Material { attestation: Some(attestation), ..material(name, text) }
}

fn origin(attested: &Attested, position: usize) -> &Origin {
    &attested.materials[position].origin
}

#[test]
fn the_chain_is_followed_back_to_what_came_from_outside() {
    let mut pipeline = Pipeline::new();
    let (cleaned, trained) = cleaned_and_trained(&mut pipeline);
    let verified = pipeline.file("model.bin", "WEIGHTS").unwrap();
    let model = &verified.attestations[0];
    assert_eq!((model.stage.as_str(), model.attestation), ("train", trained));
    let Origin::Attested(data) = origin(model, 0) else { panic!("{model:?}") };
    assert_eq!((data.stage.as_str(), data.attestation), ("clean", cleaned));
    assert_eq!(origin(data, 0), &Origin::Outside);
    assert_eq!(data.materials[1].role, "executable");
}

#[test]
fn an_attestation_that_is_not_at_hand_is_reported_as_not_seen() {
    let mut pipeline = Pipeline::new();
    let (cleaned, _) = cleaned_and_trained(&mut pipeline);
    pipeline.published.bundles.remove(0);
    let verified = pipeline.file("model.bin", "WEIGHTS").unwrap();
    assert_eq!(origin(&verified.attestations[0], 0), &Origin::NotSeen(cleaned));
}

#[test]
fn a_material_whose_attestation_is_bad_is_refused_with_its_own_reason() {
    let mut pipeline = Pipeline::new();
    cleaned_and_trained(&mut pipeline);
    pipeline.published.bundles.swap(0, 1);
    pipeline.tamper(|bundle| bundle["dsseEnvelope"]["signatures"][0]["sig"] = json!("AAAA"));
    let refusal = refused(pipeline.file("model.bin", "WEIGHTS"), 10);
    let Refusal::Chain { material, refusal, .. } = refusal else { panic!("{refusal}") };
    assert_eq!(material, "clean/clean.csv");
    assert_eq!(refusal.check().0, 4);
}

#[test]
fn a_material_of_a_failed_run_is_refused() {
    let mut pipeline = Pipeline::new();
    let failed = pipeline.publish(&Commit {
        kind: CommitKind::StageEnd(Outcome::Unknown),
        outputs: vec![output("clean.csv", "1,2")],
        ..commit("clean")
    });
    pipeline.publish(&Commit { materials: vec![from(failed, "clean.csv", "1,2")], ..trained() });
    let refusal = refused(pipeline.file("model.bin", "WEIGHTS"), 10);
    assert!(refusal.to_string().contains("check 6"), "{refusal}");
}

#[test]
fn a_material_that_its_attestation_does_not_name_is_refused() {
    let mut pipeline = Pipeline::new();
    let (cleaned, _) = cleaned_and_trained(&mut pipeline);
    pipeline.publish(&Commit {
        materials: vec![from(cleaned, "clean.csv", "other")],
        outputs: vec![output("other.bin", "OTHER")],
        ..commit("train")
    });
    let refusal = refused(pipeline.file("other.bin", "OTHER"), 10);
    assert!(refusal.to_string().contains("does not name the content"));
}

#[test]
fn a_material_whose_attestation_has_no_digest_for_a_name_is_refused() {
    let mut pipeline = Pipeline::new();
    let commit = Commit { materials: vec![material("raw.csv", "1;2")], ..trained() };
    pipeline.publish_changed(&commit, |statement| {
        let definition = &mut statement["predicate"]["buildDefinition"];
        definition["resolvedDependencies"][0]["annotations"]["attestation"] = json!("../x");
    });
    let refusal = refused(pipeline.file("model.bin", "WEIGHTS"), 10);
    assert_eq!(refusal, Refusal::Dependency);
}

/// Answers every question with the same attestation.
struct Confused<'a>(&'a Pipeline);

impl Attestations for Confused<'_> {
    fn naming(&self, content: Sha256) -> Vec<Sha256> {
        self.0.published.naming(content)
    }

    fn came_along(&self, _name: Sha256) -> bool {
        true
    }

    fn attestation(&self, _name: Sha256) -> Vec<Result<Bundle, BundleError>> {
        self.0.published.bundles.last().cloned().map(Ok).into_iter().collect()
    }

    fn manifest(&self, _digest: Sha256) -> Option<Vec<u8>> {
        None
    }
}

#[test]
fn a_file_that_holds_another_attestation_than_its_name_says_is_refused() {
    let mut pipeline = Pipeline::new();
    cleaned_and_trained(&mut pipeline);
    let keys = pipeline.keys();
    let confused = Confused(&pipeline);
    let verifier = Verifier::new(&keys, &confused, NOW);
    let refusal = refused(verifier.files(&[below("model.bin", "WEIGHTS")]), 10);
    assert!(refusal.to_string().contains("another attestation"), "{refusal}");
}

#[test]
fn a_diamond_is_shown_once_and_every_edge_of_it_is_checked() {
    let mut pipeline = Pipeline::new();
    let (cleaned, trained) = cleaned_and_trained(&mut pipeline);
    let evaluated = |text: &str| Commit {
        outputs: vec![output(&format!("metrics-{text}"), text)],
        materials: vec![
            from(trained, "model/model.bin", "WEIGHTS"),
            from(cleaned, "x/clean.csv", text),
        ],
        ..commit("evaluate")
    };
    pipeline.publish(&evaluated("1,2"));
    let verified = pipeline.file("metrics-1,2", "1,2").unwrap();
    let evaluation = &verified.attestations[0];
    assert!(matches!(origin(evaluation, 0), Origin::Attested(_)));
    assert_eq!(origin(evaluation, 1), &Origin::ShownAlready(cleaned));

    pipeline.publish(&evaluated("3,4"));
    refused(pipeline.file("metrics-3,4", "3,4"), 10);
}

#[test]
fn a_chain_is_followed_to_its_bound_and_what_is_beyond_is_said() {
    let mut pipeline = Pipeline::new();
    let mut materials = Vec::new();
    for number in 0..70 {
        let (name, text) = (format!("f{number}"), number.to_string());
        let attestation = pipeline.publish(&Commit {
            outputs: vec![output(&name, &text)],
            materials,
            ..commit("step")
        });
        materials = vec![from(attestation, &name, &text)];
    }
    let verified = pipeline.file("f69", "69").unwrap();
    let mut attested = &verified.attestations[0];
    let mut depth = 0;
    while let Origin::Attested(parent) = origin(attested, 0) {
        attested = parent;
        depth += 1;
    }
    assert_eq!(depth, 64);
    assert!(matches!(origin(attested, 0), Origin::TooFar(_)));
}

#[test]
fn materials_in_a_manifest_keep_their_chain() {
    let mut pipeline = Pipeline::new();
    let (cleaned, _) = cleaned_and_trained(&mut pipeline);
    let mut materials: Vec<Material> =
        (0..1000).map(|number| material(&format!("f{number}"), &number.to_string())).collect();
    let other_materials = materials.clone();
    materials.push(from(cleaned, "clean.csv", "1,2"));
    let commit = |materials, name| Commit {
        outputs: vec![output(name, name)],
        materials,
        ..commit("train")
    };
    pipeline.publish(&commit(materials, "large.bin"));
    let verified = pipeline.file("large.bin", "large.bin").unwrap();
    let shown = &verified.attestations[0].materials;
    assert_eq!(shown[0].role, "materials");
    assert!(matches!(&shown[1].origin, Origin::Attested(data) if data.stage == "clean"));

    let mut wrong = other_materials;
    wrong.push(from(cleaned, "clean.csv", "not this"));
    pipeline.publish(&commit(wrong, "wrong.bin"));
    refused(pipeline.file("wrong.bin", "wrong.bin"), 10);
}

// What is said before anybody has read the file.

/// What a pipeline says of `model.bin`, and the digests that it takes.
fn said_of_the_model(pipeline: &Pipeline) -> (Said, Needed) {
    let keys = pipeline.keys();
    let verifier = Verifier::new(&keys, &pipeline.published, NOW);
    let speaking = verifier.speaking([digests("WEIGHTS").sha256]);
    let said = speaking.of(&Place::Below("model.bin".to_owned()));
    let needed = speaking.needed(&said);
    (said.into_iter().next().unwrap(), needed)
}

fn needed(said: &[Said]) -> Needed {
    let keys = TrustedSigners::default();
    Verifier::new(&keys, &NothingPublished, NOW).speaking([]).needed(said)
}

#[test]
fn blake3_stands_for_sha256_where_one_signer_gives_one_pair() {
    let (said, by_one) = said_of_the_model(&trained_pipeline());
    assert_eq!(
        (said.sha256(), said.blake3),
        (digests("WEIGHTS").sha256, Some(digests("WEIGHTS").blake3))
    );
    assert_eq!(by_one, Needed::Blake3(vec![digests("WEIGHTS")]));
    let silent = Said { blake3: None, ..said.clone() };
    assert_eq!(needed(&[said.clone(), silent.clone()]), by_one);
    assert_eq!(needed(&[silent]), Needed::Sha256);
    let contradiction = Said { blake3: Some(digests("OTHER").blake3), ..said.clone() };
    assert_eq!(needed(&[said.clone(), contradiction]), Needed::Both);
    let (stranger, _) = said_of_the_model(&trained_pipeline());
    assert_eq!(needed(&[said, stranger]), Needed::Both);
}

#[test]
fn a_model_signature_says_the_sha256_of_what_it_lists() {
    let pipeline = Pipeline::new();
    let (keys, signature) = (pipeline.keys(), pipeline.sign_model(&model_directory()));
    let model = Verifier::new(&keys, &NothingPublished, NOW).model_signature(&signature).unwrap();
    let said = model.says("model.bin").unwrap();
    assert_eq!((said.sha256(), said.blake3), (digests("WEIGHTS").sha256, None));
    assert_eq!(said.signer, *model.signer());
    assert_eq!(model.says("other.bin"), None);
}

#[test]
fn subjects_are_as_many_as_are_named() {
    let pipeline = trained_pipeline();
    let keys = pipeline.keys();
    let verifier = Verifier::new(&keys, &pipeline.published, NOW);
    let vouched = verifier.first_vouched(pipeline.published.bundles[0].sha256());
    let (_, subjects): (_, Subjects) = vouched.unwrap().unwrap();
    assert_eq!(subjects.files(), 2);
}

// What is told.

#[test]
fn of_two_refusals_that_came_equally_far_the_first_is_told() {
    let second = Refusal::UntrustedSigner { hint: "me".to_owned() };
    let told = Refusal::CertificateSigner.or_further(second.clone());
    assert_eq!(told, Refusal::CertificateSigner);
    assert_eq!(second.clone().or_further(Refusal::CertificateSigner), second);
}

#[test]
fn a_refusal_says_how_many_other_files_differ() {
    for (others, words) in [(0, ""), (1, ", and 1 more file"), (2, ", and 2 more files")] {
        let (expected, found) = ("ab".to_owned(), "cd".to_owned());
        let refusal = Refusal::DigestMismatch { name: "f".to_owned(), expected, found, others };
        assert!(refusal.to_string().ends_with(&format!("found cd{words}")), "{refusal}");
    }
}

#[test]
fn the_report_says_which_materials_were_declared() {
    let mut pipeline = Pipeline::new();
    let declared = |name: &str, declared| Material { declared, ..material(name, name) };
    let materials = vec![declared("a.csv", true), declared("b.csv", false)];
    pipeline.publish(&Commit { materials, ..trained() });
    let verified = pipeline.file("model.bin", "WEIGHTS").unwrap();
    let materials = &verified.attestations[0].materials;
    assert_eq!((materials[0].declared, materials[1].declared), (true, false));
}

// All checks.

#[test]
fn the_report_says_who_what_and_when() {
    let pipeline = trained_pipeline();
    let verified = pipeline.file("model.bin", "WEIGHTS").unwrap();
    let report = serde_json::to_value(&verified).unwrap();
    let attested = &report["attestations"][0];
    assert_eq!(attested["signer"], json!(pipeline.key.verifying_key().hint()));
    assert_eq!(attested["stage"], "train");
    assert_eq!(attested["started"], "2026-01-02T03:04:05.678Z");
    assert_eq!(attested["outcome"], "success");
    assert_eq!(attested["files"], json!(["model.bin"]));
}

#[test]
fn any_single_change_to_an_attestation_is_refused_or_without_effect() {
    let pipeline = trained_pipeline();
    let expected = pipeline.file("model.bin", "WEIGHTS").unwrap();
    let bytes = pipeline.published.bundles[0].to_json();
    let keys = pipeline.keys();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let Ok(bundle) = Bundle::parse(&changed) else {
            continue;
        };
        assert_eq!(bundle.payload_type().len(), PAYLOAD_TYPE.len());
        let published = Claims { bundles: vec![bundle], ..Claims::default() };
        let verifier = Verifier::new(&keys, &published, NOW);
        if let Ok(verified) = verifier.files(&[below("model.bin", "WEIGHTS")]) {
            assert_eq!(verified, expected, "byte {at}");
        }
    }
}
