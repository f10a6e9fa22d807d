//! What a judgement costs before it is cached: `cargo bench --bench gate`.
//!
//! The gate asks which rule guards a name at every open, and judges a content once; a signature is
//! read and verified once for all files that are opened meanwhile. What an open costs with a cached
//! verdict is row P14 of `data_path`. Every line is the best of several rounds: other work on the
//! machine only ever slows a round down.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its results")]
#![expect(clippy::unwrap_used, reason = "a benchmark may stop at the first surprise")]

use std::{fmt::Write, hint::black_box, sync::Arc, time::Instant};

use attestfs_attestation::{
    Around, Beside, Bundle, Content, Entry, EntryKind, Known, NothingPublished, Policy, Question,
    SigningKey, model_statement,
};
use attestfs_digest::digests;
use jiff::{SignedDuration, Timestamp};

const ROUNDS: usize = 5;
const ROOT: &str = "/data/model";
const JUDGED: &str = "layer-0.safetensors";

/// More than the time for which a policy believes what it has verified.
const BELIEVED: SignedDuration = SignedDuration::from_hours(1);

fn main() {
    let key = SigningKey::generate().unwrap();
    for rules in [1, 16, 256] {
        let policy = policy(&key, rules);
        let path = format!("models/big/{JUDGED}");
        report(&format!("the last of {rules} rules"), 1000, || policy.rule_for(&path).is_some());
    }
    for files in [1, 100, 10_000] {
        let signature = model_signature(&key, files);
        let policy = policy(&key, 1);
        let mut now = Timestamp::UNIX_EPOCH;
        report(&format!("a model signature over {files} files"), 10, || {
            now += BELIEVED;
            judge(&policy, &[beside(&signature)], now);
        });
        let known = [beside(&signature)];
        report("  the next file of that signature", 1000, || judge(&policy, &known, now));
    }
}

/// What lies beside the judged file, as it is read.
fn beside(signature: &[u8]) -> Around {
    let beside = Arc::new(Beside::parse(Some(signature), None));
    Around { root: ROOT.to_owned(), name: JUDGED.to_owned(), beside }
}

/// # Panics
/// When the file is not admitted: refusing may be faster.
fn judge(policy: &Policy, around: &[Around], now: Timestamp) {
    let question = Question {
        name: &format!("model/{JUDGED}"),
        path: &format!("{ROOT}/{JUDGED}"),
        content: content(0),
        around,
        store: &NothingPublished,
        now,
    };
    let rule = policy.rule_for(question.name).unwrap();
    black_box(rule.judge(&question).unwrap());
}

/// Rules of which only the last one has tensors.
fn policy(key: &SigningKey, rules: usize) -> Policy {
    let pem = key.verifying_key().to_pem();
    let mut text = format!("version = 1\n[signers.bench]\nkey = '''\n{pem}'''\n");
    for rule in 1..=rules {
        let glob =
            if rule == rules { "**/*.safetensors" } else { &format!("**/part-{rule}/*.bin") };
        write!(text, "[[rule]]\npaths = [\"{glob}\"]\nlevel = \"stat\"\n").unwrap();
        text += "signed_by = [\"bench\"]\nkinds = [\"model-signing\"]\n";
    }
    Policy::parse(&text, &mut |_| Err("no file".to_owned())).unwrap()
}

fn model_signature(key: &SigningKey, files: u64) -> Vec<u8> {
    let entry = |number| Entry {
        name: format!("layer-{number}.safetensors"),
        kind: EntryKind::File(content(number)),
    };
    let entries: Vec<Entry> = (0..files).map(entry).collect();
    Bundle::sign_model(model_statement("model", &entries).unwrap(), key).unwrap().to_json()
}

fn content(number: u64) -> Content {
    let bytes = number.to_le_bytes();
    let size = bytes.len() as u64;
    Content { digests: Known::Both(digests(&bytes[..], size).unwrap()), size }
}

/// Prints what one of so many calls takes.
fn report<T>(name: &str, calls: u32, mut call: impl FnMut() -> T) {
    let round = |_| {
        let start = Instant::now();
        for _ in 0..calls {
            black_box(call());
        }
        start.elapsed() / calls
    };
    let best = (0..ROUNDS).map(round).min().unwrap();
    println!("{name:<48} {best:>12.2?}");
}
