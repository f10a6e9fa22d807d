//! What every lineage store promises, asked of the one on disk and of the one in memory.

mod crash;
mod joining;
mod model;
mod publication;
mod runs;

use super::{DiskStore, LineageStore, testing::MemoryStore};

/// Asks both stores, each fresh and empty.
fn with_each_store(promise: impl Fn(&dyn LineageStore)) {
    promise(&MemoryStore::default());
    let folder = tempfile::tempdir().unwrap();
    promise(&DiskStore::open(folder.path()).unwrap());
}
