use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::{
    anchors::Anchors,
    chain::{CertificateIdentity, Chain, clip},
    pattern::{NamePattern, SubjectName},
    refusal::CertificateRefusal,
};
use crate::key::VerifyingKey;

/// Largest file with the certificates of an authority, in bytes.
pub const AUTHORITY_FILE_MAX: usize = 1024 * 1024;

/// Most certificates of an authority.
const ANCHORS_MAX: usize = 64;

/// Somebody whose certificates are believed, as far as they name whom they should.
#[derive(Clone, Debug)]
pub struct Authority {
    anchors: Anchors,
    pattern: Option<NamePattern>,
}

/// Why a file gives no authority.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// Longer than [`AUTHORITY_FILE_MAX`].
    #[error("it has {length} bytes, more than {AUTHORITY_FILE_MAX}")]
    TooLong {
        /// Bytes.
        length: usize,
    },
    /// No `BEGIN CERTIFICATE`, or nothing that is framed like one.
    #[error("it has no certificate: expected PEM with 'BEGIN CERTIFICATE'")]
    NoCertificate,
    /// The framing or the base64 is broken.
    #[error("certificate {number} is damaged: the PEM text cannot be decoded")]
    Pem {
        /// Counted from 1.
        number: usize,
    },
    /// More than are read.
    #[error("it has more than {ANCHORS_MAX} certificates")]
    TooMany,
    /// The certificate cannot be read.
    #[error("certificate {number} cannot be used: {reason}")]
    Certificate {
        /// Counted from 1.
        number: usize,
        /// A sentence.
        reason: String,
    },
    /// A signer's certificate, or one for something else.
    #[error(
        "certificate {number}, '{subject}', is no authority for signers: {reason}; give the certificate of whoever issues theirs"
    )]
    NoAuthority {
        /// Counted from 1.
        number: usize,
        /// Whom it names.
        subject: String,
        /// A sentence.
        reason: &'static str,
    },
}

impl Authority {
    /// Reads certificates in PEM. Each is trusted as it stands, one between a root and its signers no
    /// less than the root. Without a pattern everybody is believed whom the authority certified.
    ///
    /// # Errors
    /// Each variant of [`AuthorityError`]: one bad certificate among good ones is an error.
    pub fn new(pem: &[u8], pattern: Option<NamePattern>) -> Result<Self, AuthorityError> {
        if pem.len() > AUTHORITY_FILE_MAX {
            return Err(AuthorityError::TooLong { length: pem.len() });
        }
        let mut anchors = Anchors::default();
        for (certificate, number) in CertificateDer::pem_slice_iter(pem).zip(1..) {
            if number > ANCHORS_MAX {
                return Err(AuthorityError::TooMany);
            }
            let der = certificate.map_err(|_framing| AuthorityError::Pem { number })?;
            anchors.add(&der, number)?;
        }
        if anchors.is_empty() {
            return Err(AuthorityError::NoCertificate);
        }
        Ok(Self { anchors, pattern })
    }

    /// Whether whoever one of the two vouches for is vouched for by the other.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.anchors.are(&other.anchors) && self.pattern == other.pattern
    }

    /// Who signed, and with which key, if these certificates are to be believed now.
    pub(crate) fn vouch(
        &self,
        chain: &Chain<'_>,
        now: Timestamp,
    ) -> Result<(CertificateIdentity, VerifyingKey), CertificateRefusal> {
        let leaf = &chain.leaf;
        // Who issued it.
        let reached = self.anchors.path(chain, now)?;
        // What it is for.
        let misuse = |reason: String| CertificateRefusal::Usage { holder: leaf.holder(), reason };
        if let Some(reason) = leaf.misuse_as_signer() {
            return Err(misuse(reason.to_owned()));
        }
        let key = leaf.key().map_err(|error| misuse(error.to_string()))?;
        // Whom it names.
        let name = self.counting_name(chain)?;
        // Whether it is valid now, and the authority's, too.
        if now < leaf.from {
            let (holder, from) = (leaf.holder(), leaf.from);
            return Err(CertificateRefusal::NotYetValid { holder, from, now });
        }
        if now > leaf.until {
            let (holder, until) = (leaf.holder(), leaf.until);
            return Err(CertificateRefusal::Expired { holder, until });
        }
        let valid_until = reached.check_time(now)?.min(leaf.until);
        Ok((leaf.identity(name, valid_until), key))
    }

    fn counting_name<'c>(
        &self,
        chain: &'c Chain<'_>,
    ) -> Result<Option<&'c SubjectName>, CertificateRefusal> {
        let leaf = &chain.leaf;
        let Some(pattern) = &self.pattern else { return Ok(leaf.names.first()) };
        match leaf.names.iter().find(|name| pattern.matches(name)) {
            Some(name) => Ok(Some(name)),
            None => Err(CertificateRefusal::Identity {
                found: leaf.names.iter().map(|name| clip(&name.text)).collect(),
                pattern: pattern.to_string(),
            }),
        }
    }
}
