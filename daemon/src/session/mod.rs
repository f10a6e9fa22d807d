//! What every run has, whether `attestfs run` serves it or a mount on which a stage was opened:
//! trees, a journal, a connection to the daemon, and the orders by which it is attested.

mod checkpoint;
mod console;
mod describe;
mod failure;
mod finish;
mod left_behind;
mod lock;
mod orders;
mod place;
mod recorder;
#[expect(clippy::module_inception, reason = "the room is named after what it holds")]
mod session;
mod trees;

pub(crate) use console::{Console, Hashing};
pub(crate) use describe::Description;
pub(crate) use failure::SessionError;
pub(crate) use finish::{Verdict, commit, unrecorded};
pub(crate) use left_behind::refuse_left_behind;
pub(crate) use lock::TreeLock;
pub(crate) use orders::{Assignment, Orders};
pub(crate) use place::{Misplaced, open_key, refuse_misplaced, refuse_mounted, state_for};
pub(crate) use recorder::Refusals;
pub(crate) use session::{Session, SessionParts};
pub(crate) use trees::{Tree, Trees, normal, resolved};
