//! `attestfs run`: serve the trees of one stage, run its command in a mount namespace where they
//! are mounted, and attest what it wrote.
//!
//! The serving process stays in the mount namespace it was started in; a second process of this
//! program (`inside`) enters a new one, mounts there, hands the FUSE descriptors over and becomes
//! the command.

mod checkpoint;
mod command;
mod console;
mod describe;
mod descriptors;
mod failure;
mod finish;
mod inherited;
mod inside;
mod launch;
mod orders;
mod plan;
mod recorder;
mod signals;
mod tree;

pub(crate) use command::command;
pub(crate) use inside::{HIDDEN_COMMAND, main as inside, rehearse};
pub(crate) use plan::Options;
