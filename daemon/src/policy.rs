//! A policy as a file, with the keys and certificates that lie beside it. Read once, at start.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use attestfs_attestation::{AUTHORITY_FILE_MAX, Policy, PolicyError};

use crate::artifact::{ContentError, open_file};

/// Why a file gives no policy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PolicyFileError {
    /// It cannot be read.
    #[error("the policy {}: {source}", path.display())]
    Read { path: PathBuf, source: ContentError },
    /// It is no text.
    #[error("the policy {}: it is no text in UTF-8", path.display())]
    NotText { path: PathBuf },
    /// Those whom it is to judge could change it.
    #[error("the policy {}: {reason}", path.display())]
    Misplaced { path: PathBuf, reason: String },
    /// It says what a policy cannot say.
    #[error("the policy {}: {source}", path.display())]
    Policy { path: PathBuf, source: PolicyError },
}

/// Reads a policy, and the files that it names, which are relative to its own directory.
///
/// # Errors
/// It cannot be read, is no text, or says what a policy cannot say.
pub(crate) fn read_policy(path: &Path) -> Result<Policy, PolicyFileError> {
    read_placed_policy(path, &|_anywhere| Ok(()))
}

/// The same for whoever judges by it those who could change some files: `place` says why such a file,
/// the policy itself or one that it names, cannot be taken.
///
/// # Errors
/// Each variant of [`PolicyFileError`].
pub(crate) fn read_placed_policy(
    path: &Path,
    place: &dyn Fn(&Path) -> Result<(), String>,
) -> Result<Policy, PolicyFileError> {
    let owned = || path.to_owned();
    place(path).map_err(|reason| PolicyFileError::Misplaced { path: owned(), reason })?;
    let bytes = read(path, Policy::TEXT_MAX)
        .map_err(|source| PolicyFileError::Read { path: owned(), source })?;
    let text =
        String::from_utf8(bytes).map_err(|_not_text| PolicyFileError::NotText { path: owned() })?;
    let directory = path.parent().unwrap_or(Path::new(""));
    let mut beside = |name: &str| {
        let file = directory.join(name);
        place(&file)?;
        read(&file, AUTHORITY_FILE_MAX).map_err(|error| error.to_string())
    };
    Policy::parse(&text, &mut beside)
        .map_err(|source| PolicyFileError::Policy { path: owned(), source })
}

/// Reads one byte more than may be there, so that the parser can tell that there is more.
fn read(path: &Path, bytes_max: usize) -> Result<Vec<u8>, ContentError> {
    let mut bytes = Vec::new();
    open_file(path)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
