//! Signers whom an authority names.

use crate::certificate::{
    CertificateRefusal,
    testing::{Holder, uri},
};

use super::*;

const FILE: &str = "/data/model/model.bin";

/// Believes a key, `trainer`, and whom the authority calls a model of the hub, `hub`.
fn policy(bench: &Bench, authority: &Holder, rule: &str) -> Policy {
    let key = bench.key("trainer").verifying_key().to_pem();
    let ca = String::from_utf8(authority.pem()).unwrap();
    let text = format!(
        "version = 1
[signers.trainer]
key = '''
{key}'''
[signers.hub]
ca = '''
{ca}'''
san = 'spiffe://hub.example/model/*'
[[rule]]
paths = ['**']
level = 'stat'
{rule}"
    );
    Policy::parse(&text, &mut |_| Err("no file".to_owned())).unwrap()
}

/// A bench with a model in whose directory this signer's signature lies.
fn with_model_by(signer: &Holder) -> Bench {
    let mut bench = Bench::new();
    let bundle = signer.sign(model(&[("model.bin", "W")]), &[]);
    let beside = Beside::parse(Some(&bundle.to_json()), None);
    bench.around.insert("/data/model".to_owned(), Arc::new(beside));
    bench
}

/// A bench with a run's attestation by this signer in the store.
fn with_run_by(signer: &Holder) -> Bench {
    let mut bench = Bench::new();
    let commit = trained("W");
    let bundle = signer.sign(commit.draft().unwrap().payload, &[]);
    bench.store.index.insert(commit.outputs[0].digests.sha256, vec![bundle.sha256()]);
    bench.store.published.bundles.push(bundle);
    bench
}

fn others_by(root: &Holder) -> Holder {
    root.signer_but(|params| params.subject_alt_names = vec![uri("spiffe://hub.example/data/x")])
}

#[test]
fn whom_the_authority_calls_by_another_name_is_refused_with_both_names() {
    let root = Holder::root("Hub");
    for bench in [with_model_by(&others_by(&root)), with_run_by(&others_by(&root))] {
        let verdict = bench.judge_by(&policy(&bench, &root, ""), FILE, "W");
        refused(verdict.clone(), 3, "spiffe://hub.example/data/x");
        refused(verdict, 3, "spiffe://hub.example/model/*");
    }
}

#[test]
fn whom_another_authority_certified_is_refused_by_the_name_of_that() {
    let (root, other) = (Holder::root("Hub"), Holder::root("Other"));
    for bench in [with_model_by(&other.signer()), with_run_by(&other.signer())] {
        refused(bench.judge_by(&policy(&bench, &root, ""), FILE, "W"), 3, "'CN=Other'");
    }
}

#[test]
fn an_expired_certificate_admits_nothing() {
    let root = Holder::root("Hub");
    let signer = root.signer_but(|params| params.not_after = rcgen::date_time_ymd(2026, 1, 31));
    for bench in [with_model_by(&signer), with_run_by(&signer)] {
        let refusal = bench.judge_by(&policy(&bench, &root, ""), FILE, "W").unwrap_err();
        let is_expired =
            matches!(refusal, Refusal::Certificate(CertificateRefusal::Expired { .. }));
        assert!(is_expired, "{refusal}");
    }
}

#[test]
fn whom_the_authority_names_is_admitted_where_the_rule_accepts_that_signer() {
    let root = Holder::root("Hub");
    for bench in [with_model_by(&root.signer()), with_run_by(&root.signer())] {
        for rule in ["", "signed_by = ['hub']"] {
            let admission = bench.judge_by(&policy(&bench, &root, rule), FILE, "W").unwrap();
            assert_eq!(admission.signers, ["hub"]);
        }
        let by_trainer = policy(&bench, &root, "signed_by = ['trainer']");
        let refusal = bench.judge_by(&by_trainer, FILE, "W").unwrap_err();
        assert!(refusal.to_string().contains("hub"), "{refusal}");
    }
}
