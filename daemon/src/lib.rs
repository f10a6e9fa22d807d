//! The control plane of attestfs.

use std::process::ExitCode;

pub mod artifact;
mod cli;
#[cfg(feature = "mount")]
pub mod client;
pub mod clock;
#[cfg(feature = "mount")]
pub mod commit;
pub mod config;
#[cfg(feature = "mount")]
pub mod control;
mod cure;
#[cfg(feature = "mount")]
pub mod daemon;
#[cfg(feature = "mount")]
mod gate;
#[cfg(feature = "mount")]
pub mod gc;
#[cfg(feature = "mount")]
pub mod journal;
#[cfg(feature = "mount")]
pub mod lineage;
#[cfg(feature = "mount")]
mod lock;
#[cfg(feature = "mount")]
pub mod metrics;
#[cfg(feature = "mount")]
mod mount;
#[cfg(feature = "mount")]
mod notify;
#[cfg(feature = "mount")]
mod passthrough;
mod policy;
pub mod publication;
pub mod redact;
#[cfg(feature = "mount")]
mod run;
#[cfg(feature = "mount")]
mod session;
pub mod signer;
mod text;
#[cfg(feature = "mount")]
mod voice;
#[cfg(feature = "mount")]
pub mod wiring;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    cli::main(std::env::args_os(), &config::Environment::read())
}
