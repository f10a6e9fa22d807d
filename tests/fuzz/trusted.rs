//! Who is trusted here, and what they have signed: the corpus, and nothing else for ever.

use std::{collections::BTreeSet, sync::LazyLock};

use attestfs_attestation::{Authority, Bundle, Claims, TrustedSigners, VerifyingKey};
use attestfs_digest::Sha256;
use jiff::Timestamp;

use crate::corpus;

/// Whoever signed the corpus: one by a key, one by a certificate.
pub(crate) static SIGNERS: LazyLock<TrustedSigners> = LazyLock::new(|| {
    let key = VerifyingKey::from_pem(&corpus::read("trusted/key.pub")).unwrap();
    let authority = Authority::new(&corpus::read("trusted/authority.pem"), None).unwrap();
    TrustedSigners::default().with_key("trainer", key).with_authority("hub", authority)
});

/// All that they have signed.
pub(crate) static SIGNED: LazyLock<BTreeSet<Sha256>> = LazyLock::new(|| {
    let claims =
        corpus::of("claims").into_iter().flat_map(|seed| Claims::parse(&seed).unwrap().bundles);
    let bundles = corpus::of("bundle").into_iter().filter_map(|seed| Bundle::parse(&seed).ok());
    bundles.chain(claims).map(|bundle| bundle.sha256()).collect()
});

/// When all certificates of the corpus are valid.
pub(crate) fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}
