//! What people type, and what they get: the program as a process, its answers and exit codes.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may fail")]

mod digest;
mod doctor;
mod interop;
mod keygen;
mod lines;
mod policy;
#[path = "../common/require.rs"]
mod require;
mod sign;
mod tool;
mod verify;
