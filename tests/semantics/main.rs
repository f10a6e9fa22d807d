//! What the mount promises (`fs/DESIGN.md`), each promise a test of the same name.

#[path = "../common/mod.rs"]
mod common;

mod behind;
mod deep;
mod descriptors;
mod digests;
mod emptying;
mod files;
mod gate;
mod hanging;
mod hooked;
mod kernel;
mod lineage;
mod reread;
mod sharing;
mod sightings;
mod stage;
mod standing;
mod virtual_files;
mod xattrs;
