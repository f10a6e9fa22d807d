//! The verdict on an artifact: which checks were made, and what they found out.

use std::{collections::BTreeSet, fmt, iter};

use attestfs_attestation::{Refusal, Verified};
use serde::Serialize;

use super::{
    failure::Failure,
    story::{Story, counted, followed, not_seen, some},
};
use crate::{
    artifact::{Completeness, Judged, NotJudged, PassedOver},
    text::harmless,
};

/// Where the results of the checks stand in their column.
const TITLE_WIDTH: usize = 34;

/// What no attestation can tell of itself.
pub(super) const REPLAY: &str = "whether something newer was published in its place";

/// An artifact that passed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Admitted {
    artifact: String,
    verdict: &'static str,
    checks: Vec<Check>,
    not_checked: Vec<String>,
    /// Attestations around the artifact that did not count.
    passed_over: Vec<PassedOver>,
    verified: Verified,
}

/// One line of the checklist.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Check {
    number: u8,
    title: &'static str,
    result: CheckResult,
    detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum CheckResult {
    Ok,
    /// There was nothing to check.
    NotMade,
}

impl Admitted {
    pub(super) fn new(artifact: String, judged: Judged) -> Self {
        Self {
            artifact,
            verdict: "admitted",
            checks: checks(&judged),
            not_checked: not_checked(&judged),
            passed_over: judged.passed_over,
            verified: judged.verified,
        }
    }
}

impl fmt::Display for Admitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            let dots = ".".repeat(TITLE_WIDTH.saturating_sub(check.title.len()));
            let result = match check.result {
                CheckResult::Ok => "ok",
                CheckResult::NotMade => "not made",
            };
            writeln!(f, "[{:>2}] {} {dots} {result}: {}", check.number, check.title, check.detail)?;
        }
        writeln!(f, "\n{} is what was attested", harmless(&self.artifact))?;
        write!(f, "{}", Story(&self.verified))?;
        for PassedOver { publication, reason } in &self.passed_over {
            writeln!(f, "\npassed over: {}: {}", harmless(publication), harmless(reason))?;
        }
        let mut not_checked = self.not_checked.iter();
        not_checked.try_for_each(|what| writeln!(f, "\nnot checked: {}", harmless(what)))
    }
}

/// A check that failed, or what kept us from checking.
pub(super) fn failure(error: &NotJudged) -> Failure {
    match error {
        NotJudged::Refused(refusal @ Refusal::Unattested { .. }) => {
            let next_step = refusal.next_step();
            refused(refusal).with_next_step(format!(
                "{next_step}; or name its attestation with --bundle or --state"
            ))
        }
        NotJudged::Refused(refusal) => refused(refusal),
        NotJudged::PartOfModel { model, .. } => Failure::usage(error)
            .with_next_step(format!("attestfs verify {} --key PUB", model.display())),
        NotJudged::OutsideTree { .. } => {
            Failure::usage(error).with_next_step("name the directory above it that is mounted")
        }
        _ => Failure::environment(error),
    }
}

pub(super) fn refused(refusal: &Refusal) -> Failure {
    let (number, title) = refusal.check();
    Failure {
        check: Some(number),
        ..Failure::refused(format_args!("check {number}, {title}: {refusal}"))
            .with_next_step(refusal.next_step())
    }
}

impl From<NotJudged> for Failure {
    fn from(error: NotJudged) -> Self {
        failure(&error)
    }
}

/// All checks in their order; the numbers are those of the refusals.
fn checks(judged: &Judged) -> Vec<Check> {
    use CheckResult::{NotMade, Ok};
    let verified = &judged.verified;
    let files = counted(judged.files as u64, "file");
    let of_runs = |detail: fn(&Verified) -> String| match verified.attestations.as_slice() {
        [] => (NotMade, without_provenance(judged).to_owned()),
        [..] => (Ok, detail(verified)),
    };
    let results = [
        (Ok, at_hand(verified)),
        (Ok, "in-toto".to_owned()),
        (Ok, signers(verified)),
        (Ok, "ECDSA".to_owned()),
        (Ok, kinds(verified).to_owned()),
        of_runs(stages),
        (Ok, files),
        (Ok, digests(judged)),
        completeness(judged),
        of_runs(chain),
    ];
    let titled = results.into_iter().zip(Refusal::CHECKS).zip(1..);
    titled
        .map(|(((result, detail), title), number)| Check { number, title, result, detail })
        .collect()
}

/// Check 8: by which digest the files were compared.
fn digests(judged: &Judged) -> String {
    let files = counted(judged.files as u64, "file");
    match judged.by_blake3 {
        0 => files,
        all if all == judged.files => format!("{files}, by the BLAKE3 signed with the SHA-256"),
        some => format!("{files}, {some} of them by the BLAKE3 signed with the SHA-256"),
    }
}

/// Check 9.
fn completeness(judged: &Judged) -> (CheckResult, String) {
    use CheckResult::{NotMade, Ok};
    match (judged.completeness, judged.left_out.as_slice()) {
        (Completeness::Whole, []) => (Ok, "nothing missing, changed or added".to_owned()),
        (Completeness::Whole, left_out) => {
            let paths = some(left_out.iter().map(String::as_str));
            (Ok, format!("nothing missing, changed or added; not looked at: {paths}"))
        }
        (Completeness::OneOfModel, _) => {
            (NotMade, "only this file of the model was looked at".to_owned())
        }
        (Completeness::NotCovered, _) => {
            (NotMade, "no model signature: files that were removed are not missed".to_owned())
        }
    }
}

/// Why nobody says how something was made: what did not count may have said it.
fn without_provenance(judged: &Judged) -> &'static str {
    if judged.passed_over.is_empty() {
        "signed at rest: nobody says how it was made"
    } else {
        "no provenance is at hand"
    }
}

fn not_checked(judged: &Judged) -> Vec<String> {
    let left_out = judged.left_out.iter();
    let left_out = left_out.map(|path| format!("{path}: the model signature leaves it out"));
    iter::once(REPLAY.to_owned()).chain(left_out).collect()
}

fn at_hand(verified: &Verified) -> String {
    let attestations = counted(verified.attestations.len() as u64, "attestation");
    match (&verified.model, verified.attestations.len()) {
        (Some(_), 0) => "a model signature".to_owned(),
        (Some(_), _) => format!("a model signature and {attestations}"),
        (None, _) => attestations,
    }
}

fn signers(verified: &Verified) -> String {
    let model = verified.model.iter().map(|model| &model.signer);
    let runs = verified.attestations.iter().map(|attested| &attested.signer);
    let signers: BTreeSet<_> =
        model.chain(runs).map(|signer| harmless(&signer.to_string())).collect();
    signers.into_iter().collect::<Vec<_>>().join(", ")
}

fn kinds(verified: &Verified) -> &'static str {
    match (&verified.model, verified.attestations.is_empty()) {
        (Some(_), true) => "model signature",
        (Some(_), false) => "model signature, SLSA provenance",
        (None, _) => "SLSA provenance",
    }
}

fn stages(verified: &Verified) -> String {
    let stages: BTreeSet<_> =
        verified.attestations.iter().map(|attested| harmless(&attested.stage)).collect();
    stages.into_iter().collect::<Vec<_>>().join(", ")
}

fn chain(verified: &Verified) -> String {
    let checked = match followed(&verified.attestations) {
        0 => "no attested material".to_owned(),
        count => format!("{} of materials", counted(count as u64, "attestation")),
    };
    match not_seen(&verified.attestations) {
        0 => checked,
        missing => format!("{checked}, {missing} not at hand"),
    }
}
