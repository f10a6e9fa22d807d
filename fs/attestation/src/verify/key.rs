use crate::{
    bundle::{Bundle, SignerHint},
    key::{KeyHint, VerifyingKey},
    verify::Refusal,
};

/// The keys whose signatures count. A signature without the name of its key is tried with each, so
/// there is a bound.
#[derive(Clone, Debug, Default)]
pub struct TrustedKeys(Vec<VerifyingKey>);

impl TrustedKeys {
    /// Most keys that are kept; what follows is ignored.
    pub const MAX: usize = 256;

    /// These keys and no other.
    pub fn new(keys: impl IntoIterator<Item = VerifyingKey>) -> Self {
        Self(keys.into_iter().take(Self::MAX).collect())
    }

    /// Checks 3 and 4: one of these keys made the signature.
    pub(super) fn verify(&self, bundle: &Bundle) -> Result<KeyHint, Refusal> {
        // 3. The hint only chooses the key to try. A hint that names none of ours is refused even
        //    if one of ours made the signature: other verifiers refuse it too.
        let (keys, hint) = match bundle.signer() {
            SignerHint::Certificate => return Err(Refusal::CertificateSigner),
            SignerHint::UnnamedKey => (self.0.iter().collect(), "without name".to_owned()),
            SignerHint::Key(hint) => (self.named(&hint), hint),
        };
        if keys.is_empty() {
            return Err(Refusal::UntrustedSigner { hint: clip(&hint) });
        }
        // 4. Over the PAE, which binds the payload type.
        let message = bundle.pae();
        keys.into_iter()
            .find(|key| key.verifies(&message, bundle.signature()))
            .map(VerifyingKey::hint)
            .ok_or_else(|| Refusal::BadSignature { hint: clip(&hint) })
    }

    fn named(&self, hint: &str) -> Vec<&VerifyingKey> {
        self.0.iter().filter(|key| key.is_named(hint)).collect()
    }
}

fn clip(hint: &str) -> String {
    hint.chars().take(100).collect()
}
