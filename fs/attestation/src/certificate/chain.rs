use attestfs_digest::Sha256;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use x509_cert::{
    Certificate as Parsed,
    der::{Decode as _, Encode as _, asn1::ObjectIdentifier, oid::db::rfc5280::ID_KP_CODE_SIGNING},
    ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName, name::GeneralName},
    time::Time,
};

use super::{
    pattern::{NameKind, SubjectName},
    refusal::CertificateRefusal,
};
use crate::{
    key::{KeyError, VerifyingKey},
    statement::sha256,
};

/// Most certificates that are read of a bundle: the signer's, and more than the authorities that
/// `rustls-webpki` follows between it and one that is trusted.
const CERTIFICATES_MAX: usize = 8;

/// Largest certificate that is read, in bytes: what two bytes of length give.
const CERTIFICATE_MAX: usize = 65_535;

/// Longest name that is shown, in characters.
const SHOWN_MAX: usize = 200;

/// Whom a certificate names, after an authority vouched for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateIdentity {
    /// The name that counted: of those in the certificate the one that was asked for, or else the
    /// first, or else the subject.
    pub name: String,
    /// Of the certificate, as RFC 4514 writes it.
    pub subject: String,
    /// Of the certificate, as RFC 4514 writes it.
    pub issuer: String,
    /// Of the certificate.
    pub sha256: Sha256,
    /// Until when it and all above it are valid, and the signature counts.
    pub valid_until: Timestamp,
}

/// The certificates that came with a signature, the signer's first. Read, and nothing else.
#[derive(Debug)]
pub(crate) struct Chain<'a> {
    pub(super) leaf: Certificate,
    pub(super) leaf_der: CertificateDer<'a>,
    pub(super) others: Vec<CertificateDer<'a>>,
}

impl<'a> Chain<'a> {
    pub(crate) fn read(certificates: &[&'a [u8]]) -> Result<Self, CertificateRefusal> {
        let [leaf, others @ ..] = certificates else {
            return Err(unreadable("there is none"));
        };
        if certificates.len() > CERTIFICATES_MAX {
            let count = certificates.len();
            return Err(unreadable(format!("{count} are more than {CERTIFICATES_MAX}")));
        }
        Ok(Self {
            leaf: Certificate::read(leaf)
                .map_err(|it| unreadable(format!("the signer's: {it}")))?,
            leaf_der: CertificateDer::from(*leaf),
            others: others.iter().map(|der| CertificateDer::from(*der)).collect(),
        })
    }

    /// The issuer at which the chain ends, by names alone.
    pub(super) fn last_issuer(&self) -> String {
        let read = |der: &CertificateDer<'_>| Certificate::read(der).ok();
        let mut others: Vec<_> = self.others.iter().filter_map(read).collect();
        let mut issuer = self.leaf.issuer.clone();
        while let Some(next) = others.iter().position(|other| other.subject == issuer) {
            issuer = others.swap_remove(next).issuer;
        }
        issuer
    }
}

/// What a certificate says, as far as `rustls-webpki` does not tell.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) sha256: Sha256,
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) names: Vec<SubjectName>,
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
    pub(super) is_authority: bool,
    usage: Option<KeyUsage>,
    purposes: Option<Vec<ObjectIdentifier>>,
    key: Vec<u8>,
}

impl Certificate {
    pub(super) fn read(der: &[u8]) -> Result<Self, String> {
        if der.len() > CERTIFICATE_MAX {
            return Err(format!("it has {} bytes, more than {CERTIFICATE_MAX}", der.len()));
        }
        let malformed = |error: x509_cert::der::Error| format!("it is damaged: {error}");
        let parsed = Parsed::from_der(der).map_err(malformed)?.tbs_certificate;
        let constraints = parsed.get::<BasicConstraints>().map_err(malformed)?;
        let names = parsed.get::<SubjectAltName>().map_err(malformed)?;
        let usage = parsed.get::<KeyUsage>().map_err(malformed)?;
        let purposes = parsed.get::<ExtendedKeyUsage>().map_err(malformed)?;
        Ok(Self {
            sha256: sha256(der),
            subject: parsed.subject.to_string(),
            issuer: parsed.issuer.to_string(),
            names: names.iter().flat_map(|(_, names)| &names.0).filter_map(subject_name).collect(),
            from: timestamp(parsed.validity.not_before)?,
            until: timestamp(parsed.validity.not_after)?,
            is_authority: constraints.is_some_and(|(_, constraints)| constraints.ca),
            usage: usage.map(|(_, usage)| usage),
            purposes: purposes.map(|(_, purposes)| purposes.0),
            key: parsed.subject_public_key_info.to_der().map_err(malformed)?,
        })
    }

