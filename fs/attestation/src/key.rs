//! Keys as files: PKCS#8 PEM for the private one, `SubjectPublicKeyInfo` PEM for the public one.

use std::fmt;

use attestfs_digest::Sha256;
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1,
        ECDSA_P521_SHA512_ASN1, EcdsaKeyPair, EcdsaVerificationAlgorithm, KeyPair as _,
        UnparsedPublicKey,
    },
};
use pem_rfc7468::LineEnding;
use serde::{Deserialize, Serialize};
use sigstore_types::Sha256Hash;
use zeroize::Zeroizing;

use crate::statement::sha256;

/// The largest key of ours is below 500 bytes of PEM; nothing that is longer is one.
pub const KEY_FILE_MAX: usize = 16 * 1024;

const PRIVATE_LABEL: &str = "PRIVATE KEY";
const PUBLIC_LABEL: &str = "PUBLIC KEY";

/// Names a public key: the SHA-256 of its PEM text as OpenSSL prints it, so that `sha256sum` of the
/// key file answers the question "which key is that?".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyHint(pub Sha256);

impl fmt::Display for KeyHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a file is no key that we can use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Its passphrase would have to be typed.
    #[error(
        "the private key is encrypted: decrypt it with 'openssl pkcs8 -in KEY -out PLAIN' and keep PLAIN with mode 0600"
    )]
    Encrypted,
    /// The older form of an EC private key.
    #[error(
        "'{label}' is the SEC1 form of a private key: convert it with 'openssl pkcs8 -topk8 -nocrypt -in KEY -out CONVERTED'"
    )]
    Sec1 {
        /// What follows `BEGIN`.
        label: String,
    },
    /// `RSA PRIVATE KEY` and the like.
    #[error(
        "this is an RSA key: attestfs signs with ECDSA P-256; make a key with 'attestfs keygen'"
    )]
    Rsa,
    /// Another curve or algorithm.
    #[error("this is a key for {algorithm}: {expected}")]
    Algorithm {
        /// What it is for, as far as we can tell.
        algorithm: &'static str,
        /// What is wanted instead.
        expected: &'static str,
    },
    /// The wrong half of the pair.
    #[error("this is a public key: signing needs the private one")]
    PublicForPrivate,
    /// The wrong half of the pair, and a secret where none belongs.
    #[error(
        "this is a private key: verification needs the public one; make it with 'openssl pkey -in KEY -pubout -out PUBLIC' and do not hand out the private one"
    )]
    PrivateForPublic,
    /// A certificate holds a key but says more than that.
    #[error(
        "this is a certificate: name its authority as such, or take the key out of it with 'openssl x509 -in CERTIFICATE -noout -pubkey'"
    )]
    Certificate,
    /// Another PEM document.
    #[error("'{label}' is no key that attestfs knows: expected 'BEGIN {expected}'")]
    Label {
        /// What follows `BEGIN`.
        label: String,
        /// What should.
        expected: &'static str,
    },
    /// No `-----BEGIN` line.
    #[error("this is no PEM file: no line begins with '-----BEGIN'")]
    NotPem,
    /// Longer than [`KEY_FILE_MAX`].
    #[error("this is no key: it has {length} bytes, more than {KEY_FILE_MAX}")]
    TooLong {
        /// Bytes.
        length: usize,
    },
    /// The PEM framing or its base64 is broken.
    #[error("the PEM text is damaged: {0}")]
    Pem(#[source] pem_rfc7468::Error),
    /// The framing is right and the key in it is not.
    #[error("the key is damaged: {0}")]
    Damaged(&'static str),
    /// `-conv_form compressed`.
    #[error(
        "the public key is in compressed form: rewrite it with 'openssl ec -pubin -in KEY -pubout -conv_form uncompressed'"
    )]
    Compressed,
    /// The operating system or the library refused.
    #[error("the cryptographic library could not make a key")]
    Generation,
}

/// The cryptographic library refused to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cryptographic library could not sign")]
pub struct SigningError;

/// An ECDSA P-256 key that signs. Never printed; wiped from memory when dropped.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
}

