use std::{fs, os::unix::fs::symlink, path::Path};

use crate::tool::{Answer, Tool};

const KEY: [&str; 2] = ["--key", "keys/attestfs.pub"];

fn verify(tool: &Tool, path: &str) -> Answer {
    tool.run(["verify", path].into_iter().chain(KEY))
}

/// What each kind of tampering is refused for.
#[track_caller]
fn refused(path: &str, check: u8, words: &str, tamper: impl FnOnce(&Tool, &Path)) {
    let tool = Tool::with_signed_model();
    verify(&tool, path).is(0);
    tamper(&tool, &tool.path("model"));
    verify(&tool, path).is(1).says(&format!("check {check}, ")).says(words);
    let json = tool.run(["verify", path, "--json"].into_iter().chain(KEY)).is(1).json();
    assert_eq!(json["error"]["check"], check);
    assert_eq!(json["error"]["exitCode"], 1);
    assert!(json["error"]["nextStep"].is_string());
}

#[test]
fn nobody_is_believed_by_default() {
    let tool = Tool::with_signed_model();
    tool.run(["verify", "model"]).is(2).says("needs the public key");
}

#[test]
fn what_is_not_available_yet_is_no_silent_fallback() {
    let tool = Tool::with_signed_model();
    for keys in [&[][..], &KEY] {
        let line = ["verify", "model", "--issuer", "x"];
        let answer = tool.run(line.iter().chain(keys)).is(2);
        answer.says("--issuer is not available yet");
    }
    let help = tool.run(["verify", "--help"]).is(0).text();
    assert!(!help.contains("--issuer"), "{help}");
}

#[test]
fn an_authority_or_a_name_that_cannot_be_used_is_named() {
    let tool = Tool::with_signed_model();
    let with = |more: &[&str]| tool.run(["verify", "model"].iter().chain(more));
    with(&["--identity", "me@hub.example"]).is(2).says("who may give that name");
    with(&["--identity", "me@hub.example"].iter().chain(&KEY).copied().collect::<Vec<_>>()).is(2);
    with(&["--cert-chain", "x", "--identity", "*"]).is(2).says("it names nobody");
    with(&["--cert-chain", "x", "--identity", "spiffe://**"]).is(2).says("'**' is not known");
    with(&["--cert-chain", "missing.pem"]).is(3).says("the authority missing.pem: No such file");
    with(&["--cert-chain", "model"]).is(3).says("the authority model: Is a directory");
    with(&["--cert-chain", "keys/attestfs.pub"]).is(3).says("it has no certificate");
    let help = tool.run(["verify", "--help"]).is(0).text();
    assert!(help.contains("--cert-chain <F>") && help.contains("--identity <I>"), "{help}");
}

#[test]
fn a_key_that_cannot_be_used_is_named() {
    let tool = Tool::with_signed_model();
    let with = |key: &str| tool.run(["verify", "model", "--key", key]).is(3);
    with("missing.pub").says("the key missing.pub: No such file");
    with("keys/attestfs.key").says("this is a private key");
    with("model/config.json").says("this is no PEM file");
}

#[test]
fn another_key_is_not_believed() {
    let tool = Tool::with_signed_model();
    fs::create_dir(tool.path("others")).unwrap();
    tool.run(["keygen", "--out", "others"]).is(0);
    let stranger = ["verify", "model", "--key", "others/attestfs.pub"];
    tool.run(stranger).is(1).says("check 3, ").says("none of the trusted");
    tool.run(stranger.into_iter().chain(KEY)).is(0);
}

