use attestfs_digest::Sha256;
use jiff::Timestamp;

use crate::{
    bundle::BundleError,
    certificate::CertificateRefusal,
    lock::short,
    manifest::ManifestError,
    oms::{Difference, OmsError, OmsRefusal},
    policy::PolicyRefusal,
    provenance::OutcomeWord,
    statement::Malformed,
    verify::Unavailable,
};

/// The first check that failed, and why. [`Refusal::check`] gives its number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 1. Nothing at hand names this content or this path.
    #[error("no attestation at hand speaks of '{name}'")]
    Unattested {
        /// The artifact.
        name: String,
    },
    /// 1. The store cannot tell what is published. In doubt the gate stays shut.
    #[error("what is published cannot be looked up: {0}")]
    Unavailable(#[from] Unavailable),
    /// 1. What is at hand is no bundle.
    #[error("the attestation cannot be read: {0}")]
    Bundle(#[from] BundleError),
    /// 2. Signed, but not as a statement.
    #[error("the payload type is '{found}': expected 'application/vnd.in-toto+json'")]
    PayloadType {
        /// As found, clipped.
        found: String,
    },
    /// 3. Somebody signed it whom nobody here trusts.
    #[error("signed with the key {hint}, which is none of the trusted ones")]
    UntrustedSigner {
        /// What the bundle says of its signer, not verified.
        hint: String,
    },
    /// 3. Somebody signed it of whom the policy says nothing.
    #[error("signed by {signer}, which this policy does not know")]
    UnknownToPolicy {
        /// What the bundle says of its signer, not verified.
        signer: String,
    },
    /// 3. Somebody signed it with a certificate, and no authority is trusted.
    #[error("signed with a certificate, and no authority is named whose certificates count")]
    CertificateSigner,
    /// 3. The certificate does not make its holder a trusted signer.
    #[error(transparent)]
    Certificate(#[from] CertificateRefusal),
    /// 4. The payload, its type or the signature was changed after signing.
    #[error("the signature of the key {hint} does not fit what the attestation says")]
    BadSignature {
        /// What the bundle says of its signer.
        hint: String,
    },
    /// 5. Not the fields of its type.
    #[error("the statement cannot be read: {0}")]
    Statement(#[source] Malformed),
    /// 5. Another version of in-toto.
    #[error("the statement is of the unknown type '{found}'")]
    UnknownStatement {
        /// As found, clipped.
        found: String,
    },
    /// 5. It speaks of something else than a run or a model, or of a model where a run was meant.
    #[error("a predicate of type '{found}' does not say how something was made")]
    UnknownPredicate {
        /// As found, clipped.
        found: String,
    },
    /// 5. The statement of a run in the place of a model signature.
    #[error("this is the attestation of a run, not a model signature")]
    NoModelSignature,
    /// 5. Provenance of another tool.
    #[error("the build type is '{found}', which attestfs does not know how to read")]
    UnknownBuildType {
        /// As found, clipped.
        found: String,
    },
    /// 5. Provenance by a builder with other promises.
    #[error("the builder is '{found}', which attestfs does not know how far to believe")]
    UnknownBuilder {
        /// As found, clipped.
        found: String,
    },
    /// 5. A model signature that could be read in two ways.
    #[error("the model signature cannot be used: {0}")]
    Model(#[source] OmsError),
    /// 6. What the run left behind may be half of it.
    #[error("run {run} of stage '{stage}' {}", did(*.outcome))]
    OutcomeNotSuccess {
        /// Which stage.
        stage: String,
        /// Which run.
        run: String,
        /// How it ended.
        outcome: OutcomeWord,
    },
    /// 7. The content is attested under another name: files were swapped, renamed or moved.
    #[error("'{name}' has the content that was attested as '{attested_as}'")]
    WrongSubject {
        /// The artifact.
        name: String,
        /// The name in the statement.
        attested_as: String,
    },
    /// 7. The statement's list of subjects is a file of its own, which is not at hand.
    #[error("the manifest {digest} that lists the subjects is not at hand")]
    ManifestNotSeen {
        /// Of the manifest.
        digest: Sha256,
    },
    /// 7. It has the digest and not the form of a manifest.
    #[error("the manifest that lists the subjects cannot be read: {0}")]
    Manifest(#[source] ManifestError),
    /// 7. A subject without a name or digest, or the same name twice.
    #[error("the statement's subjects cannot be used: {reason}")]
    Subjects {
        /// A sentence.
        reason: &'static str,
    },
    /// 8. The content changed after it was attested.
    #[error("'{name}' was changed: attested {expected}, found {found}{}", and_others(*.others))]
    DigestMismatch {
        /// The artifact.
        name: String,
        /// Hexadecimal.
        expected: String,
        /// Hexadecimal.
        found: String,
        /// How many more files changed.
        others: usize,
    },
    /// 9. Files that were signed are gone.
    #[error("missing: {}", listed(.names))]
    Missing {
        /// Sorted.
        names: Vec<String>,
    },
    /// 9. Files were added.
    #[error("not covered by the model signature: {}", listed(.names))]
    Extra {
        /// Sorted.
        names: Vec<String>,
    },
    /// 9. Something is there that no signature can cover.
    #[error("{0}")]
    Unsignable(#[source] OmsRefusal),
    /// 10. A material is said to be attested, and its attestation fails.
    #[error("material '{material}' was published by attestation {attestation}, which fails: check {}, {refusal}", refusal.check().0)]
    Chain {
        /// Its name in the statement that used it.
        material: String,
        /// Which published it.
        attestation: Sha256,
        /// Why that fails.
        #[source]
        refusal: Box<Self>,
    },
    /// 10. A dependency names its attestation by something that is no digest.
    #[error("a material names its attestation by something that is no digest")]
    Dependency,
    /// 10. The material is not among what its attestation published.
    #[error("it does not name the content that was used")]
    MaterialNotNamed,
    /// 10. The source gave another attestation than the one asked for.
    #[error("its file holds another attestation, {found}")]
    WrongAttestation {
        /// What the file holds.
        found: Sha256,
    },
    /// 11. Attested, and not as the policy wants it.
    #[error(transparent)]
    Policy(#[from] PolicyRefusal),
    /// 12. Genuine, and not the newest that was published in this place.
    #[error(
        "'{name}' is what attestation {attestation} published, and {by} published something newer in its place"
    )]
    Superseded {
        /// The file.
        name: String,
        /// Which published it.
        attestation: Sha256,
        /// Which published what should be there.
        by: Sha256,
    },
    /// 13. The data is locked, and this path is not among it.
    #[error("{path}: not in the lock")]
    NotLocked {
        /// As the lock would name it.
        path: String,
    },
    /// 13. The data is locked with another content.
    #[error("{path}: locked {}, is {}, changed {}", short(*.locked), short(*.found), changed.strftime("%Y-%m-%d"))]
    LockMismatch {
        /// As the lock names it.
        path: String,
        /// The content in the lock.
        locked: Sha256,
        /// The content there is.
        found: Sha256,
        /// When the file was changed last.
        changed: Timestamp,
    },
    /// 14. Somebody wants to change what a statement speaks of.
    #[error(
        "'{name}' is what attestation {attestation} published, and published content cannot be changed"
    )]
    Immutable {
        /// The file.
        name: String,
        /// Which published it.
        attestation: Sha256,
    },
    /// 15. Somebody else may write to it: others would read that before it can be verified.
    #[error(
        "{by} has '{name}' open for writing, and what it writes would be read before it is verified"
    )]
    OpenForWriting {
        /// The file.
        name: String,
        /// Who has it open.
        by: String,
    },
    /// 15. Somebody else reads it, who was admitted to what it holds.
    #[error("{by} has '{name}' open, and was admitted to read what it holds")]
    OpenForReading {
        /// The file.
        name: String,
        /// Who has it open.
        by: String,
    },
}

impl Refusal {
    /// The titles of the checks, that of number 1 first.
    pub const CHECKS: [&'static str; 15] = [
        "an attestation is at hand",
        "its payload type is known",
        "its signer is trusted",
        "its signature is good",
        "what it says is understood",
        "the run succeeded",
        "it names the artifact",
        "the content is what was attested",
        "the directory is complete",
        "the chain of materials holds",
        "the policy accepts it",
        "nothing newer replaces it",
        "the lock has it",
        "published content is not changed",
        "nobody else changes what is being read",
    ];

    /// The number and the title of the check that failed.
    pub fn check(&self) -> (u8, &'static str) {
        let number = self.number();
        (number, Self::CHECKS[usize::from(number) - 1])
    }

    /// Of two refusals the one that came further, which says most about the artifact; this one when
    /// both came equally far.
    #[must_use]
    pub fn or_further(self, other: Self) -> Self {
        if other.distance() > self.distance() { other } else { self }
    }

    /// Whether nobody who is trusted is said to have signed.
    pub(crate) fn is_about_stranger(&self) -> bool {
        match self {
            Self::UntrustedSigner { .. }
            | Self::UnknownToPolicy { .. }
            | Self::CertificateSigner => true,
            Self::Certificate(refusal) => refusal.is_about_stranger(),
            _ => false,
        }
    }

    /// The same, of a file that is called so here: statements name it relative to their roots.
    #[must_use]
    pub(crate) fn about(self, file: &str) -> Self {
        let name = file.to_owned();
        match self {
            Self::Unattested { .. } => Self::Unattested { name },
            Self::WrongSubject { attested_as, .. } => Self::WrongSubject { name, attested_as },
            Self::DigestMismatch { expected, found, others, .. } => {
                Self::DigestMismatch { name, expected, found, others }
            }
            other => other,
        }
    }

    /// That nothing speaks of the artifact is the least that can be said.
    fn distance(&self) -> u8 {
        match self {
            Self::Unattested { .. } => 0,
            refusal => refusal.number(),
        }
    }

    fn number(&self) -> u8 {
        match self {
            Self::Unattested { .. } | Self::Unavailable(_) | Self::Bundle(_) => 1,
            Self::PayloadType { .. } => 2,
            Self::UntrustedSigner { .. }
            | Self::UnknownToPolicy { .. }
            | Self::CertificateSigner
            | Self::Certificate(_) => 3,
            Self::BadSignature { .. } => 4,
            Self::Statement(_)
            | Self::UnknownStatement { .. }
            | Self::UnknownPredicate { .. }
            | Self::UnknownBuildType { .. }
            | Self::UnknownBuilder { .. }
            | Self::NoModelSignature
            | Self::Model(_) => 5,
            Self::OutcomeNotSuccess { .. } => 6,
            Self::WrongSubject { .. }
            | Self::ManifestNotSeen { .. }
            | Self::Manifest(_)
            | Self::Subjects { .. } => 7,
            Self::DigestMismatch { .. } => 8,
            Self::Missing { .. } | Self::Extra { .. } | Self::Unsignable(_) => 9,
            Self::Chain { .. }
            | Self::Dependency
            | Self::MaterialNotNamed
            | Self::WrongAttestation { .. } => 10,
            Self::Policy(_) => 11,
            Self::Superseded { .. } => 12,
            Self::NotLocked { .. } | Self::LockMismatch { .. } => 13,
            Self::Immutable { .. } => 14,
            Self::OpenForWriting { .. } | Self::OpenForReading { .. } => 15,
        }
    }

    /// What whoever reads this can do about it.
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::Unattested { .. } => {
                "if it was changed, restore it; if it came from elsewhere, bring the model.sig and claims.jsonl of its directory along; if no run wrote it, produce it under 'attestfs run', or have its directory signed with 'attestfs sign'"
            }
            Self::Unavailable(_) => {
                "look at the log of the store: 'attestfs doctor' says where it is and whether it can be read"
            }
            Self::Bundle(_) | Self::Statement(_) | Self::Manifest(_) | Self::Subjects { .. } => {
                "fetch the attestation again from where it was published"
            }
            Self::PayloadType { .. }
            | Self::UnknownStatement { .. }
            | Self::UnknownPredicate { .. }
            | Self::UnknownBuildType { .. }
            | Self::UnknownBuilder { .. } => {
                "ask whoever made it which tool reads it; attestfs needs SLSA provenance of its own or an OMS model signature"
            }
            Self::UntrustedSigner { .. } => {
                "ask the signer for the public key by a way you trust, compare 'sha256sum KEY' with the name above, and pass it with --key"
            }
            Self::UnknownToPolicy { .. } => {
                "if you trust it, get its public key by a way you trust, compare 'sha256sum KEY' with the name above, and add it under [signers]"
            }
            Self::CertificateSigner => {
                "name the signer's authority: --cert-chain FILE, and with --identity whom it must name; in a policy, ca and san of a signer"
            }
            Self::Certificate(refusal) => refusal.next_step(),
            Self::BadSignature { .. } => {
                "do not use it; fetch artifact and attestation again from where they were published"
            }
            Self::NoModelSignature | Self::Model(_) => {
                "ask the producer to sign the directory again with 'attestfs sign'"
            }
            Self::OutcomeNotSuccess { .. } => {
                "use a checkpoint that this run committed, or run the stage again"
            }
            Self::WrongSubject { .. } => {
                "move it back to the name under which it was attested; if it is to replace what was here, copy it under 'attestfs run --out'"
            }
            Self::ManifestNotSeen { .. } => {
                "fetch the file '<digest>.manifest' from the state directory of the producer, or the claims.jsonl that travels with the artifact"
            }
            Self::DigestMismatch { .. } => {
                "do not use it; restore it, or run the stage that makes it again"
            }
            Self::Missing { .. } => "copy the whole directory again",
            Self::Extra { .. } => {
                "move them away, or sign the directory again if they belong to it"
            }
            Self::Unsignable(refusal) => refusal.next_step(),
            Self::Chain { refusal, .. } => refusal.next_step(),
            Self::Dependency | Self::MaterialNotNamed | Self::WrongAttestation { .. } => {
                "the lineage was tampered with or mixed up; fetch all attestations again"
            }
            Self::Policy(refusal) => refusal.next_step(),
            Self::Superseded { .. } => {
                "restore the newest; to go on with this one, pin it in the rule: attestation = \"sha256:..\""
            }
            Self::NotLocked { .. } => {
                "if the command is meant to open it, take it into the lock with --lock-update"
            }
            Self::Immutable { .. } => {
                "to replace it, name it with --out; or write a new file and rename it over this one"
            }
            Self::OpenForWriting { .. } => CLOSE_THE_WRITER,
            Self::OpenForReading { .. } => CLOSE_THE_READER,
            Self::LockMismatch { .. } => {
                "restore the locked content; if the change is meant, take it into the lock with --lock-update"
            }
        }
    }
}