impl SigningKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// [`KeyError::Generation`]: no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .map_err(|_unspecified| KeyError::Generation)
            .and_then(|document| Self::from_pkcs8(Zeroizing::new(document.as_ref().to_vec())))
    }

    /// Reads a PKCS#8 PEM file: `BEGIN PRIVATE KEY`.
    ///
    /// # Errors
    /// Anything else, by name.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        bounded(pem)?;
        match first_label(pem)? {
            PRIVATE_LABEL => Self::from_pkcs8(decoded(pem)?),
            "ENCRYPTED PRIVATE KEY" => Err(KeyError::Encrypted),
            label @ ("EC PRIVATE KEY" | "EC PARAMETERS") => {
                Err(KeyError::Sec1 { label: label.to_owned() })
            }
            "RSA PRIVATE KEY" => Err(KeyError::Rsa),
            PUBLIC_LABEL => Err(KeyError::PublicForPrivate),
            label => Err(other_label(label, PRIVATE_LABEL)),
        }
    }

    /// Writes a PKCS#8 PEM file.
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(encoded(PRIVATE_LABEL, &self.pkcs8))
    }

    /// Signs SHA-256 of the message.
    ///
    /// # Returns
    /// ASN.1 DER, `SEQUENCE { r, s }`.
    ///
    /// # Errors
    /// The library refused.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        self.pair
            .sign(&SystemRandom::new(), message)
            .map(|signature| signature.as_ref().to_vec())
            .map_err(|_unspecified| SigningError)
    }

    /// The other half.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey { curve: Curve::P256, point: self.pair.public_key().as_ref().to_vec() }
    }

    fn from_pkcs8(pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, KeyError> {
        match EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8) {
            Ok(pair) => Ok(Self { pair, pkcs8 }),
            Err(_rejected) => Err(unusable(
                &pkcs8,
                "attestfs signs with ECDSA P-256; make a key with 'attestfs keygen'",
            )),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("hint", &self.verifying_key().hint())
            .finish_non_exhaustive()
    }
}

/// A public key that OMS knows: ECDSA on P-256, P-384 or P-521, each with its own SHA-2.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct VerifyingKey {
    curve: Curve,
    point: Vec<u8>,
}

impl VerifyingKey {
    /// Reads a `SubjectPublicKeyInfo` PEM file: `BEGIN PUBLIC KEY`.
    ///
    /// # Errors
    /// Anything else, by name.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        bounded(pem)?;
        match first_label(pem)? {
            PUBLIC_LABEL => Self::from_der(&decoded(pem)?),
            "RSA PUBLIC KEY" => Err(KeyError::Rsa),
            PRIVATE_LABEL
            | "ENCRYPTED PRIVATE KEY"
            | "EC PRIVATE KEY"
            | "EC PARAMETERS"
            | "RSA PRIVATE KEY" => Err(KeyError::PrivateForPublic),
            label => Err(other_label(label, PUBLIC_LABEL)),
        }
    }

    /// Writes exactly what `openssl pkey -pubout` writes, whatever the line ends were on the way in.
    pub fn to_pem(&self) -> String {
        encoded(PUBLIC_LABEL, &self.to_der())
    }

    /// Names this key.
    pub fn hint(&self) -> KeyHint {
        KeyHint(sha256(self.to_pem().as_bytes()))
    }

    /// Whether a bundle's hint names this key: our form, or the base64 of the SHA-256 of the DER,
    /// which other Sigstore tools write.
    pub fn is_named(&self, hint: &str) -> bool {
        let of_der = Sha256Hash::from(sha256(&self.to_der()).0).to_base64();
        hint == self.hint().to_string() || hint == of_der
    }

    /// Whether `signature` (ASN.1 DER) is this key's over `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(self.curve.algorithm(), &self.point)
            .verify(message, signature)
            .is_ok()
    }

    /// Reads a `SubjectPublicKeyInfo`.
    pub(crate) fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let found = Curve::ALL
            .into_iter()
            .find_map(|curve| Some((curve, der.strip_prefix(curve.header())?)));
        let Some((curve, point)) = found else {
            return Err(unusable(der, "attestfs verifies with ECDSA on P-256, P-384 or P-521"));
        };
        UnparsedPublicKey::new(curve.algorithm(), point)
            .parse()
            .map_err(|_rejected| KeyError::Damaged("its point does not lie on its curve"))?;
        Ok(Self { curve, point: point.to_vec() })
    }

    fn to_der(&self) -> Vec<u8> {
        [self.curve.header(), &self.point].concat()
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({:?}, {})", self.curve, self.hint())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    fn algorithm(self) -> &'static EcdsaVerificationAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_ASN1,
            Self::P384 => &ECDSA_P384_SHA384_ASN1,
            Self::P521 => &ECDSA_P521_SHA512_ASN1,
        }
    }

    /// The DER of a `SubjectPublicKeyInfo` up to the point. Everything in it is fixed once the curve
    /// is named by its OID and the point is uncompressed, which is the one form that has a hint.
    fn header(self) -> &'static [u8] {
        match self {
            Self::P256 => &[
                0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
                0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
            ],
            Self::P384 => &[
                0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
                0x05, 0x2b, 0x81, 0x04, 0x00, 0x22, 0x03, 0x62, 0x00,
            ],
            Self::P521 => &[
                0x30, 0x81, 0x9b, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
                0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23, 0x03, 0x81, 0x86, 0x00,
            ],
        }
    }
}

