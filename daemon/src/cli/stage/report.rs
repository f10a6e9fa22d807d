use std::fmt;

use attestfs_attestation::INCOMPLETE_TYPE;
use serde::{Serialize, Serializer};

use crate::{
    cli::{exit::Exit, story::counted},
    control::{CommitReport, ModelSignature, ShownReport},
    text::harmless,
};

/// What a commit made, for people and programs.
#[derive(Debug)]
pub(in crate::cli) struct Attested(pub(in crate::cli) CommitReport);

impl Attested {
    /// Whether there is an attestation.
    fn is_any(&self) -> bool {
        self.0.artifacts.iter().any(|artifact| artifact.statement.is_some())
    }

    /// Whether something that was asked for is not there: an output, or a signature.
    pub(in crate::cli) fn is_incomplete(&self) -> bool {
        self.0.artifacts.iter().any(|artifact| {
            let is_missing = artifact.unattested.as_deref() == Some(CommitReport::NOTHING_THERE);
            is_missing || matches!(artifact.model_signature, ModelSignature::Refused(_))
        })
    }

    /// Of a command that was to make an attestation.
    pub(super) fn exit_of_checkpoint(&self) -> Exit {
        if self.is_any() { Exit::Yes } else { Exit::Refused }
    }

    /// Of a command that was to end a stage.
    pub(super) fn exit_of_end(&self) -> Exit {
        if self.is_incomplete() { Exit::Refused } else { Exit::Yes }
    }
}

impl Serialize for Attested {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ShownReport::from(&self.0).serialize(serializer)
    }
}

impl fmt::Display for Attested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for artifact in &self.0.artifacts {
            let root = harmless(&artifact.root);
            match (&artifact.statement, &artifact.unattested) {
                (Some(statement), _) => {
                    let files = counted(artifact.subjects as u64, "file");
                    let is_failed = artifact.predicate_type.as_deref() == Some(INCOMPLETE_TYPE);
                    let how = if is_failed { "recorded, vouched for by nobody:  " } else { "" };
                    writeln!(f, "{root}  {files}  {how}sha256:{statement}")?;
                }
                (None, Some(reason)) => writeln!(f, "{root}  not attested: {}", harmless(reason))?,
                (None, None) => writeln!(f, "{root}  nothing there could be attested")?,
            }
            if let ModelSignature::Refused(reason) = &artifact.model_signature {
                writeln!(f, "  no model.sig: {}", harmless(reason))?;
            }
            for left_out in &artifact.left_out {
                let (name, reason) = (harmless(&left_out.name), harmless(&left_out.reason));
                writeln!(f, "  left out: {name}: {reason}")?;
            }
        }
        Ok(())
    }
}
