use std::{fmt, str::FromStr};

/// What the gate does with a refusal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The file does not open.
    #[default]
    Enforce,
    /// The file opens, and the refusal is told and recorded.
    Audit,
}

impl Mode {
    pub(super) const ALL: [Self; 2] = [Self::Enforce, Self::Audit];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// When a change of a guarded file below the mount is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// At the next open, if the identity of the file (size, times, inode) changed since its digest
    /// became known.
    Stat,
    /// The whole content is read at the first open; from then on as [`Level::Stat`].
    Rehash,
    /// At once: each chunk group is verified when it is read.
    PerRead,
    /// At once, by the kernel: the file must have fs-verity.
    Verity,
}

impl Level {
    /// All of them, the weakest first.
    pub const ALL: [Self; 4] = [Self::Stat, Self::Rehash, Self::PerRead, Self::Verity];

    fn word(self) -> &'static str {
        match self {
            Self::Stat => "stat",
            Self::Rehash => "rehash",
            Self::PerRead => "per-read",
            Self::Verity => "verity",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// A word that names no level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no level: choose one of stat, rehash, per-read, verity")]
pub struct UnknownLevel;

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(word: &str) -> Result<Self, UnknownLevel> {
        Self::ALL.into_iter().find(|level| level.word() == word).ok_or(UnknownLevel)
    }
}
