//! What one run read and wrote: versions of files, their digests, and when they are final.

mod activity;
mod chasing;
mod content;
mod credentials;
mod following;
mod grace;
mod holders;
mod line;
mod material;
mod process;
mod queue;
mod quiesce;
#[expect(clippy::module_inception, reason = "the room is named after what it holds")]
mod run;
mod seal;
mod telling;
mod tracked;
mod trailing;
mod verification;

pub use material::{Inputs, MaterialProgress};
pub use quiesce::{LeftOut, Scope};
pub use run::{Limits, Run};

pub(crate) use content::Content;
pub(crate) use credentials::Credentials;
pub(crate) use following::Haste;
pub(crate) use grace::Grace;
pub(crate) use holders::{Holder, InTheWay, Owner, Usage};
pub(crate) use line::Place;
pub(crate) use process::{Caller, Processes};
pub(crate) use queue::Queue;
pub(crate) use run::{Change, Guards, Opened};
pub(crate) use seal::{Follower, StoredContent};
pub(crate) use tracked::{Hold, Tracked, WritesPast};
pub(crate) use verification::Verification;
