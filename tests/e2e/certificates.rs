//! Signers by certificate: what others signed with one, judged by the authority behind it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    authority::Authority,
    lab::{Ended, Finish, Lab},
    needs,
};

const NAME: &str = "spiffe://hub.example/model/llm";
const PATTERN: &str = "spiffe://hub.example/model/*";

/// A lab with a model that `model_signing` signed with a certificate.
struct Hub {
    lab: Lab,
    authority: Authority,
    model_signing: PathBuf,
}

impl Hub {
    fn new() -> Option<Self> {
        let model_signing = needs::program_of("ATTESTFS_MODEL_SIGNING")?;
        if !needs::programs(&["openssl"]) {
            return None;
        }
        let hub = Self { lab: Lab::without_mounts(), authority: Authority::new(), model_signing };
        let model = hub.lab.directory("model");
        fs::write(model.join("config.json"), "{}").unwrap();
        fs::write(model.join("model.safetensors"), "weights").unwrap();
        Some(hub)
    }

    /// Signs the model by the reference implementation, with these authorities in the bundle.
    fn sign(&self, signer: &str, chain: &[&str]) {
        let mut sign = self.model_signing("sign");
        sign.arg("--private_key").arg(self.authority.key(signer));
        sign.arg("--signing_certificate").arg(self.authority.certificate(signer));
        for authority in chain {
            sign.arg("--certificate_chain").arg(self.authority.certificate(authority));
        }
        sign.succeed();
    }

    /// A model that this signer signed, with the whole chain.
    fn signed_by(name: &str, extensions: &str, valid: [&str; 2]) -> Option<Self> {
        let hub = Self::new()?;
        hub.authority.signer_but(name, extensions, valid);
        hub.sign(name, &["between"]);
        Some(hub)
    }

    fn verify(&self, authority: &Path, more: &[&str]) -> Ended {
        let mut verify = self.lab.attestfs(["verify", "model", "--cert-chain"]);
        verify.arg(authority).args(more).finish()
    }

    fn refused(&self, authority: &str, words: &[&str]) {
        let authority = self.authority.certificate(authority);
        let refused = self.verify(&authority, &["--identity", PATTERN]);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains("check 3, its signer is trusted"), "{refused:?}");
        for words in words {
            assert!(refused.stderr.contains(words), "'{words}' is not in {refused:?}");
        }
        assert!(refused.stderr.contains("next: "), "{refused:?}");
    }

    fn model_signing(&self, verb: &str) -> Command {
        let mut program = self.lab.configured(&self.model_signing);
        program.args([verb, "certificate", "model", "--signature", "model/model.sig"]);
        program
    }
}

fn usage(usages: &str, purposes: &str) -> String {
    format!(
        "basicConstraints = CA:FALSE\nsubjectAltName = URI:{NAME}\nkeyUsage = {usages}\n{purposes}"
    )
}

const NOW: [&str; 2] = ["20200101000000Z", "20990101000000Z"];

#[test]
fn a_model_that_another_tool_signed_with_a_certificate_is_verified_by_authority_and_name() {
    let Some(hub) = Hub::new() else { return };
    hub.authority.signer("signer", NAME);
    hub.sign("signer", &["between"]);
    let root = hub.authority.certificate("root");
    let mut reference = hub.model_signing("verify");
    reference.arg("--certificate_chain").arg(&root).succeed();

    let named = hub.verify(&root, &["--identity", PATTERN]);
    assert_eq!(named.code, Some(0), "{named:?}");
    assert!(named.stdout.contains(&format!("signed by  {NAME}")), "{named:?}");
    let exactly = hub.verify(&root, &["--identity", NAME, "--json"]);
    let report: Value = serde_json::from_str(&exactly.stdout).unwrap();
    let model = &report["verified"]["model"];
    assert_eq!(model["signer"], NAME);
    assert_eq!(model["certificate"]["issuer"], "CN=between");
    assert_eq!(hub.verify(&root, &[]).code, Some(0), "anybody whom the authority certified");
    let between = hub.authority.certificate("between");
    assert_eq!(hub.verify(&between, &["--identity", PATTERN]).code, Some(0));

    fs::write(hub.lab.path("model/config.json"), "{ }").unwrap();
    let changed = hub.verify(&root, &["--identity", PATTERN]);
    assert_eq!(changed.code, Some(1), "{changed:?}");
    assert!(changed.stderr.contains("check 9, ") || changed.stderr.contains("check 8, "));
}

