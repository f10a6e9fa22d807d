//! Which run read and wrote which version of which file, and what was published about it.
//!
//! The schema, to the byte, and the rules by which two sightings of a file become one version are
//! written down in `daemon/LINEAGE.md`.

mod blocks;
mod checks;
mod disk;
mod entries;
mod error;
mod finding;
mod graph;
mod model;
mod packing;
mod publishing;
mod reading;
mod recent;
mod recording;
mod records;
mod render;
mod schema;
mod store;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod versions;

pub(crate) use checks::is_under;
pub use disk::DiskStore;
pub use error::{FactProblem, LineageError};
pub use graph::{
    Bounds, COMMITS_MAX, CommitMark, Direction, Graph, Link, RunNode, VersionNode, latest, trace,
};
pub use model::{
    Attestation, AttestationQuery, CommitId, FrozenCommit, Material, MaterialDigest, Origin,
    Output, OutputState, PublishedAttestation, RefusedOpen, Role, Run, RunEnd, RunId, RunOutputs,
    Subject, Version, VersionId,
};
pub use render::{Format, render};
pub use store::LineageStore;
