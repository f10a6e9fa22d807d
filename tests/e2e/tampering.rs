//! A published model, changed in each way: `verify` refuses it.

use std::{
    fs::{self, File},
    path::Path,
};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

use crate::lab::{Finish, Lab};

/// A lab in which two stages have run: `data` is made, and `model` is made from it.
fn published() -> Option<Lab> {
    let lab = Lab::new()?;
    lab.directory("work");
    for (stage, output, script) in [
        ("prepare", "data", "mkdir work/data && seq 9999 > work/data/numbers"),
        (
            "train",
            "model",
            "mkdir -p work/model/part && sha256sum work/data/numbers > work/model/weights \
            && echo 10 > work/model/part/config && echo 11 > work/model/part/vocabulary \
            && echo '*.tmp' > work/model/.gitignore",
        ),
    ] {
        let mut run = lab.run(stage);
        run.args(["--dir", "work", "--out", output, "--", "sh", "-ec", script]).succeed();
    }
    lab.verify("work/model").succeed();
    Some(lab)
}

/// Verifies, by the lab's key and without its state, a copy that `tamper` has changed. The check of
/// this number must fail.
fn check_refused(lab: &Lab, how: &str, check: u8, tamper: impl FnOnce(&Path)) {
    let copy = lab.path(&format!("tampered/{}", how.replace(' ', "-")));
    lab.directory("tampered");
    lab.configured("cp").arg("-a").arg(lab.path("work/model")).arg(&copy).succeed();
    tamper(&copy);
    let ended = lab.verify(&copy).env("ATTESTFS_STATE", lab.path("elsewhere")).finish();
    assert_eq!(ended.code, Some(1), "{how}: {ended:?}");
    let said = format!("attestfs: check {check}, ");
    assert!(ended.stderr.starts_with(&said), "{how}: {ended:?}");
}

#[test]
fn a_changed_directory_is_refused() {
    let Some(lab) = published() else { return };
    check_refused(&lab, "a changed byte", 8, |copy| {
        let mut weights = fs::read(copy.join("weights")).unwrap();
        weights[7] ^= 1;
        fs::write(copy.join("weights"), weights).unwrap();
    });
    check_refused(&lab, "a byte more", 8, |copy| {
        let weights = fs::read_to_string(copy.join("weights")).unwrap();
        fs::write(copy.join("weights"), weights + "\n").unwrap();
    });
    check_refused(&lab, "a changed file that no model signature covers", 8, |copy| {
        fs::write(copy.join(".gitignore"), "*").unwrap();
    });
    check_refused(&lab, "a renamed file", 9, |copy| {
        fs::rename(copy.join("weights"), copy.join("weight")).unwrap();
    });
    check_refused(&lab, "swapped files", 8, |copy| {
        let part = |name: &str| copy.join("part").join(name);
        fs::rename(part("config"), part("aside")).unwrap();
        fs::rename(part("vocabulary"), part("config")).unwrap();
        fs::rename(part("aside"), part("vocabulary")).unwrap();
    });
    check_refused(&lab, "a file more", 9, |copy| {
        fs::write(copy.join("part/run.py"), "x").unwrap();
    });
    check_refused(&lab, "a file less", 9, |copy| {
        fs::remove_file(copy.join("part/config")).unwrap();
    });
    check_refused(&lab, "a link in place of a file", 9, |copy| {
        fs::rename(copy.join("weights"), lab.path("weights")).unwrap();
        std::os::unix::fs::symlink(lab.path("weights"), copy.join("weights")).unwrap();
    });
}

