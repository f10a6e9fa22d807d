use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::named::{Choice, Meant, Named};
use crate::{
    artifact::Claimed,
    cli::{
        exit::Exit,
        failure::Failure,
        output::{Output, print, shown},
    },
    config::Environment,
};

/// Write the bundle of an attestation, for whoever verifies elsewhere
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  attestfs attestation export model/model.safetensors --out model.sigstore.json
  attestfs attestation export 2cacb0ae68aa | jq .dsseEnvelope.payloadType")]
pub(super) struct Export {
    #[command(flatten)]
    named: Named,

    /// Where to; nothing is overwritten. Without it, to stdout
    #[arg(long, value_name = "F")]
    out: Option<PathBuf>,
}

#[derive(Serialize)]
struct Exported {
    bundle: PathBuf,
    /// Attestations that name the same content.
    others: Vec<Claimed>,
    #[serde(skip)]
    choice: Choice,
}

impl Export {
    pub(super) fn carry_out(
        self,
        output: Output,
        environment: &Environment,
    ) -> Result<Exit, Failure> {
        let Meant { bundle, choice } = self.named.meant(environment)?;
        match self.out {
            None => print(&bundle)?,
            Some(out) => {
                write_new(&out, &bundle)?;
                output.show(&Exported { bundle: out, others: choice.others().to_vec(), choice })?;
            }
        }
        Ok(Exit::Yes)
    }
}

impl std::fmt::Display for Exported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "bundle       {}", shown(&self.bundle))?;
        write!(f, "{}", self.choice)
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(|error| Failure::environment(format_args!("{}: {error}", path.display())))
}
