//! The program in a directory of its own.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;

/// A working directory, and the program in it. Its state lies there too, and is not there yet.
pub(crate) struct Tool(TempDir);

/// How the program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Tool {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With a key pair in `keys`, and a small model in `model`.
    pub(crate) fn with_model() -> Self {
        let tool = Self::new();
        fs::create_dir(tool.path("keys")).unwrap();
        tool.run(["keygen", "--out", "keys"]).is(0);
        tool.write("model/config.json", "{}");
        tool.write("model/empty", "");
        tool.write("model/sub/weights.bin", "weights");
        tool
    }

    /// The same, signed.
    pub(crate) fn with_signed_model() -> Self {
        let tool = Self::with_model();
        tool.run(["sign", "model", "--key", "keys/attestfs.key"]).is(0);
        tool
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Answer {
        self.other(env!("CARGO_BIN_EXE_attestfs"), arguments)
    }

    pub(crate) fn other<S: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = S>,
    ) -> Answer {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(self.0.path())
            .env("ATTESTFS_STATE", self.path("state"))
            .env_remove("ATTESTFS_LOG")
            .output()
            .unwrap();
        Answer {
            code: output.status.code().unwrap_or(-1),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Answer {
    /// With this exit code.
    #[track_caller]
    pub(crate) fn is(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    /// With an error that has these words, and two lines at most; where several files are refused, a
    /// line more for each.
    #[track_caller]
    pub(crate) fn says(self, words: &str) -> Self {
        assert!(self.stderr.contains(words), "{self:?}");
        assert!(self.stderr.starts_with("attestfs: "), "{self:?}");
        let lines: Vec<_> = self.stderr.lines().collect();
        let has_shape = match lines.as_slice() {
            [_] => true,
            [_, next, files @ ..] => {
                let are_files = files.iter().all(|line| line.starts_with("  refused: "));
                next.starts_with("  next: ") && are_files
            }
            _ => false,
        };
        assert!(has_shape, "{self:?}");
        self
    }

    /// What it says to people.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// What it says to programs.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let parsed = serde_json::from_slice(&self.stdout);
        assert!(parsed.is_ok(), "no JSON: {self:?}");
        parsed.unwrap_or_default()
    }
}
