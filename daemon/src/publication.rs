//! Where attestations lie as plain files: in the state directory, and beside the content.

#[cfg(feature = "mount")]
mod compacting;
#[cfg(feature = "mount")]
mod entering;
mod files;
#[cfg(feature = "mount")]
mod freeing;
#[cfg(feature = "mount")]
mod index;
#[cfg(feature = "mount")]
mod lines;
#[cfg(feature = "mount")]
mod mentions;
mod occupant;
#[cfg(feature = "mount")]
mod published;
mod shelf;

pub use files::{DurableFiles, Files, Unplaced};
#[cfg(feature = "mount")]
pub use index::{FileLine, NameLine, ROOT};
#[cfg(feature = "mount")]
pub use mentions::Mentions;
pub use occupant::Occupant;
#[cfg(feature = "mount")]
pub use published::Published;
pub use shelf::{BUNDLE_SUFFIX, Shelf, name_key};
