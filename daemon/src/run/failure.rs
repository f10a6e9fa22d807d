use std::{io, path::PathBuf};

use attestfs_fs::MountError;

use crate::{
    client::ClientError, config::StateError, control::FrameError, journal::RecordError,
    signer::KeyFileError,
};

/// Why a run did not start, or could not be attested. Each is one line for the user.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    #[error("--dir {}: {source}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("--dir {} and --dir {} overlap: give the upper one only", one.display(), other.display())]
    Overlap { one: PathBuf, other: PathBuf },
    #[error("{option} {} is not below any --dir", path.display())]
    OutsideTrees { option: &'static str, path: PathBuf },
    #[error(
        "--out {} is relative to the first --dir, which makes it {}: if you mean {}, give --out with that path",
        given.display(), taken.display(), meant.display()
    )]
    Misplaced { given: PathBuf, taken: PathBuf, meant: PathBuf },
    #[error(
        "the state directory {} lies below --dir {}, where the command could change it: give another --state",
        state.display(), tree.display()
    )]
    StateInside { state: PathBuf, tree: PathBuf },
    #[error(
        "the key {} lies below --dir {}, where the command could read it: keep it elsewhere",
        key.display(), tree.display()
    )]
    KeyInside { key: PathBuf, tree: PathBuf },
    #[error(
        "descriptor {descriptor} is open on {}, past the mount: close it, or give a file as standard input, output or error",
        path.display()
    )]
    Inherited { descriptor: i32, path: PathBuf },
    #[error("{} is served already by {holder}: end that first", tree.display())]
    Served { tree: PathBuf, holder: String },
    #[error(
        "/dev/fuse cannot be opened ({0}): load the fuse module, or give the container the device"
    )]
    NoFuse(io::Error),
    #[error("no private mount namespace: {0}; `attestfs doctor` says why")]
    NoNamespace(String),
    #[error("{0}")]
    Inside(String),
    #[error("the process that mounts ended before it was done")]
    InsideEnded,
    #[error("{command}: {reason}")]
    NotFound { command: String, reason: String },
    #[error("{command}: {reason}")]
    NotExecutable { command: String, reason: String },
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Key(#[from] KeyFileError),
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(transparent)]
    Journal(#[from] RecordError),
    #[error(transparent)]
    Daemon(#[from] ClientError),
    #[error("talking to the process that mounts: {0}")]
    Frame(#[from] FrameError),
    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },
}

impl RunError {
    /// The exit code that the contract gives it.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Overlap { .. } | Self::OutsideTrees { .. } | Self::Misplaced { .. } => 2,
            Self::Served { .. } => 3,
            Self::NotExecutable { .. } => 126,
            Self::NotFound { .. } => 127,
            _ => 125,
        }
    }

    pub(super) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}