fn bounded(pem: &[u8]) -> Result<(), KeyError> {
    if pem.len() > KEY_FILE_MAX {
        return Err(KeyError::TooLong { length: pem.len() });
    }
    Ok(())
}

/// The label decides what the file is, before anything of a secret is decoded.
fn first_label(pem: &[u8]) -> Result<&str, KeyError> {
    pem.split(|&byte| byte == b'\n')
        .find_map(|line| line.trim_ascii().strip_prefix(b"-----BEGIN "))
        .and_then(|rest| rest.strip_suffix(b"-----"))
        .and_then(|label| std::str::from_utf8(label).ok())
        .ok_or(KeyError::NotPem)
}

fn other_label(label: &str, expected: &'static str) -> KeyError {
    if label.ends_with("CERTIFICATE") {
        return KeyError::Certificate;
    }
    KeyError::Label { label: label.chars().take(64).collect(), expected }
}

/// Decodes into a buffer that never moves, so that no copy of a secret stays behind.
fn decoded(pem: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let mut buffer = Zeroizing::new(vec![0; KEY_FILE_MAX]);
    let (_label, der) = pem_rfc7468::decode(pem, &mut buffer).map_err(KeyError::Pem)?;
    Ok(Zeroizing::new(der.to_vec()))
}

fn encoded(label: &str, der: &[u8]) -> String {
    pem_rfc7468::encode_string(label, LineEnding::LF, der)
        .expect("a key is far shorter than what PEM can frame")
}

