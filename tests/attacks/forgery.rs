//! Evidence by somebody who has not the key.

use std::fs;

use serde_json::{Value, json};

use crate::{
    forging::edit_bundles,
    lab::{Finish, Lab},
    scene::{assert_holds, assert_refused, copy, serve, train, with_model},
};

/// Another place, where somebody with another key trains a model of the same name, and brings it here
/// with its evidence.
fn with_foreign_model() -> Option<(Lab, Lab)> {
    let (lab, forger) = (Lab::new()?, Lab::new()?);
    train(&forger, "model", &[("weights.bin", "evil")]);
    lab.directory("tree");
    copy(&lab, &forger.path("tree/model"), &lab.path("tree/model"));
    Some((lab, forger))
}

/// What bundles call a key.
fn hint(bundle: &mut Value) -> &mut Value {
    &mut bundle["verificationMaterial"]["publicKey"]["hint"]
}

fn hint_of(lab: &Lab) -> Value {
    let text = fs::read_to_string(lab.path("tree/model/claims.jsonl")).unwrap();
    hint(&mut serde_json::from_str(text.lines().next().unwrap()).unwrap()).clone()
}

// Stands on `TrustedSigners` (fs/attestation/src/verify/signers.rs), check 3.
#[test]
fn a_model_of_the_same_stage_by_another_key_is_refused() {
    let Some((lab, _forger)) = with_foreign_model() else { return };
    let mounted = serve(&lab, "rehash");
    assert_refused(&mounted.path.join("model/weights.bin"), "which this policy does not know");
}

// Stands on the check of the signature, check 4: what a bundle calls its key is no proof.
#[test]
fn a_signature_of_another_key_under_the_name_of_the_trusted_one_is_refused() {
    let Some((lab, _forger)) = with_foreign_model() else { return };
    let genuine = with_model().unwrap();
    fs::copy(genuine.public_key(), lab.public_key()).unwrap();
    let trusted = hint_of(&genuine);
    for evidence in ["model.sig", "claims.jsonl"] {
        edit_bundles(&lab.path("tree/model").join(evidence), |bundle| {
            *hint(bundle) = trusted.clone();
        });
    }
    let mounted = serve(&lab, "rehash");
    assert_refused(
        &mounted.path.join("model/weights.bin"),
        "does not fit what the attestation says",
    );
}

// Stands on the same.
#[test]
fn a_statement_that_was_changed_after_it_was_signed_is_refused() {
    use base64::prelude::{BASE64_STANDARD, Engine};
    let Some(lab) = with_model() else { return };
    let state = lab.directory("elsewhere");
    let digest = |content: &str| {
        use sha2::Digest;
        hex::encode(sha2::Sha256::digest(content))
    };
    for evidence in ["model.sig", "claims.jsonl"] {
        edit_bundles(&lab.path("tree/model").join(evidence), |bundle| {
            let payload = &mut bundle["dsseEnvelope"]["payload"];
            let old = BASE64_STANDARD.decode(payload.as_str().unwrap()).unwrap();
            let new = String::from_utf8(old).unwrap().replace(&digest("weights"), &digest("evil"));
            *payload = json!(BASE64_STANDARD.encode(new));
        });
    }
    fs::write(lab.path("tree/model/weights.bin"), "evil").unwrap();
    crate::guarded::policy(&lab, "rehash");
    let options = ["--read-only", "--policy", "policy.toml", "--state", state.to_str().unwrap()];
    let mounted = crate::mounted::Mounted::new(&lab, "tree", "mnt", &options);
    assert_refused(
        &mounted.path.join("model/weights.bin"),
        "does not fit what the attestation says",
    );
}

// Stands on `Case::models` (fs/attestation/src/policy/judge.rs): strangers are passed over, whether
// they would admit or forbid.
#[test]
fn a_model_signature_that_a_stranger_planted_nearer_to_the_file_counts_for_nothing() {
    let (Some(lab), Some(stranger)) = (Lab::new(), Lab::new()) else { return };
    train(&lab, "model", &[("weights.bin", "weights")]);
    // Nearer to the file is only who lies deeper: the model signature of all of it lies above.
    fs::create_dir_all(lab.path("tree/all/part")).unwrap();
    fs::write(lab.path("tree/all/part/weights.bin"), "genuine").unwrap();
    let sign = |by: &Lab, directory: &str| {
        let mut sign = lab.attestfs(["sign", directory, "--key"]);
        sign.arg(by.key()).arg("--signature").arg(lab.path(directory).join("model.sig")).succeed();
    };
    sign(&lab, "tree/all");
    fs::create_dir(lab.path("planted")).unwrap();
    fs::write(lab.path("planted/weights.bin"), "evil").unwrap();
    sign(&stranger, "planted");
    fs::copy(lab.path("planted/model.sig"), lab.path("tree/all/part/model.sig")).unwrap();
    fs::copy(lab.path("planted/model.sig"), lab.path("tree/all/part/model.sig")).unwrap();
    let mounted = serve(&lab, "rehash");
    let weights = mounted.path.join("all/part/weights.bin");
    assert_holds(&weights, "genuine");
    fs::write(lab.path("tree/all/part/weights.bin"), "evil").unwrap();
    assert_refused(&weights, "was changed");
}
