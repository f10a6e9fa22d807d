//! To whom files seem to belong where the kernel knows a single user and group.
//!
//! The mount of a run without privileges stands in a user namespace that maps its own user and group
//! alone. Ids of all others have no number there, and the kernel lets nobody write to, rename or
//! remove what belongs to one of them: a directory that a group shares would be closed to its
//! members. So such ids are shown as the mapped ones, where the user has the rights that the kernel
//! then believes in.
//!
//! Nobody gains a right by it: whatever the kernel lets through, the serving process does with the
//! credentials of that same user, and is refused what the user is refused without the mount.

use std::{
    os::fd::AsFd,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use rustix::fs::{FileType, Mode};

use super::{
    filesystem::{Attributes, Vfs},
    inode::Inode,
};
use crate::{backing::Stat, error::Error, mount::SoleUser};

/// What the directories in which something was seen mean for it.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    /// In a directory like `/tmp` the kernel keeps users from following links and opening files that
    /// others put there for them to stumble on, and tells those by their owner: it stays as it is.
    guard: AtomicBool,
    /// The user may remove it and rename it, whether or not it may be written to.
    give_away: AtomicBool,
}

impl Vfs {
    /// What the kernel is told of an inode of which the backing store says `stat`.
    pub(super) fn told(&self, inode: &Inode, mut stat: Stat) -> Attributes {
        if let Some(user) = &self.options.sole_user {
            self.show_owner(user, inode, &mut stat);
        }
        inode.tell_size(stat.statx.stx_size);
        Attributes { id: inode.id, stat }
    }

    fn show_owner(&self, user: &SoleUser, inode: &Inode, stat: &mut Stat) {
        let statx = &mut stat.statx;
        if statx.stx_uid != user.uid && self.may_be_shown_as_own(inode) {
            statx.stx_uid = user.uid;
        }
        // The kernel asks for the group of those alone who are not the owner.
        if statx.stx_uid == user.uid || user.groups.contains(&statx.stx_gid) {
            statx.stx_gid = user.gid;
        }
    }

    fn may_be_shown_as_own(&self, inode: &Inode) -> bool {
        let Surroundings { guard, give_away } = &inode.surroundings;
        let may_write = || self.node(inode).is_ok_and(|node| self.backing.may_write(&node));
        !guard.load(Relaxed) && (give_away.load(Relaxed) || may_write())
    }

    /// What belongs to somebody else was seen below `parent`.
    pub(super) fn note_surroundings(
        &self,
        (inode, stat): (&Inode, &Stat),
        parent: &Inode,
    ) -> Result<(), Error> {
        let Some(user) = &self.options.sole_user else { return Ok(()) };
        let uid = stat.statx.stx_uid;
        if uid == user.uid {
            return Ok(());
        }
        let parent = self.node(parent)?;
        let above = self.backing.stat(parent.as_fd())?.statx;
        let mode = Mode::from_raw_mode(above.stx_mode.into());
        let is_shared = mode.contains(Mode::SVTX) && mode.intersects(Mode::WGRP | Mode::WOTH);
        if is_shared && above.stx_uid != uid && stat.kind() != FileType::Directory {
            inode.surroundings.guard.store(true, Relaxed);
        } else if self.backing.may_write(&parent) {
            inode.surroundings.give_away.store(true, Relaxed);
        }
        Ok(())
    }
}
