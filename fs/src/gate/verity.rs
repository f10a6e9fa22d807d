//! fs-verity: the kernel verifies what is read of a file whose content can never change again.

use std::{os::fd::AsFd, path::Path};

use rustix::fs::{FsWord, StatxAttributes, fstatfs};

use crate::backing::{Node, Stat};

/// Whether the filesystem of `root` can have files with fs-verity.
pub(super) fn is_possible(root: &Node) -> bool {
    let Ok(stat) = fstatfs(root.as_fd()) else { return false };
    let known = FILESYSTEMS.iter().find(|(magic, _)| *magic == stat.f_type);
    known.is_some_and(|(_, feature)| Path::new(feature).exists())
}

/// Whether the kernel verifies what is read of this file.
pub(super) fn is_on(stat: &Stat) -> bool {
    let verity = StatxAttributes::VERITY;
    stat.statx.stx_attributes_mask.contains(verity) && stat.statx.stx_attributes.contains(verity)
}

/// By their magic numbers, with what says that the kernel can do it.
const FILESYSTEMS: [(FsWord, &str); 3] = [
    (0xef53, "/sys/fs/ext4/features/verity"),
    (0xf2f5_2010, "/sys/fs/f2fs/features/verity"),
    (0x9123_683e, "/sys/fs/btrfs/features/verity"),
];

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::OwnedFd};

    use super::*;
    use crate::backing::{Backing, Directory};

    #[test]
    fn an_ordinary_file_has_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = File::create_new(directory.path().join("file")).unwrap();
        let backing = Directory::new(OwnedFd::from(File::open(directory.path()).unwrap()));
        assert!(!is_on(&backing.stat(file.as_fd()).unwrap()));
    }

    #[test]
    fn a_filesystem_that_nobody_knows_cannot_have_it() {
        let proc = Directory::new(OwnedFd::from(File::open("/proc").unwrap()));
        assert!(!is_possible(&proc.root().unwrap()));
    }
}
