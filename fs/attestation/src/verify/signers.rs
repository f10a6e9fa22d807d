use std::{fmt, sync::Arc};

use jiff::Timestamp;
use serde::{Serialize, Serializer, ser::SerializeStruct as _};

use crate::{
    bundle::{Bundle, SignerHint},
    certificate::{Authority, CertificateIdentity, CertificateRefusal, Chain},
    key::{KeyHint, VerifyingKey},
    verify::Refusal,
};

/// Whose signatures count: keys, and authorities whose certificates name the signer, each by a name
/// that whoever trusts them chose. A signature without the name of its key is tried with each, so
/// there is a bound.
#[derive(Clone, Debug, Default)]
pub struct TrustedSigners(Vec<Trusted>);

/// Who made a signature that was believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// Never empty.
    names: Vec<Arc<str>>,
    key: KeyHint,
    identity: SignerIdentity,
}

/// By what the signature shows who made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignerIdentity {
    /// A key that is trusted itself.
    Key(KeyHint),
    /// A certificate that a trusted authority issued.
    Certificate(CertificateIdentity),
}

#[derive(Clone, Debug)]
struct Trusted {
    name: Arc<str>,
    credential: Credential,
}

#[derive(Clone, Debug)]
enum Credential {
    Key(VerifyingKey),
    Authority(Arc<Authority>),
}

impl TrustedSigners {
    /// Most signers that are kept; what follows is ignored.
    pub const MAX: usize = 256;

    /// These keys and nobody else, each named by its hint.
    pub fn keys(keys: impl IntoIterator<Item = VerifyingKey>) -> Self {
        keys.into_iter().fold(Self::default(), |signers, key| {
            let name = key.hint().to_string();
            signers.with_key(&name, key)
        })
    }

    /// And this key.
    #[must_use]
    pub fn with_key(self, name: &str, key: VerifyingKey) -> Self {
        self.with(name, Credential::Key(key))
    }

    /// And whomever this authority names.
    #[must_use]
    pub fn with_authority(self, name: &str, authority: impl Into<Arc<Authority>>) -> Self {
        self.with(name, Credential::Authority(authority.into()))
    }

    /// Their names, in the order in which they were added.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|trusted| &*trusted.name)
    }

    /// Checks 3 and 4: one of them made the signature.
    pub(super) fn verify(&self, bundle: &Bundle, now: Timestamp) -> Result<Signer, Refusal> {
        match bundle.signer() {
            SignerHint::Certificate(_claimed) => self.by_certificate(bundle, now),
            SignerHint::UnnamedKey => by_key(bundle, self.trusted_keys().collect(), "without name"),
            SignerHint::Key(hint) => {
                let named = self.trusted_keys().filter(|(_, key)| key.is_named(&hint));
                by_key(bundle, named.collect(), &hint)
            }
        }
    }

    fn by_certificate(&self, bundle: &Bundle, now: Timestamp) -> Result<Signer, Refusal> {
        // 3. Of all authorities one must vouch, and all that do are told; of several refusals that which
        //    came furthest.
        let mut authorities = self.authorities().peekable();
        if authorities.peek().is_none() {
            return Err(Refusal::CertificateSigner);
        }
        let chain = Chain::read(&bundle.certificates())?;
        let mut names = Vec::new();
        let mut vouched: Option<(CertificateIdentity, VerifyingKey)> = None;
        let mut furthest: Option<CertificateRefusal> = None;
        for (name, authority) in authorities {
            match authority.vouch(&chain, now) {
                Ok((identity, key)) => {
                    names.push(Arc::clone(name));
                    let until = identity.valid_until;
                    let (first, _) = vouched.get_or_insert((identity, key));
                    first.valid_until = first.valid_until.min(until);
                }
                Err(refusal) => {
                    furthest = Some(match furthest {
                        Some(before) => before.or_further(refusal),
                        None => refusal,
                    });
                }
            }
        }
        match vouched {
            Some((identity, key)) => by_leaf(bundle, names, identity, &key),
            None => Err(furthest.map_or(Refusal::CertificateSigner, Refusal::Certificate)),
        }
    }

    fn with(mut self, name: &str, credential: Credential) -> Self {
        if self.0.len() < Self::MAX {
            self.0.push(Trusted { name: name.into(), credential });
        }
        self
    }

    fn trusted_keys(&self) -> impl Iterator<Item = (&Arc<str>, &VerifyingKey)> {
        self.0.iter().filter_map(|trusted| match &trusted.credential {
            Credential::Key(key) => Some((&trusted.name, key)),
            Credential::Authority(_) => None,
        })
    }

    fn authorities(&self) -> impl Iterator<Item = (&Arc<str>, &Authority)> {
        self.0.iter().filter_map(|trusted| match &trusted.credential {
            Credential::Key(_) => None,
            Credential::Authority(authority) => Some((&trusted.name, &**authority)),
        })
    }
}

