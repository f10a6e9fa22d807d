use attestfs_digest::Sha256;

use crate::{
    bundle::{Bundle, PAYLOAD_TYPE},
    key::KeyHint,
    statement::Payload,
    verify::{Refusal, TrustedKeys},
};

/// Bytes that a trusted key signed. Only [`Signed::check`] makes one.
#[derive(Clone, Debug)]
pub struct Signed {
    payload: Payload,
    signer: KeyHint,
}

impl Signed {
    /// Checks 2, 3 and 4.
    ///
    /// # Errors
    /// The first that fails.
    pub fn check(bundle: Bundle, keys: &TrustedKeys) -> Result<Self, Refusal> {
        // 2. A bundle cannot be parsed with any other number of signatures than one.
        if bundle.payload_type() != PAYLOAD_TYPE {
            return Err(Refusal::PayloadType {
                found: bundle.payload_type().chars().take(100).collect(),
            });
        }
        // 3, 4.
        let signer = keys.verify(&bundle)?;
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
    pub fn signer(&self) -> KeyHint {
        self.signer
    }
}
