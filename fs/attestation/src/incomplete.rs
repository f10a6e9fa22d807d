//! The predicate of a run that failed, or whose end nobody saw.
//!
//! It says the same as provenance and has another type, so that no verifier takes it for success.

use serde::{Deserialize, Serialize};

use crate::{
    provenance::Provenance,
    run::{CommitKind, Outcome},
};

/// `predicateType` of a failed or unknown run.
pub const INCOMPLETE_TYPE: &str = "https://attestfs.dev/predicate/incomplete-run/v1";

/// The predicate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IncompleteRun {
    /// What the command exited with, when it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that killed it, when one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// What was read, by which command, where and when. `internalParameters.outcome` is `failed`
    /// or `unknown`.
    pub run: Provenance,
}

impl IncompleteRun {
    pub(crate) fn of(kind: CommitKind, run: Provenance) -> Self {
        let (exit_code, signal) = match kind {
            CommitKind::StageEnd(Outcome::Failed { exit_code, signal }) => (exit_code, signal),
            _ => (None, None),
        };
        Self { exit_code, signal, run }
    }
}
