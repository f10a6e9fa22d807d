//! Files of authorities, then certificates: refusals first, in the order of the checks.

use jiff::Timestamp;
use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, GeneralSubtree,
    IsCa, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_ECDSA_P521_SHA512, PKCS_ED25519, SanType, date_time_ymd,
};
use serde_json::json;

use super::{
    Authority, AuthorityError, CertificateIdentity, CertificateRefusal, Chain,
    authority::AUTHORITY_FILE_MAX,
    testing::{Holder, NAME, pem, uri, wire, with_material},
};
use crate::{
    bundle::Bundle,
    key::SigningKey,
    statement::{Payload, sha256},
    verify::{Refusal, Signed, Signer, SignerIdentity, TrustedSigners},
};

const PATTERN: &str = "spiffe://hub.example/model/*";

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// When all is valid.
fn now() -> Timestamp {
    time("2026-11-20T12:00:00Z")
}

fn payload() -> Payload {
    Payload::new(b"{}".to_vec())
}

fn authority(pem: &[u8]) -> Authority {
    Authority::new(pem, Some(PATTERN.parse().unwrap())).unwrap()
}

fn trusting(holder: &Holder) -> TrustedSigners {
    TrustedSigners::default().with_authority("hub", authority(&holder.pem()))
}

fn check(signers: &TrustedSigners, bundle: Bundle, now: Timestamp) -> Result<Signer, Refusal> {
    Signed::check(bundle, signers, now).map(|signed| signed.signer().clone())
}

/// Why a signature is refused, at check 3, with something to do about it.
#[track_caller]
fn refused_at(signers: &TrustedSigners, bundle: Bundle, now: Timestamp) -> CertificateRefusal {
    let refusal = check(signers, bundle, now).unwrap_err();
    assert_eq!(refusal.check().0, 3, "{refusal}");
    assert!(!refusal.next_step().is_empty());
    match refusal {
        Refusal::Certificate(refusal) => refusal,
        other => panic!("{other}"),
    }
}

#[track_caller]
fn refused(signers: &TrustedSigners, bundle: Bundle) -> CertificateRefusal {
    refused_at(signers, bundle, now())
}

/// Why a signer with a changed certificate is refused.
#[track_caller]
fn refused_but(change: impl FnOnce(&mut CertificateParams)) -> CertificateRefusal {
    let root = Holder::root("Hub");
    let signer = root.signer_but(change);
    refused(&trusting(&root), signer.sign(payload(), &[]))
}

#[track_caller]
fn admitted_but(change: impl FnOnce(&mut CertificateParams)) -> Signer {
    let root = Holder::root("Hub");
    let signer = root.signer_but(change);
    check(&trusting(&root), signer.sign(payload(), &[]), now()).unwrap()
}

#[track_caller]
fn says(refusal: &CertificateRefusal, words: &str) {
    assert!(refusal.to_string().contains(words), "{refusal}");
}

// Files of authorities.

#[test]
fn a_file_without_certificate_makes_no_authority() {
    let signer = Holder::root("Hub");
    let text = b"-----BEGIN CERTIFICATE".to_vec();
    for pem in [Vec::new(), b"hello\n".to_vec(), signer.public_pem(), signer.private_pem(), text] {
        let error = Authority::new(&pem, None).unwrap_err();
        assert!(matches!(error, AuthorityError::NoCertificate | AuthorityError::Pem { .. }));
    }
}

