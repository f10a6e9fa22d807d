use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    Content, Difference, Entry, EntryKind, HashType, IgnoredPaths, Known, ModelManifest, OmsError,
    OmsRefusal, model_statement, model_statement_ignoring, predicate::root_digest,
};
use crate::{
    bundle::{Bundle, PAYLOAD_MAX},
    name::is_canonical,
    statement::{Payload, sha256},
    testing::{content, digests},
};

const PYTHON: &str = include_str!("../../vectors/python-key.sig");
const PROFILE: &str = include_str!("../../vectors/profile-key.sig");

fn file(name: &str, text: &str) -> Entry {
    Entry { name: name.to_owned(), kind: EntryKind::File(content(text)) }
}

fn other(name: &str, kind: EntryKind) -> Entry {
    Entry { name: name.to_owned(), kind }
}

/// The directory over which both vectors were made.
fn tiny_model() -> Vec<Entry> {
    vec![
        file("tokenizer/vocab.txt", "x"),
        file("tokenizer.json", "y"),
        file("model.safetensors", "WEIGHTS!"),
        file("empty.bin", ""),
        file("config.json", r#"{"hidden":4}"#),
    ]
}

fn refusals(entries: &[Entry]) -> Vec<OmsRefusal> {
    model_statement("m", entries).unwrap_err().0
}

fn ours() -> Value {
    serde_json::from_slice(model_statement("m", &tiny_model()).unwrap().bytes()).unwrap()
}

fn read(statement: &Value) -> Result<ModelManifest, OmsError> {
    ModelManifest::read(&Payload::new(statement.to_string().into_bytes()))
}

fn read_changed(change: impl FnOnce(&mut Value)) -> Result<ModelManifest, OmsError> {
    let mut statement = ours();
    change(&mut statement);
    read(&statement)
}

fn resource(statement: &mut Value, index: usize) -> &mut Value {
    &mut statement["predicate"]["resources"][index]
}

/// Makes the root digest fit again, so that only the change under test is wrong.
fn with_root(mut statement: Value) -> Value {
    let digests = statement["predicate"]["resources"].as_array().unwrap().iter();
    let bytes: Vec<u8> = digests
        .flat_map(|resource| hex::decode(resource["digest"].as_str().unwrap()).unwrap())
        .collect();
    statement["subject"][0]["digest"]["sha256"] = json!(sha256(&bytes).to_string());
    statement
}

fn manifest_of(bundle: &str) -> ModelManifest {
    ModelManifest::read(Bundle::parse(bundle.as_bytes()).unwrap().payload()).unwrap()
}

#[test]
fn a_directory_is_listed_below_its_whole_name() {
    let manifest = read(&ours()).unwrap();
    assert!(manifest.lists_below("tokenizer"));
    for name in ["", "token", "tokenizer.json", "tokenizer/vocab.txt", "zzz"] {
        assert!(!manifest.lists_below(name), "{name:?}");
    }
}

#[test]
fn what_cannot_be_signed_is_refused_by_name() {
    let withheld = EntryKind::Withheld("no run wrote it".to_owned());
    let stated = EntryKind::File(Content { digests: Known::Blake3(digests("x")), size: 1 });
    let cases = [
        (EntryKind::Symlink, "symbolic link"),
        (EntryKind::EmptyDirectory, "empty directory"),
        (EntryKind::Special, "pipe"),
        (EntryKind::NotUtf8, "UTF-8"),
        (withheld, "no run wrote it"),
        (stated, "nobody has computed its SHA-256"),
    ];
    for (kind, reason) in cases {
        let refusals = refusals(&[file("a", "x"), other("sub/thing", kind)]);
        let text = refusals[0].to_string();
        assert_eq!(refusals.len(), 1);
        assert!(text.contains("'sub/thing'") && text.contains(reason), "{text}");
    }
}

#[test]
fn a_publication_below_a_name_that_is_not_utf8_cannot_be_ignored() {
    let entries = [file("a", "x"), other("\u{fffd}/model.sig", EntryKind::NotUtf8)];
    assert!(matches!(refusals(&entries)[..], [OmsRefusal::NotUtf8 { .. }]));
}

#[test]
fn every_obstacle_is_named_at_once_but_not_at_any_length() {
    let links: Vec<Entry> =
        (0..25).map(|number| other(&format!("l{number:02}"), EntryKind::Symlink)).collect();
    let error = model_statement("m", &links).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.0.len(), 25);
    assert!(text.contains("'l00'") && text.contains("'l19'") && !text.contains("'l20'"));
    assert!(text.ends_with("and 5 more"));
}

