//! `model.sig`: `OpenSSF` Model Signing (OMS) 1.0, written so that every implementation accepts it
//! and read more strictly than any of them does.

mod entry;
mod error;
mod manifest;
mod predicate;
mod sign;
#[cfg(test)]
mod tests;

pub use entry::{Content, Entry, EntryKind, Known, OmsRefusal, OmsRefusals};
pub use error::OmsError;
pub use manifest::{Difference, ModelManifest};
pub use predicate::{HashType, MODEL_SIGNATURE_FILE, MODEL_SIGNATURE_TYPE};
pub use sign::{IgnoredPaths, model_statement, model_statement_ignoring};
