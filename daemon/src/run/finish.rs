//! The last act: have the daemon attest, and tell the user what came of it.

use attestfs_attestation::{INCOMPLETE_TYPE, Outcome};
use jiff::Timestamp;

use super::{console::Console, orders::Orders};
use crate::{
    client::RunLink,
    control::{ArtifactReport, CommitOrder, CommitReport, ModelSignature},
    journal::RecordError,
    lineage::RunEnd,
};

/// Whether the run left what it was asked to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Attested,
    Failed,
}

/// Commits the end of the stage.
pub(super) fn commit(link: &RunLink, order: CommitOrder, orders: &Orders) -> Verdict {
    let console = orders.plan.console();
    let missing = orders.missing_outputs();
    for output in &missing {
        console.say(format_args!(
            "--out {output}: there is nothing (a relative --out is relative to the first --dir)"
        ));
    }
    match link.commit(order) {
        Ok(report) if missing.is_empty() => tell(console, &report),
        Ok(report) => {
            tell(console, &report);
            Verdict::Failed
        }
        Err(error) => {
            console.say(format_args!("not attested: {error}"));
            console.say(
                "what the command wrote is recorded; the next daemon attests it as of unknown outcome",
            );
            Verdict::Failed
        }
    }
}

/// Commits a checkpoint that a rule found.
pub(super) fn commit_checkpoint(link: &RunLink, order: CommitOrder, orders: &Orders) {
    let console = orders.plan.console();
    match link.commit(order) {
        Ok(report) => {
            tell(console, &report);
        }
        Err(error) => console.say(format_args!("no checkpoint: {error}")),
    }
}

/// The journal has a gap: what the run did is not known, so it cannot count as a success.
pub(super) fn unrecorded(
    link: &RunLink,
    error: &RecordError,
    orders: &Orders,
    finished: Timestamp,
) -> Verdict {
    orders.plan.console().say(format_args!("not attested: {error}"));
    let end = RunEnd { outcome: Outcome::Unknown, finished };
    if let Err(error) = link.end(orders.journal.length(), end) {
        tracing::warn!(%error, "the daemon will find out by itself that the run ended");
    }
    Verdict::Failed
}

fn tell(console: Console, report: &CommitReport) -> Verdict {
    console.commit(report, report.artifacts.iter().flat_map(lines));
    let refused =
        |artifact: &ArtifactReport| matches!(artifact.model_signature, ModelSignature::Refused(_));
    if report.artifacts.iter().any(refused) { Verdict::Failed } else { Verdict::Attested }
}

fn lines(artifact: &ArtifactReport) -> Vec<String> {
    let root = &artifact.root;
    let left_out = artifact.left_out.iter();
    let left_out = left_out.map(|it| format!("{root}: left out {}: {}", it.name, it.reason));
    let unsigned = match &artifact.model_signature {
        ModelSignature::Refused(reason) => Some(format!("{root}: no model.sig: {reason}")),
        ModelSignature::Written | ModelSignature::NotAsked => None,
    };
    left_out.chain(attested(artifact)).chain(unsigned).collect()
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
