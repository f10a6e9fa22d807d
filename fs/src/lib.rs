//! The data plane of attestfs: a filesystem that hashes what is written and tells who read it.
//!
//! A [`Run`] holds what is known of the files of one execution of a stage; a [`Mount`] serves one
//! tree of it; a [`Gate`] says what may be read. What happened is told through a [`Recorder`], in
//! [`Fact`]s.

mod backing;
mod error;
mod fact;
mod fuse;
mod gate;
mod identity;
mod lately;
mod left_behind;
mod meter;
mod mount;
mod names;
mod port;
mod read;
mod run;
mod sync;
mod vfs;
mod write;

pub use backing::{Backing, Directory, DirectoryEntry, Node, Stat};
pub use error::Error;
pub use fact::{Fact, Process, RunVersion, TreePath, Unknown, Unsealed};
pub use gate::{Gate, GateParts};
pub use identity::{FileKey, Identity};
pub use left_behind::{is_written_past_others, numbers_left_behind};
pub use meter::{Meter, meter};
pub use mount::{
    Attachment, Capture, Mount, MountError, MountOptions, SoleUser, attach, kept_descriptors,
    raise_readahead, request_threads,
};
pub use port::{BundleSource, Clock, KnownDigests, Maker, PublishedFile, Recorder};
pub use run::{Inputs, LeftOut, Limits, MaterialProgress, Run, Scope};
