use std::{io, path::PathBuf};

use crate::{
    client::ClientError,
    config::StateError,
    control::{Code, Failure},
    cure::cure,
    journal::RecordError,
    policy::PolicyFileError,
    signer::KeyFileError,
};

use super::{left_behind::LeftBehind, lock::Holder};

/// Why nothing can be recorded there. Each is one line for the user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("{}: {source}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error(
        "the state directory {} lies below {}, where whoever writes there could change it",
        state.display(), tree.display()
    )]
    StateInside { state: PathBuf, tree: PathBuf },
    #[error(
        "the key {} lies below {}, where whoever reads there could read it",
        key.display(), tree.display()
    )]
    KeyInside { key: PathBuf, tree: PathBuf },
    #[error(
        "{} is seen through a mount of attestfs itself, of {}",
        path.display(), behind.display()
    )]
    Mounted { path: PathBuf, behind: PathBuf },
    #[error("{} is served already by {holder}", tree.display())]
    Served { tree: PathBuf, holder: Holder },
    #[error("{0}")]
    LeftBehind(LeftBehind),
    #[error(transparent)]
    Policy(#[from] PolicyFileError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Key(#[from] KeyFileError),
    #[error("{source}, in {}", directory.display())]
    Journal { directory: PathBuf, source: RecordError },
    #[error(transparent)]
    Daemon(#[from] ClientError),
}

impl SessionError {
    /// What to do about it, where the sentence does not say so.
    pub(crate) fn next_step(&self) -> Option<String> {
        let step = match self {
            Self::Directory { source, .. } => {
                cure(source).unwrap_or("name a directory that is there, and that you may read")
            }
            Self::Journal { source, .. } => return source.next_step().map(ToOwned::to_owned),
            Self::StateInside { .. } => "give another --state DIR, outside of it",
            Self::KeyInside { .. } => "keep it elsewhere, and give it with --key",
            Self::Mounted { .. } => {
                "name what lies behind it, or open a stage on it with 'attestfs stage open'"
            }
            Self::Served { holder, .. } => return Some(holder.next_step()),
            Self::LeftBehind(_) => "wait until it has ended, or end it",
            Self::Policy(PolicyFileError::Read { .. }) => "name the file of the policy",
            Self::Policy(_) => "'attestfs policy check FILE' says what is wrong with it",
            Self::Key(KeyFileError::Io { .. }) => {
                "name a private key, or make one with 'attestfs keygen'"
            }
            Self::State(error) => return error.next_step(),
            Self::Daemon(error) => return error.next_step(),
            Self::Key(_) => return None,
        };
        Some(step.to_owned())
    }
}

impl From<RecordError> for Failure {
    fn from(error: RecordError) -> Self {
        let next_step = error.next_step().map(ToOwned::to_owned);
        Self { next_step, ..Self::new(Code::Journal, error) }
    }
}

impl From<SessionError> for Failure {
    /// What another process is told, that asked for the session.
    fn from(error: SessionError) -> Self {
        let code = match &error {
            SessionError::Key(_) | SessionError::KeyInside { .. } => Code::Key,
            SessionError::Journal { .. } => Code::Journal,
            _ => Code::State,
        };
        match error {
            SessionError::Daemon(error) => error.into(),
            error => {
                let next_step = error.next_step();
                Self { next_step, ..Self::new(code, error) }
            }
        }
    }
}
