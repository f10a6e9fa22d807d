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
mod gated;
#[cfg(feature = "mount")]
mod gc;
mod guarded;
mod keygen;
mod line;
#[cfg(feature = "mount")]
mod lineage;
#[cfg(feature = "mount")]
mod logs;
#[cfg(feature = "mount")]
mod mount;
mod output;
mod policy;
mod progress;
#[cfg(feature = "mount")]
mod query;
#[cfg(feature = "mount")]
mod run;
mod sign;
#[cfg(feature = "mount")]
mod stage;
#[cfg(feature = "mount")]
mod status;
mod story;
mod table;
#[cfg(feature = "mount")]
mod umount;
mod verdict;
mod verify;

pub(crate) use line::main;