#[test]
fn changed_evidence_is_refused() {
    let Some(lab) = published() else { return };
    check_refused(&lab, "a truncated model.sig", 1, |copy| {
        let signature = File::options().write(true).open(copy.join("model.sig")).unwrap();
        signature.set_len(signature.metadata().unwrap().len() - 9).unwrap();
    });
    check_refused(&lab, "an empty model.sig", 1, |copy| {
        fs::write(copy.join("model.sig"), "").unwrap();
    });
    check_refused(&lab, "another stage in claims.jsonl", 4, |copy| {
        let path = copy.join("claims.jsonl");
        let claims = fs::read_to_string(&path).unwrap();
        let (first, rest) = claims.split_once('\n').unwrap();
        fs::write(&path, format!("{}\n{rest}", claiming(first, "audited"))).unwrap();
    });
    check_refused(&lab, "resources changed with the files", 4, |copy| {
        let weights = fs::read(copy.join("weights")).unwrap();
        fs::write(copy.join("weights"), "forged").unwrap();
        replace_digest(&copy.join("model.sig"), &weights, b"forged");
        replace_digest(&copy.join("claims.jsonl"), &weights, b"forged");
    });
}

/// The same bundle line, as if the run had been another stage.
fn claiming(line: &str, stage: &str) -> String {
    rewritten(line, |payload| {
        let mut statement: Value = serde_json::from_str(payload).unwrap();
        statement["predicate"]["buildDefinition"]["externalParameters"]["stage"] = json!(stage);
        statement.to_string()
    })
}

/// Puts the digest of `new` where that of `old` is in the statements of a file of bundles.
fn replace_digest(path: &Path, old: &[u8], new: &[u8]) {
    use sha2::{Digest, Sha256};
    let hex = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    let bundles = fs::read_to_string(path).unwrap();
    let forged = bundles
        .lines()
        .map(|line| rewritten(line, |payload| payload.replace(&hex(old), &hex(new))) + "\n")
        .collect::<String>();
    assert_ne!(forged, bundles);
    fs::write(path, forged).unwrap();
}

/// A bundle whose payload went through `change`, under its old signature.
fn rewritten(line: &str, change: impl FnOnce(&str) -> String) -> String {
    let mut bundle: Value = serde_json::from_str(line).unwrap();
    let payload = &mut bundle["dsseEnvelope"]["payload"];
    let old = BASE64_STANDARD.decode(payload.as_str().unwrap()).unwrap();
    let new = change(std::str::from_utf8(&old).unwrap());
    *payload = json!(BASE64_STANDARD.encode(new));
    bundle.to_string()
}

#[test]
fn evidence_by_another_key_is_refused() {
    let Some(lab) = published() else { return };
    let forger = Lab::without_mounts();
    check_refused(&lab, "signed by somebody else", 3, |copy| {
        fs::write(copy.join("weights"), "forged").unwrap();
        let mut sign = forger.attestfs(["sign", "--key", "keys/attestfs.key"]);
        sign.arg(copy).arg("--signature").arg(copy.join("model.sig")).succeed();
    });
    check_refused(&lab, "signed by somebody else without claims", 3, |copy| {
        fs::remove_file(copy.join("claims.jsonl")).unwrap();
        let mut sign = forger.attestfs(["sign", "--key", "keys/attestfs.key"]);
        sign.arg(copy).arg("--signature").arg(copy.join("model.sig")).succeed();
    });
    let forged = forger.verify(lab.path("work/model")).finish();
    assert_eq!(forged.code, Some(1), "{forged:?}");
}

#[test]
fn evidence_of_another_directory_is_refused() {
    let Some(lab) = published() else { return };
    check_refused(&lab, "the evidence of its own data", 9, |copy| {
        for name in ["model.sig", "claims.jsonl"] {
            fs::copy(lab.path("work/data").join(name), copy.join(name)).unwrap();
        }
    });
    let bare = lab.path("bare");
    lab.configured("cp").arg("-a").arg(lab.path("work/model")).arg(&bare).succeed();
    fs::write(bare.join("weights"), "never attested").unwrap();
    for name in ["model.sig", "claims.jsonl"] {
        fs::remove_file(bare.join(name)).unwrap();
    }
    let ended = lab.verify(bare.join("weights")).finish();
    assert_eq!(ended.code, Some(1), "{ended:?}");
}