fn by_key(
    bundle: &Bundle,
    keys: Vec<(&Arc<str>, &VerifyingKey)>,
    hint: &str,
) -> Result<Signer, Refusal> {
    // 3. The hint only chooses the key to try. A hint that names none of ours is refused even if one of
    //    ours made the signature: other verifiers refuse it too.
    if keys.is_empty() {
        return Err(Refusal::UntrustedSigner { hint: clip(hint) });
    }
    // 4. Over the PAE, which binds the payload type.
    let message = bundle.pae();
    keys.into_iter()
        .find(|(_, key)| key.verifies(&message, bundle.signature()))
        .map(|(name, key)| {
            let (names, key) = (vec![Arc::clone(name)], key.hint());
            Signer { names, key, identity: SignerIdentity::Key(key) }
        })
        .ok_or_else(|| Refusal::BadSignature { hint: clip(hint) })
}

/// 4. Over the PAE, by the key in the certificate.
fn by_leaf(
    bundle: &Bundle,
    names: Vec<Arc<str>>,
    identity: CertificateIdentity,
    key: &VerifyingKey,
) -> Result<Signer, Refusal> {
    if !key.verifies(&bundle.pae(), bundle.signature()) {
        let hint = format!("in the certificate of '{}'", identity.name);
        return Err(Refusal::BadSignature { hint });
    }
    Ok(Signer { names, key: key.hint(), identity: SignerIdentity::Certificate(identity) })
}

impl Signer {
    /// What whoever trusts it calls it: in a policy the name under `[signers]`. More than one, where
    /// several authorities vouch for a certificate; then the signature counts for any of them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }

    /// The key that made the signature, its own or that of its certificate.
    pub fn key(&self) -> KeyHint {
        self.key
    }

    /// Until when the signature counts, for all of its names: a key has no end, a certificate has.
    pub fn valid_until(&self) -> Option<Timestamp> {
        match &self.identity {
            SignerIdentity::Key(_) => None,
            SignerIdentity::Certificate(identity) => Some(identity.valid_until),
        }
    }

    /// By what it showed who it is.
    pub fn identity(&self) -> &SignerIdentity {
        &self.identity
    }
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.identity.fmt(f)
    }
}

/// The hint of the key, or the name in the certificate.
impl fmt::Display for SignerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(hint) => hint.fmt(f),
            Self::Certificate(identity) => f.write_str(&identity.name),
        }
    }
}

/// Fields of whatever it is flattened into: `signer`, a string, and `certificate` if it has one.
impl Serialize for Signer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let certificate = match &self.identity {
            SignerIdentity::Key(_) => None,
            SignerIdentity::Certificate(identity) => Some(identity),
        };
        let mut fields = serializer.serialize_struct("Signer", 2)?;
        fields.serialize_field("signer", &self.to_string())?;
        match certificate {
            Some(identity) => fields.serialize_field("certificate", identity)?,
            None => fields.skip_field("certificate")?,
        }
        fields.end()
    }
}

fn clip(hint: &str) -> String {
    hint.chars().take(100).collect()
}
