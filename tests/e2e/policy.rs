//! A policy asks the store what is the newest.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use crate::{
    authority::Authority,
    guarded::is_refused,
    lab::{Finish, Lab},
    mounted::{Mounted, attribute},
    needs,
};

const POLICY: &str = "version = 1
[signers.trainer]
key = \"keys/attestfs.pub\"
[[rule]]
paths = [\"**/weights\"]
level = \"rehash\"
";

/// Publishes these weights as `work/model`.
fn train(lab: &Lab, weights: &str) {
    let script = format!("mkdir -p work/model && echo {weights} > work/model/weights");
    let mut run = lab.run("train");
    run.args(["--dir", "work", "--out", "model", "--", "sh", "-ec", &script]).succeed();
}

/// `verify` of the published directory by this policy.
fn verify(lab: &Lab, policy: &str) -> Command {
    fs::write(lab.path("policy.toml"), policy).unwrap();
    lab.attestfs(["verify", "work/model", "--policy", "policy.toml", "--json"])
}

/// The attestations that admit the weights.
fn attestations(verified: &str) -> Vec<String> {
    let answer: Value = serde_json::from_str(verified).unwrap();
    let names = answer["files"][0]["attestations"].as_array().unwrap();
    names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_model_that_was_rolled_back_is_refused_until_the_policy_pins_it() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("work");
    train(&lab, "1");
    let first = attestations(&verify(&lab, POLICY).succeed());
    lab.configured("cp").args(["-a", "work/model", "first"]).succeed();
    train(&lab, "2");
    verify(&lab, POLICY).succeed();

    // All of it is put back: the file, its signature and its claims.
    fs::rename(lab.path("work/model"), lab.path("second")).unwrap();
    fs::rename(lab.path("first"), lab.path("work/model")).unwrap();
    let refused = verify(&lab, POLICY).finish();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let error: Value = serde_json::from_str(&refused.stdout).unwrap();
    assert_eq!(error["error"]["check"], 12, "{error}");

    // Of several attestations that admit it, each may be pinned.
    for attestation in &first {
        let pinned = format!("{POLICY}attestation = \"sha256:{attestation}\"\n");
        let admitting = attestations(&verify(&lab, &pinned).succeed());
        assert_eq!(admitting, std::slice::from_ref(attestation));
    }

    // Another machine cannot know, and says so.
    let elsewhere = verify(&lab, POLICY).env("ATTESTFS_STATE", lab.path("elsewhere")).succeed();
    assert!(elsewhere.contains("something newer was published"), "{elsewhere:?}");
}

#[test]
fn weights_of_another_stage_are_refused() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("work");
    train(&lab, "1");
    verify(&lab, &format!("{POLICY}stages = [\"train\"]\n")).succeed();
    let other = verify(&lab, &format!("{POLICY}stages = [\"quantize\"]\n")).finish();
    assert_eq!(other.code, Some(1), "{other:?}");
    assert!(other.stdout.contains("made by the stage 'train', and rule 1 wants 'quantize'"));
}

/// Signs `model` with the reference implementation, by this method.
fn sign_model(lab: &Lab, method: &str, with: &[(&str, &Path)]) -> Option<()> {
    let mut sign = lab.configured(needs::program_of("ATTESTFS_MODEL_SIGNING")?);
    sign.args(["sign", method, "model", "--signature", "model/model.sig"]);
    for (option, file) in with {
        sign.arg(option).arg(file);
    }
    sign.succeed();
    Some(())
}

/// A lab with a model that is not signed, and the ready policy for serving with its files.
fn serving(authority: &Authority) -> Option<Lab> {
    let lab = Lab::new()?;
    lab.directory("model");
    fs::write(lab.path("model/model.safetensors"), "weights").unwrap();
    fs::write(lab.path("model/config.json"), "{}").unwrap();
    let ready = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/policies/serving.toml");
    fs::copy(ready, lab.path("serving.toml")).unwrap();
    fs::copy(lab.public_key(), lab.path("trainer.pub")).unwrap();
    fs::copy(authority.certificate("root"), lab.path("hub-ca.pem")).unwrap();
    Some(lab)
}

fn serve(lab: &Lab) -> Command {
    lab.attestfs(["verify", "model", "--policy", "serving.toml", "--json"])
}

#[test]
fn a_hub_model_with_nothing_but_a_model_signature_is_admitted_by_its_signer() {
    if !needs::programs(&["openssl"]) {
        return;
    }
    let authority = Authority::new();
    let Some(lab) = serving(&authority) else { return };
    let options = ["--read-only", "--policy", "serving.toml"];
    let served = Mounted::new(&lab, "model", "served", &options);
    let weights = served.path.join("model.safetensors");
    let verdict = || attribute(&weights, "user.attestfs.verdict").unwrap_or_default();
    let said = serve(&lab).finish();
    assert!(said.code == Some(1) && said.stdout.contains("no attestation at hand"), "{said:?}");
    assert!(is_refused(&weights));

    let key = lab.key();
    if sign_model(&lab, "key", &[("--private_key", &key)]).is_none() {
        return;
    }
    assert!(serve(&lab).succeed().contains("\"trainer\""));
    assert_eq!(fs::read_to_string(&weights).unwrap(), "weights");

    for (name, uri) in
        [("hub", "spiffe://hub.example/model/llm"), ("other", "spiffe://x/model/llm")]
    {
        authority.signer(name, uri);
        let (key, own, between) =
            (authority.key(name), authority.certificate(name), authority.certificate("between"));
        let with: [(&str, &Path); 3] = [
            ("--private_key", &key),
            ("--signing_certificate", &own),
            ("--certificate_chain", &between),
        ];
        sign_model(&lab, "certificate", &with).unwrap();
        let said = serve(&lab).finish();
        let words = if name == "hub" { "\"hub\"" } else { "spiffe://x/model/llm" };
        assert_eq!(said.code == Some(0), name == "hub", "{said:?}");
        assert!(said.stdout.contains(words), "{said:?}");
        assert_eq!(is_refused(&weights), name != "hub", "{}", verdict());
        let words = if name == "hub" { "admitted: rehash" } else { "spiffe://x/model/llm" };
        assert!(verdict().contains(words), "{}", verdict());
    }
}
