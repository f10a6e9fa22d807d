//! Whether the filesystems of a run are mounted still as they were when it began.
//!
//! What was in memory only is lost when the power goes, or a filesystem with its disk. The journal of a run may have
//! reached the disk by then, and the bytes that it speaks of not: size and times of the file are as the journal says, and
//! its content is another one. Nothing about the file tells.

use std::{
    fmt::Write,
    fs::{self, File},
    io,
    os::fd::AsFd,
    path::Path,
};

use rustix::fs::{AtFlags, StatxFlags, statx};

/// In the directory of a run.
pub(super) const NAME: &str = "mounted";

/// `STATX_MNT_ID_UNIQUE`, of Linux 6.8: a number that no other mount gets as long as the machine runs. The older numbers
/// of mounts are given again.
const UNIQUE_MOUNT: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// Remembers how these directories are mounted. It need not be durable: what is not there any more tells of a break, too.
pub(super) fn keep(run_directory: &Path, stores: &[File]) -> io::Result<()> {
    match mounted(stores) {
        Ok(mounted) => fs::write(run_directory.join(NAME), mounted),
        Err(error) => {
            tracing::debug!(%error, "how the store is mounted is not known");
            Ok(())
        }
    }
}

/// From now on, and when the power goes now, it is in doubt how they are mounted.
///
/// # Errors
/// What the system says. It may have been forgotten all the same.
pub(crate) fn break_off(run_directory: &Path) -> io::Result<()> {
    match fs::remove_file(run_directory.join(NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => File::open(run_directory)?.sync_all(),
    }
}

/// Whether these directories, in the same order, are mounted as they were when the run of this directory began. In doubt
/// they are not.
pub(crate) fn is_unbroken(run_directory: &Path, stores: &[impl AsFd]) -> bool {
    let kept = fs::read_to_string(run_directory.join(NAME));
    kept.is_ok_and(|kept| mounted(stores).is_ok_and(|now| now == kept))
}

/// Since when the machine runs, and as what each directory is mounted.
fn mounted(stores: &[impl AsFd]) -> io::Result<String> {
    let mut text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    for store in stores {
        let stat = statx(store, c"", AtFlags::EMPTY_PATH, UNIQUE_MOUNT)?;
        if stat.stx_mask & UNIQUE_MOUNT.bits() == 0 {
            return Err(io::ErrorKind::Unsupported.into());
        }
        writeln!(text, "{}", stat.stx_mnt_id).map_err(io::Error::other)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_broken_off_stays_so() {
        let run = tempfile::tempdir().unwrap();
        let stores = [File::open("/").unwrap()];
        keep(run.path(), &stores).unwrap();
        for _ in 0..2 {
            break_off(run.path()).unwrap();
            assert!(!is_unbroken(run.path(), &stores));
        }
        assert!(break_off(&run.path().join("nowhere")).is_err());
    }

    #[test]
    fn what_is_mounted_elsewhere_or_was_never_kept_is_a_break() {
        let run = tempfile::tempdir().unwrap();
        let stores = ["/", "/proc"].map(|path| File::open(path).unwrap());
        assert!(!is_unbroken(run.path(), &stores));
        keep(run.path(), &stores).unwrap();
        assert!(is_unbroken(run.path(), &stores));
        let [root, proc] = stores;
        assert!(!is_unbroken(run.path(), &[&proc, &root]));
        assert!(!is_unbroken(run.path(), &[&root]));
        fs::write(run.path().join(NAME), "another start of the machine\n").unwrap();
        assert!(!is_unbroken(run.path(), &[&root, &proc]));
    }
}
