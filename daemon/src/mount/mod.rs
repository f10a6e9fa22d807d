//! `attestfs mount`: a directory behind the filesystem for whoever comes, and stages that are
//! opened and closed on it.
//!
//! The process that serves a mount keeps its stages; the daemon passes on what is asked of it.

mod attach;
mod background;
mod command;
mod device;
mod entry;
mod failure;
mod hand_over;
mod helper;
pub(crate) mod mounts;
mod options;
mod peer;
mod plan;
mod serve;
mod stage;
mod umount;
mod users;

pub(crate) use attach::covered;
pub(crate) use command::{answer, background, foreground};
pub(crate) use entry::served;
pub(crate) use failure::ServeError;
pub(crate) use hand_over::HandOver;
pub(crate) use helper::{Called, called_as, fstab_words};
pub(crate) use options::{Options, Places};
pub(crate) use umount::{Unmounted, break_off, umount};