#[test]
fn one_bad_certificate_among_good_ones_is_an_error() {
    let root = Holder::root("Hub");
    let error = |second: Vec<u8>| {
        Authority::new(&[root.pem(), second].concat(), None).unwrap_err().to_string()
    };
    let damaged = error(pem("CERTIFICATE", b"no certificate"));
    assert!(damaged.contains("certificate 2 cannot be used"), "{damaged}");
    let base64 = error(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".to_vec());
    assert!(base64.contains("certificate 2 is damaged"), "{base64}");
}

#[test]
fn a_certificate_of_a_signer_or_for_something_else_is_no_authority() {
    let root = Holder::root("Hub");
    let no_authority = |holder: &Holder| match Authority::new(&holder.pem(), None).unwrap_err() {
        AuthorityError::NoAuthority { number: 1, reason, .. } => reason,
        other => panic!("{other}"),
    };
    assert!(no_authority(&root.signer()).contains("basic constraints"));
    let explicit = Holder::root_but("Hub", |params| params.is_ca = IsCa::ExplicitNoCa);
    assert!(no_authority(&explicit).contains("basic constraints"));
    let unable = Holder::root_but("Hub", |params| {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    });
    assert!(no_authority(&unable).contains("keyCertSign"));
    let of_servers = Holder::root_but("Hub", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    assert!(no_authority(&of_servers).contains("codeSigning"));
}

#[test]
fn an_authority_has_a_bound_of_bytes_and_of_certificates() {
    let one = Holder::root("Hub").pem();
    let mut long = one.clone();
    long.resize(AUTHORITY_FILE_MAX, b'\n');
    Authority::new(&long, None).unwrap();
    long.push(b'\n');
    let length = AUTHORITY_FILE_MAX + 1;
    assert_eq!(Authority::new(&long, None).unwrap_err(), AuthorityError::TooLong { length });
    Authority::new(&one.repeat(64), None).unwrap();
    assert_eq!(Authority::new(&one.repeat(65), None).unwrap_err(), AuthorityError::TooMany);
}

// What came with the signature.

#[test]
fn a_certificate_without_a_known_authority_is_refused_as_such() {
    let root = Holder::root("Hub");
    let key = SigningKey::generate().unwrap().verifying_key();
    for signers in [TrustedSigners::default(), TrustedSigners::keys([key])] {
        let refusal = check(&signers, root.signer().sign(payload(), &[]), now()).unwrap_err();
        assert_eq!(refusal, Refusal::CertificateSigner);
    }
}

#[test]
fn a_signature_without_or_with_too_many_or_too_large_certificates_is_refused() {
    let root = Holder::root("Hub");
    let signer = root.signer();
    let signers = trusting(&root);
    let with = |chain: &[&Holder]| refused(&signers, signer.sign(payload(), chain));
    says(&with(&[&root; 8]), "9 are more than 8");
    check(&signers, signer.sign(payload(), &[&root; 7]), now()).unwrap();

    let bundle = signer.sign(payload(), &[]);
    let none = with_material(&bundle, &json!({"x509CertificateChain": {"certificates": []}}));
    says(&refused(&signers, none), "there is none");
    let large = with_material(&bundle, &json!({"certificate": wire(&vec![0x30; 65_536])}));
    says(&refused(&signers, large), "65536 bytes");
    let largest = with_material(&bundle, &json!({"certificate": wire(&vec![0x30; 65_535])}));
    says(&refused(&signers, largest), "damaged");
    let garbage = with_material(&bundle, &json!({"certificate": {"rawBytes": "AAAA"}}));
    says(&refused(&signers, garbage), "damaged");
}

// The path.

#[test]
fn the_signer_of_another_authority_is_refused_by_the_name_of_its_issuer() {
    let (root, other) = (Holder::root("Hub"), Holder::root("Other"));
    for chain in [&[][..], &[&other]] {
        let refusal = refused(&trusting(&root), other.signer().sign(payload(), chain));
        assert!(matches!(refusal, CertificateRefusal::Issuer { .. }), "{refusal}");
        says(&refusal, "'CN=Other'");
        says(&refusal, NAME);
    }
}

#[test]
fn a_missing_intermediate_is_named() {
    let root = Holder::root("Hub");
    let upper = root.authority("Upper");
    let lower = upper.authority("Lower");
    let signer = lower.signer();
    let signers = trusting(&root);
    for (chain, missing) in [(&[][..], "'CN=Lower'"), (&[&lower], "'CN=Upper'")] {
        let refusal = refused(&signers, signer.sign(payload(), chain));
        assert!(matches!(refusal, CertificateRefusal::Issuer { .. }), "{refusal}");
        says(&refusal, missing);
    }
    check(&signers, signer.sign(payload(), &[&lower, &upper]), now()).unwrap();
    check(&signers, signer.sign(payload(), &[&upper, &lower, &root]), now()).unwrap();
}

#[test]
fn an_authority_of_the_same_name_and_another_key_is_another_one() {
    let (root, forged) = (Holder::root("Hub"), Holder::root("Hub"));
    let refusal = refused(&trusting(&root), forged.signer().sign(payload(), &[&forged]));
    says(&refusal, "a signature in it is not by the issuer's key");
}

#[test]
fn a_signer_cannot_make_signers() {
    let root = Holder::root("Hub");
    let signer = root.signer();
    let refusal = refused(&trusting(&root), signer.signer().sign(payload(), &[&signer]));
    says(&refusal, "not an authority's");
    let weak = root.authority_but("Weak", |params| {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    });
    let refusal = refused(&trusting(&root), weak.signer().sign(payload(), &[&weak]));
    says(&refusal, "'CN=Weak' is in it: its key usage lacks keyCertSign");
    let of_servers = root.authority_but("Servers", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let refusal = refused(&trusting(&root), of_servers.signer().sign(payload(), &[&of_servers]));
    says(&refusal, "codeSigning");
}

#[test]
fn a_path_longer_than_an_authority_allows_is_refused() {
    let root = Holder::root("Hub");
    let constrained = root.authority_but("Constrained", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    });
    let below = constrained.authority("Below");
    check(&trusting(&root), constrained.signer().sign(payload(), &[&constrained]), now()).unwrap();
    let bundle = below.signer().sign(payload(), &[&below, &constrained]);
    says(&refused(&trusting(&root), bundle), "longer than an authority in it allows");
}

#[test]
fn a_name_that_an_authority_may_not_give_is_refused() {
    let limited_to = |subtree: GeneralSubtree| {
        let permitted_subtrees = vec![subtree];
        Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() })
    };
    let domain = |domain: &str| GeneralSubtree::DnsName(domain.to_owned());
    let root = Holder::root("Hub");
    let limited = root.authority_but("Limited", |params| {
        params.name_constraints = limited_to(domain("hub.example"));
    });
    let named = |name: &str| {
        let name = SanType::DnsName(name.try_into().unwrap());
        let signer = limited.signer_but(|params| params.subject_alt_names = vec![name]);
        let authority = Authority::new(&root.pem(), None).unwrap();
        let signers = TrustedSigners::default().with_authority("hub", authority);
        check(&signers, signer.sign(payload(), &[&limited]), now())
    };
    named("ci.hub.example").unwrap();
    let refusal = named("ci.other.example").unwrap_err();
    assert!(refusal.to_string().contains("may not give this name"), "{refusal}");

    // What the library cannot check it refuses.
    let limited = Holder::root_but("Limited", |params| {
        let subject = params.distinguished_name.clone();
        params.name_constraints = limited_to(GeneralSubtree::DirectoryName(subject));
    });
    let refusal = refused(&trusting(&limited), limited.signer().sign(payload(), &[]));
    says(&refusal, "in a way that cannot be checked");
}

