//! The rows, group by group: those that one set-up measures together.

mod close;
mod files;
mod lineage;
mod model;
mod open;
mod published;
mod read;
mod verify;
mod write;

mod group;

pub(crate) use files::hold;
pub(crate) use group::measure;
