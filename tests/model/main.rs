//! Random histories of two processes that do things to files: through a mount, in a plain directory and in memory
//! comes the same of each deed, and what the runs tell of the files is so.
//!
//! `ATTESTFS_MODEL_HISTORIES` says how many histories there are, `ATTESTFS_MODEL_SEED` which is the first. One that
//! fails is made as short as it gets, and told step by step; what was wrong stays as a test with a name where such
//! tests are, mostly in `tests/semantics`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which may fail")]

#[expect(dead_code, reason = "what only other test programs need")]
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/setting.rs"]
mod setting;

mod deed;
mod hand;
mod history;
mod pool;
mod reference;
mod trial;

use std::hash::{BuildHasher, Hasher, RandomState};

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use self::{common::can_mount, history::history, setting::number, trial::carry_out};

#[test]
fn whatever_happens_a_mount_is_like_a_plain_directory_and_tells_the_truth() {
    if !can_mount() {
        return;
    }
    let count = number("ATTESTFS_MODEL_HISTORIES").unwrap_or(HISTORIES);
    let first = number("ATTESTFS_MODEL_SEED")
        .unwrap_or_else(|| RandomState::new().build_hasher().finish() >> 16);
    for seed in first..first + count {
        try_history(seed);
    }
}

/// Looks for the shortest history that fails as this one does.
fn try_history(seed: u64) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: 1,
        failure_persistence: None,
        max_shrink_iters: 4096,
        max_shrink_time: SHRINKING_MS_MAX,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let tried = TestRunner::new_with_rng(config, rng).run(&history(), |history| {
        carry_out(&history).map_err(|difference| TestCaseError::fail(format!("{difference:?}")))
    });
    match tried {
        Ok(()) => {}
        Err(TestError::Fail(reason, _)) => panic!("ATTESTFS_MODEL_SEED={seed}\n{reason}"),
        Err(error) => panic!("ATTESTFS_MODEL_SEED={seed}\n{error}"),
    }
}

/// Half a minute on two processors that have other work, too.
const HISTORIES: u64 = 30;

const SHRINKING_MS_MAX: u32 = 120_000;
