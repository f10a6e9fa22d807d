//! What an attestation is and how to believe one.
//!
//! Pure functions over hostile input: no clock, no filesystem, no database.

mod bundle;
mod certificate;
mod claims;
mod draft;
mod incomplete;
mod key;
mod lock;
mod manifest;
mod name;
mod oms;
mod policy;
mod provenance;
mod run;
mod statement;
#[cfg(test)]
mod testing;
mod verify;

pub use bundle::{
    BUNDLE_MAX, BUNDLE_MEDIA_TYPE, Bundle, BundleError, PAYLOAD_MAX, PAYLOAD_TYPE, SignerHint, pae,
};
pub use certificate::{
    AUTHORITY_FILE_MAX, Authority, AuthorityError, CertificateIdentity, CertificateRefusal,
    NamePattern, PatternError,
};
pub use claims::{CLAIMS_FILE, CLAIMS_LINES_MAX, CLAIMS_MAX, Claims, ClaimsError};
pub use draft::{Draft, DraftError};
pub use incomplete::{INCOMPLETE_TYPE, IncompleteRun};
pub use key::{KEY_FILE_MAX, KeyError, KeyHint, SigningError, SigningKey, VerifyingKey};
pub use lock::{
    LOCK_HEADER, LOCK_MAX, Lock, LockDifference, LockError, Locked, MANIFESTS_SUFFIX,
    ManifestFault, WrittenLock, manifest_name,
};
pub use manifest::{LISTED_MAX, Listing, MANIFEST_MAX, Manifest, ManifestError};
pub use name::{PUBLICATIONS, escaped, file_uri, is_canonical, is_publication, unescaped};
pub use oms::{
    Content, Difference, Entry, EntryKind, HashType, IgnoredPaths, Known, MODEL_SIGNATURE_FILE,
    MODEL_SIGNATURE_TYPE, ModelManifest, OmsError, OmsRefusal, OmsRefusals, model_statement,
    model_statement_ignoring,
};
pub use policy::{
    Admission, Alias, Around, Beside, Ends, Fault, Followed, Guarding, Level, Mode, Policy,
    PolicyError, PolicyRefusal, Question, Rule, Step, UnknownLevel, Warning, aliases,
};
pub use provenance::{
    BUILD_TYPE, BUILDER_ID, BuildDefinition, Builder, CommitWord, ExternalParameters,
    InternalParameters, Metadata, OutcomeWord, PROVENANCE_TYPE, Provenance, RunDetails,
};
pub use run::{
    ArtifactRoot, Commit, CommitKind, Executable, Inputs, LeftOut, LockUse, Material,
    MaterialDigests, Outcome, Output, RunDescription,
};
pub use statement::{
    DigestSet, Header, Malformed, Payload, ResourceDescriptor, STATEMENT_TYPE, Statement,
};
pub use verify::{
    Attestations, Attested, Claim, Covered, Examined, Found, Latest, MaterialReport, ModelReport,
    Needed, NothingPublished, Origin, Place, Publication, Publications, Refusal, Said, Several,
    Signed, SignedModel, Signer, SignerIdentity, Speaking, Stranger, Subjects, TrustedSigners,
    Unavailable, Verified, Verifier, Vouched, root_and_name,
};
