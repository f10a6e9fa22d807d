//! Authorities and signers with certificates, made by `openssl`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::lab::Finish;

/// Who may sign what: extensions of a certificate.
const AUTHORITY: &str = "basicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign";
const SIGNER: &str = "basicConstraints = CA:FALSE\nkeyUsage = critical, digitalSignature";

/// When certificates are valid unless a test says otherwise.
const LONG: [&str; 2] = ["20200101000000Z", "20990101000000Z"];

/// What `openssl ca` needs to be told of a directory.
const CONFIGURATION: &str = "
[ca]
default_ca = here
[here]
database = index.txt
new_certs_dir = .
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
[any]
commonName = supplied
";

/// Keys and certificates of an authority, and of those whom it knows.
pub(crate) struct Authority(TempDir);

impl Authority {
    /// A root, `root`, and an authority below it, `between`.
    pub(crate) fn new() -> Self {
        let authority = Self(TempDir::with_prefix("attestfs-authority-").unwrap());
        fs::write(authority.path("index.txt"), "").unwrap();
        fs::write(authority.path("openssl.cnf"), CONFIGURATION).unwrap();
        authority.request("root");
        authority.certify("root", "root", AUTHORITY, LONG);
        authority.request("between");
        authority.certify("root", "between", AUTHORITY, LONG);
        authority
    }

    /// A signer who is called this by a URI, certified by the authority between.
    pub(crate) fn signer(&self, name: &str, uri: &str) {
        self.signer_but(name, &format!("{SIGNER}\nsubjectAltName = URI:{uri}"), LONG);
    }

    /// The same with other extensions, or at another time.
    pub(crate) fn signer_but(&self, name: &str, extensions: &str, valid: [&str; 2]) {
        self.request(name);
        self.certify("between", name, extensions, valid);
    }

    pub(crate) fn certificate(&self, name: &str) -> PathBuf {
        self.path(format!("{name}.pem"))
    }

    /// PKCS#8, for its owner alone.
    pub(crate) fn key(&self, name: &str) -> PathBuf {
        self.path(format!("{name}.key"))
    }

    /// Puts a certificate and those of authorities into a bundle in the place of what says who signed
    /// it.
    pub(crate) fn vouched(&self, bundle: &str, chain: &[&str]) -> String {
        let mut bundle: Value = serde_json::from_str(bundle).unwrap();
        let certificates: Vec<_> =
            chain.iter().map(|name| json!({"rawBytes": self.der(name)})).collect();
        bundle["verificationMaterial"] =
            json!({"x509CertificateChain": {"certificates": certificates}, "tlogEntries": []});
        bundle.to_string()
    }

    fn request(&self, name: &str) {
        let mut openssl = self.openssl(["req", "-new", "-nodes", "-newkey", "ec"]);
        openssl.args(["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", &format!("/CN={name}")]);
        openssl.arg("-keyout").arg(self.key(name)).arg("-out").arg(self.path("request.pem"));
        openssl.succeed();
    }

    fn certify(&self, issuer: &str, name: &str, extensions: &str, [from, until]: [&str; 2]) {
        fs::write(self.path("extensions"), extensions).unwrap();
        let mut openssl = self.openssl(["ca", "-batch", "-notext", "-config", "openssl.cnf"]);
        openssl.args(["-startdate", from, "-enddate", until, "-extfile", "extensions"]);
        if issuer == name {
            openssl.arg("-selfsign");
        } else {
            openssl.arg("-cert").arg(self.certificate(issuer));
        }
        openssl.arg("-keyfile").arg(self.key(issuer));
        openssl.args(["-in", "request.pem", "-out"]).arg(self.certificate(name)).succeed();
    }

    fn der(&self, name: &str) -> String {
        let der = self.path("certificate.der");
        let mut openssl = self.openssl(["x509", "-outform", "DER", "-in"]);
        openssl.arg(self.certificate(name)).arg("-out").arg(&der).succeed();
        BASE64_STANDARD.encode(fs::read(der).unwrap())
    }

    fn openssl<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let mut openssl = Command::new("openssl");
        openssl.current_dir(self.0.path()).args(arguments);
        openssl
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }
}
