//! Evidence that is made to harm whoever reads it.

use std::{
    fs::{self, File},
    path::Path,
};

use attestfs_attestation::BUNDLE_MAX;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    forging::sign_again,
    guarded::{is_refused, policy},
    lab::Lab,
    mounted::Mounted,
    scene::{assert_holds, assert_refused, serve, with_model},
};

/// Serves `tree` where nothing is known of it but what lies in it.
fn serve_elsewhere(lab: &Lab) -> Mounted<'_> {
    policy(lab, "rehash");
    let state = lab.directory("elsewhere");
    let options = ["--read-only", "--policy", "policy.toml", "--state", state.to_str().unwrap()];
    Mounted::new(lab, "tree", "mnt", &options)
}

/// Has each name that a statement lists begin or end with something else.
fn rename_all(statement: &mut Value, change: &dyn Fn(&str) -> String) {
    let change = |named: &mut Value| {
        if let Some(name) = named["name"].as_str().map(change) {
            named["name"] = json!(name);
        }
    };
    statement["subject"].as_array_mut().unwrap().iter_mut().for_each(change);
    if let Some(resources) = statement["predicate"]["resources"].as_array_mut() {
        resources.iter_mut().for_each(change);
    }
}

// Stands on `Subjects::at` (fs/attestation/src/verify/subjects.rs), which compares names and follows
// none, and on `Resource::read` (fs/attestation/src/oms/predicate.rs).
#[test]
fn names_in_a_bundle_that_go_upwards_or_end_in_nul_name_nothing() {
    let spellings: [&dyn Fn(&str) -> String; 5] = [
        &|name| format!("../model/{name}"),
        &|name| format!("./{name}"),
        &|name| format!("{name}\0"),
        &|name| format!("/{name}"),
        &|name| format!("other/../{name}"),
    ];
    for spelling in spellings {
        let Some(lab) = with_model() else { return };
        sign_again(&lab, &lab.path("tree/model"), |statement| rename_all(statement, spelling));
        let mounted = serve_elsewhere(&lab);
        assert!(is_refused(&mounted.path.join("model/weights.bin")), "{}", spelling("weights.bin"));
    }
}

// Stands on `Resource::read` alone.
#[test]
fn a_model_signature_that_names_a_file_outside_of_its_directory_counts_for_nothing() {
    let Some(lab) = with_model() else { return };
    sign_again(&lab, &lab.path("tree/model"), |statement| {
        if let Some(resources) = statement["predicate"]["resources"].as_array_mut() {
            let mut outside = resources[0].clone();
            outside["name"] = json!("../evil.bin");
            resources.push(outside);
            let digest = hex::decode(resources[0]["digest"].as_str().unwrap()).unwrap();
            let root = hex::encode(Sha256::digest([digest.as_slice(), &digest].concat()));
            statement["subject"][0]["digest"]["sha256"] = json!(root);
        }
    });
    fs::remove_file(lab.path("tree/model/claims.jsonl")).unwrap();
    let mounted = serve_elsewhere(&lab);
    assert_refused(&mounted.path.join("model/weights.bin"), "the model signature cannot be used");
}

/// Puts something in the place of both files of evidence, and expects that the gate stays shut and
/// the mount alive.
fn refuses_beside(make: impl Fn(&Path)) {
    let Some(lab) = with_model() else { return };
    fs::write(lab.path("tree/free"), "free").unwrap();
    for evidence in ["model.sig", "claims.jsonl"] {
        make(&lab.path("tree/model").join(evidence));
    }
    let mounted = serve_elsewhere(&lab);
    assert!(is_refused(&mounted.path.join("model/weights.bin")));
    assert_holds(&mounted.path.join("free"), "free");
    let peak = peak_memory(mounted.pid());
    assert!(peak < 1 << 30, "{peak} bytes");
}

/// The most memory that a process ever had, in bytes.
fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

// Stands on the bounds `BUNDLE_MAX` and `CLAIMS_MAX` in `Library::beside` (fs/src/gate/evidence.rs).
#[test]
fn a_huge_bundle_is_refused_and_not_taken_into_memory() {
    refuses_beside(|path| File::create(path).unwrap().set_len(1 << 40).unwrap());
}

// Stands on the same, and on the bound of `Bundle::parse` (fs/attestation/src/bundle.rs).
#[test]
fn a_bundle_that_is_one_byte_too_long_is_refused() {
    let Some(lab) = with_model() else { return };
    fs::remove_file(lab.path("tree/model/claims.jsonl")).unwrap();
    let path = lab.path("tree/model/model.sig");
    let mut bundle = fs::read(&path).unwrap();
    for (length, is_read) in [(BUNDLE_MAX, true), (BUNDLE_MAX + 1, false)] {
        bundle.resize(length, b' ');
        fs::write(&path, &bundle).unwrap();
        let mounted = serve_elsewhere(&lab);
        let weights = mounted.path.join("model/weights.bin");
        assert_eq!(!is_refused(&weights), is_read, "{length}");
    }
}

// Stands on the bound of nesting in the parser: serde_json, never with its feature `unbounded_depth`.
#[test]
fn a_deeply_nested_bundle_is_refused_and_breaks_nobody() {
    refuses_beside(|path| {
        let depth = 4 << 20;
        fs::write(path, "[".repeat(depth) + &"]".repeat(depth)).unwrap();
    });
    refuses_beside(|path| {
        let depth = 1 << 20;
        let nested = r#"{"mediaType":"#.repeat(depth) + &"}".repeat(depth);
        fs::write(path, nested).unwrap();
    });
}

// Stands on `Namespace::of` (fs/src/vfs/xattr.rs): the store is never asked for our names.
#[test]
fn a_verdict_that_a_user_wrote_on_the_file_below_is_shown_to_nobody() {
    let Some(lab) = with_model() else { return };
    let evil = lab.path("tree/model/evil.bin");
    fs::write(&evil, "evil").unwrap();
    for (name, value) in [("verdict", "admitted: rehash"), ("state", "published"), ("stage", "x")] {
        let name = format!("user.attestfs.{name}");
        let none = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&evil, name, value.as_bytes(), none).unwrap();
    }
    let mounted = serve(&lab, "rehash");
    let path = mounted.path.join("model/evil.bin");
    assert_refused(&path, "no attestation at hand");
    let attribute = |name| crate::mounted::attribute(&path, name);
    assert_ne!(attribute("user.attestfs.state").as_deref(), Some("published"));
    assert_eq!(attribute("user.attestfs.stage"), None);
    let mut listed = vec![0; 4096];
    assert_eq!(rustix::fs::listxattr(&path, &mut listed[..]), Ok(0));
}
