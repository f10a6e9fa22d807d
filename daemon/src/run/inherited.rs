//! What serving needs otherwise than the user set it, and the command gets back as it was.

use std::io;

use rustix::{
    fs::Mode,
    process::{Resource, Rlimit, getrlimit, setrlimit, umask},
};
use serde::{Deserialize, Serialize};

/// Settings of a process that its children inherit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Inherited {
    umask: u32,
    /// The soft limit; none is no limit.
    open_files: Option<u64>,
}

impl Inherited {
    /// Makes this process fit to serve, and says what was there before.
    ///
    /// It holds descriptors of each open file and of many that the kernel knows, so it takes as many
    /// as the hard limit allows. And it masks no modes: they come to it masked by the command's own
    /// umask.
    pub(super) fn replace() -> Self {
        let limit = getrlimit(Resource::Nofile);
        // Where even this is refused, the old limit bounds the run.
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap_or_default();
        Self { umask: umask(Mode::empty()).bits(), open_files: limit.current }
    }

    /// Gives the user's settings to what this process will become.
    ///
    /// # Errors
    /// The limit is refused.
    pub(super) fn restore(self) -> io::Result<()> {
        umask(Mode::from_raw_mode(self.umask));
        let limit = getrlimit(Resource::Nofile);
        Ok(setrlimit(Resource::Nofile, Rlimit { current: self.open_files, ..limit })?)
    }
}
