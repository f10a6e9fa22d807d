use std::{io, path::PathBuf};

use attestfs_fs::MountError;

use crate::{
    client::ClientError,
    config::StateError,
    control::{Failure, FrameError},
    cure::{cure, cure_of_device},
    metrics::MetricsError,
    passthrough::NoPassthrough,
    session::{Misplaced, SessionError},
};

/// Why a directory is not served. Each is one line for the user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error("the backing directory {}: {source}", path.display())]
    Backing { path: PathBuf, source: io::Error },
    #[error("the mount point {}: {source}", path.display())]
    MountPoint { path: PathBuf, source: io::Error },
    #[error(
        "the mount point {} lies in {}, which would show itself in itself",
        mount_point.display(), backing.display()
    )]
    WithinItself { mount_point: PathBuf, backing: PathBuf },
    #[error("descriptor {number} is not open: {reason}")]
    NoDescriptor { number: i32, reason: String },
    #[error("descriptor {number} is no /dev/fuse, but {found}")]
    NotFuse { number: i32, found: String },
    #[error("{} {what}", socket.display())]
    HandOver { socket: PathBuf, what: String },
    #[error("user {user} listens at {}, who may not be given a mount", socket.display())]
    Receiver { socket: PathBuf, user: u32 },
    #[error("mounting needs the rights of root")]
    NoRights,
    #[error("give BACKING and MOUNTPOINT, or --receive")]
    NoPlaces,
    #[error(
        "nothing can be recorded of a mount that is read-only: leave --stage or --read-only out"
    )]
    StageOfReadOnly,
    #[error(transparent)]
    Misplaced(#[from] Misplaced),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(transparent)]
    Daemon(#[from] ClientError),
    #[error(transparent)]
    NoPassthrough(#[from] NoPassthrough),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error("talking to the process that serves: {0}")]
    Frame(#[from] FrameError),
    #[error("the mount in the background {reason}")]
    Background { reason: String },
    /// As the process in the background said it.
    #[error("{message}")]
    Told { message: String, next_step: Option<String>, usage: bool },
    #[error("{0}")]
    Stage(Failure),
    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },
}

impl ServeError {
    /// Whether the command line asks for nothing that can be done, rather than that something on
    /// this machine is in the way.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Misplaced(_)
                | Self::WithinItself { .. }
                | Self::StageOfReadOnly
                | Self::NoPlaces
                | Self::Metrics(MetricsError::NoAddress { .. })
                | Self::Told { usage: true, .. }
        )
    }

    /// What to do about it, where the sentence does not say so.
    pub(crate) fn next_step(&self) -> Option<String> {
        let step = match self {
            Self::Backing { source, .. } => {
                cure(source).unwrap_or("BACKING is a directory that is there")
            }
            Self::MountPoint { source, .. } => {
                cure(source).unwrap_or("make the directory first: mkdir -p MOUNTPOINT")
            }
            Self::NoRights => {
                "'attestfs run' needs none, and a process that has them can hand the mount over \
                 ('attestfs mount --hand-over', or MOUNTPOINT /dev/fd/N)"
            }
            Self::Mount(MountError::Device(errno)) => cure_of_device(&(*errno).into()),
            Self::Mount(MountError::Mount { .. }) => "'attestfs doctor' says what is missing",
            Self::NoPassthrough(_) => NoPassthrough::NEXT_STEP,
            Self::Metrics(error) => return error.next_step(),
            Self::System { source, .. } => return cure(source).map(ToOwned::to_owned),
            Self::WithinItself { .. } => "mount beside it, or over it",
            Self::Mount(MountError::Broken { place, .. }) => {
                let place = place.display();
                return Some(format!(
                    "take away what is left, and mount it again: attestfs umount {place}"
                ));
            }
            Self::Receiver { user, .. } => {
                return Some(format!("if that is the receiver: --receiver-user {user}"));
            }
            Self::Session(error) => return error.next_step(),
            Self::State(error) => return error.next_step(),
            Self::Daemon(error) => return error.next_step(),
            Self::Told { next_step, .. } => return next_step.clone(),
            Self::Stage(failure) => return failure.next_step.clone(),
            _ => return None,
        };
        Some(step.to_owned())
    }

    pub(super) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}
