use jiff::Timestamp;

/// Why a certificate makes nobody a trusted signer. In the order of the checks: a later one means
/// that all before it passed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateRefusal {
    /// No chain of certificates of a size that is read.
    #[error("the certificates of the signature cannot be used: {reason}")]
    Unreadable {
        /// A part of a sentence.
        reason: String,
    },
    /// No path leads to an authority.
    #[error(
        "the certificate of {holder} leads to the issuer '{issuer}', which is none of the trusted authorities, and no certificate in the bundle leads on from there"
    )]
    Issuer {
        /// Whom the certificate names.
        holder: String,
        /// Where the chain ends.
        issuer: String,
    },
    /// A path leads there, and does not hold.
    #[error("the chain from the certificate of {holder} to the authority does not hold: {reason}")]
    Chain {
        /// Whom the certificate names.
        holder: String,
        /// A sentence.
        reason: String,
    },
    /// The authority gave the certificate for something else.
    #[error("the certificate of {holder} is not for signing: {reason}")]
    Usage {
        /// Whom the certificate names.
        holder: String,
        /// A sentence.
        reason: String,
    },
    /// The authority gave it to somebody else.
    #[error("the certificate names {}, and none of that is '{pattern}'", some(.found))]
    Identity {
        /// The names in the certificate.
        found: Vec<String>,
        /// Who would be believed.
        pattern: String,
    },
    /// Too early.
    #[error("the certificate of {holder} is valid from {from} on, and it is {now}")]
    NotYetValid {
        /// Whom the certificate names.
        holder: String,
        /// When it begins.
        from: Timestamp,
        /// When it was looked at.
        now: Timestamp,
    },
    /// Too late, and nothing proves that the signature was made before.
    #[error(
        "the certificate of {holder} expired at {until}, and nothing that attestfs can check proves that it signed before"
    )]
    Expired {
        /// Whom the certificate names.
        holder: String,
        /// When it ended.
        until: Timestamp,
    },
    /// The authority itself is out of its time.
    #[error("the authority '{authority}' is valid from {from} to {until}, and it is {now}")]
    AuthorityTime {
        /// Its subject.
        authority: String,
        /// When it begins.
        from: Timestamp,
        /// When it ends.
        until: Timestamp,
        /// When it was looked at.
        now: Timestamp,
    },
}

impl CertificateRefusal {
    /// What whoever reads this can do about it.
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "fetch the attestation again from where it was published",
            Self::Issuer { .. } => {
                "if you trust this issuer, add its certificate to the file of the authority; if one between is missing, ask the signer to put the whole chain into the bundle"
            }
            Self::Chain { .. } => {
                "do not use it; ask the signer for a signature with a chain that its authority made"
            }
            Self::Usage { .. } => {
                "ask the signer for a certificate with key usage digitalSignature and, if it has extended usages, codeSigning"
            }
            Self::Identity { .. } => {
                "if you believe one of these names, give it as --identity, or as san in the policy"
            }
            Self::NotYetValid { .. } => "compare the clock of this machine with another one",
            Self::Expired { .. } => "ask the signer to sign again with a valid certificate",
            Self::AuthorityTime { .. } => {
                "compare the clock of this machine with another one, or fetch the authority's new certificate by a way you trust"
            }
        }
    }

    /// Whether no authority that is trusted has named this signer as one to be believed: anybody can
    /// come with such a certificate.
    pub(crate) fn is_about_stranger(&self) -> bool {
        self.distance() < Self::TIME
    }

    /// Of two refusals the one that came further.
    pub(crate) fn or_further(self, other: Self) -> Self {
        if other.distance() > self.distance() { other } else { self }
    }

    const TIME: u8 = 5;

    fn distance(&self) -> u8 {
        match self {
            Self::Unreadable { .. } => 0,
            Self::Issuer { .. } => 1,
            Self::Chain { .. } => 2,
            Self::Usage { .. } => 3,
            Self::Identity { .. } => 4,
            Self::NotYetValid { .. } | Self::Expired { .. } | Self::AuthorityTime { .. } => {
                Self::TIME
            }
        }
    }
}

fn some(names: &[String]) -> String {
    const SHOWN_MAX: usize = 5;
    if names.is_empty() {
        return "nobody".to_owned();
    }
    let shown: Vec<_> = names.iter().take(SHOWN_MAX).map(|name| format!("'{name}'")).collect();
    match names.len().saturating_sub(SHOWN_MAX) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
