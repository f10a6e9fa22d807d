//! What every store refuses, and says alike, whatever it keeps its memory in.

use attestfs_digest::Digests;
use attestfs_fs::Unknown;

use super::{LineageError, MaterialDigest};

/// # Errors
/// [`LineageError::BadName`].
pub(super) fn check_name(what: &'static str, name: &str) -> Result<(), LineageError> {
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.contains('\0') {
        return Ok(());
    }
    let name = name.chars().take(40).collect();
    Err(LineageError::BadName { what, name, bytes_max: NAME_BYTES_MAX })
}

/// # Errors
/// [`LineageError::TooLarge`].
pub(super) fn check_frozen(bytes: &[u8]) -> Result<(), LineageError> {
    if bytes.len() <= FROZEN_BYTES_MAX {
        return Ok(());
    }
    Err(LineageError::TooLarge {
        what: "a frozen commit",
        bytes: bytes.len(),
        bytes_max: FROZEN_BYTES_MAX,
    })
}

impl MaterialDigest {
    /// What a run's last word and the store's knowledge of the version give together.
    pub(super) fn of(unknown: Option<Unknown>, known: Option<Digests>) -> Self {
        match (unknown, known) {
            // The run saw something else than what the store knows, or cannot tell.
            (Some(reason @ (Unknown::Changed | Unknown::Unreadable(_))), _)
            | (Some(reason), None) => Self::Unknown { reason },
            (_, Some(digests)) => Self::Known { digests },
            (None, None) => Self::Pending,
        }
    }
}

/// One spelling for one directory. That of the root directory is empty.
pub(super) fn without_slash(path: &str) -> &str {
    path.trim_end_matches('/')
}

/// Whether an artifact root, without trailing slash, is this path or lies below it.
pub(crate) fn is_under(root: &str, path: &str) -> bool {
    root.strip_prefix(without_slash(path))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Longer than any UUID or path component that somebody uses as a name.
const NAME_BYTES_MAX: usize = 255;

/// More than a statement with its manifest needs; a bound for what a mistaken caller can make the
/// store keep.
const FROZEN_BYTES_MAX: usize = 256 << 20;
