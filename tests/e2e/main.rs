//! The program as its users have it: real subprocesses, real tools, and verifiers that we did not
//! write.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests, which may fail and say why"
)]

#[path = "../common/require.rs"]
mod require;

mod evidence;
mod lab;
mod needs;

mod checkpoint;
mod collisions;
mod crash;
mod errors;
mod job;
mod links;
mod outputs;
mod pipeline;
mod questions;
mod tampering;
mod tools;
mod unprivileged;
