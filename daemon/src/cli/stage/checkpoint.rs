use std::{fmt, path::PathBuf};

use serde::Serialize;

use crate::{
    cli::{
        exit::Exit,
        failure::Failure,
        output::Output,
        query::{Store, known_path},
        story::counted,
    },
    config::Environment,
    control::{CommitReport, ModelSignature},
    text::harmless,
};

/// Attest a file or directory that a running stage has completed
///
/// Waits until nobody writes below PATH any more, as long as the run was told to. What is still open
/// then is left out and named. A later failure of the run does not take the checkpoint back.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  attestfs stage checkpoint model/checkpoint-1000")]
pub(super) struct Checkpoint {
    /// The file or directory, below a --dir of the run
    #[arg(value_name = "PATH")]
    path: PathBuf,

    #[command(flatten)]
    store: Store,
}

#[derive(Serialize)]
#[serde(transparent)]
struct Made(CommitReport);

impl Checkpoint {
    pub(super) fn carry_out(
        self,
        output: Output,
        environment: &Environment,
    ) -> Result<Exit, Failure> {
        let path = known_path(&self.path)?;
        let made = Made(self.store.daemon(environment)?.checkpoint(&path)?);
        output.show(&made)?;
        Ok(if made.is_attested() { Exit::Yes } else { Exit::Refused })
    }
}

impl Made {
    fn is_attested(&self) -> bool {
        self.0.artifacts.iter().any(|artifact| artifact.statement.is_some())
    }
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for artifact in &self.0.artifacts {
            let root = harmless(&artifact.root);
            match &artifact.statement {
                Some(statement) => {
                    let files = counted(artifact.subjects as u64, "file");
                    writeln!(f, "{root}  {files}  sha256:{statement}")?;
                }
                None => writeln!(f, "{root}  nothing there could be attested")?,
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
