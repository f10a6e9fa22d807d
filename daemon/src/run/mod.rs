//! `attestfs run`: serve the trees of one stage, run its command in a mount namespace where they
//! are mounted, and attest what it wrote.
//!
//! The serving process stays in the mount namespace it was started in; a second process of this
//! program (`inside`) enters a new one, mounts there, hands the FUSE descriptors over and becomes
//! the command.

mod command;
mod descriptors;
mod failure;
mod inherited;
mod inside;
mod launch;
mod plan;
mod reuse;
mod signals;

pub(crate) use command::command;
pub(crate) use inside::{HIDDEN_COMMAND, main as inside, rehearse};
pub(crate) use plan::Options;
pub(crate) use signals::is_ignored;