#[test]
fn a_directory_without_content_is_not_signed() {
    assert!(matches!(refusals(&[])[..], [OmsRefusal::Nothing { .. }]));
    let published = [file("model.sig", "s"), file("claims.jsonl", "c")];
    assert!(matches!(refusals(&published)[..], [OmsRefusal::Nothing { .. }]));
    assert!(model_statement("", &tiny_model()).is_err());
}

#[test]
fn a_signature_that_would_be_too_large_to_read_is_not_made() {
    let huge = [file(&"n".repeat(PAYLOAD_MAX), "x")];
    assert_eq!(refusals(&huge), [OmsRefusal::TooMany { files: 1 }]);
}

#[test]
fn a_name_that_is_listed_twice_or_not_canonical_is_refused() {
    for entries in [vec![file("a", "1"), file("a", "1")], vec![file("../a", "1")]] {
        assert!(matches!(refusals(&entries)[..], [OmsRefusal::Name { .. }]));
    }
}

#[test]
fn the_statement_is_the_emission_profile_to_the_byte() {
    let payload = model_statement("tiny-model", &tiny_model()).unwrap();
    let profile = Bundle::parse(PROFILE.as_bytes()).unwrap();
    let expected = String::from_utf8(profile.payload().bytes().to_vec()).unwrap();
    // Ours names one more file that a commit writes.
    let expected = expected
        .replace(r#"".gitignore","model.sig""#, r#"".gitignore","claims.jsonl","model.sig""#);
    assert_eq!(std::str::from_utf8(payload.bytes()).unwrap(), expected);
}

#[test]
fn the_root_digest_is_that_of_the_reference_vectors() {
    let digests = ["alpha", "beta"].map(|text| sha256(text.as_bytes()).0);
    assert_eq!(
        root_digest(digests.into_iter()).to_string(),
        "8450e9a90d144185def662fffc477da5e0325d80be5de388ec20d9c58d6c72d0"
    );
}

#[test]
fn what_the_signer_ignores_is_left_out_and_listed() {
    let mut entries = tiny_model();
    entries.push(file("logs/a", "content"));
    entries.push(other("logs/link", EntryKind::Symlink));
    entries.push(file("logs2", "content"));
    let mut paths = IgnoredPaths::default();
    for wrong in ["", "/logs", "../logs", "logs/", "log*"] {
        assert!(paths.add(wrong).is_err(), "{wrong:?}");
    }
    paths.add("logs").unwrap();
    assert!(paths.cover("logs/a") && paths.cover("logs") && !paths.cover("logs2"));
    let payload = model_statement_ignoring("m", &entries, &paths).unwrap();
    let manifest = ModelManifest::read(&payload).unwrap();
    assert_eq!(manifest.files(), tiny_model().len() + 1);
    assert!(manifest.ignores("logs/a") && !manifest.ignores("logs2"));
}

#[test]
fn what_git_and_commits_put_there_is_ignored_and_listed() {
    let mut entries = tiny_model();
    entries.push(other(".git/objects", EntryKind::EmptyDirectory));
    entries.push(other(".git/link", EntryKind::Symlink));
    entries.push(file("model.sig", "old"));
    entries.push(file("sub/model.sig", "another"));
    entries.push(file("sub/claims.jsonl", "another"));
    entries.push(file("sub/.git/config", "content"));
    entries.push(file(".gitmodules", "content"));
    let payload = model_statement("m", &entries).unwrap();
    let statement: Value = serde_json::from_slice(payload.bytes()).unwrap();
    assert_eq!(
        statement["predicate"]["serialization"]["ignore_paths"],
        json!([
            ".git",
            ".gitattributes",
            ".github",
            ".gitignore",
            "claims.jsonl",
            "model.sig",
            "sub/claims.jsonl",
            "sub/model.sig"
        ])
    );
    let manifest = ModelManifest::read(&payload).unwrap();
    assert_eq!(manifest.files(), tiny_model().len() + 2);
    manifest.compare(&entries).unwrap();
}

#[test]
fn vectors_of_both_orders_are_read_and_match_the_directory() {
    for (bundle, in_order) in [(PYTHON, false), (PROFILE, true)] {
        let manifest = manifest_of(bundle);
        assert_eq!(manifest.name(), "tiny-model");
        assert_eq!(manifest.hash_type(), HashType::Sha256);
        assert_eq!(manifest.in_order(), in_order);
        manifest.compare(&tiny_model()).unwrap();
    }
}

#[test]
fn a_list_that_can_be_read_in_two_ways_is_refused() {
    let duplicate = read_changed(|statement| {
        *resource(statement, 1) = statement["predicate"]["resources"][0].clone();
    });
    assert!(matches!(duplicate, Err(OmsError::Duplicate { .. })));
    for name in ["", "/a", "a/../b", "..", "./a", "a//b", "a/", "a\0"] {
        let refused = read_changed(|statement| resource(statement, 0)["name"] = json!(name));
        assert!(matches!(refused, Err(OmsError::Name { .. })), "{name:?}");
    }
    let single = read_changed(|statement| resource(statement, 0)["name"] = json!("."));
    assert_eq!(single, Err(OmsError::SingleFile));
}

#[test]
fn a_digest_of_another_algorithm_or_spelling_is_refused() {
    for algorithm in ["SHA-256", "blake3", "sha256-sharded-64", ""] {
        let refused =
            read_changed(|statement| resource(statement, 0)["algorithm"] = json!(algorithm));
        assert!(matches!(refused, Err(OmsError::Digest { .. })), "{algorithm}");
    }
    let upper = read_changed(|statement| {
        let digest = resource(statement, 0)["digest"].as_str().unwrap().to_uppercase();
        resource(statement, 0)["digest"] = json!(digest);
    });
    assert!(matches!(upper, Err(OmsError::Digest { .. })));
    let short = read_changed(|statement| resource(statement, 0)["digest"] = json!("00"));
    assert!(matches!(short, Err(OmsError::Digest { .. })));
}

#[test]
fn a_root_digest_that_does_not_fit_is_refused() {
    let swapped = read_changed(|statement| {
        let resources = statement["predicate"]["resources"].as_array_mut().unwrap();
        resources.swap(0, 1);
    });
    assert_eq!(swapped, Err(OmsError::RootDigest));
    let absent = read_changed(|statement| statement["subject"][0]["digest"] = json!({}));
    assert_eq!(absent, Err(OmsError::RootDigest));
}

#[test]
fn another_number_of_subjects_than_one_is_refused() {
    let none = read_changed(|statement| statement["subject"] = json!([]));
    assert_eq!(none, Err(OmsError::Subjects { count: 0 }));
    let two = read_changed(|statement| {
        let one = statement["subject"][0].clone();
        statement["subject"] = json!([one, one]);
    });
    assert_eq!(two, Err(OmsError::Subjects { count: 2 }));
    let unnamed = read_changed(|statement| statement["subject"][0]["name"] = json!(""));
    assert_eq!(unnamed, Err(OmsError::Subjects { count: 1 }));
}

#[test]
fn methods_and_hashes_that_are_not_checked_are_refused() {
    let serialization = |key: &str, value: &str| {
        read_changed(|statement| statement["predicate"]["serialization"][key] = json!(value))
    };
    assert!(matches!(serialization("method", "shards"), Err(OmsError::Method { .. })));
    assert!(matches!(serialization("hash_type", "blake2b"), Err(OmsError::HashType { .. })));
    let without = read_changed(|statement| {
        let serialization = statement["predicate"]["serialization"].as_object_mut().unwrap();
        serialization.remove("allow_symlinks");
    });
    assert!(matches!(without, Err(OmsError::Json(_))));
    let mut nothing = ours();
    nothing["predicate"]["resources"] = json!([]);
    assert_eq!(read(&with_root(nothing)), Err(OmsError::Empty));
}

#[test]
fn an_ignored_path_must_name_something_below_the_model() {
    for path in ["", ".", "..", "../other", "/etc", "*", "*.bin", "a/../b", "a[0]", "a?"] {
        let refused = read_changed(|statement| {
            statement["predicate"]["serialization"]["ignore_paths"] = json!([path]);
        });
        assert!(matches!(refused, Err(OmsError::IgnorePath { .. })), "{path}");
    }
}

#[test]
fn a_signature_without_ignored_paths_ignores_what_git_keeps() {
    let manifest = read_changed(|statement| {
        let serialization = statement["predicate"]["serialization"].as_object_mut().unwrap();
        serialization.remove("ignore_paths");
    })
    .unwrap();
    assert!(manifest.ignores(".git/config") && manifest.ignores(".gitignore"));
    assert!(!manifest.ignores("model.sig") && !manifest.ignores(".gitx"));
}

#[test]
fn blake3_is_compared_with_blake3() {
    let mut statement = ours();
    statement["predicate"]["serialization"]["hash_type"] = json!("blake3");
    for resource in statement["predicate"]["resources"].as_array_mut().unwrap() {
        let name = resource["name"].as_str().unwrap().to_owned();
        let entry = tiny_model().into_iter().find(|entry| entry.name == name).unwrap();
        let EntryKind::File(content) = entry.kind else { panic!("a file") };
        resource["algorithm"] = json!("blake3");
        resource["digest"] = json!(content.blake3().unwrap().to_string());
    }
    let manifest = read(&with_root(statement)).unwrap();
    assert_eq!(manifest.hash_type(), HashType::Blake3);
    manifest.compare(&tiny_model()).unwrap();
}

#[test]
fn a_changed_missing_or_added_file_is_a_difference() {
    let manifest = manifest_of(PROFILE);
    let mut changed = tiny_model();
    changed[0] = file("tokenizer/vocab.txt", "X");
    changed[3] = file("empty.bin", "!");
    let Err(Difference::Changed { name, others, .. }) = manifest.compare(&changed) else {
        panic!("not a change");
    };
    assert_eq!((name.as_str(), others), ("empty.bin", 1));

    let missing = Err(Difference::Missing { names: vec!["config.json".to_owned()] });
    assert_eq!(manifest.compare(&tiny_model()[..4]), missing);

    let mut added = tiny_model();
    added.push(file("evil.py", "import os"));
    let extra = Err(Difference::Extra { names: vec!["evil.py".to_owned()] });
    assert_eq!(manifest.compare(&added), extra);
}

#[test]
fn what_cannot_be_signed_is_a_difference_even_when_links_were_allowed() {
    let mut bundle = ours();
    bundle["predicate"]["serialization"]["allow_symlinks"] = json!(true);
    let manifest = read(&bundle).unwrap();
    let mut linked = tiny_model();
    linked[0] = other("tokenizer/vocab.txt", EntryKind::Symlink);
    assert!(matches!(manifest.compare(&linked), Err(Difference::Unsignable(_))));
    let mut with_directory = tiny_model();
    with_directory.push(other("empty", EntryKind::EmptyDirectory));
    manifest.compare(&with_directory).unwrap();
}

proptest! {
    #[test]
    fn a_mutated_statement_never_panics(at: proptest::sample::Index, byte: u8) {
        let mut bytes = model_statement("m", &tiny_model()).unwrap().bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        drop(ModelManifest::read(&Payload::new(bytes)));
    }

    #[test]
    fn any_directory_matches_its_own_signature_and_no_other(
        files in proptest::collection::btree_map("[a-c./é-]{1,6}", ".{0,3}", 1..12),
        at: proptest::sample::Index,
    ) {
        let entries: Vec<Entry> = files
            .iter()
            .filter(|(name, _)| is_canonical(name))
            .map(|(name, text)| file(name, text))
            .collect();
        prop_assume!(!entries.is_empty());
        let manifest = ModelManifest::read(&model_statement("m", &entries).unwrap()).unwrap();
        prop_assert!(manifest.in_order());
        prop_assert_eq!(manifest.compare(&entries), Ok(()));

        let at = at.index(entries.len());
        let mut changed = entries.clone();
        changed[at] = file(&entries[at].name, "something else");
        prop_assert!(manifest.compare(&changed).is_err());
        changed.remove(at);
        prop_assert!(manifest.compare(&changed).is_err());
    }
}
