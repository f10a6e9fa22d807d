use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use attestfs_attestation::KeyHint;
use serde::Serialize;

use super::{
    exit::Exit,
    failure::Failure,
    output::{Output, shown},
};
use crate::signer::new_key_pair;

/// Make a key pair: attestfs.key signs, attestfs.pub verifies
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  attestfs keygen --out keys
  attestfs run --key keys/attestfs.key --stage train --dir model -- python train.py
  attestfs verify model --key keys/attestfs.pub")]
pub(super) struct Keygen {
    /// Where the two files are written; made if its parent is there. Nothing is overwritten
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    private_key: PathBuf,
    public_key: PathBuf,
    hint: KeyHint,
}

impl Keygen {
    pub(super) fn carry_out(self, output: Output) -> Result<Exit, Failure> {
        let (private_key, public_key) =
            (self.out.join("attestfs.key"), self.out.join("attestfs.pub"));
        let hint = make(&self.out, &private_key, &public_key)?;
        output.show(&Made { private_key, public_key, hint })?;
        Ok(Exit::Yes)
    }
}

fn make(directory: &Path, private: &Path, public: &Path) -> Result<KeyHint, Failure> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            let message = format!("{}: {error}", directory.display());
            return Err(Failure::environment(message).with_next_step("give another --out"));
        }
        _ => {}
    }
    Ok(new_key_pair(private, public)?.verifying_key().hint())
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "private key  {}  (keep it to yourself)", shown(&self.private_key))?;
        writeln!(f, "public key   {}  (give it to whoever verifies)", shown(&self.public_key))?;
        writeln!(f, "named        {}", self.hint)
    }
}
