use std::{
    ffi::OsStr,
    fmt, fs,
    path::{Path, PathBuf},
};

use attestfs_attestation::{
    Bundle, IgnoredPaths, KeyHint, MODEL_SIGNATURE_FILE, ModelManifest, Needed, OmsRefusal,
    OmsRefusals, Payload, SigningKey, model_statement_ignoring,
};
use attestfs_digest::Sha256;
use serde::Serialize;

use super::{
    exit::Exit,
    failure::Failure,
    output::{Output, shown},
    progress::Progress,
    story::counted,
};
use crate::{
    artifact::{Artifact, Directory, Found},
    publication::{DurableFiles, Files, Occupant},
    signer::key_from_path,
};

/// Sign a directory at rest: model.sig (OMS)
///
/// The signature says what the directory holds, and nothing of how that was made: for this, make it
/// under 'attestfs run'.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  attestfs sign model --key keys/attestfs.key
  attestfs sign model --key keys/attestfs.key --ignore-paths model/logs
  model_signing verify key model --signature model/model.sig --public_key keys/attestfs.pub")]
pub(super) struct Sign {
    /// The directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// The private key
    #[arg(long, value_name = "F")]
    key: PathBuf,

    /// Where the signature is written; without it, to DIR/model.sig
    #[arg(long, value_name = "F")]
    signature: Option<PathBuf>,

    /// A file or directory below DIR that is not signed; the signature says so; may be repeated
    #[arg(long, value_name = "P")]
    ignore_paths: Vec<PathBuf>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Signed {
    signature: PathBuf,
    attestation: Sha256,
    signer: KeyHint,
    files: usize,
}

impl Sign {
    pub(super) fn carry_out(self, output: Output) -> Result<Exit, Failure> {
        let root = self.root()?;
        let signature = match &self.signature {
            Some(path) => placed(path)?,
            None => root.join(MODEL_SIGNATURE_FILE),
        };
        let ignored = self.ignored(&root, &signature)?;
        let key = self.private_key(&root)?;
        let payload = statement(&root, &ignored)?;
        let signed = Signed {
            attestation: payload.sha256(),
            signer: key.verifying_key().hint(),
            files: ModelManifest::read(&payload).map_err(Failure::refused)?.files(),
            signature,
        };
        let bundle = Bundle::sign_model(payload, &key).map_err(Failure::environment)?;
        write(&signed.signature, &bundle.to_json())?;
        output.show(&signed)?;
        Ok(Exit::Yes)
    }

    fn root(&self) -> Result<PathBuf, Failure> {
        match Artifact::at(&self.directory)? {
            Artifact::Directory(root) => Ok(root),
            Artifact::File(path) => {
                let message = format!("{}: a model signature covers a directory", path.display());
                Err(Failure::usage(message)
                    .with_next_step("put the file into a directory and sign that"))
            }
        }
    }

    /// A key that is signed is a key that is copied with the model.
    fn private_key(&self, root: &Path) -> Result<SigningKey, Failure> {
        let key = key_from_path(&self.key)?;
        if fs::canonicalize(&self.key).is_ok_and(|key| key.starts_with(root)) {
            let message = format!(
                "the key {} lies in the directory that is to be signed",
                self.key.display()
            );
            return Err(Failure::usage(message)
                .with_next_step("move it to where nobody copies it along with the model"));
        }
        Ok(key)
    }

    fn ignored(&self, root: &Path, signature: &Path) -> Result<IgnoredPaths, Failure> {
        let mut ignored = IgnoredPaths::default();
        if let Ok(name) = signature.strip_prefix(root) {
            ignored.add(&name.to_string_lossy()).map_err(Failure::usage)?;
        }
        for path in &self.ignore_paths {
            let outside = || {
                let message = format!("--ignore-paths {}: not below the directory", path.display());
                Failure::usage(message)
                    .with_next_step("paths are relative to the working directory, not to DIR")
            };
            let below = placed(path)?;
            let name = below.strip_prefix(root).ok().and_then(Path::to_str);
            ignored.add(name.ok_or_else(outside)?).map_err(Failure::usage)?;
        }
        Ok(ignored)
    }
}

fn statement(root: &Path, ignored: &IgnoredPaths) -> Result<Payload, Failure> {
    let failed = |error: &dyn fmt::Display| {
        Failure::environment(format_args!("{}: {error}", root.display()))
    };
    let directory = Directory::open(root).map_err(|error| failed(&error))?;
    let found: Vec<Found> = directory
        .walk()
        .map_err(|error| failed(&error))?
        .into_iter()
        .filter(|found| !found.path.to_str().is_some_and(|name| ignored.cover(name)))
        .collect();
    let entries = directory
        .survey(&found, |_| Needed::Sha256, &Progress::new())
        .map_err(|error| failed(&error))?;
    let name = root.file_name().unwrap_or(root.as_os_str()).to_string_lossy();
    model_statement_ignoring(&name, &entries, ignored).map_err(|refusals| unsigned(root, &refusals))
}

/// A cache of models keeps its files elsewhere, and needs its links.
fn unsigned(root: &Path, refusals: &OmsRefusals) -> Failure {
    let failure = Failure::refused(format_args!("{}: {refusals}", root.display()));
    if !refusals.0.iter().any(|refusal| matches!(refusal, OmsRefusal::Symlink { .. })) {
        return failure;
    }
    failure.with_next_step(
        "sign a copy that holds the files themselves, made with cp -rL; or the directory that holds both, with the links left out by --ignore-paths: a policy accepts a file by the name of a link or by its own",
    )
}

/// The path of a file that need not exist, in a directory that must, without symbolic links.
fn placed(path: &Path) -> Result<PathBuf, Failure> {
    let failed = |error| Failure::environment(format_args!("{}: {error}", path.display()));
    let absolute = std::path::absolute(path).map_err(failed)?;
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => Ok(fs::canonicalize(parent).map_err(failed)?.join(name)),
        _ => Err(Failure::usage(format_args!("{}: not the name of a file", path.display()))),
    }
}

fn write(path: &Path, bundle: &[u8]) -> Result<(), Failure> {
    let failed = |error| Failure::environment(format_args!("{}: {error}", path.display()));
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(OsStr::to_str))
    else {
        return Err(Failure::usage(format_args!("{}: not a name in UTF-8", path.display())));
    };
    let directory = fs::File::open(directory).map_err(failed)?;
    if Occupant::at(&directory, name).map_err(failed)? == Occupant::Stranger {
        let message = format!("{}: not a signature, and not replaced by one", path.display());
        return Err(
            Failure::refused(message).with_next_step("move it away, or give another --signature")
        );
    }
    DurableFiles.replace(&directory, name, bundle).map_err(failed)
}

impl fmt::Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} signed", counted(self.files as u64, "file"))?;
        writeln!(f, "signature  {}", shown(&self.signature))?;
        writeln!(f, "signed by  {}", self.signer)
    }
}
