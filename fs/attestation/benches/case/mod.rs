//! A policy, a signature over a model, and a file of that model that is judged by both: what is counted
//! here and what is timed by `cargo bench --bench gate`.

use std::{fmt::Write, hint::black_box, sync::Arc};

use attestfs_attestation::{
    Around, Beside, Content, Known, NothingPublished, Policy, Question, VerifyingKey,
};
use attestfs_digest::digests;
use jiff::{SignedDuration, Timestamp};

/// The file that is judged, as the policy's last rule and the signature name it.
pub(crate) const JUDGED: &str = "layer-0.safetensors";

/// More than the time for which a policy believes what it has verified.
pub(crate) const BELIEVED: SignedDuration = SignedDuration::from_hours(1);

const ROOT: &str = "/data/model";

/// So many rules, of which only the last one has tensors.
pub(crate) fn policy(signer: &VerifyingKey, rules: usize) -> Policy {
    let pem = signer.to_pem();
    let mut text = format!("version = 1\n[signers.bench]\nkey = '''\n{pem}'''\n");
    for rule in 1..=rules {
        let glob =
            if rule == rules { "**/*.safetensors" } else { &format!("**/part-{rule}/*.bin") };
        write!(text, "[[rule]]\npaths = [\"{glob}\"]\nlevel = \"stat\"\n").unwrap();
        text += "signed_by = [\"bench\"]\nkinds = [\"model-signing\"]\n";
    }
    Policy::parse(&text, &mut |_| Err("no file".to_owned())).unwrap()
}

/// What lies beside the judged file, as it is read.
pub(crate) fn beside(signature: &[u8]) -> Around {
    let beside = Arc::new(Beside::parse(Some(signature), None));
    Around { root: ROOT.to_owned(), name: JUDGED.to_owned(), beside }
}

/// Judges [`JUDGED`].
///
/// # Panics
/// When the file is not admitted: refusing may be faster.
pub(crate) fn judge(policy: &Policy, content: Content, around: &[Around], now: Timestamp) {
    let question = Question {
        name: &format!("model/{JUDGED}"),
        path: &format!("{ROOT}/{JUDGED}"),
        content,
        around,
        store: &NothingPublished,
        now,
    };
    let rule = policy.rule_for(question.name).unwrap();
    black_box(rule.judge(&question).unwrap());
}

/// Of `layer-<number>.safetensors`: the number in eight bytes.
pub(crate) fn content(number: u64) -> Content {
    let bytes = number.to_le_bytes();
    let size = bytes.len() as u64;
    Content { digests: Known::Both(digests(&bytes[..], size).unwrap()), size }
}
