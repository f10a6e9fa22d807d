//! The policy of a mount: which files are guarded, and whose word lets them be opened.
//!
//! [`Policy::parse`] makes a policy of text, once. [`Policy::rule_for`] finds the rule of a path,
//! [`Policy::guarding`] those of a file with the names of links to it, and [`Rule::judge`] says whether
//! what lies there is admitted. `FORMAT.md` has the format.
//!
//! A rule asks checks 1 to 8 of [`crate::verify`] of each attestation, then
//!
//! | number | check | made by |
//! |---|---|---|
//! | 11 | the policy accepts its kind, signer and stage, and enough signers agree | [`Rule::judge`] |
//! | 12 | nothing newer was published in its place | [`Rule::judge`], with [`crate::Publications::history`] |
//!
//! Check 9 is made of one file only: the rest of a directory is judged when it is opened. Check 10, the
//! chain of materials, is not made: it is `attestfs verify` that follows it. How something was made does
//! not change while it is opened, and a rule can name the stage that must have made it.

mod around;
mod belief;
mod document;
mod error;
mod guarding;
mod judge;
mod level;
mod links;
mod memory;
mod question;
mod refusal;
mod replay;
mod rule;
mod rules;
mod show;
mod signers;
#[cfg(test)]
mod tests;
mod votes;
mod warning;

pub use around::{Around, Beside};
pub use error::{Fault, PolicyError};
pub use guarding::Guarding;
pub use level::{Level, Mode, UnknownLevel};
pub use links::{Alias, Ends, Followed, Step, aliases};
pub use question::{Admission, Question};
pub use refusal::PolicyRefusal;
pub use rule::Rule;
pub use rules::Policy;
pub use warning::Warning;
