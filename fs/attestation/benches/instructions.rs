//! What the gate asks of this crate, as fixed work of which the instructions are counted, one scenario
//! per start: `.ci/instructions` runs each in valgrind and compares.
//!
//! Nothing is signed here: that takes random numbers, and another count each time. `case/model.sig` was
//! made once, by `attestfs sign` over the hundred files of [`case::content`] and with a key that is gone.

#![expect(clippy::print_stdout, reason = "a program that tells what it offers")]
#![expect(clippy::unwrap_used, reason = "a benchmark may stop at the first surprise")]

mod case;

use std::{env, hint::black_box, iter};

use attestfs_attestation::{Policy, VerifyingKey};
use jiff::Timestamp;

use case::{BELIEVED, JUDGED};

/// A name, and what is done with a policy's only signer.
type Scenario = (&'static str, fn(&VerifyingKey));

/// Each does its work so often that the start of the process and the policy are little beside it.
const SCENARIOS: [Scenario; 6] = [
    ("start", |_| ()),
    ("read_256_rules", |signer| drop(black_box(case::policy(signer, 256)))),
    ("last_of_1_rule", |signer| ask_for_rule(&case::policy(signer, 1), 10_000)),
    ("last_of_256_rules", |signer| ask_for_rule(&case::policy(signer, 256), 1000)),
    ("model_signature", judge_by_a_signature),
    ("next_file_of_it", judge_by_a_known_signature),
];

/// Who made [`SIGNATURE`].
const SIGNER: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEFuSwQE/JjROP9eLW1ad7NrKEvs2I
t+6eIlkQ0GjskM+AVeYI+PIwrX42n4NI/mhXh9ietrS5avuTav6QMNmuHg==
-----END PUBLIC KEY-----
";

/// Over the files 0 to 99.
const SIGNATURE: &[u8] = include_bytes!("case/model.sig");

fn main() {
    let scenario = env::args()
        .nth(1)
        .and_then(|name| SCENARIOS.into_iter().find(|(offered, _)| *offered == name));
    match scenario {
        Some((_, work)) => work(&VerifyingKey::from_pem(SIGNER.as_bytes()).unwrap()),
        None => SCENARIOS.iter().for_each(|(name, _)| println!("{name}")),
    }
}

fn ask_for_rule(policy: &Policy, times: u64) {
    let path = format!("models/big/{JUDGED}");
    for _ in 0..times {
        assert!(black_box(policy.rule_for(black_box(&path))).is_some());
    }
}

/// Each time as if it were seen for the first time.
fn judge_by_a_signature(signer: &VerifyingKey) {
    let (policy, content) = (case::policy(signer, 1), case::content(0));
    let hours = iter::successors(Some(Timestamp::UNIX_EPOCH), |now| Some(*now + BELIEVED));
    for now in hours.take(100) {
        case::judge(&policy, content, &[case::beside(SIGNATURE)], now);
    }
}

fn judge_by_a_known_signature(signer: &VerifyingKey) {
    let (policy, content) = (case::policy(signer, 1), case::content(0));
    let known = [case::beside(SIGNATURE)];
    for _ in 0..10_000 {
        case::judge(&policy, content, &known, Timestamp::UNIX_EPOCH);
    }
}