/// Says why the library refused a key, from the object identifiers at its beginning.
fn unusable(der: &[u8], expected: &'static str) -> KeyError {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const KNOWN: [(&[u8], &str); 5] = [
        (&[0x06, 0x03, 0x2b, 0x65, 0x70], "Ed25519"),
        (&[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22], "ECDSA P-384"),
        (&[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23], "ECDSA P-521"),
        (&[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a], "ECDSA secp256k1"),
        (
            &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x01, 0x01],
            "a curve given by explicit parameters",
        ),
    ];
    const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x22, 0x00];
    let head = &der[..der.len().min(64)];
    let has = |needle: &[u8]| head.windows(needle.len()).any(|window| window == needle);
    if has(RSA) {
        return KeyError::Rsa;
    }
    if has(P256) {
        return KeyError::Compressed;
    }
    KNOWN
        .into_iter()
        .find(|(identifier, _)| has(identifier))
        .map_or(KeyError::Damaged("it is no ECDSA key of a known form"), |(_, algorithm)| {
            KeyError::Algorithm { algorithm, expected }
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = include_str!("../vectors/key.pub");
    const P384: &str = "-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAElTZUUOeFzfdB/1/peJWmjqnATjzPvNYI
LuGMov9hKR02e+spnF4ieNwmrvLbPU2vhQzEgr7m6gvbw4bvXGt2POQO3wQNHl5I
N4TZR2zeHJMi85rvVTdoXEla4Bb+vS1j
-----END PUBLIC KEY-----
";
    const P521: &str = "-----BEGIN PUBLIC KEY-----
MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQAglwMc2sA6EK7Y1g5UhHLhh/tINoF
I1neg+h+SJWlAnkmxkZZAps9N6FMXcCe/uNapLYKVUD0MzjxI+iaZvvJ9vQBCbMI
iCOxJRtA9tCo7KwP0L/wJcFbJFg6EcK+OJc8D1V/f4LS+7opQXkXz0SkFwv3Pe3a
xb5x1a5P/EJab52egE0=
-----END PUBLIC KEY-----
";
    const COMPRESSED: &str = "-----BEGIN PUBLIC KEY-----
MDkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDIgADcM+jGZ90zjEtVpcxBwyH9TXi2Rz9
VAoMw4bqaHy8ppM=
-----END PUBLIC KEY-----
";
    const SECP256K1: &str = "-----BEGIN PUBLIC KEY-----
MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAEaMwdOfYPljMXuXiKwij53fxp4YmfDbmp
8UgPXOY/L+NDpphp29BskM09hVClnKDqOUziFphzNhXY0VlmFy7FEg==
-----END PUBLIC KEY-----
";
    const ED25519: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA8cppuKjrEeH/mI1lZNTzJOIrFlaRIPmgZEXbKubn1Eg=
-----END PUBLIC KEY-----
";

    fn pem(label: &str) -> Vec<u8> {
        format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n").into_bytes()
    }

    fn private_error(pem: &[u8]) -> String {
        SigningKey::from_pem(pem).unwrap_err().to_string()
    }

    fn public_error(pem: &[u8]) -> String {
        VerifyingKey::from_pem(pem).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_private_key_is_refused_by_name() {
        assert_eq!(SigningKey::from_pem(b"").unwrap_err(), KeyError::NotPem);
        assert_eq!(SigningKey::from_pem(b"\x00\xff").unwrap_err(), KeyError::NotPem);
        assert!(matches!(
            SigningKey::from_pem(&vec![b'x'; KEY_FILE_MAX + 1]).unwrap_err(),
            KeyError::TooLong { .. }
        ));
        assert!(private_error(&pem("ENCRYPTED PRIVATE KEY")).contains("encrypted"));
        for label in ["EC PRIVATE KEY", "EC PARAMETERS"] {
            assert!(private_error(&pem(label)).contains("openssl pkcs8 -topk8 -nocrypt"));
        }
        assert!(private_error(&pem("RSA PRIVATE KEY")).contains("RSA"));
        assert!(private_error(&pem("PUBLIC KEY")).contains("public key"));
        assert!(private_error(&pem("CERTIFICATE")).contains("certificate"));
        assert!(private_error(&pem("OPENSSH PRIVATE KEY")).contains("OPENSSH PRIVATE KEY"));
        assert!(private_error(&pem("PRIVATE KEY")).contains("damaged"));
    }

    #[test]
    fn a_private_key_of_another_algorithm_is_refused_by_its_name() {
        const RSA: &[u8] = &[
            0x30, 0x82, 0x04, 0xbd, 0x02, 0x01, 0x00, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48,
            0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
        ];
        const P384: &[u8] = &[
            0x30, 0x81, 0xb6, 0x02, 0x01, 0x00, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce,
            0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22,
        ];
        assert!(private_error(encoded(PRIVATE_LABEL, RSA).as_bytes()).contains("RSA"));
        assert!(private_error(encoded(PRIVATE_LABEL, P384).as_bytes()).contains("P-384"));
    }

    #[test]
    fn what_is_no_public_key_is_refused_by_name() {
        assert!(public_error(&pem("PRIVATE KEY")).contains("private key"));
        assert!(public_error(&pem("EC PRIVATE KEY")).contains("private key"));
        assert!(public_error(&pem("CERTIFICATE")).contains("certificate"));
        assert!(public_error(&pem("RSA PUBLIC KEY")).contains("RSA"));
        assert!(public_error(&pem("PUBLIC KEY")).contains("damaged"));
        assert!(public_error(ED25519.as_bytes()).contains("Ed25519"));
        assert!(public_error(SECP256K1.as_bytes()).contains("secp256k1"));
        assert!(public_error(COMPRESSED.as_bytes()).contains("-conv_form uncompressed"));
    }

    #[test]
    fn a_point_off_the_curve_is_refused() {
        let mut der = VerifyingKey::from_pem(KEY.as_bytes()).unwrap().to_der();
        *der.last_mut().unwrap() ^= 1;
        assert!(public_error(encoded(PUBLIC_LABEL, &der).as_bytes()).contains("curve"));
        der.pop();
        assert!(public_error(encoded(PUBLIC_LABEL, &der).as_bytes()).contains("curve"));
    }

    #[test]
    fn a_public_key_is_named_by_the_digest_of_what_openssl_prints() {
        let key = VerifyingKey::from_pem(KEY.as_bytes()).unwrap();
        assert_eq!(key.to_pem(), KEY);
        assert_eq!(
            key.hint().to_string(),
            "e442f639fe88f3dc02059ff044da0cf5d0f8f4819656cf8c71550fb0dee6b465"
        );
        assert!(key.is_named(&key.hint().to_string()));
        assert!(!key.is_named(""));
        let with_other_line_ends = KEY.replace('\n', "\r\n");
        assert_eq!(VerifyingKey::from_pem(with_other_line_ends.as_bytes()).unwrap(), key);
    }

    #[test]
    fn all_three_curves_are_read_and_written() {
        for text in [KEY, P384, P521] {
            assert_eq!(VerifyingKey::from_pem(text.as_bytes()).unwrap().to_pem(), text);
        }
    }

    #[test]
    fn a_key_survives_its_file_and_signs_what_its_other_half_verifies() {
        let key = SigningKey::generate().unwrap();
        let read = SigningKey::from_pem(key.to_pem().as_bytes()).unwrap();
        assert_eq!(read.verifying_key(), key.verifying_key());
        let signature = read.sign(b"message").unwrap();
        let public = VerifyingKey::from_pem(key.verifying_key().to_pem().as_bytes()).unwrap();
        assert!(public.verifies(b"message", &signature));
        assert!(!public.verifies(b"massage", &signature));
        assert!(!public.verifies(b"message", &signature[1..]));
        assert!(!public.verifies(b"message", b""));
        assert!(!SigningKey::generate().unwrap().verifying_key().verifies(b"message", &signature));
    }

    #[test]
    fn a_private_key_is_never_printed() {
        let key = SigningKey::generate().unwrap();
        let printed = format!("{key:?}");
        let secret = key.to_pem();
        let lines = secret.lines().filter(|line| !line.starts_with('-'));
        assert!(lines.clone().count() > 1);
        for line in lines {
            assert!(!printed.contains(line));
        }
        assert!(printed.contains(&key.verifying_key().hint().to_string()));
    }

    proptest! {
        #[test]
        fn arbitrary_files_never_panic(bytes: Vec<u8>) {
            drop(SigningKey::from_pem(&bytes));
            drop(VerifyingKey::from_pem(&bytes));
        }

        #[test]
        fn arbitrary_keys_never_panic(der: Vec<u8>) {
            drop(SigningKey::from_pem(encoded(PRIVATE_LABEL, &der).as_bytes()));
            drop(VerifyingKey::from_pem(encoded(PUBLIC_LABEL, &der).as_bytes()));
        }

        #[test]
        fn a_mutated_public_key_is_refused_or_written_as_it_was_read(at in 0..KEY.len(), byte: u8) {
            let mut bytes = KEY.as_bytes().to_vec();
            bytes[at] = byte;
            if let Ok(key) = VerifyingKey::from_pem(&bytes) {
                let again = VerifyingKey::from_pem(key.to_pem().as_bytes()).unwrap();
                prop_assert_eq!(key, again);
            }
        }
    }
}
