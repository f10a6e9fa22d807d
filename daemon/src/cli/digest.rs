use std::{
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use attestfs_attestation::escaped;
use attestfs_digest::{blake3, sha256};
use clap::ValueEnum;
use serde::Serialize;

use super::{
    exit::Exit,
    failure::Failure,
    output::{Output, complain, print, print_json},
    progress::Progress,
};
use crate::artifact::{ContentError, Watch, hash, open_file};

/// Print digests of files, line by line as b3sum and sha256sum do
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  attestfs digest model/model.safetensors                        as b3sum
  attestfs digest --algorithm sha256 data/* | sha256sum --check")]
pub(super) struct Digest {
    /// The files; what cannot be read is reported, and the others are hashed
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Which digest
    #[arg(long, value_enum, default_value_t = Algorithm::Blake3)]
    algorithm: Algorithm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Algorithm {
    Blake3,
    Sha256,
}

/// The answer for programs.
#[derive(Default, Serialize)]
struct Digests {
    digests: Vec<Hashed>,
    errors: Vec<Unreadable>,
}

#[derive(Serialize)]
struct Hashed {
    path: String,
    algorithm: Algorithm,
    digest: String,
    size: u64,
}

#[derive(Serialize)]
struct Unreadable {
    path: String,
    message: String,
}

impl Digest {
    pub(super) fn carry_out(self, output: Output) -> Result<Exit, Failure> {
        let progress = Progress::new();
        let mut digests = Digests::default();
        for path in &self.paths {
            match self.algorithm.of(path, &progress) {
                Ok(hashed) if output.is_json() => digests.digests.push(hashed),
                Ok(hashed) => {
                    progress.hidden_while(|| print(&line(path, &hashed.digest)))?;
                }
                Err(error) => digests.errors.push(Unreadable::new(path, &error, output, &progress)),
            }
        }
        if output.is_json() {
            print_json(&digests)?;
        }
        Ok(if digests.errors.is_empty() { Exit::Yes } else { Exit::Refused })
    }
}

impl Algorithm {
    fn of(self, path: &Path, progress: &Progress) -> Result<Hashed, ContentError> {
        let file = open_file(path)?;
        progress.expect(file.metadata()?.len());
        let (digest, size) = hash(&file, progress, |content, length| match self {
            Self::Blake3 => Ok(blake3(content, length)?.to_string()),
            Self::Sha256 => Ok(sha256(content, length)?.to_string()),
        })?;
        Ok(Hashed { path: spelled(path), algorithm: self, digest, size })
    }
}

impl Unreadable {
    fn new(path: &Path, error: &ContentError, output: Output, progress: &Progress) -> Self {
        if !output.is_json() {
            progress.hidden_while(|| complain(&format!("{}: {error}", path.display())));
        }
        Self { path: spelled(path), message: error.to_string() }
    }
}

/// One line of `sha256sum`. A name that would break the line is written with `\\`, `\n` and `\r` in
/// it, which the line announces with a backslash at its beginning; all other bytes stay.
fn line(path: &Path, digest: &str) -> Vec<u8> {
    let name = path.as_os_str().as_bytes();
    let is_escaped = name.iter().any(|byte| matches!(byte, b'\\' | b'\n' | b'\r'));
    let mut line = Vec::with_capacity(digest.len() + name.len() + 4);
    if is_escaped {
        line.push(b'\\');
    }
    line.extend_from_slice(digest.as_bytes());
    line.extend_from_slice(b"  ");
    for byte in name {
        match byte {
            b'\\' => line.extend_from_slice(br"\\"),
            b'\n' => line.extend_from_slice(br"\n"),
            b'\r' => line.extend_from_slice(br"\r"),
            other => line.push(*other),
        }
    }
    line.push(b'\n');
    line
}

fn spelled(path: &Path) -> String {
    escaped(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_breaks_the_line_is_escaped_and_announced() {
        let written = |name: &str| String::from_utf8(line(Path::new(name), "0f")).unwrap();
        assert_eq!(written("a b"), "0f  a b\n");
        assert_eq!(written("a\\b"), "\\0f  a\\\\b\n");
        assert_eq!(written("a\nb\r"), "\\0f  a\\nb\\r\n");
        assert_eq!(written("-x*"), "0f  -x*\n");
    }
}