#[test]
fn an_unknown_critical_extension_is_refused() {
    let extension = |is_critical| {
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 1], vec![5, 0]);
        extension.set_criticality(is_critical);
        move |params: &mut CertificateParams| params.custom_extensions = vec![extension]
    };
    says(&refused_but(extension(true)), "critical extension");
    admitted_but(extension(false));
}

#[test]
fn an_expired_authority_on_the_way_is_refused() {
    let root = Holder::root("Hub");
    let expired =
        root.authority_but("Expired", |params| params.not_after = date_time_ymd(2025, 1, 1));
    let refusal = refused(&trusting(&root), expired.signer().sign(payload(), &[&expired]));
    assert!(matches!(refusal, CertificateRefusal::Chain { .. }), "{refusal}");
    says(&refusal, "an authority in it has expired");
}

// What the certificate is for.

#[test]
fn a_certificate_that_is_not_for_signing_is_refused_with_what_it_lacks() {
    let usage = |usages: Vec<KeyUsagePurpose>, purposes: Vec<ExtendedKeyUsagePurpose>| {
        move |params: &mut CertificateParams| {
            params.key_usages = usages;
            params.extended_key_usages = purposes;
        }
    };
    let sign = || vec![KeyUsagePurpose::DigitalSignature];
    let code = || vec![ExtendedKeyUsagePurpose::CodeSigning];
    let agreement = || vec![KeyUsagePurpose::KeyAgreement];
    let server = || vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    says(&refused_but(usage(agreement(), vec![])), "lacks digitalSignature");
    says(&refused_but(usage(agreement(), code())), "lacks digitalSignature");
    says(&refused_but(usage(sign(), server())), "lacks codeSigning");
    says(&refused_but(usage(vec![], server())), "lacks codeSigning");
    let neither = refused_but(usage(vec![], vec![]));
    says(&neither, "neither");
    assert!(matches!(neither, CertificateRefusal::Usage { .. }));
    admitted_but(usage(sign(), vec![]));
    admitted_but(usage(vec![], code()));
    admitted_but(usage(sign(), [server(), code()].concat()));
}

