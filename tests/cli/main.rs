//! What people type, and what they get: the program as a process, its answers and exit codes.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests, which may fail, and say what they skip"
)]

mod digest;
mod doctor;
mod interop;
mod keygen;
mod lines;
#[path = "../common/require.rs"]
mod require;
mod sign;
mod tool;
mod verify;
