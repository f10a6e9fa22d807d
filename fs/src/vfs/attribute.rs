//! What `stat` shows and `chmod`, `chown`, `truncate` and `utimensat` change.

use std::{
    os::fd::AsFd,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::fs::{Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use super::{
    filesystem::{Attributes, Vfs},
    handle::HandleId,
    inode::{Inode, InodeId},
    opening::{Answer, found},
    tenure::Regular,
};
use crate::{
    error::Error,
    run::{Caller, Grace, Opened},
};

/// A time to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NewTime {
    Now,
    At(SystemTime),
}

/// What a caller wants changed; the kernel has checked that it may.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AttributeChange {
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) size: Option<u64>,
    pub(crate) accessed: Option<NewTime>,
    pub(crate) modified: Option<NewTime>,
}

impl Vfs {
    pub(crate) fn attributes(
        &self,
        id: InodeId,
        handle: Option<HandleId>,
        caller: Caller,
    ) -> Result<Attributes, Error> {
        if let Some(file) = self.virtual_file(id) {
            let handle = handle.and_then(|id| self.handles.find(id).ok());
            return self.virtual_attributes(file, handle.as_ref());
        }
        let inode = self.inodes.find(id)?;
        let attributes = self.attributes_of(&inode)?;
        if inode.wait_until_emptied(Some(caller.thread)) {
            return self.attributes_of(&inode);
        }
        Ok(attributes)
    }

    pub(crate) fn change_attributes(
        self: &Arc<Self>,
        id: InodeId,
        handle: Option<HandleId>,
        change: AttributeChange,
        caller: Caller,
    ) -> Answer<Attributes> {
        let inode = match self.inodes.find(id) {
            Ok(inode) => inode,
            Err(error) => return Answer::Now(Err(error)),
        };
        let vfs = Arc::clone(self);
        let Some(length) = change.size else {
            if change.sets_id() && inode.is_passed() {
                let grace = Grace::Ahead.begun();
                return Answer::AfterOthers(Box::new(move || {
                    inode.wait_until_not_passed(grace);
                    Answer::Now(vfs.change_metadata_of(&inode, change))
                }));
            }
            return Answer::Now(self.change_metadata_of(&inode, change));
        };
        self.truncate(&inode, handle, length, caller).then(move |truncated| {
            truncated?;
            vfs.change_metadata_of(&inode, change)
        })
    }

    fn change_metadata_of(
        &self,
        inode: &Inode,
        change: AttributeChange,
    ) -> Result<Attributes, Error> {
        if change.touches_metadata() {
            let apply = || self.metadata_change(inode, || self.apply(inode, change));
            if change.sets_id() {
                inode.while_no_user_writes_past(apply)??;
            } else {
                apply()?;
            }
        }
        self.attributes_of(inode)
    }

    fn truncate(
        self: &Arc<Self>,
        inode: &Arc<Inode>,
        handle: Option<HandleId>,
        length: u64,
        caller: Caller,
    ) -> Answer<()> {
        if let Some(handle) = handle.and_then(|id| self.handles.find(id).ok())
            && let Ok(writer) = handle.writer()
        {
            return Answer::Now(writer.truncate(length));
        }
        let (regular, opened) = match self.begin_truncation(inode, caller) {
            Ok(begun) => begun,
            Err(error) => return Answer::Now(Err(error)),
        };
        if length == 0 {
            return self.finish_truncation(regular, opened, length, caller);
        }
        // What stays of the content was there before: it is taken, as with an append.
        let (kept, file) = (regular.clone(), opened.clone());
        self.when_admitted((regular, opened), None, caller, move |vfs, admitted| {
            match found(&admitted, &file) {
                Ok(found) => {
                    let by = || vfs.processes.of(caller);
                    kept.tenure.run.opened(&kept.tracked, found, &file, by);
                    vfs.finish_truncation(kept, file, length, caller)
                }
                Err(error) => Answer::Now(Err(error)),
            }
        })
    }

    fn begin_truncation(&self, inode: &Inode, caller: Caller) -> Result<(Regular, Opened), Error> {
        let regular = inode.regular().ok_or(Error::Invalid)?;
        let opened = self.open_backing(inode, OFlags::WRONLY)?;
        self.check_change(&regular, &opened, caller)?;
        Ok((regular, opened))
    }

    fn finish_truncation(
        self: &Arc<Self>,
        regular: Regular,
        opened: Opened,
        length: u64,
        caller: Caller,
    ) -> Answer<()> {
        self.when_held(regular.clone(), caller, move |vfs, held| {
            vfs.truncate_held(&regular, &opened, length, held)
        })
    }

    fn apply(&self, inode: &Inode, change: AttributeChange) -> Result<(), Error> {
        let node = &*self.node(inode)?;
        if change.uid.is_some() || change.gid.is_some() {
            self.backing.change_owner(node, change.uid, change.gid)?;
        }
        if let Some(mode) = change.mode {
            self.backing.change_mode(node.as_fd(), Mode::from_raw_mode(mode & MODE_BITS))?;
        }
        if change.accessed.is_some() || change.modified.is_some() {
            let times = Timestamps {
                last_access: timespec(change.accessed),
                last_modification: timespec(change.modified),
            };
            self.backing.set_times(node, &times)?;
        }
        Ok(())
    }
}

impl AttributeChange {
    fn sets_id(&self) -> bool {
        self.mode.is_some_and(|mode| sets_id(Mode::from_raw_mode(mode)))
    }

    fn touches_metadata(&self) -> bool {
        self.mode.is_some()
            || self.uid.is_some()
            || self.gid.is_some()
            || self.accessed.is_some()
            || self.modified.is_some()
    }
}

/// Whether whoever runs it becomes somebody else.
pub(super) fn sets_id(mode: Mode) -> bool {
    mode.intersects(Mode::SUID | Mode::SGID)
}

/// Who may write to a file and leave its set-id bits.
pub(super) const SUPERUSER: u32 = 0;

/// Permissions, set-id bits and the sticky bit.
const MODE_BITS: u32 = 0o7777;

fn timespec(time: Option<NewTime>) -> Timespec {
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(NewTime::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(NewTime::At(time)) => match time.duration_since(UNIX_EPOCH) {
            Ok(after) => after_epoch(after),
            Err(error) => before_epoch(error.duration()),
        },
    }
}

fn after_epoch(since: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(since.subsec_nanos()),
    }
}

/// Seconds count down, nanoseconds up.
fn before_epoch(until: Duration) -> Timespec {
    let whole = i64::try_from(until.as_secs()).map_or(i64::MIN, |seconds| -seconds);
    match until.subsec_nanos() {
        0 => Timespec { tv_sec: whole, tv_nsec: 0 },
        rest => {
            Timespec { tv_sec: whole.saturating_sub(1), tv_nsec: 1_000_000_000 - i64::from(rest) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_count_their_nanoseconds_up() {
        let time = UNIX_EPOCH - Duration::new(1, 250_000_000);
        let spec = timespec(Some(NewTime::At(time)));
        assert_eq!((spec.tv_sec, spec.tv_nsec), (-2, 750_000_000));
        let time = UNIX_EPOCH - Duration::new(3, 0);
        let spec = timespec(Some(NewTime::At(time)));
        assert_eq!((spec.tv_sec, spec.tv_nsec), (-3, 0));
    }
}
