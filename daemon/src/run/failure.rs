use std::{io, path::PathBuf};

use attestfs_fs::MountError;

use crate::{
    control::FrameError,
    cure::{cure, cure_of_device},
    lock::LockFailure,
    metrics::MetricsError,
    passthrough::NoPassthrough,
    session::{Misplaced, SessionError},
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
    #[error(transparent)]
    Misplaced(#[from] Misplaced),
    #[error(
        "descriptor {descriptor} is open on {}, past the mount: close it, or give a file as standard input, output or error",
        path.display()
    )]
    Inherited { descriptor: i32, path: PathBuf },
    #[error("/dev/fuse cannot be opened: {0}")]
    NoFuse(io::Error),
    #[error("no private mount namespace: {0}")]
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
    Session(#[from] SessionError),
    #[error(transparent)]
    Lock(#[from] LockFailure),
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(transparent)]
    NoPassthrough(#[from] NoPassthrough),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error("talking to the process that mounts: {0}")]
    Frame(#[from] FrameError),
    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },
}

impl RunError {
    /// The exit code that the contract gives it.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Overlap { .. }
            | Self::OutsideTrees { .. }
            | Self::Misplaced(_)
            | Self::Metrics(MetricsError::NoAddress { .. }) => 2,
            Self::Lock(failure) if failure.is_usage() => 2,
            Self::Session(
                SessionError::Served { .. }
                | SessionError::LeftBehind(_)
                | SessionError::Mounted { .. },
            ) => 3,
            Self::NotExecutable { .. } => 126,
            Self::NotFound { .. } => 127,
            _ => 125,
        }
    }

    /// What to do about it, where the sentence does not say so.
    pub(super) fn next_step(&self) -> Option<String> {
        match self {
            Self::Directory { source, .. } => Some(
                cure(source)
                    .unwrap_or("name a directory that is there, and that you may read")
                    .to_owned(),
            ),
            Self::NoFuse(error) => Some(cure_of_device(error).to_owned()),
            Self::NoNamespace(_) | Self::Inside(_) | Self::Mount(MountError::Mount { .. }) => {
                Some("'attestfs doctor' says what is missing".to_owned())
            }
            Self::NoPassthrough(_) => Some(NoPassthrough::NEXT_STEP.to_owned()),
            Self::Metrics(error) => error.next_step(),
            Self::System { source, .. } => cure(source).map(ToOwned::to_owned),
            Self::Session(error) => error.next_step(),
            Self::Lock(failure) => failure.next_step().map(ToOwned::to_owned),
            _ => None,
        }
    }

    pub(super) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}
