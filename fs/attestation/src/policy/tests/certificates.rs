//! Signers whom an authority names.

use jiff::SignedDuration;

use super::*;
use crate::{
    certificate::{
        CertificateRefusal,
        testing::{Holder, uri},
    },
    policy::{Fault, PolicyError},
};

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

#[test]
fn a_certificate_counts_until_it_ends_however_lately_it_was_checked() {
    let root = Holder::root("Hub");
    let signer = root.signer_but(|params| params.not_after = rcgen::date_time_ymd(2026, 2, 1));
    let end: Timestamp = NOW.parse().unwrap();
    for bench in [with_model_by(&signer), with_run_by(&signer)] {
        let policy = policy(&bench, &root, "");
        let admission = bench.judge_at(end, &policy, FILE, "W").unwrap();
        assert_eq!(admission.valid_until, Some(end));
        let later = end + SignedDuration::from_secs(1);
        refused(bench.judge_at(later, &policy, FILE, "W"), 3, "expired");
    }
}

#[test]
fn of_several_signatures_the_one_that_ends_first_ends_the_admission() {
    let root = Holder::root("Hub");
    let mut bench = with_model_by(&root.signer());
    let policy = policy(&bench, &root, "all_of = ['hub', 'trainer']");
    bench.publish(&trained("W"), "trainer");
    let end: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    let admission = bench.judge_by(&policy, FILE, "W").unwrap();
    assert_eq!((admission.signers.len(), admission.valid_until), (2, Some(end)));
    bench.around.clear();
    let by_trainer = bench.policy("signed_by = ['trainer']");
    assert_eq!(bench.judge_by(&by_trainer, FILE, "W").unwrap().valid_until, None);
}

/// Believes everybody of a team, and one of them by name.
fn team_and_alice(authority: &Holder, rule: &str) -> Policy {
    let ca = String::from_utf8(authority.pem()).unwrap();
    let signer =
        |name: &str, san: &str| format!("[signers.{name}]\nca = '''\n{ca}'''\nsan = '{san}'\n");
    let team = signer("team", "spiffe://team.example/*");
    let alice = signer("alice", "spiffe://team.example/alice");
    let text =
        format!("version = 1\n{team}{alice}[[rule]]\npaths = ['**']\nlevel = 'stat'\n{rule}");
    Policy::parse(&text, &mut |_| Err("no file".to_owned())).unwrap()
}

fn member(authority: &Holder, name: &str) -> Holder {
    let name = format!("spiffe://team.example/{name}");
    authority.signer_but(|params| params.subject_alt_names = vec![uri(&name)])
}

/// The model signature by one, and the run by the other.
fn with_both_by(model_signer: &Holder, run_signer: &Holder) -> Bench {
    let run = with_run_by(run_signer);
    Bench { around: with_model_by(model_signer).around, ..run }
}

#[test]
fn one_who_is_two_signers_of_the_policy_counts_for_one_of_them() {
    let root = Holder::root("Team");
    // A policy of its own for each: it remembers who signed a run.
    let judge = |bench: Bench| {
        bench.judge_by(&team_and_alice(&root, "all_of = ['team', 'alice']"), FILE, "W")
    };
    let (alice, bob) = (member(&root, "alice"), member(&root, "bob"));
    // Not even with a second certificate.
    for bench in [with_model_by(&alice), with_both_by(&alice, &member(&root, "alice"))] {
        refused(judge(bench), 11, "wants 2 of 'team', 'alice'");
    }
    let by_two_others = with_both_by(&bob, &member(&root, "carol"));
    refused(judge(by_two_others), 11, "vouched for by 'team'");
    for bench in [with_both_by(&alice, &bob), with_both_by(&bob, &alice)] {
        assert_eq!(judge(bench).unwrap().signers, ["alice", "team"]);
    }
}

#[test]
fn one_whom_an_earlier_signer_of_the_policy_covers_is_believed_by_the_own_name() {
    let root = Holder::root("Team");
    let bench = with_model_by(&member(&root, "alice"));
    for signer in ["alice", "team"] {
        let policy = team_and_alice(&root, &format!("signed_by = ['{signer}']"));
        assert_eq!(bench.judge_by(&policy, FILE, "W").unwrap().signers, [signer]);
    }
}

#[test]
fn two_signers_with_the_same_certificates_are_an_error_however_those_are_written() {
    let pem = |name: &str| String::from_utf8(Holder::root(name).pem()).unwrap();
    let (one, other) = (pem("One"), pem("Other"));
    let parse = |second: &str, san: &str| -> Result<Policy, PolicyError> {
        let text = format!(
            "version = 1
[signers.a]
ca = 'a'
san = 'hub.example'
[signers.b]
ca = 'b'
san = '{san}'
[[rule]]
paths = ['**']
level = 'stat'"
        );
        Policy::parse(&text, &mut |file| match file {
            "a" => Ok(format!("{one}{other}").into_bytes()),
            _ => Ok(second.as_bytes().to_vec()),
        })
    };
    let same = parse(&format!("# The other first.\n{other}\n{one}{one}"), "hub.example");
    assert!(matches!(*same.unwrap_err().fault, Fault::SameSigner { .. }));
    parse(&one, "hub.example").unwrap();
    parse(&format!("{one}{other}"), "*.hub.example").unwrap();
}