impl From<Difference> for Refusal {
    fn from(difference: Difference) -> Self {
        match difference {
            Difference::Changed { name, expected, found, others } => {
                Self::DigestMismatch { name, expected, found, others }
            }
            Difference::Missing { names } => Self::Missing { names },
            Difference::Extra { names } => Self::Extra { names },
            Difference::Unsignable(refusal) => Self::Unsignable(refusal),
        }
    }
}

const CLOSE_THE_WRITER: &str = "wait until it is closed there, with all its mappings; what is only to be read is safe from this in a mount with --read-only";

const CLOSE_THE_READER: &str =
    "write a new file and rename it over this one, or wait until it is closed there";

fn did(outcome: OutcomeWord) -> &'static str {
    match outcome {
        OutcomeWord::Failed => "failed: what it left behind is not vouched for",
        OutcomeWord::Unknown => "has an unknown end: nobody saw whether it succeeded",
        OutcomeWord::Success | OutcomeWord::Running => "did not say that it failed",
    }
}

fn and_others(others: usize) -> String {
    match others {
        0 => String::new(),
        1 => ", and 1 more file".to_owned(),
        others => format!(", and {others} more files"),
    }
}

/// Names, but not at any length.
fn listed(names: &[String]) -> String {
    const SHOWN_MAX: usize = 10;
    let shown: Vec<String> = names.iter().take(SHOWN_MAX).map(|name| format!("'{name}'")).collect();
    let shown = shown.join(", ");
    match names.len().saturating_sub(SHOWN_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
