//! The process that serves, the store's daemon, or the job is killed at a random moment: what was acknowledged is there,
//! and nothing is said that is not so.
//!
//! `ATTESTFS_CRASH_ROUNDS` says how many times, `ATTESTFS_CRASH_SEED` which is the first.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests, which may fail and say why"
)]

#[path = "../common/ended.rs"]
mod ended;
#[expect(dead_code, reason = "what only other test programs need")]
#[path = "../e2e/evidence.rs"]
mod evidence;
#[expect(dead_code, unused_imports, reason = "what only other test programs need")]
#[path = "../common/lab.rs"]
mod lab;
#[expect(dead_code, reason = "what only other test programs need")]
#[path = "../common/mounted.rs"]
mod mounted;
#[expect(dead_code, reason = "what only other test programs need")]
#[path = "../common/needs.rs"]
mod needs;
#[path = "../common/require.rs"]
mod require;
#[path = "../common/setting.rs"]
mod setting;

mod round;
mod told;

use std::hash::{BuildHasher, Hasher, RandomState};

use self::{
    lab::Lab,
    round::{Counts, Round},
    setting::number,
};

#[test]
fn whoever_is_killed_what_was_acknowledged_is_there_and_nothing_false_is_said() {
    let rounds = number("ATTESTFS_CRASH_ROUNDS").unwrap_or(ROUNDS);
    let first = number("ATTESTFS_CRASH_SEED")
        .unwrap_or_else(|| RandomState::new().build_hasher().finish() >> 32);
    let mut counts = Counts::default();
    for lab_begins in (0..rounds).step_by(ROUNDS_OF_A_LAB) {
        let Some(lab) = Lab::new() else { return };
        let end = (lab_begins + ROUNDS_OF_A_LAB as u64).min(rounds);
        for seed in first + lab_begins..first + end {
            println!("ATTESTFS_CRASH_SEED={seed}");
            Round::of(seed).carry_out(&lab, &mut counts);
        }
    }
    println!("{counts:#?}");
}

/// Half a minute.
const ROUNDS: u64 = 24;

/// A state that has seen crashes is used again.
const ROUNDS_OF_A_LAB: usize = 25;