#[test]
fn the_certificate_of_an_authority_does_not_sign_content() {
    let root = Holder::root("Hub");
    for (signer, chain) in [(&root, &[][..]), (&root.authority("Below"), &[&root])] {
        let refusal = refused(&trusting(&root), signer.sign(payload(), chain));
        assert!(matches!(refusal, CertificateRefusal::Usage { .. }), "{refusal}");
        says(&refusal, "certificate of an authority");
    }
}

#[test]
fn keys_that_model_signing_does_not_know_are_refused_and_the_others_are_not() {
    let root = Holder::root("Hub");
    let signers = trusting(&root);
    let refusal = refused(&signers, root.signer_with(&PKCS_ED25519).sign(payload(), &[]));
    says(&refusal, "Ed25519");
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ECDSA_P521_SHA512] {
        let bundle = root.signer_with(algorithm).sign(payload(), &[]);
        check(&signers, bundle, now()).unwrap();
    }
}

// Whom it names.

#[test]
fn another_name_is_refused_with_the_names_found_and_the_one_wanted() {
    let named = |names: Vec<SanType>| {
        move |params: &mut CertificateParams| params.subject_alt_names = names
    };
    let other = refused_but(named(vec![uri("spiffe://hub.example/dataset/x")]));
    says(&other, "spiffe://hub.example/dataset/x");
    says(&other, PATTERN);
    assert!(matches!(other, CertificateRefusal::Identity { .. }));
    says(&refused_but(named(vec![])), "names nobody");
    let of_another_kind = vec![
        SanType::Rfc822Name(NAME.try_into().unwrap()),
        SanType::DnsName(NAME.try_into().unwrap()),
    ];
    says(&refused_but(named(of_another_kind)), &format!("{NAME}', '{NAME}"));
    let signer = admitted_but(named(vec![uri("https://hub.example"), uri(NAME)]));
    assert_eq!(signer.to_string(), NAME);
}

#[test]
fn without_a_pattern_everybody_is_believed_whom_the_authority_certified() {
    let root = Holder::root("Hub");
    let authority = Authority::new(&root.pem(), None).unwrap();
    let signers = TrustedSigners::default().with_authority("hub", authority);
    let nameless = root.signer_but(|params| params.subject_alt_names = Vec::new());
    let signer = check(&signers, nameless.sign(payload(), &[]), now()).unwrap();
    assert_eq!(signer.to_string(), "CN=Signer");
}

// Time.

#[test]
fn a_certificate_is_valid_from_its_first_second_to_its_last() {
    let root = Holder::root("Hub");
    let signer = root.signer();
    let at = |text| check(&trusting(&root), signer.sign(payload(), &[]), time(text));
    let refused = |text| refused_at(&trusting(&root), signer.sign(payload(), &[]), time(text));
    let early = refused("2019-12-31T23:59:59Z");
    assert!(matches!(early, CertificateRefusal::NotYetValid { .. }));
    says(&early, "valid from 2020-01-01T00:00:00Z on, and it is 2019-12-31T23:59:59Z");
    at("2020-01-01T00:00:00Z").unwrap();
    at("2030-01-01T00:00:00Z").unwrap();
    let late = refused("2030-01-01T00:00:01Z");
    assert!(matches!(late, CertificateRefusal::Expired { .. }));
    says(&late, "expired at 2030-01-01T00:00:00Z, and nothing that attestfs can check proves");
}

