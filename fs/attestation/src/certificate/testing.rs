//! Authorities and signers with certificates, of every kind that a test wants.

use pem_rfc7468::LineEnding;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SanType, SignatureAlgorithm,
    SigningKey as _, date_time_ymd,
};
use serde_json::{Value, json};
use sigstore_types::DerCertificate;

use crate::{
    bundle::{Bundle, pae},
    key::KeyHint,
    statement::{Payload, sha256},
};

/// The name that certificates of signers have unless a test says otherwise.
pub(crate) const NAME: &str = "spiffe://hub.example/model/llm";

/// Somebody with a certificate and its key.
#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) certificate: Vec<u8>,
    params: CertificateParams,
    key: KeyPair,
}

impl Holder {
    /// A self-signed authority, valid from the year 2000 until 2100.
    pub(crate) fn root(name: &str) -> Self {
        Self::root_but(name, |_params| {})
    }

    pub(crate) fn root_but(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let params = changed(authority(name), change);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = params.self_signed(&key).unwrap().der().to_vec();
        Self { certificate, params, key }
    }

    /// The same authority with another certificate.
    pub(crate) fn renewed(&self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let params = changed(self.params.clone(), change);
        let key = KeyPair::try_from(self.key.serialized_der()).unwrap();
        let certificate = params.self_signed(&key).unwrap().der().to_vec();
        Self { certificate, params, key }
    }

    /// An authority below this one.
    pub(crate) fn authority(&self, name: &str) -> Self {
        self.authority_but(name, |_params| {})
    }

    pub(crate) fn authority_but(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        self.issue(changed(authority(name), change), &PKCS_ECDSA_P256_SHA256)
    }

    /// A signer, valid from 2020 until 2030, by the name [`NAME`].
    pub(crate) fn signer(&self) -> Self {
        self.signer_but(|_params| {})
    }

    pub(crate) fn signer_but(&self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        self.issue(changed(signer(), change), &PKCS_ECDSA_P256_SHA256)
    }

    pub(crate) fn signer_with(&self, algorithm: &'static SignatureAlgorithm) -> Self {
        self.issue(signer(), algorithm)
    }

    pub(crate) fn pem(&self) -> Vec<u8> {
        pem("CERTIFICATE", &self.certificate)
    }

    pub(crate) fn public_pem(&self) -> Vec<u8> {
        pem("PUBLIC KEY", &self.key.subject_public_key_info())
    }

    pub(crate) fn private_pem(&self) -> Vec<u8> {
        pem("PRIVATE KEY", self.key.serialized_der())
    }

    /// A bundle with this certificate, followed by those of others.
    pub(crate) fn sign(&self, payload: Payload, others: &[&Self]) -> Bundle {
        let signature = self.key.sign(&pae(&payload)).unwrap();
        let bundle = Bundle::attestation(payload, signature, KeyHint(sha256(b"nobody")));
        let chain = [&[self], others].concat();
        let chain: Vec<_> = chain.iter().map(|holder| wire(&holder.certificate)).collect();
        with_material(&bundle, &json!({"x509CertificateChain": {"certificates": chain}}))
    }

    fn issue(&self, params: CertificateParams, algorithm: &'static SignatureAlgorithm) -> Self {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).unwrap().der().to_vec();
        Self { certificate, params, key }
    }
}

/// The same bundle with other verification material.
pub(crate) fn with_material(bundle: &Bundle, material: &Value) -> Bundle {
    let mut json: Value = serde_json::from_slice(&bundle.to_json()).unwrap();
    json["verificationMaterial"] = material.clone();
    Bundle::parse(json.to_string().as_bytes()).unwrap()
}

/// A certificate as it stands in a bundle.
pub(crate) fn wire(der: &[u8]) -> Value {
    json!({"rawBytes": DerCertificate::from_bytes(der)})
}

pub(crate) fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    pem_rfc7468::encode_string(label, LineEnding::LF, der).unwrap().into_bytes()
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(2100, 1, 1);
    params
}

fn signer() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Signer");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    params.subject_alt_names = vec![uri(NAME)];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2030, 1, 1);
    params
}

fn changed(
    mut params: CertificateParams,
    change: impl FnOnce(&mut CertificateParams),
) -> CertificateParams {
    change(&mut params);
    params
}
