//! The program as its users have it: real subprocesses, real tools, and verifiers that we did not
//! write.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests, which may fail and say why"
)]

#[path = "../common/ended.rs"]
mod ended;
#[path = "../common/guarded.rs"]
mod guarded;
#[path = "../common/lab.rs"]
mod lab;
#[path = "../common/mounted.rs"]
mod mounted;
#[path = "../common/needs.rs"]
mod needs;
#[path = "../common/require.rs"]
mod require;

mod authority;
mod evidence;
mod relay;

mod certificates;
mod checkpoint;
mod collisions;
mod copy;
mod crash;
mod errors;
mod formats;
mod gc;
mod indexes;
mod job;
mod left_behind;
mod links;
mod lock;
mod log;
mod metrics;
mod mount;
mod mount_gate;
mod mount_handed;
mod mount_stage;
mod outputs;
mod pipeline;
mod policy;
mod python;
mod questions;
mod tampering;
mod tools;
mod unprivileged;
