//! The gate: the one place where a verdict becomes an errno, and the only maker of [`Admitted`],
//! without which nothing is read. It is asked wherever somebody takes content that the run did not
//! write.
//!
//! | order | check | outcome |
//! |---|---|---|
//! | 1 | a rule guards one of the file's names, or the data is locked | else admitted |
//! | 2 | the run wrote it, and on nothing that was not admitted | admitted |
//! | 3 | the rule refuses whatever it is | refused |
//! | 4 | its digest is known as the level demands, else it is hashed | |
//! | 5 | the lock has it | else refused |
//! | 6 | for each guarded name: an attestation admits it | else refused |
//! | 7 | nobody else may write to it, until it is closed | else refused, after a moment of grace |
//!
//! In doubt the gate stays shut: what cannot be read, asked or judged is refused. A policy in audit mode
//! tells what it would refuse and admits it.
//!
//! A digest is bound to an identity (what `stat` says), a verdict to a digest, the names, what the store
//! has published and what lies around the file. Both are kept, within bounds. Whoever opens a file that is
//! opened again and again passes checks 1 to 6 where nothing is another that they follow from ([`standing`]).

mod admitted;
mod demands;
mod evidence;
#[expect(clippy::module_inception, reason = "the room is named after what it holds")]
mod gate;
mod guard;
mod hashing;
mod judging;
mod links;
mod permit;
mod recent;
mod retelling;
mod standing;
mod surroundings;
mod verdict;
mod verity;
mod waiters;
mod wanted;

pub(crate) use admitted::Admitted;
pub(crate) use gate::Decision;
pub use gate::{Gate, GateParts};
pub(crate) use hashing::{Elsewhere, News, Waiting};
pub(crate) use permit::Permit;
pub(crate) use verdict::Verdict;
pub(crate) use waiters::{Connection, Waiters};
pub(crate) use wanted::{Patience, Sightings, Wanted};
