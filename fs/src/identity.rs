use std::{os::fd::AsFd, time::Duration};

use jiff::Timestamp;
use rustix::{
    fs::{AtFlags, FsWord, Statx, StatxFlags, StatxTimestamp, fstatfs, fstatvfs, statx},
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
    /// `stx_btime`, nanoseconds since 1970; 0 where the filesystem has none, or one that changes.
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
        let filesystem = Filesystem::of(&file)?;
        let stat = statx(&file, c"", AtFlags::EMPTY_PATH, STAT_MASK)?;
        Ok(Self::from_statx(filesystem, &stat))
    }

    /// How long it takes from `now` on until no change can leave the file this identity: two changes
    /// within one tick of the kernel's clock leave the same times. Of a time of change that lies ahead
    /// nobody can say; it is taken to be another clock's.
    pub(crate) fn settles_in(&self, now: Timestamp) -> Duration {
        let rest = i128::from(self.ctime_ns) + TICK.as_nanos().cast_signed() - now.as_nanosecond();
        let rest = u64::try_from(rest).map_or(Duration::ZERO, Duration::from_nanos);
        if rest < 2 * TICK { rest } else { Duration::ZERO }
    }

    pub(crate) fn from_statx(filesystem: Filesystem, stat: &Statx) -> Self {
        let given = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
        let born = given && filesystem.births_stay;
        Self {
            file: FileKey {
                filesystem: filesystem.id,
                inode: stat.stx_ino,
                born_ns: if born { nanoseconds(stat.stx_btime) } else { 0 },
            },
            size: stat.stx_size,
            mtime_ns: nanoseconds(stat.stx_mtime),
            ctime_ns: nanoseconds(stat.stx_ctime),
        }
    }
}

/// Twice the longest that any kernel lets its clock stand still.
const TICK: Duration = Duration::from_millis(20);

/// What has to be known of a filesystem to identify its files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filesystem {
    id: u64,
    /// An overlay takes a file up to its upper layer when it is first changed: the inode number
    /// stays, the birth is that of the copy.
    births_stay: bool,
}

impl Filesystem {
    pub(crate) fn of(file: impl AsFd) -> io::Result<Self> {
        let births_stay = fstatfs(&file)?.f_type != OVERLAY_MAGIC;
        Ok(Self { id: fstatvfs(&file)?.f_fsid, births_stay })
    }
}

/// `OVERLAYFS_SUPER_MAGIC`.
pub(crate) const OVERLAY_MAGIC: FsWord = 0x794c_7630;

/// What must be asked for so that [`Identity::from_statx`] can answer.
pub(crate) const STAT_MASK: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

/// Saturates about 292 years from 1970; no filesystem stores such a time by itself.
fn nanoseconds(time: StatxTimestamp) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(i64::from(time.tv_nsec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_settles_when_the_clock_has_moved_on() {
        let file = FileKey { filesystem: 0, inode: 0, born_ns: 0 };
        let changed_ns = 1_000_000_000_000;
        let identity = Identity { file, size: 0, mtime_ns: 0, ctime_ns: changed_ns };
        let at = |later_ns: i64| {
            let now = Timestamp::from_nanosecond((changed_ns + later_ns).into()).unwrap();
            identity.settles_in(now)
        };
        let tick_ns: i64 = 20_000_000;
        assert_eq!(at(tick_ns), Duration::ZERO);
        assert_eq!(at(tick_ns - 1), Duration::from_nanos(1));
        assert_eq!(at(0), TICK);
        assert_eq!(at(1 - tick_ns), Duration::from_nanos(39_999_999));
        for by_another_clock in [-tick_ns, -changed_ns, changed_ns] {
            assert_eq!(at(by_another_clock), Duration::ZERO);
        }
    }
}