#[test]
fn what_a_certificate_signed_is_not_believed_without_its_authority() {
    let Some(hub) = Hub::new() else { return };
    hub.authority.signer("signer", NAME);
    hub.sign("signer", &["between"]);
    let refused = hub.lab.verify("model").finish();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("no authority is named"), "{refused:?}");
    assert!(refused.stderr.contains("--cert-chain FILE"), "{refused:?}");
    let claims = hub.lab.attestfs(["explain", "model"]).succeed();
    assert!(claims.contains(&format!("a certificate of '{NAME}'")), "{claims}");
    let explained = hub.lab.attestfs(["explain", "model", "--cert-chain"]).arg("none").finish();
    assert_eq!(explained.code, Some(3), "{explained:?}");
}

#[test]
fn a_certificate_of_another_name_is_refused() {
    let Some(hub) = Hub::new() else { return };
    hub.authority.signer("signer", "spiffe://hub.example/dataset/llm");
    hub.sign("signer", &["between"]);
    hub.refused("root", &["'spiffe://hub.example/dataset/llm'", PATTERN]);
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let Some(hub) = Hub::new() else { return };
    hub.authority.signer("signer", NAME);
    hub.sign("signer", &["between"]);
    let other = Authority::new();
    let refused = hub.verify(&other.certificate("root"), &["--identity", PATTERN]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    // It has the same name, as an impostor's would.
    assert!(refused.stderr.contains("is not by the issuer's key"), "{refused:?}");
}

#[test]
fn an_expired_certificate_is_refused() {
    let signer = usage("digitalSignature", "");
    let time = ["20200101000000Z", "20210101000000Z"];
    let Some(hub) = Hub::signed_by("signer", &signer, time) else { return };
    hub.refused("root", &["expired at 2021-01-01T00:00:00Z", "proves that it signed before"]);
}

#[test]
fn a_certificate_that_is_not_valid_yet_is_refused() {
    let signer = usage("digitalSignature", "");
    let time = ["20980101000000Z", "20990101000000Z"];
    let Some(hub) = Hub::signed_by("signer", &signer, time) else { return };
    hub.refused("root", &["valid from 2098-01-01T00:00:00Z on"]);
}

#[test]
fn a_certificate_without_digital_signature_is_refused() {
    let signer = usage("critical, keyAgreement", "extendedKeyUsage = codeSigning");
    let Some(hub) = Hub::signed_by("signer", &signer, NOW) else { return };
    hub.refused("root", &["its key usage lacks digitalSignature"]);
}

#[test]
fn a_certificate_for_servers_is_refused() {
    let signer = usage("critical, digitalSignature", "extendedKeyUsage = serverAuth");
    let Some(hub) = Hub::signed_by("signer", &signer, NOW) else { return };
    hub.refused("root", &["its extended key usage lacks codeSigning"]);
}

#[test]
fn a_chain_with_a_missing_authority_is_refused_by_its_name() {
    let Some(hub) = Hub::new() else { return };
    hub.authority.signer("signer", NAME);
    hub.sign("signer", &["root"]);
    hub.refused("root", &["leads to the issuer 'CN=between'", "the whole chain"]);
}

#[test]
fn provenance_that_a_certificate_signed_is_verified_by_authority_and_name() {
    if !needs::programs(&["openssl"]) {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let authority = Authority::new();
    authority.signer("signer", NAME);
    let made = lab.directory("tree/model");
    let mut run = lab.attestfs(["run", "--stage", "train", "--dir", "tree", "--out", "model"]);
    let script = format!("echo weights > {}", made.join("model.bin").display());
    run.arg("--key").arg(authority.key("signer")).args(["--", "sh", "-c", &script]).succeed();

    // The same attestation, whose signer shows a certificate instead of the name of a key.
    let elsewhere = Lab::without_mounts();
    let model = elsewhere.directory("model");
    fs::copy(made.join("model.bin"), model.join("model.bin")).unwrap();
    let claims = fs::read_to_string(made.join("claims.jsonl")).unwrap();
    let lines = claims.lines().map(|line| authority.vouched(line, &["signer", "between"]) + "\n");
    fs::write(model.join("claims.jsonl"), lines.collect::<String>()).unwrap();
    let verify = |pattern: &str| {
        let mut verify = elsewhere.attestfs(["verify", "model/model.bin", "--json"]);
        verify.args(["--identity", pattern]);
        verify.arg("--cert-chain").arg(authority.certificate("root")).finish()
    };
    let admitted = verify(PATTERN);
    assert_eq!(admitted.code, Some(0), "{admitted:?}");
    let report: Value = serde_json::from_str(&admitted.stdout).unwrap();
    let attested = &report["verified"]["attestations"][0];
    assert_eq!((&attested["signer"], &attested["stage"]), (&NAME.into(), &"train".into()));
    let refused = verify("spiffe://hub.example/dataset/*");
    assert_eq!(refused.code, Some(1), "{refused:?}");
}
