//! Asking the platform what it has to say for itself.

use std::fmt::Debug;

use attestfs_digest::Sha256;

/// Collects evidence of the platform, bound to the statements that are about to be signed.
pub trait Attester: Debug + Send + Sync {
    /// The evidence, `None` on a platform that has none to give.
    ///
    /// # Errors
    /// The platform has some and does not give it now.
    fn quote(&self, statements: &[Sha256]) -> Result<Option<Evidence>, QuoteError>;
}

/// What a platform says of itself. There is none yet: without a TEE there is no TEE claim, and this
/// type has no value until one is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {}

/// The platform did not give the evidence that it has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the platform gave no evidence: {reason}")]
pub struct QuoteError {
    /// What it said.
    pub reason: String,
}

/// A platform without evidence.
#[derive(Clone, Copy, Debug)]
pub struct NoAttester;

impl Attester for NoAttester {
    fn quote(&self, _statements: &[Sha256]) -> Result<Option<Evidence>, QuoteError> {
        Ok(None)
    }
}
