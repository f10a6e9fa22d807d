//! The power is cut at a random moment: what was published is on the disk, to the byte, and nothing else is said of it.
//!
//! Store and state lie on filesystems of their own (ext4 and xfs, in files below the temporary directory), which are told
//! to end as when the power is cut: nothing that is still in memory reaches the disk any more. Then they are mounted anew.
//!
//! `ATTESTFS_POWER_CUT_ROUNDS` says how many times on each kind of filesystem, `ATTESTFS_POWER_CUT_SEED` which is the first.
//! It needs root, loop devices, `mkfs.ext4` and `mkfs.xfs`. After a change of what is synced, and
//! when, please let it run longer:
//!
//! ```text
//! ATTESTFS_POWER_CUT_ROUNDS=100 cargo test --test power_cut
//! ```

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
#[path = "../attacks/disk.rs"]
mod memory;
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

mod disk;
mod exact;
mod moments;
mod once;
mod place;
mod round;
mod told;

use std::hash::{BuildHasher, Hasher, RandomState};

use self::{
    disk::Kind,
    round::{Counts, Round},
    setting::number,
};

#[test]
fn on_ext4_what_was_published_is_there_when_the_power_is_cut() {
    cut_again_and_again(Kind::Ext4);
}

#[test]
fn on_xfs_what_was_published_is_there_when_the_power_is_cut() {
    cut_again_and_again(Kind::Xfs);
}

fn cut_again_and_again(kind: Kind) {
    let rounds = number("ATTESTFS_POWER_CUT_ROUNDS").unwrap_or(ROUNDS);
    let first = number("ATTESTFS_POWER_CUT_SEED")
        .unwrap_or_else(|| RandomState::new().build_hasher().finish() >> 32);
    let mut counts = Counts::default();
    for seed in first..first + rounds {
        println!("ATTESTFS_POWER_CUT_SEED={seed}, {kind:?}");
        if !Round::of(seed, kind).carry_out(&mut counts) {
            return;
        }
    }
    println!("{kind:?}: {counts:#?}");
}

/// A quarter of a minute on each kind of filesystem, one beside the other.
const ROUNDS: u64 = 3;