#[test]
fn a_time_before_time_is_refused() {
    let root = Holder::root("Hub");
    let bundle = root.signer().sign(payload(), &[]);
    let refusal = refused_at(&trusting(&root), bundle, Timestamp::MIN);
    assert!(matches!(refusal, CertificateRefusal::NotYetValid { .. }));
}

#[test]
fn an_expired_certificate_of_a_stranger_is_a_strangers() {
    let (root, other) = (Holder::root("Hub"), Holder::root("Other"));
    let late = time("2031-01-01T00:00:00Z");
    let stranger = refused_at(&trusting(&root), other.signer().sign(payload(), &[]), late);
    assert!(matches!(stranger, CertificateRefusal::Issuer { .. }));
    assert!(Refusal::Certificate(stranger).is_about_stranger());
    let known = refused_at(&trusting(&root), root.signer().sign(payload(), &[]), late);
    assert!(!Refusal::Certificate(known).is_about_stranger());
}

#[test]
fn an_expired_authority_vouches_for_nobody_until_it_is_renewed() {
    let expired = Holder::root_but("Hub", |params| params.not_after = date_time_ymd(2025, 1, 1));
    let renewed = expired.renewed(|params| params.not_after = date_time_ymd(2040, 1, 1));
    let bundle = expired.signer().sign(payload(), &[]);
    let refusal = refused(&trusting(&expired), bundle.clone());
    says(&refusal, "the authority 'CN=Hub' is valid from 2000-01-01T00:00:00Z to 2025-01-01");
    let both = authority(&[expired.pem(), renewed.pem()].concat());
    let signers = TrustedSigners::default().with_authority("hub", both);
    check(&signers, bundle, now()).unwrap();
}

#[test]
fn an_expired_authority_is_not_renewed_by_another_one_of_its_name() {
    let expired = Holder::root_but("Hub", |params| params.not_after = date_time_ymd(2025, 1, 1));
    let namesake = Holder::root("Hub");
    let both = authority(&[expired.pem(), namesake.pem()].concat());
    let signers = TrustedSigners::default().with_authority("hub", both);
    let refusal = refused(&signers, expired.signer().sign(payload(), &[]));
    assert!(matches!(refusal, CertificateRefusal::AuthorityTime { .. }), "{refusal}");
    check(&signers, namesake.signer().sign(payload(), &[]), now()).unwrap();
}

#[test]
fn an_authority_whose_next_certificate_is_not_valid_yet_vouches_by_the_one_before() {
    let root = Holder::root("Hub");
    let next = root.renewed(|params| {
        params.not_before = date_time_ymd(2090, 1, 1);
        params.not_after = date_time_ymd(2200, 1, 1);
    });
    for pems in [[root.pem(), next.pem()], [next.pem(), root.pem()]] {
        let signers = TrustedSigners::default().with_authority("hub", authority(&pems.concat()));
        check(&signers, root.signer().sign(payload(), &[]), now()).unwrap();
    }
    let refusal = refused(&trusting(&next), root.signer().sign(payload(), &[]));
    assert!(matches!(refusal, CertificateRefusal::AuthorityTime { .. }), "{refusal}");
}

