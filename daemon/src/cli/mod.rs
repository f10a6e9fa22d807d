//! What people type: one file per command, each parses, asks a room, and shows the answer.

mod attestation;
#[cfg(feature = "mount")]
mod daemon;
mod digest;
mod digits;
#[cfg(feature = "mount")]
mod doctor;
mod exit;
mod explain;
mod failure;
mod keygen;
mod line;
#[cfg(feature = "mount")]
mod lineage;
#[cfg(feature = "mount")]
mod logs;
mod output;
mod progress;
#[cfg(feature = "mount")]
mod query;
#[cfg(feature = "mount")]
mod run;
mod sign;
#[cfg(feature = "mount")]
mod stage;
mod story;
#[cfg(feature = "mount")]
mod table;
mod verdict;
mod verify;

pub(crate) use line::main;
