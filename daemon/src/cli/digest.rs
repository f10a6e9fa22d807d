use std::{
    fs::File,
    ops::ControlFlow,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use attestfs_attestation::escaped;
use attestfs_digest::blake3_of;
use clap::ValueEnum;
use serde::Serialize;

use super::{
    exit::Exit,
    failure::Failure,
    output::{Output, complain, print, print_json},
    progress::Progress,
};
use crate::artifact::{ContentError, Watch, hash, open_file, sha256_of_each, threads};

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
        let batches = self.paths.chunks(self.algorithm.files_at_once());
        let hashed = batches.flat_map(|batch| self.algorithm.of_each(batch, &progress));
        for (path, hashed) in self.paths.iter().zip(hashed) {
            match hashed {
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
    /// BLAKE3 of one file keeps all cores busy; SHA-256 is one chain, and a core is only busy with several.
    fn files_at_once(self) -> usize {
        match self {
            Self::Blake3 => 1,
            Self::Sha256 => 64,
        }
    }

    fn of_each(self, paths: &[PathBuf], progress: &Progress) -> Vec<Result<Hashed, ContentError>> {
        let opened: Vec<_> = paths.iter().map(|path| open(path, progress)).collect();
        let files: Vec<_> = opened.iter().filter_map(|opened| opened.as_ref().ok()).collect();
        let mut digests = self.of_files(&files, progress).into_iter();
        let hashed = |(path, opened): (&PathBuf, Result<File, ContentError>)| {
            opened?;
            let (digest, size) = digests.next().expect("there is one for each open file")?;
            Ok(Hashed { path: spelled(path), algorithm: self, digest, size })
        };
        paths.iter().zip(opened).map(hashed).collect()
    }

    /// Each in hexadecimal digits, with the size of the file.
    fn of_files(
        self,
        files: &[&File],
        progress: &Progress,
    ) -> Vec<Result<(String, u64), ContentError>> {
        match self {
            Self::Blake3 => files.iter().map(|file| blake3(file, progress)).collect(),
            Self::Sha256 => {
                let digests = sha256_of_each(files, progress).into_iter();
                digests
                    .map(|hashed| hashed.map(|(sha256, size)| (sha256.to_string(), size)))
                    .collect()
            }
        }
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

fn open(path: &Path, progress: &Progress) -> Result<File, ContentError> {
    let file = open_file(path)?;
    progress.expect(file.metadata()?.len());
    Ok(file)
}

fn blake3(file: &File, progress: &Progress) -> Result<(String, u64), ContentError> {
    hash(file, progress, |content, length| {
        let go_on = &mut |_| ControlFlow::Continue(());
        let (blake3, _outboard) = blake3_of(content, length, threads(), go_on)?;
        Ok(blake3.to_string())
    })
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