    /// Whom it names, for a sentence.
    pub(super) fn holder(&self) -> String {
        let name = self.names.first().map_or(&self.subject, |name| &name.text);
        if name.is_empty() { "nobody".to_owned() } else { format!("'{}'", clip(name)) }
    }

    pub(super) fn identity(
        &self,
        name: Option<&SubjectName>,
        valid_until: Timestamp,
    ) -> CertificateIdentity {
        let name = name.map_or(&self.subject, |name| &name.text);
        CertificateIdentity {
            name: clip(name),
            subject: clip(&self.subject),
            issuer: clip(&self.issuer),
            sha256: self.sha256,
            valid_until,
        }
    }

    pub(super) fn key(&self) -> Result<VerifyingKey, KeyError> {
        VerifyingKey::from_der(&self.key)
    }

    /// Why it may not sign content.
    pub(super) fn misuse_as_signer(&self) -> Option<&'static str> {
        if self.is_authority {
            return Some("it is the certificate of an authority");
        }
        match (self.usage.as_ref().map(KeyUsage::digital_signature), self.is_for_code()) {
            (Some(false), _) => Some("its key usage lacks digitalSignature"),
            (_, Some(false)) => Some("its extended key usage lacks codeSigning"),
            (None, None) => {
                Some("it has neither the key usage digitalSignature nor the extended codeSigning")
            }
            _ => None,
        }
    }

    /// Why it may not sign certificates of those who sign content.
    pub(super) fn misuse_as_authority(&self) -> Option<&'static str> {
        if !self.is_authority {
            return Some("its basic constraints do not make it an authority");
        }
        match (self.usage.as_ref().map(KeyUsage::key_cert_sign), self.is_for_code()) {
            (Some(false), _) => Some("its key usage lacks keyCertSign"),
            (_, Some(false)) => Some("its extended key usage lacks codeSigning"),
            _ => None,
        }
    }

    fn is_for_code(&self) -> Option<bool> {
        let purposes = self.purposes.as_ref()?;
        Some(purposes.contains(&ID_KP_CODE_SIGNING))
    }
}

/// What the certificates of a bundle say of the signer. Not authenticated.
pub(crate) fn claimed_identity(certificates: &[&[u8]]) -> String {
    match Chain::read(certificates) {
        Ok(chain) => format!("a certificate of {}", chain.leaf.holder()),
        Err(_unreadable) => "a certificate that cannot be read".to_owned(),
    }
}

fn subject_name(name: &GeneralName) -> Option<SubjectName> {
    let (kind, text) = match name {
        GeneralName::UniformResourceIdentifier(uri) => (NameKind::Uri, uri),
        GeneralName::Rfc822Name(address) => (NameKind::Mail, address),
        GeneralName::DnsName(domain) => (NameKind::Dns, domain),
        _ => return None,
    };
    Some(SubjectName { kind, text: text.as_str().to_owned() })
}

fn timestamp(time: Time) -> Result<Timestamp, String> {
    let seconds = time.to_unix_duration().as_secs();
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .ok_or_else(|| "it is valid to a time that is none".to_owned())
}

fn unreadable(reason: impl Into<String>) -> CertificateRefusal {
    CertificateRefusal::Unreadable { reason: reason.into() }
}

pub(super) fn clip(text: &str) -> String {
    text.chars().take(SHOWN_MAX).collect()
}