#[test]
fn a_signature_counts_until_the_first_certificate_on_its_path_ends() {
    let ends =
        |year| move |params: &mut CertificateParams| params.not_after = date_time_ymd(year, 1, 1);
    let until = |root: i32, between: i32, signer: i32| {
        let root = Holder::root_but("Hub", ends(root));
        let between = root.authority_but("Between", ends(between));
        let bundle = between.signer_but(ends(signer)).sign(payload(), &[&between]);
        check(&trusting(&root), bundle, now()).unwrap().valid_until().unwrap().to_string()
    };
    assert_eq!(until(2031, 2033, 2032), "2031-01-01T00:00:00Z");
    assert_eq!(until(2033, 2031, 2032), "2031-01-01T00:00:00Z");
    assert_eq!(until(2033, 2032, 2031), "2031-01-01T00:00:00Z");
    let key = SigningKey::generate().unwrap();
    let signers = TrustedSigners::keys([key.verifying_key()]);
    let by_key = Bundle::sign_attestation(payload(), &key).unwrap();
    assert_eq!(check(&signers, by_key, now()).unwrap().valid_until(), None);
}

// The signature.

#[test]
fn a_signature_by_another_key_than_the_certificates_is_bad() {
    let root = Holder::root("Hub");
    let bundle = root.signer().sign(payload(), &[]);
    let other = json!({"certificate": wire(&root.signer().certificate)});
    let refusal = check(&trusting(&root), with_material(&bundle, &other), now()).unwrap_err();
    assert_eq!(refusal.check().0, 4);
    assert!(refusal.to_string().contains(NAME), "{refusal}");
}

#[test]
fn a_changed_payload_is_refused() {
    let root = Holder::root("Hub");
    let signer = root.signer();
    let other = signer.sign(Payload::new(b"{ }".to_vec()), &[]);
    let mut json: serde_json::Value = serde_json::from_slice(&other.to_json()).unwrap();
    let signed: serde_json::Value =
        serde_json::from_slice(&signer.sign(payload(), &[]).to_json()).unwrap();
    json["dsseEnvelope"]["signatures"] = signed["dsseEnvelope"]["signatures"].clone();
    let bundle = Bundle::parse(json.to_string().as_bytes()).unwrap();
    assert_eq!(check(&trusting(&root), bundle, now()).unwrap_err().check().0, 4);
}

// Who is believed.

#[test]
fn the_signer_is_known_by_its_name_its_certificate_and_what_it_is_called_here() {
    let root = Holder::root("Hub");
    let signer = root.signer();
    for material in [
        json!({"certificate": wire(&signer.certificate)}),
        json!({"x509CertificateChain": {"certificates": [wire(&signer.certificate)]}}),
    ] {
        let bundle = with_material(&signer.sign(payload(), &[]), &material);
        let believed = check(&trusting(&root), bundle, now()).unwrap();
        assert_eq!(believed.names().collect::<Vec<_>>(), ["hub"]);
        let expected = CertificateIdentity {
            name: NAME.to_owned(),
            subject: "CN=Signer".to_owned(),
            issuer: "CN=Hub".to_owned(),
            sha256: sha256(&signer.certificate),
            valid_until: time("2030-01-01T00:00:00Z"),
        };
        assert_eq!(believed.identity(), &SignerIdentity::Certificate(expected));
    }
}

#[test]
fn a_report_names_the_signer_and_has_the_certificate_if_there_is_one() {
    let root = Holder::root("Hub");
    let believed = check(&trusting(&root), root.signer().sign(payload(), &[]), now()).unwrap();
    let json = serde_json::to_value(&believed).unwrap();
    assert_eq!(json["signer"], NAME);
    assert_eq!(json["certificate"]["issuer"], "CN=Hub");
    let key = SigningKey::generate().unwrap();
    let signers = TrustedSigners::keys([key.verifying_key()]);
    let bundle = Bundle::sign_attestation(payload(), &key).unwrap();
    let believed = check(&signers, bundle, now()).unwrap();
    let json = serde_json::to_value(&believed).unwrap();
    assert_eq!(json, json!({"signer": key.verifying_key().hint()}));
}

#[test]
fn an_intermediate_may_be_trusted_without_its_root() {
    let below = Holder::root("Hub").authority("Below");
    check(&trusting(&below), below.signer().sign(payload(), &[]), now()).unwrap();
    check(&trusting(&below), below.signer().sign(payload(), &[&below]), now()).unwrap();
}

