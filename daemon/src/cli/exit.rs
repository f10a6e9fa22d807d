//! The exit codes that every command but `run` keeps.

use std::process::ExitCode;

use serde::{Serialize, Serializer};

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Yes; it was done.
    Yes = 0,
    /// Refused, or a check failed.
    Refused = 1,
    /// The command line asks for nothing that can be done.
    Usage = 2,
    /// This machine, a file or the daemon is in the way.
    Environment = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Serialize for Exit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(*self as u8)
    }
}
