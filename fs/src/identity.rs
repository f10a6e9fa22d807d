use std::os::fd::AsFd;

use rustix::{
    fs::{AtFlags, Statx, StatxFlags, StatxTimestamp, fstatvfs, statx},
    io,
};
use serde::{Deserialize, Serialize};

/// Which file, whatever its name: stays the same over writes and renames, and is not used again
/// for another file.
///
/// `born` (statx `stx_btime`) stands for the inode generation, which Linux gives only through an
/// ioctl: an inode number that is used again gets a new birth time. `filesystem` is `f_fsid`, which
/// ext4 and btrfs derive from the filesystem's UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileKey {
    /// `statvfs` `f_fsid`.
    pub filesystem: u64,
    /// `stx_ino`.
    pub inode: u64,
    /// `stx_btime`, nanoseconds since 1970; 0 where the filesystem has none.
    pub born_ns: i64,
}

/// What a `stat` says about one content of a file. Two equal identities are taken to mean the same
/// content; that holds unless somebody with write access to the backing store sets the clock back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Which file.
    pub file: FileKey,
    /// Bytes.
    pub size: u64,
    /// `stx_mtime`, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// `stx_ctime`, nanoseconds since 1970. Users cannot set it.
    pub ctime_ns: i64,
}

impl Identity {
    /// The identity of an open file; an `O_PATH` descriptor will do.
    ///
    /// # Errors
    /// What `statx` and `fstatvfs` say.
    pub fn of(file: impl AsFd) -> io::Result<Self> {
        let filesystem = fstatvfs(&file)?.f_fsid;
        let stat = statx(&file, c"", AtFlags::EMPTY_PATH, STAT_MASK)?;
        Ok(Self::from_statx(filesystem, &stat))
    }

    pub(crate) fn from_statx(filesystem: u64, stat: &Statx) -> Self {
        let born = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
        Self {
            file: FileKey {
                filesystem,
                inode: stat.stx_ino,
                born_ns: if born { nanoseconds(stat.stx_btime) } else { 0 },
            },
            size: stat.stx_size,
            mtime_ns: nanoseconds(stat.stx_mtime),
            ctime_ns: nanoseconds(stat.stx_ctime),
        }
    }
}

/// What must be asked for so that [`Identity::from_statx`] can answer.
pub(crate) const STAT_MASK: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

/// Saturates about 292 years from 1970; no filesystem stores such a time by itself.
fn nanoseconds(time: StatxTimestamp) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(i64::from(time.tv_nsec))
}
