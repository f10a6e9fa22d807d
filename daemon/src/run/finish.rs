//! The last act: have the daemon attest, and tell the user what came of it.

use attestfs_attestation::{INCOMPLETE_TYPE, Outcome};
use jiff::Timestamp;

use super::{console::say, orders::Orders};
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
    let missing = orders.missing_outputs();
    for output in &missing {
        say(format_args!(
            "--out {output}: there is nothing (a relative --out is relative to the first --dir)"
        ));
    }
    match link.commit(order) {
        Ok(report) if missing.is_empty() => tell(&report),
        Ok(report) => {
            tell(&report);
            Verdict::Failed
        }
        Err(error) => {
            say(format_args!("not attested: {error}"));
            say(
                "what the command wrote is recorded; the next daemon attests it as of unknown outcome",
            );
            Verdict::Failed
        }
    }
}

/// Commits a checkpoint that a rule found.
pub(super) fn commit_checkpoint(link: &RunLink, order: CommitOrder) {
    match link.commit(order) {
        Ok(report) => {
            tell(&report);
        }
        Err(error) => say(format_args!("no checkpoint: {error}")),
    }
}

/// The journal has a gap: what the run did is not known, so it cannot count as a success.
pub(super) fn unrecorded(
    link: &RunLink,
    error: &RecordError,
    orders: &Orders,
    finished: Timestamp,
) -> Verdict {
    say(format_args!("not attested: {error}"));
    let end = RunEnd { outcome: Outcome::Unknown, finished };
    if let Err(error) = link.end(orders.journal.length(), end) {
        tracing::warn!(%error, "the daemon will find out by itself that the run ended");
    }
    Verdict::Failed
}

fn tell(report: &CommitReport) -> Verdict {
    let mut verdict = Verdict::Attested;
    for artifact in &report.artifacts {
        for left_out in &artifact.left_out {
            say(format_args!("{}: left out {}: {}", artifact.root, left_out.name, left_out.reason));
        }
        if let Some(line) = attested(artifact) {
            say(line);
        }
        if let ModelSignature::Refused(reason) = &artifact.model_signature {
            say(format_args!("{}: no model.sig: {reason}", artifact.root));
            verdict = Verdict::Failed;
        }
    }
    verdict
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