#[test]
fn of_several_authorities_the_one_that_vouches_counts_and_else_the_furthest_refusal() {
    let (first, second) = (Holder::root("First"), Holder::root("Second"));
    let signers = trusting(&first).with_authority("second", authority(&second.pem()));
    let believed = check(&signers, second.signer().sign(payload(), &[]), now()).unwrap();
    assert_eq!(believed.names().collect::<Vec<_>>(), ["second"]);
    assert_eq!(signers.names().collect::<Vec<_>>(), ["hub", "second"]);
    let refusal = refused(&trusting(&first), second.signer().sign(payload(), &[]));
    assert!(matches!(refusal, CertificateRefusal::Issuer { .. }));
    for holder in [&first, &second] {
        let other = holder.signer_but(|params| params.subject_alt_names = Vec::new());
        let refusal = refused(&signers, other.sign(payload(), &[]));
        assert!(matches!(refusal, CertificateRefusal::Identity { .. }), "{refusal}");
    }
}

#[test]
fn of_two_refusals_that_came_equally_far_the_first_is_told() {
    let of = |holder: &str| CertificateRefusal::Chain {
        holder: holder.to_owned(),
        reason: "it is broken".to_owned(),
    };
    assert_eq!(of("first").or_further(of("second")), of("first"));
}

#[test]
fn keys_and_authorities_are_believed_side_by_side() {
    let root = Holder::root("Hub");
    let key = SigningKey::generate().unwrap();
    let signers = trusting(&root).with_key("trainer", key.verifying_key());
    let by_key = Bundle::sign_attestation(payload(), &key).unwrap();
    let names = |bundle| {
        let signer = check(&signers, bundle, now()).unwrap();
        signer.names().map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(by_key), ["trainer"]);
    let by_certificate = root.signer().sign(payload(), &[]);
    assert_eq!(names(by_certificate), ["hub"]);
}

#[test]
fn what_model_signing_signed_with_a_certificate_needs_its_authority() {
    let bundle = Bundle::parse(include_bytes!("../../vectors/python-certificate.sig")).unwrap();
    let refusal = refused(&trusting(&Holder::root("Vec Root")), bundle);
    says(&refusal, "'CN=vec-signer'");
}

// Foreign bytes.

#[test]
fn any_single_change_to_a_certificate_is_refused() {
    let root = Holder::root("Hub");
    let between = root.authority("Between");
    let signer = between.signer();
    let signers = trusting(&root);
    let bundle = signer.sign(payload(), &[&between]);
    check(&signers, bundle.clone(), now()).unwrap();
    let chain = [&signer.certificate, &between.certificate];
    for (which, certificate) in chain.into_iter().enumerate() {
        for at in 0..certificate.len() {
            let mut changed = chain.map(Clone::clone);
            changed[which][at] ^= 1;
            let certificates = changed.map(|der| wire(&der));
            let material = json!({"x509CertificateChain": {"certificates": certificates}});
            let changed = with_material(&bundle, &material);
            assert!(check(&signers, changed, now()).is_err(), "certificate {which}, byte {at}");
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_certificates_never_panic(leaf: Vec<u8>, other: Vec<u8>, file: Vec<u8>) {
        prop_assert!(Chain::read(&[&leaf, &other]).is_err());
        prop_assert!(Authority::new(&file, None).is_err());
        prop_assert!(Authority::new(&pem("CERTIFICATE", &leaf), None).is_err());
    }

    #[test]
    fn a_mutated_certificate_never_panics_as_signer_or_as_authority(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut: prop::sample::Index,
    ) {
        let root = Holder::root("Hub");
        let signer = root.signer();
        let authority = authority(&root.pem());
        for original in [&root.certificate, &signer.certificate] {
            let mut der = original.clone();
            for (at, byte) in &changes {
                let at = at.index(der.len());
                der[at] = *byte;
            }
            for der in [&der[..], &der[..cut.index(der.len())]] {
                let believed = Chain::read(&[der, &root.certificate])
                    .and_then(|chain| authority.vouch(&chain, now()));
                prop_assert!(believed.is_err() || der == signer.certificate);
                let either = Authority::new(&pem("CERTIFICATE", der), None);
                prop_assert!(either.is_err() || der.len() == original.len());
            }
        }
    }
}
