//! Where attestations lie as plain files: in the state directory, and beside the content.

mod files;
mod occupant;
mod shelf;

pub use files::{DurableFiles, Files, Unplaced};
pub use occupant::Occupant;
pub use shelf::{BUNDLE_SUFFIX, Shelf};
