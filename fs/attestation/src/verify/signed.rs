use attestfs_digest::Sha256;
use jiff::Timestamp;

use crate::{
    bundle::{Bundle, PAYLOAD_TYPE},
    statement::Payload,
    verify::{Refusal, Signer, TrustedSigners},
};

/// Bytes that a trusted signer signed. Only [`Signed::check`] makes one.
#[derive(Clone, Debug)]
pub struct Signed {
    payload: Payload,
    signer: Signer,
}

impl Signed {
    /// Checks 2, 3 and 4. A certificate must be valid `now`.
    ///
    /// # Errors
    /// The first that fails.
    pub fn check(
        bundle: Bundle,
        signers: &TrustedSigners,
        now: Timestamp,
    ) -> Result<Self, Refusal> {
        // 2. A bundle cannot be parsed with any other number of signatures than one.
        if bundle.payload_type() != PAYLOAD_TYPE {
            return Err(Refusal::PayloadType {
                found: bundle.payload_type().chars().take(100).collect(),
            });
        }
        // 3, 4.
        let signer = signers.verify(&bundle, now)?;
        Ok(Self { payload: bundle.into_payload(), signer })
    }

    /// What was signed.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// The name of the attestation.
    pub fn attestation(&self) -> Sha256 {
        self.payload.sha256()
    }

    /// Who signed it.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }
}