#[test]
fn a_signed_directory_is_admitted_with_all_its_checks() {
    let tool = Tool::with_signed_model();
    let answer = tool.run(["verify", "model", "--json"].into_iter().chain(KEY)).is(0).json();
    assert_eq!(answer["verdict"], "admitted");
    let checks = answer["checks"].as_array().unwrap();
    let numbers: Vec<_> = checks.iter().map(|check| check["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=10).collect::<Vec<_>>());
    let made = checks.iter().filter(|check| check["result"] == "ok");
    assert_eq!(made.count(), 8, "nobody says of a directory at rest how it was made");
    assert_eq!(answer["verified"]["model"]["files"], 3);
    let text = verify(&tool, "model").is(0).text();
    assert!(text.contains("[ 9] the directory is complete"), "{text}");
}

#[test]
fn a_file_of_a_signed_directory_is_admitted_under_its_name() {
    let tool = Tool::with_signed_model();
    verify(&tool, "model/config.json").is(0);
    verify(&tool, "model/sub/weights.bin").is(0);
    symlink("model/sub/weights.bin", tool.path("latest")).unwrap();
    verify(&tool, "latest").is(0);
}

#[test]
fn a_part_of_a_model_is_not_verified_on_its_own() {
    let tool = Tool::with_signed_model();
    verify(&tool, "model/sub").is(2).says("is a part of the model");
    verify(&tool, "model/model.sig").is(2).says("not an artifact");
}

#[test]
fn what_lies_in_some_directory_above_refuses_nothing() {
    let tool = Tool::with_signed_model();
    tool.write("model.sig", "garbage");
    tool.write("claims.jsonl", "garbage");
    verify(&tool, "model").is(0);
    let json = tool.run(["verify", "model/config.json", "--json"].into_iter().chain(KEY));
    assert_eq!(json.is(0).json()["passedOver"].as_array().map(Vec::len), Some(1));
    tool.write("model/claims.jsonl", "{\"claim\": \"my own\"}");
    let said = verify(&tool, "model/config.json").is(0).text();
    assert!(said.contains("model/claims.jsonl: 1 line is no attestation"), "{said}");
    tool.write("model/config.json", "changed");
    verify(&tool, "model/config.json").is(1).says("check 8, ");
}

#[test]
fn damaged_claims_beside_a_good_signature_are_no_sign_that_there_were_none() {
    let tool = Tool::with_signed_model();
    let said = verify(&tool, "model").is(0).text();
    assert!(said.contains("not made: signed at rest: nobody says how it was made"), "{said}");
    tool.write("model/claims.jsonl", "garbage");
    let said = verify(&tool, "model").is(0).text();
    assert!(said.contains("model/claims.jsonl: 1 line is no attestation"), "{said}");
    assert!(said.contains("not made: no provenance is at hand"), "{said}");
    assert!(!said.contains("at rest"), "{said}");
}

#[test]
fn what_git_keeps_is_said_to_be_not_looked_at() {
    let tool = Tool::with_model();
    tool.write("model/.gitignore", "*.tmp");
    tool.write("model/.git/HEAD", "ref: x");
    tool.write("model/sub/.gitignore", "is covered");
    tool.run(["sign", "model", "--key", "keys/attestfs.key"]).is(0);
    let said = verify(&tool, "model").is(0).text();
    let line = "ok: nothing missing, changed or added; not looked at: .git, .gitignore\n";
    assert!(said.contains(line), "{said}");
    let json = tool.run(["verify", "model", "--json"].into_iter().chain(KEY)).is(0).json();
    let not_checked: Vec<_> = json["notChecked"].as_array().unwrap().iter().skip(1).collect();
    let left_out =
        [".git", ".gitignore"].map(|path| format!("{path}: the model signature leaves it out"));
    assert_eq!(not_checked, left_out.iter().collect::<Vec<_>>());
}

#[test]
fn a_copied_or_renamed_directory_is_admitted() {
    let tool = Tool::with_signed_model();
    fs::rename(tool.path("model"), tool.path("renamed")).unwrap();
    verify(&tool, "renamed").is(0);
}

#[test]
fn a_changed_byte_is_refused() {
    for path in ["model", "model/sub/weights.bin"] {
        refused(path, 8, "'sub/weights.bin' was changed", |tool, _| {
            tool.write("model/sub/weights.bin", "Weights");
        });
    }
}

#[test]
fn a_truncated_or_longer_file_is_refused() {
    for content in ["weight", "weights ", ""] {
        refused("model", 8, "'sub/weights.bin' was changed", |tool, _| {
            tool.write("model/sub/weights.bin", content);
        });
    }
}

#[test]
fn a_missing_file_is_refused() {
    refused("model", 9, "missing: 'empty'", |_, model| {
        fs::remove_file(model.join("empty")).unwrap();
    });
}

#[test]
fn an_added_file_is_refused() {
    for name in ["extra", "sub/.hidden", "sub/deeper/x", ".model.sig.attestfs-new"] {
        refused("model", 9, "not covered by the model signature", |tool, model| {
            tool.write(model.join(name), "");
        });
    }
}

#[test]
fn a_link_in_the_place_of_a_file_is_refused() {
    refused("model", 9, "'config.json' is a symbolic link", |tool, model| {
        fs::rename(model.join("config.json"), tool.path("config.json")).unwrap();
        symlink(tool.path("config.json"), model.join("config.json")).unwrap();
    });
}

#[test]
fn swapped_files_are_refused() {
    refused("model", 8, "was changed", |_, model| {
        fs::rename(model.join("config.json"), model.join("x")).unwrap();
        fs::rename(model.join("empty"), model.join("config.json")).unwrap();
        fs::rename(model.join("x"), model.join("empty")).unwrap();
    });
}

#[test]
fn a_damaged_signature_file_is_refused() {
    refused("model", 1, "cannot be read", |tool, _| tool.write("model/model.sig", "{"));
    refused("model", 1, "cannot be read", |tool, _| tool.write("model/model.sig", ""));
}

#[test]
fn a_rewritten_statement_is_refused() {
    refused("model", 4, "does not fit", |_, model| {
        let signature = fs::read_to_string(model.join("model.sig")).unwrap();
        let at = signature.find("\"payload\":\"").unwrap() + 40;
        let other = if signature.as_bytes()[at] == b'A' { "B" } else { "A" };
        let (before, after) = (&signature[..at], &signature[at + 1..]);
        fs::write(model.join("model.sig"), format!("{before}{other}{after}")).unwrap();
    });
}

#[test]
fn a_signature_of_another_directory_is_refused() {
    refused("model", 8, "was changed", |tool, model| {
        tool.write("other/config.json", "other");
        tool.run(["sign", "other", "--key", "keys/attestfs.key"]).is(0);
        fs::copy(tool.path("other/model.sig"), model.join("model.sig")).unwrap();
    });
}

#[test]
fn without_any_attestation_nothing_is_admitted() {
    for path in ["model", "model/config.json"] {
        refused(path, 1, "no attestation at hand", |_, model| {
            fs::remove_file(model.join("model.sig")).unwrap();
        });
    }
    let tool = Tool::with_model();
    fs::create_dir(tool.path("nothing")).unwrap();
    verify(&tool, "nothing").is(1).says("check 1, ");
    verify(&tool, "missing").is(3).says("missing: No such file");
}

#[test]
fn what_is_named_as_bundle_must_be_one() {
    let tool = Tool::with_signed_model();
    let with = |bundle| tool.run(["verify", "model", "--bundle", bundle].into_iter().chain(KEY));
    with("missing").is(3).says("missing: No such file");
    with("model/config.json").is(1).says("this is no Sigstore bundle");
    with("model/model.sig").is(0);
}

#[test]
fn a_state_that_was_named_must_be_there() {
    let tool = Tool::with_signed_model();
    let named = ["verify", "model", "--state", "elsewhere"];
    tool.run(named.into_iter().chain(KEY)).is(3).says("elsewhere: not there");
}

#[test]
fn hostile_names_do_not_reach_the_terminal() {
    refused("model", 9, "\\u{1b}[2J", |tool, model| tool.write(model.join("\u{1b}[2J"), ""));
}

#[test]
fn explain_tells_the_verdict_or_who_claims() {
    let tool = Tool::with_signed_model();
    let claimed = tool.run(["explain", "model/config.json"]).is(0).text();
    assert!(claimed.contains("nobody has checked it"), "{claimed}");
    let json = tool.run(["explain", "model", "--json"]).is(0).json();
    assert_eq!(json["verdict"], "claimed");
    assert_eq!(json["claims"][0]["claim"]["kind"], "modelSignature");
    let admitted = tool.run(["explain", "model"].into_iter().chain(KEY)).is(0).text();
    assert!(admitted.contains("is what was attested"), "{admitted}");
    tool.write("model/config.json", "changed");
    let refused = tool.run(["explain", "model"].into_iter().chain(KEY)).is(1).text();
    assert!(refused.contains("is refused") && refused.contains("check 8"), "{refused}");
    let nobody = tool.run(["explain", "model/config.json"]).is(1).text();
    assert!(nobody.contains("attested by nobody"), "{nobody}");
}

#[test]
fn explain_names_a_changed_file_of_a_directory_without_any_key() {
    let tool = Tool::with_signed_model();
    tool.write("model/config.json", "changed");
    let changed = tool.run(["explain", "model"]).is(1).text();
    assert!(changed.contains("is not what is claimed of it"), "{changed}");
    assert!(changed.contains("check 8, ") && changed.contains("'config.json' was changed"));
    let json = tool.run(["explain", "model", "--json"]).is(1).json();
    assert_eq!((&json["verdict"], &json["reason"]["check"]), (&"changed".into(), &8.into()));
}
