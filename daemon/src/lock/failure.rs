use std::{io, path::PathBuf};

use attestfs_attestation::{LOCK_HEADER, LockError};

use crate::journal::ReadError;

/// Why a lock cannot be used or written. Each is one line for the user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockFailure {
    /// `--locked` without a lock.
    #[error(
        "--lock {}: there is none yet",
        path.display()
    )]
    Missing { path: PathBuf },
    /// `model.sig` would have to cover it, and no run wrote it.
    #[error(
        "--lock {} lies below --out {}, which is signed as a whole",
        path.display(), output.display()
    )]
    InsideOutput { path: PathBuf, output: PathBuf },
    /// What has no digest cannot be locked.
    #[error("--lock needs the digest of every file that is opened")]
    Inputs,
    /// Written files are named in UTF-8.
    #[error("--lock {}: a lock is a file that is named in UTF-8", path.display())]
    Name { path: PathBuf },
    /// It was made for other directories.
    #[error(
        "--lock {}: it is about {locked} directories, and the run has {given}",
        path.display()
    )]
    Trees { path: PathBuf, locked: usize, given: usize },
    /// What the lock has is not all there, and a command that looks for files would do with less.
    #[error(
        "--lock {}: {gone} is locked, and there is no such file{}",
        path.display(), and_others(*others)
    )]
    Gone { path: PathBuf, gone: String, others: usize },
    /// It could not be written when the command is over.
    #[error("--lock {}: its directory cannot be written: {source}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    /// Something else has the name.
    #[error(
        "--lock {}: it does not begin with '{LOCK_HEADER}', and what is no lock is not replaced",
        path.display()
    )]
    NoLock { path: PathBuf },
    /// It is not what attestfs wrote.
    #[error(
        "--lock {}: {reason}",
        path.display()
    )]
    Lock { path: PathBuf, reason: Box<LockError> },
    /// It cannot be read or written.
    #[error("--lock {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// Somebody else made it while the command ran.
    #[error("{} is not written: something of that name came up during the run", path.display())]
    CameUp { path: PathBuf },
    /// The lock would say less than the run did.
    #[error(
        "{} is not written: '{opened}', which was opened, has no digest ({reason})",
        path.display()
    )]
    NoDigest { path: PathBuf, opened: String, reason: String },
    /// One line for two contents.
    #[error(
        "{} is not written: '{opened}' had another content when it was opened again",
        path.display()
    )]
    TwoContents { path: PathBuf, opened: String },
    /// What the run saw cannot be read.
    #[error(transparent)]
    Journal(#[from] ReadError),
}

impl LockFailure {
    /// What to do about it.
    pub(crate) fn next_step(&self) -> Option<&'static str> {
        match self {
            Self::Missing { .. } => Some("a run with --lock and without --locked writes it"),
            Self::InsideOutput { .. } => Some("keep it beside the output"),
            Self::Inputs => Some("leave --inputs out"),
            Self::Trees { .. } => {
                Some("give the same --dir in the same order, or write it anew with --lock-update")
            }
            Self::Gone { .. } => {
                Some("get the data that is locked, or write the lock anew with --lock-update")
            }
            Self::NoLock { .. } => Some("give another path"),
            Self::Lock { .. } => {
                Some("take it from version control again, or write it anew with --lock-update")
            }
            Self::Name { .. } => Some("give it another name"),
            Self::TwoContents { .. } => Some("keep the data still during a run"),
            Self::Directory { .. } | Self::Io { .. } | Self::CameUp { .. } => {
                Some("give a path that you may write to, and that nobody else does")
            }
            Self::NoDigest { .. } | Self::Journal(_) => None,
        }
    }

    /// Whether the command line is what is wrong.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Missing { .. }
                | Self::InsideOutput { .. }
                | Self::Inputs
                | Self::Name { .. }
                | Self::Trees { .. }
                | Self::Directory { .. }
                | Self::NoLock { .. }
        )
    }
}

fn and_others(others: usize) -> String {
    match others {
        0 => String::new(),
        others => format!(" (and {others} more)"),
    }
}
