//! Signers by certificate: an authority that somebody trusts, and the names it may give to signers.
//!
//! The path from a certificate to its authority is built by `rustls-webpki`. It checks signatures,
//! validity, basic constraints, path lengths and name constraints; those that it does not implement
//! (names of directories, URIs, mail addresses) refuse the path. What it leaves to its caller is
//! checked here: key usages, the authority's own validity, and the name.

mod anchors;
mod authority;
mod chain;
mod pattern;
mod refusal;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use authority::{AUTHORITY_FILE_MAX, Authority, AuthorityError};
pub use chain::CertificateIdentity;
pub(crate) use chain::{Chain, claimed_identity};
pub use pattern::{NamePattern, PatternError};
pub use refusal::CertificateRefusal;
