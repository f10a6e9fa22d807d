//! The one place that names `rustls-webpki`'s path building.

use std::{collections::BTreeSet, time::Duration};

use attestfs_digest::Sha256;
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{
    ALL_VERIFICATION_ALGS, EndEntityCert, Error, ExtendedKeyUsageValidator, KeyPurposeIdIter,
    VerifiedPath, anchor_from_trusted_cert,
};

use super::{
    authority::AuthorityError,
    chain::{Certificate, Chain, clip},
    refusal::CertificateRefusal,
};
use crate::statement::sha256;

/// The certificates of an authority.
#[derive(Clone, Debug, Default)]
pub(super) struct Anchors {
    /// Of all certificates.
    digests: BTreeSet<Sha256>,
    trusted: Vec<TrustAnchor<'static>>,
    times: Vec<Time>,
}

/// The certificate of the authority to which a path led, and until when those on the way are valid.
#[derive(Debug)]
pub(super) struct Reached<'a> {
    authority: &'a Time,
    between_until: Timestamp,
}

#[derive(Clone, Debug)]
struct Time {
    name: String,
    from: Timestamp,
    until: Timestamp,
}

impl Anchors {
    /// Adds the certificate of this number, if it is an authority's.
    pub(super) fn add(
        &mut self,
        der: &CertificateDer<'_>,
        number: usize,
    ) -> Result<(), AuthorityError> {
        let bad = |reason: String| AuthorityError::Certificate { number, reason };
        let certificate = Certificate::read(der).map_err(bad)?;
        if let Some(reason) = certificate.misuse_as_authority() {
            let subject = clip(&certificate.subject);
            return Err(AuthorityError::NoAuthority { number, subject, reason });
        }
        let anchor = anchor_from_trusted_cert(der).map_err(|error| bad(sentence(&error)))?;
        self.trusted.push(anchor.to_owned());
        self.digests.insert(sha256(der));
        let (from, until) = (certificate.from, certificate.until);
        self.times.push(Time { name: clip(&certificate.subject), from, until });
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.trusted.is_empty()
    }

    /// Whether these are the same certificates, in whatever order and however they were written.
    pub(super) fn are(&self, others: &Self) -> bool {
        self.digests == others.digests
    }

    /// Builds a path from the signer's certificate to one of these, at the moment of that
    /// certificate's life that is nearest to `now`. Time comes last: "expired" is only said of what
    /// would have been believed before.
    pub(super) fn path(
        &self,
        chain: &Chain<'_>,
        now: Timestamp,
    ) -> Result<Reached<'_>, CertificateRefusal> {
        let at = unix_time(now.min(chain.leaf.until).max(chain.leaf.from));
        let leaf = EndEntityCert::try_from(&chain.leaf_der).map_err(|it| refused(chain, &it))?;
        let (anchors, others) = (&self.trusted, &chain.others);
        let path = leaf
            .verify_for_usage(ALL_VERIFICATION_ALGS, anchors, others, at, AnyPurpose, None, None)
            .map_err(|error| refused(chain, &error))?;
        let between_until = check_between(chain, &path)?;
        let authority = self.certificate_of(path.anchor(), now);
        let authority = authority.ok_or_else(|| refused(chain, &Error::UnknownIssuer))?;
        Ok(Reached { authority, between_until })
    }

    /// A renewed certificate has the subject and the key of the one before: one that is valid counts,
    /// and else the last.
    fn certificate_of(&self, anchor: &TrustAnchor<'_>, now: Timestamp) -> Option<&Time> {
        let is_same = |other: &TrustAnchor<'_>| {
            other.subject == anchor.subject
                && other.subject_public_key_info == anchor.subject_public_key_info
        };
        let all = self.trusted.iter().zip(&self.times);
        let same = all.filter(|(other, _)| is_same(other)).map(|(_, time)| time);
        same.max_by_key(|time| (time.holds(now), time.until))
    }
}

impl Reached<'_> {
    /// The authority's certificate must be valid as well.
    ///
    /// # Returns
    /// Until when the path holds.
    pub(super) fn check_time(&self, now: Timestamp) -> Result<Timestamp, CertificateRefusal> {
        if self.authority.holds(now) {
            return Ok(self.authority.until.min(self.between_until));
        }
        let Time { name, from, until } = self.authority.clone();
        Err(CertificateRefusal::AuthorityTime { authority: name, from, until, now })
    }
}

impl Time {
    fn holds(&self, now: Timestamp) -> bool {
        (self.from..=self.until).contains(&now)
    }
}

/// Purposes are checked after the path, with a reason for each.
struct AnyPurpose;

impl ExtendedKeyUsageValidator for AnyPurpose {
    fn validate(&self, _purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        Ok(())
    }
}

/// The key usages of those between the signer and the authority, which the library leaves alone.
///
/// # Returns
/// Until when all of them are valid.
fn check_between(
    chain: &Chain<'_>,
    path: &VerifiedPath<'_>,
) -> Result<Timestamp, CertificateRefusal> {
    let broken = |reason| CertificateRefusal::Chain { holder: chain.leaf.holder(), reason };
    let mut until = Timestamp::MAX;
    for between in path.intermediate_certificates() {
        let certificate = Certificate::read(&between.der()).map_err(broken)?;
        if let Some(reason) = certificate.misuse_as_authority() {
            return Err(broken(format!("'{}' is in it: {reason}", clip(&certificate.subject))));
        }
        until = until.min(certificate.until);
    }
    Ok(until)
}

/// Certificates have no time before 1970.
fn unix_time(time: Timestamp) -> UnixTime {
    let seconds = u64::try_from(time.as_second()).unwrap_or_default();
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn refused(chain: &Chain<'_>, error: &Error) -> CertificateRefusal {
    let holder = chain.leaf.holder();
    match error {
        Error::UnknownIssuer => {
            CertificateRefusal::Issuer { holder, issuer: clip(&chain.last_issuer()) }
        }
        Error::CaUsedAsEndEntity => {
            let reason = "it is the certificate of an authority".to_owned();
            CertificateRefusal::Usage { holder, reason }
        }
        other => CertificateRefusal::Chain { holder, reason: sentence(other) },
    }
}

fn sentence(error: &Error) -> String {
    let sentence = match error {
        Error::CertExpired { .. } => "an authority in it has expired",
        Error::CertNotValidYet { .. } => "an authority in it is not valid yet",
        Error::InvalidSignatureForPublicKey => "a signature in it is not by the issuer's key",
        Error::EndEntityUsedAsCa => "one that issued another is not an authority's",
        Error::PathLenConstraintViolated => "it is longer than an authority in it allows",
        Error::NameConstraintViolation => {
            "an authority in it may not give this name, or limits names in a way that cannot be checked"
        }
        Error::UnsupportedCriticalExtension => "one has a critical extension that is not known",
        Error::UnsupportedCertVersion => "one is not of version 3",
        Error::MaximumPathDepthExceeded
        | Error::MaximumPathBuildCallsExceeded
        | Error::MaximumSignatureChecksExceeded
        | Error::MaximumNameConstraintComparisonsExceeded => "it takes too much work to check",
        other => return format!("{other:?}"),
    };
    sentence.to_owned()
}
