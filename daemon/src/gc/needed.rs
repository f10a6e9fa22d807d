//! What those need who have yet to say so.

use std::{collections::BTreeSet, io};

use attestfs_digest::Sha256;
use attestfs_fs::Fact;

use super::GcError;
use crate::{
    commit::{CommitError, Frozen, Room},
    journal,
    lineage::{AttestationQuery, LineageError, RunId, VersionId},
    publication::Mentions,
};

/// What frozen commits mention, and what the runs that go on have read: their statements will name
/// it.
#[derive(Debug, Default)]
pub(super) struct Needed {
    /// Of which a commit is frozen.
    pub(super) runs: BTreeSet<RunId>,
    pub(super) attestations: BTreeSet<Sha256>,
    pub(super) manifests: BTreeSet<Sha256>,
}

impl Needed {
    pub(super) fn of(room: &Room) -> Result<Self, GcError> {
        let mut needed = Self::default();
        for frozen in room.store.frozen()? {
            let frozen = Frozen::resume(&frozen)?;
            needed.runs.insert(frozen.run().clone());
            let Mentions { attestations, manifests } = frozen.mentions();
            needed.attestations.extend(attestations);
            needed.manifests.extend(manifests);
        }
        for run in room.store.unfinished()? {
            needed.take_materials(room, &run.id())?;
        }
        Ok(needed)
    }

    /// What the store knows of a run's materials, and what only its journal has so far. The journal
    /// is not taken in here: an order that is on its way says up to where it counts.
    fn take_materials(&mut self, room: &Room, run: &RunId) -> Result<(), GcError> {
        let materials = room.store.materials(run)?;
        self.attestations.extend(materials.iter().filter_map(|material| material.attestation));
        let directory = room.state.run(&run.0);
        let length = match journal::whole_length(&directory) {
            // Somebody took it away: there is nothing to be read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            length => length?,
        };
        let ingested = room.store.ingested(run)?;
        if ingested >= length {
            return Ok(());
        }
        for piece in journal::pieces(&directory, ingested, length).map_err(CommitError::Journal)? {
            for fact in piece.map_err(CommitError::Journal)?.facts {
                for version in read(room, &fact)? {
                    let query = AttestationQuery::Version(version);
                    let published = room.store.attestations(query, usize::MAX)?;
                    self.attestations.extend(published.iter().map(|it| it.statement));
                }
            }
        }
        Ok(())
    }
}

/// The versions that a fact may be about, when it tells of a material.
fn read(room: &Room, fact: &Fact) -> Result<Vec<VersionId>, LineageError> {
    let store = &room.store;
    let versions = match fact {
        Fact::Opened { identity, .. } => [store.version_of(identity)?, None],
        Fact::Hashed { identity, digests, .. } => [
            store.version_of(identity)?,
            store.version_of_content(&identity.file, &digests.sha256)?,
        ],
        _ => [None, None],
    };
    Ok(versions.into_iter().flatten().collect())
}
