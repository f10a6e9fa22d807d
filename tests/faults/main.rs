//! Something fails at the n-th call, for every n: who asked is told, and nothing is said that is not so.
//!
//! Of the long list of faults each `ATTESTFS_FAULTS_STRIDE`-th is tried; 1 tries all of them.
//! `ATTESTFS_FAULTS_FIRST` says at which call the list begins.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests, which may fail and say why"
)]

#[expect(dead_code, reason = "what only other test programs need")]
#[path = "../common/mod.rs"]
mod common;
#[path = "../attacks/disk.rs"]
mod disk;
#[path = "../common/ended.rs"]
mod ended;
#[expect(dead_code, reason = "what only other test programs need")]
#[path = "../e2e/evidence.rs"]
mod evidence;
#[expect(dead_code, reason = "what only other test programs need")]
#[path = "../semantics/hooked.rs"]
mod hooked;
#[expect(dead_code, unused_imports, reason = "what only other test programs need")]
#[path = "../common/lab.rs"]
mod lab;
#[expect(dead_code, reason = "what only other test programs need")]
#[path = "../common/needs.rs"]
mod needs;
#[path = "../common/setting.rs"]
mod setting;

mod fault;
mod stage;
mod stored;

mod backing;
mod gate;
mod lost;
mod state;

use common::require;
