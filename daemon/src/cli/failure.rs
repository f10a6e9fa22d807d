//! Why a command did not do what it was asked, in the few lines that people get to see.

use std::fmt::Display;

use serde::Serialize;

use super::exit::Exit;
use crate::{
    artifact::{ArtifactError, AtHandError},
    config::StateError,
    signer::KeyFileError,
    text::{harmless, without_error_numbers},
};

/// What was wrong, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Failure {
    pub(crate) exit_code: Exit,
    /// The number of the check that failed, where checks were made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) check: Option<u8>,
    pub(crate) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_step: Option<String>,
    /// Where files were judged one by one: all that were refused, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) refused: Vec<RefusedFile>,
}

/// A file that a rule of a policy refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RefusedFile {
    pub(crate) name: String,
    pub(crate) rule: usize,
    pub(crate) check: u8,
    pub(crate) message: String,
    pub(crate) next_step: String,
}

impl Failure {
    /// The answer is no.
    pub(crate) fn refused(message: impl Display) -> Self {
        Self::new(Exit::Refused, message)
    }

    /// The command line asks for nothing that can be done.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Something on this machine is in the way.
    pub(crate) fn environment(message: impl Display) -> Self {
        Self::new(Exit::Environment, message)
    }

    /// The same failure with what to do about it.
    #[must_use]
    pub(crate) fn with_next_step(self, next_step: impl Into<String>) -> Self {
        Self { next_step: Some(next_step.into()), ..self }
    }

    fn new(exit_code: Exit, message: impl Display) -> Self {
        let message = without_error_numbers(&message.to_string());
        Self { exit_code, check: None, message, next_step: None, refused: Vec::new() }
    }

    /// Each refused file on a line, where there are several, as far as people read.
    pub(crate) fn files(&self) -> impl Iterator<Item = String> {
        let refused = if self.refused.len() > 1 { self.refused.as_slice() } else { &[] };
        let lines = refused.iter().take(REFUSED_SHOWN);
        let more = refused.len().checked_sub(REFUSED_SHOWN).filter(|&more| more > 0);
        lines
            .map(|file| harmless(&format!("{}: {}", file.name, file.message)))
            .chain(more.map(|more| format!(".. and {more} more")))
    }
}

/// So many refused files are named to people. Programs are told all.
const REFUSED_SHOWN: usize = 20;

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        Self { next_step: error.next_step(), ..Self::environment(error) }
    }
}

impl From<KeyFileError> for Failure {
    fn from(error: KeyFileError) -> Self {
        let failure = Self::environment(&error);
        match error {
            KeyFileError::Exists { .. } => Self::refused(error)
                .with_next_step("give another directory with --out, or move the old pair away"),
            KeyFileError::Io { .. } => {
                failure.with_next_step("name a private key, or make one with 'attestfs keygen'")
            }
            _ => failure,
        }
    }
}

impl From<AtHandError> for Failure {
    fn from(error: AtHandError) -> Self {
        match &error {
            AtHandError::NoBundle { .. } => Self { check: Some(1), ..Self::refused(error) },
            AtHandError::Unreadable { .. } | AtHandError::Shelf { .. } => Self::environment(error),
        }
    }
}

impl From<ArtifactError> for Failure {
    fn from(error: ArtifactError) -> Self {
        match &error {
            ArtifactError::Publication { directory, .. } => {
                let next_step = format!("name what it speaks of: {}", directory.display());
                Self::usage(&error).with_next_step(next_step)
            }
            ArtifactError::Io { .. } | ArtifactError::Special { .. } => Self::environment(error),
        }
    }
}

#[cfg(feature = "mount")]
impl From<crate::client::ClientError> for Failure {
    fn from(error: crate::client::ClientError) -> Self {
        match error {
            crate::client::ClientError::Refused(failure) => failure.into(),
            other => Self { next_step: other.next_step(), ..Self::environment(other) },
        }
    }
}

#[cfg(feature = "mount")]
impl From<crate::control::Failure> for Failure {
    fn from(failure: crate::control::Failure) -> Self {
        use crate::control::Code;
        let exit_code = match failure.code {
            Code::UnknownRun
            | Code::UnknownMount
            | Code::RunEnded
            | Code::NotFound
            | Code::Artifact
            | Code::Stage
            | Code::Busy => Exit::Refused,
            _ => Exit::Environment,
        };
        Self { next_step: failure.next_step, ..Self::new(exit_code, failure.message) }
    }
}
