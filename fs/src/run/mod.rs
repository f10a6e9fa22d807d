//! What one run read and wrote: versions of files, their digests, and when they are final.

mod activity;
mod content;
mod material;
mod process;
mod queue;
mod quiesce;
#[expect(clippy::module_inception, reason = "the room is named after what it holds")]
mod run;
mod seal;
mod tracked;

pub use material::{Inputs, MaterialProgress};
pub use quiesce::{LeftOut, Scope};
pub use run::{Limits, Run};

pub(crate) use process::{Caller, Processes};
pub(crate) use run::{Change, Opened};
pub(crate) use tracked::Tracked;
