//! Words that more than one form uses.

use attestfs_attestation::{CommitKind, Outcome};

use crate::lineage::{CommitMark, RunNode, VersionNode};

/// What is known of a version's content, in a few words.
pub(super) fn content(version: &VersionNode) -> String {
    let mut words = Vec::new();
    match (version.size, &version.digests) {
        (Some(0), _) => words.push("empty".to_owned()),
        (_, Some(digests)) => words.push(format!("sha256:{}", short(&digests.sha256.to_string()))),
        (_, None) => words.push("no digest".to_owned()),
    }
    if version.superseded {
        words.push("superseded".to_owned());
    } else if version.removed_by.is_some() {
        words.push("removed by another run".to_owned());
    } else if version.gone {
        words.push("removed".to_owned());
    }
    words.join("  ")
}

/// When a run started, how it ended and what was published of it.
pub(super) fn execution(run: &RunNode) -> String {
    let started = run.started.strftime("%Y-%m-%d %H:%M:%SZ");
    format!("{started}  {}  {}", outcome(run.outcome), commits(&run.commits))
}

fn outcome(outcome: Option<Outcome>) -> String {
    match outcome {
        Some(Outcome::Success) => "success".to_owned(),
        Some(Outcome::Failed { signal: Some(signal), .. }) => format!("failed (signal {signal})"),
        Some(Outcome::Failed { exit_code: Some(code), .. }) => format!("failed (exit {code})"),
        Some(Outcome::Failed { .. }) => "failed".to_owned(),
        Some(Outcome::Unknown) => "unknown".to_owned(),
        None => "running".to_owned(),
    }
}

/// The newest publication by name, the others by number.
fn commits(commits: &[CommitMark]) -> String {
    let Some((newest, others)) = commits.split_first() else {
        return "not committed".to_owned();
    };
    let mark = match newest.kind {
        CommitKind::Checkpoint => "✓ checkpoint",
        kind if kind.vouches() => "✓ signed",
        CommitKind::StageEnd(_) => "✗ recorded",
    };
    let freed = if newest.freed { " (freed)" } else { "" };
    let newest = format!("{mark} {}{freed}", short(&newest.statement.to_string()));
    match others.len() {
        0 => newest,
        count => format!("{newest}, {count} earlier"),
    }
}

fn short(digest: &str) -> &str {
    digest.get(..DIGITS_SHOWN).unwrap_or(digest)
}

/// Enough for a person to recognise a digest; nobody should compare by them.
const DIGITS_SHOWN: usize = 12;
