//! What a judgement costs before it is cached: `cargo bench --bench gate`.
//!
//! The gate asks which rule guards a name at every open, and judges a content once; a signature is
//! read and verified once for all files that are opened meanwhile. What an open costs with a cached
//! verdict is row P14 of `data_path`. Look at the column *fastest*: other work on the machine only
//! ever slows a round down. `.ci/instructions` counts the same work. Some calls are too short for a
//! clock, and the library would decide by the first one, which is cold, how many it times at once.

#![expect(clippy::unwrap_used, reason = "a benchmark may stop at the first surprise")]

#[path = "../fs/attestation/benches/case/mod.rs"]
mod case;

use std::sync::LazyLock;

use attestfs_attestation::{Bundle, Entry, EntryKind, SigningKey, model_statement};
use divan::Bencher;
use jiff::Timestamp;

/// Signs, and is believed.
static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate().unwrap());

fn main() {
    divan::main();
}

#[divan::bench(name = "the last of so many rules", args = [1, 16, 256], sample_size = 1000)]
fn last_of_rules(bencher: Bencher, rules: usize) {
    let policy = case::policy(&KEY.verifying_key(), rules);
    let path = format!("models/big/{}", case::JUDGED);
    bencher.bench(|| policy.rule_for(&path).is_some());
}

#[divan::bench(
    name = "a model signature over so many files",
    args = [1, 100, 10_000],
    sample_size = 10
)]
fn signature(bencher: Bencher, files: u64) {
    let signature = model_signature(files);
    let policy = case::policy(&KEY.verifying_key(), 1);
    let content = case::content(0);
    let mut now = Timestamp::UNIX_EPOCH;
    bencher.bench_local(|| {
        now += case::BELIEVED;
        case::judge(&policy, content, &[case::beside(&signature)], now);
    });
}

#[divan::bench(
    name = "the next file of that signature",
    args = [1, 100, 10_000],
    sample_size = 1000
)]
fn next_file(bencher: Bencher, files: u64) {
    let policy = case::policy(&KEY.verifying_key(), 1);
    let known = [case::beside(&model_signature(files))];
    let content = case::content(0);
    bencher.bench(|| case::judge(&policy, content, &known, Timestamp::UNIX_EPOCH));
}

fn model_signature(files: u64) -> Vec<u8> {
    let entry = |number| Entry {
        name: format!("layer-{number}.safetensors"),
        kind: EntryKind::File(case::content(number)),
    };
    let entries: Vec<Entry> = (0..files).map(entry).collect();
    Bundle::sign_model(model_statement("model", &entries).unwrap(), &KEY).unwrap().to_json()
}
