//! Where attestations lie as plain files: in the state directory, and beside the content.

mod files;
mod shelf;

pub use files::{DurableFiles, Files, temporary_name};
pub use shelf::{BUNDLE_SUFFIX, Shelf};
