//! Every way in which an operation of the filesystem can fail, with the errno beside its meaning.

use rustix::io::Errno;

/// Why a request is answered with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The backing store said no; its errno is passed on unchanged, unless it is about this process.
    #[error("the backing store: {0}")]
    Backing(#[from] Errno),
    /// The kernel named an inode that it does not hold a reference to.
    #[error("unknown inode")]
    UnknownInode,
    /// The file is not where it was seen last: its descriptor was let go, and then somebody moved or removed it below the
    /// mount.
    #[error("moved or removed below the mount")]
    Lost,
    /// The kernel named a handle that is not open, or one of another kind.
    #[error("unknown handle")]
    UnknownHandle,
    /// `user.attestfs.*` is answered by us and cannot be set.
    #[error("a reserved extended attribute")]
    ReservedAttribute,
    /// An extended attribute that has no value.
    #[error("no such extended attribute")]
    NoAttribute,
    /// This kind of file has no such operation, or the namespace is not offered.
    #[error("not supported")]
    NotSupported,
    /// A flag or an argument that no operation understands.
    #[error("invalid argument")]
    Invalid,
    /// The caller's buffer is too small for the value.
    #[error("the buffer is too small")]
    TooSmall,
    /// What attestfs shows of itself, in `.attestfs`, cannot be changed.
    #[error("made up by attestfs, and read-only")]
    ReadOnly,
    /// The gate does not let this content be read. Why was told as [`Fact::Refused`](crate::Fact).
    #[error("refused by the gate")]
    Refused,
    /// Published content is immutable: it was to be opened for writing, truncated or allocated. Told as
    /// [`Fact::Refused`](crate::Fact) as well.
    #[error("published content cannot be changed")]
    Published,
    /// Somebody else has the file open: to read what was judged, where this one wants to change it, or so
    /// that what a mapping stores would be read. Told as [`Fact::Refused`](crate::Fact) as well.
    #[error("open elsewhere")]
    InUse,
    /// The bytes that the backing store gave are not those of the content's digest.
    #[error("the bytes do not have their digest")]
    WrongBytes,
}

impl Error {
    /// The errno that the caller sees.
    pub fn errno(self) -> i32 {
        let errno = match self {
            // It is we who have no descriptor left: nothing that the caller closes would help.
            Self::Backing(Errno::MFILE) => Errno::NFILE,
            Self::Backing(errno) => errno,
            Self::UnknownInode | Self::Lost => Errno::STALE,
            Self::UnknownHandle => Errno::BADF,
            Self::ReservedAttribute | Self::Published => Errno::PERM,
            Self::NoAttribute => Errno::NODATA,
            Self::NotSupported => Errno::OPNOTSUPP,
            Self::Invalid => Errno::INVAL,
            Self::TooSmall => Errno::RANGE,
            Self::ReadOnly => Errno::ROFS,
            Self::Refused => Errno::ACCESS,
            Self::InUse => Errno::TXTBSY,
            Self::WrongBytes => Errno::IO,
        };
        errno.raw_os_error()
    }
}
