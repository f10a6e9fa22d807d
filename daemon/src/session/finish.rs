//! The last act: have the daemon attest, and tell the user what came of it.

use attestfs_attestation::{INCOMPLETE_TYPE, Outcome};
use jiff::Timestamp;

use super::orders::{Assignment, Orders};
use crate::{
    client::RunLink,
    control::{ArtifactReport, CommitOrder, CommitReport, ModelSignature},
    journal::RecordError,
    lineage::RunEnd,
    text::clipped,
};

/// How many of the files that were left out are named to people. All are in the attestation.
const LEFT_OUT_SHOWN: usize = 20;

/// Whether the run left what it was asked to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Attested,
    Failed,
}

impl Verdict {
    /// Whether both things were left.
    #[must_use]
    pub(crate) fn and(self, other: Self) -> Self {
        if self == Self::Attested { other } else { self }
    }
}

/// Commits the end of the stage.
pub(crate) fn commit(link: &RunLink, order: CommitOrder, orders: &Orders) -> Verdict {
    let console = &orders.assignment.console;
    let missing = orders.missing_outputs();
    for output in &missing {
        console.say(format_args!(
            "--out {output}: there is nothing (a relative --out is relative to the first --dir)"
        ));
    }
    match link.commit(order) {
        Ok(report) => match tell(&orders.assignment, &report) {
            Verdict::Attested if missing.is_empty() => Verdict::Attested,
            _ => Verdict::Failed,
        },
        Err(error) => {
            console.say(format_args!("not attested: {error}"));
            console.say(
                "nothing is lost: mend the cause, and 'attestfs daemon' attests what is recorded",
            );
            Verdict::Failed
        }
    }
}

/// Commits a checkpoint that a rule found.
pub(super) fn commit_checkpoint(link: &RunLink, order: CommitOrder, orders: &Orders) {
    match link.commit(order) {
        Ok(report) => {
            tell(&orders.assignment, &report);
        }
        Err(error) => orders.assignment.console.say(format_args!("no checkpoint: {error}")),
    }
}

/// The journal has a gap: what the run did is not known, so it cannot count as a success.
pub(crate) fn unrecorded(
    link: &RunLink,
    error: &RecordError,
    orders: &Orders,
    finished: Timestamp,
) -> Verdict {
    orders.assignment.console.say(format_args!("not attested: {error}"));
    if let Some(step) = error.next_step() {
        orders.assignment.console.say(step);
    }
    let end = RunEnd { outcome: Outcome::Unknown, finished };
    if let Err(error) = link.end(orders.journal.length(), end) {
        tracing::warn!(%error, "the daemon will find out by itself that the run ended");
    }
    Verdict::Failed
}

fn tell(assignment: &Assignment, report: &CommitReport) -> Verdict {
    let expected = !assignment.outputs.is_empty();
    let lines = report.artifacts.iter().flat_map(|artifact| lines(artifact, expected));
    assignment.console.commit(report, lines);
    let refused =
        |artifact: &ArtifactReport| matches!(artifact.model_signature, ModelSignature::Refused(_));
    if report.artifacts.iter().any(refused) { Verdict::Failed } else { Verdict::Attested }
}

/// What people are told of one artifact. That nothing was written matters where something was
/// `expected`.
fn lines(artifact: &ArtifactReport, expected: bool) -> Vec<String> {
    let root = &artifact.root;
    let left_out = left_out(artifact);
    let left_out = left_out.map(|line| format!("{root}: left out {line}"));
    let unsigned = match (&artifact.model_signature, &artifact.unattested) {
        (ModelSignature::Refused(reason), _) => Some(format!("{root}: no model.sig: {reason}")),
        (ModelSignature::NotAsked, Some(reason)) if expected => Some(format!("{root}: {reason}")),
        _ => None,
    };
    left_out.chain(attested(artifact)).chain(unsigned).collect()
}

/// What is left out and why, as much as people read.
fn left_out(artifact: &ArtifactReport) -> impl Iterator<Item = String> {
    let all = &artifact.left_out;
    let more = all.len().checked_sub(LEFT_OUT_SHOWN).filter(|&more| more > 0);
    let shown = all.iter().take(LEFT_OUT_SHOWN);
    shown
        .map(|it| format!("{}: {}", clipped(&it.name), clipped(&it.reason)))
        .chain(more.map(|more| format!(".. and {more} more")))
}

fn attested(artifact: &ArtifactReport) -> Option<String> {
    let statement = artifact.statement?.to_string();
    let signature = match artifact.model_signature {
        ModelSignature::Written => ", model.sig written",
        ModelSignature::Refused(_) | ModelSignature::NotAsked => "",
    };
    let files = if artifact.subjects == 1 { "file" } else { "files" };
    let vouched = artifact.predicate_type.as_deref() != Some(INCOMPLETE_TYPE);
    let done = if vouched { "attested by" } else { "recorded, vouched for by nobody, in" };
    Some(format!(
        "{}: {} {files} {done} {}{signature}",
        artifact.root,
        artifact.subjects,
        &statement[..12],
    ))
}
