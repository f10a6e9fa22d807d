//! The places beside the content where a commit writes, when somebody else's files are there.

use std::{fmt, io, path::Path};

use attestfs_attestation::PUBLICATIONS;

use super::beneath::Directory;
use crate::{
    lineage::{LineageError, LineageStore, Origin},
    publication::Occupant,
};

/// Files that have the names of publications and are none: they are not replaced, and without its
/// place a publication is not made. Never empty.
#[derive(Debug)]
pub(super) struct Obstacles(Vec<(&'static str, Obstacle)>);

/// What is in the way.
#[derive(Debug)]
enum Obstacle {
    /// A run wrote it, and it is no attestation: it is the user's.
    Written,
    /// It is no attestation, and nobody knows whose it is.
    Stranger,
    /// Nobody can tell.
    Unreadable(io::Error),
}

/// What keeps a commit from publishing into the directory.
pub(super) fn obstacles(
    store: &dyn LineageStore,
    directory: &Directory,
) -> Result<Option<Obstacles>, LineageError> {
    let mut obstacles = Vec::new();
    for name in PUBLICATIONS {
        let obstacle = match Occupant::at(directory.file(), name) {
            // Attestations that a run copied along with a model are attestations all the same.
            Ok(Occupant::Nobody | Occupant::Publication) => continue,
            Ok(Occupant::Stranger) if is_written(store, directory, name)? => Obstacle::Written,
            Ok(Occupant::Stranger) => Obstacle::Stranger,
            Err(error) => Obstacle::Unreadable(error),
        };
        obstacles.push((name, obstacle));
    }
    Ok((!obstacles.is_empty()).then_some(Obstacles(obstacles)))
}

impl Obstacles {
    /// Whether the publication of this name has no place.
    pub(super) fn take(&self, name: &str) -> bool {
        self.0.iter().any(|(taken, _)| *taken == name)
    }
}

impl fmt::Display for Obstacles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (name, obstacle)) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { "; " };
            write!(f, "{separator}{name} {obstacle}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Written => f.write_str("was written by the run: rename it"),
            Self::Stranger => f.write_str("is there and is no attestation: rename it"),
            Self::Unreadable(error) => write!(f, "is there and cannot be read: {error}"),
        }
    }
}

/// Whether a run wrote what has this name now.
fn is_written(
    store: &dyn LineageStore,
    directory: &Directory,
    name: &str,
) -> Result<bool, LineageError> {
    // What cannot be looked at now is no file that a run has closed.
    let Ok(Some(identity)) = directory.identity(Path::new(name)) else {
        return Ok(false);
    };
    let Some(version) = store.version_of(&identity)? else {
        return Ok(false);
    };
    let version = store.version(version)?;
    Ok(version.is_some_and(|version| matches!(version.origin, Origin::Written { .. })))
}
