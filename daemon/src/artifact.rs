//! Files and directories at rest: looking through them, hashing them, and asking what is at hand
//! whether they are what somebody attested. Needs neither mount nor daemon.

mod at_hand;
mod claimed;
mod content;
mod directory;
mod judge;
mod passed;
#[cfg(test)]
mod tests;

pub use at_hand::{AtHand, AtHandError, PassedOver};
pub use claimed::{Claimed, ClaimedKind, Claims, claimed, claimed_signer};
pub use content::{ContentError, Unwatched, Watch, Watched, content, content_at, hash, open_file};
pub use directory::{Directory, Found, Kind, SurveyError, WalkError};
pub use judge::{Artifact, ArtifactError, Completeness, Judged, NotJudged, judge};
