//! `attestfs verify` as a numbered checklist. The numbers stand in the code where each check is
//! made, and in the refusal.
//!
//! | number | check | made by | gives |
//! |---|---|---|---|
//! | 1 | an attestation is at hand, and it parses | [`crate::Bundle::parse`] | [`crate::Bundle`] |
//! | 2 | it has one signature, over a known payload type | [`Signed::check`] | |
//! | 3 | its signer is trusted | [`TrustedSigners`] | |
//! | 4 | the signature covers the payload | [`Signed::check`] | [`Signed`] |
//! | 5 | statement, predicate, build type and builder are known | [`Claim::read`] | [`Claim`] |
//! | 6 | the run succeeded, or this is a checkpoint of it | [`Claim::vouched`] | [`Vouched`] |
//! | 7 | a subject has the artifact's name | [`Subjects::check`] | |
//! | 8 | that subject has the artifact's digests and size | [`Subjects::check`] | |
//! | 9 | nothing is missing, changed or added | [`SignedModel::complete`] | [`Covered`] |
//! | 10 | the materials' own attestations pass 1 to 6 and name them | [`Verifier`] | [`Verified`] |
//! | 11 | the policy accepts it | [`crate::Rule::judge`] | [`crate::Admission`] |
//! | 12 | nothing newer replaces it | [`crate::Rule::judge`] | [`crate::Admission`] |
//! | 13 | the lock has it | [`crate::Lock::check`] | |
//! | 14 | published content is not changed | the mount, of who writes | |
//! | 15 | nobody else changes what is being read | the mount, of who opens or writes | |
//!
//! The last ones are made by the gate of a mount, where a policy or a lock asks for them.
//!
//! What a source does not have is never taken for good: the artifact itself is refused without an
//! attestation, and an ancestor that cannot be seen is reported as not seen. Beside a good model
//! signature, an attestation that fails is refused as well; only what an index of contents led to, and
//! a stranger signed, is passed over and named: anybody's run may write the same content.

mod candidate;
mod chain;
mod claim;
mod examined;
mod model;
mod needed;
mod publications;
mod refusal;
mod report;
mod signed;
mod signers;
mod source;
mod subjects;
#[cfg(test)]
mod tests;
mod verifier;

pub use claim::{Claim, Vouched};
pub use examined::Examined;
pub use model::{Covered, SignedModel};
pub use needed::{Needed, Said, Speaking};
pub use publications::{
    Latest, NothingPublished, Publication, Publications, Unavailable, root_and_name,
};
pub use refusal::Refusal;
pub use report::{Attested, MaterialReport, ModelReport, Origin, Stranger, Verified};
pub use signed::Signed;
pub use signers::{Signer, SignerIdentity, TrustedSigners};
pub use source::{Attestations, Several};
pub use subjects::{Found, Place, Subjects};
pub use verifier::Verifier;

pub(crate) use candidate::Unverified;
