//! Lineage stores for tests, here and in the rooms that use one.

mod failing;
mod memory;
mod story;

pub(crate) use failing::{FailingStore, Fault};
pub(crate) use memory::MemoryStore;
pub(crate) use story::{Content, Story, attested, description, publish, succeeded};
