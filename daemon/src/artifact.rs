//! Files and directories at rest: looking through them, hashing them, and asking what is at hand
//! whether they are what somebody attested. Needs neither mount nor daemon.

mod at_hand;
mod claimed;
mod content;
mod difference;
mod directory;
mod guarded;
mod judge;
mod links;
mod model;
mod needed;
mod passed;
mod survey;
#[cfg(test)]
mod tests;
mod tree;

pub use at_hand::{AtHand, AtHandError, PassedOver};
pub use claimed::{About, Claimed, ClaimedKind, Claims, claimed, claimed_signer};
pub use content::{
    ContentError, Unwatched, Watch, Watched, content, content_at, hash, open_file, sha256_of_each,
    threads,
};
pub use directory::{Directory, Found, Kind, SurveyError, WalkError};
pub use guarded::{Guard, Guarded, GuardedFile, judge_by_policy};
pub use judge::{Artifact, ArtifactError, Completeness, Judged, NotJudged, judge};
