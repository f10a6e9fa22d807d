use std::fs;

use rustix::fs::Mode;

use super::process::{Caller, field};
use crate::backing::Stat;

/// By what the kernel decides whether somebody may look into a file. By modes alone: the mount
/// offers no ACLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    uid: u32,
    groups: Vec<u32>,
}

impl Caller {
    /// Looks up the groups of a caller that waits for an answer. Of one that cannot be seen only
    /// the group of the request is known.
    pub(crate) fn credentials(self) -> Credentials {
        let status = match self.thread {
            0 => None,
            thread => fs::read_to_string(format!("/proc/{thread}/status")).ok(),
        };
        let further = status.as_deref().and_then(|status| field(status, "Groups:"));
        let further = further.into_iter().flat_map(str::split_whitespace);
        let groups = further.filter_map(|group| group.parse().ok());
        Credentials { uid: self.uid, groups: [self.gid].into_iter().chain(groups).collect() }
    }
}

impl Credentials {
    /// Whether a file with this `stat` may be read.
    pub(crate) fn may_read(&self, stat: &Stat) -> bool {
        self.may(stat, Mode::ROTH)
    }

    /// Whether names may be looked up in a directory with this `stat`.
    pub(crate) fn may_search(&self, stat: &Stat) -> bool {
        self.may(stat, Mode::XOTH)
    }

    /// `wanted` is one of the bits for others.
    fn may(&self, stat: &Stat, wanted: Mode) -> bool {
        let mode = u32::from(stat.statx.stx_mode);
        let mode = match &stat.statx {
            _ if self.uid == 0 => return true,
            statx if statx.stx_uid == self.uid => mode >> 6,
            statx if self.groups.contains(&statx.stx_gid) => mode >> 3,
            _ => mode,
        };
        Mode::from_raw_mode(mode).contains(wanted)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsFd, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::backing::{Backing, Directory};

    fn stat(mode: u32) -> Stat {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let file = File::create(&path).unwrap();
        file.set_permissions(fs::Permissions::from_mode(mode)).unwrap();
        let backing = Directory::new(File::open(directory.path()).unwrap().into());
        let mut stat = backing.stat(file.as_fd()).unwrap();
        (stat.statx.stx_uid, stat.statx.stx_gid) = (1000, 2000);
        stat
    }

    fn credentials(uid: u32, groups: &[u32]) -> Credentials {
        Credentials { uid, groups: groups.to_vec() }
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        for (mode, owner, group, other) in [
            (0o400, true, false, false),
            (0o040, false, true, false),
            (0o004, false, false, true),
            (0o044, false, true, true),
            (0o000, false, false, false),
            (0o311, false, false, false),
        ] {
            let stat = stat(mode);
            assert_eq!(credentials(1000, &[2000]).may_read(&stat), owner, "{mode:o}");
            assert_eq!(credentials(1001, &[5, 2000]).may_read(&stat), group, "{mode:o}");
            assert_eq!(credentials(1001, &[1000]).may_read(&stat), other, "{mode:o}");
            assert!(credentials(0, &[0]).may_read(&stat), "{mode:o}");
        }
        assert!(credentials(1000, &[]).may_search(&stat(0o100)));
        assert!(!credentials(1000, &[]).may_search(&stat(0o677)));
    }

    #[test]
    fn a_caller_that_cannot_be_seen_has_the_group_of_its_request() {
        let caller = Caller { uid: 7, gid: 8, thread: 0 };
        assert_eq!(caller.credentials(), credentials(7, &[8]));
        let caller = Caller { thread: std::process::id(), ..caller };
        let own: Vec<u32> =
            rustix::process::getgroups().unwrap().iter().map(|group| group.as_raw()).collect();
        assert_eq!(caller.credentials(), credentials(7, &[&[8], &own[..]].concat()));
    }
}
