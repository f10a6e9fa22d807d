//! Writing a file: store the bytes, then tell the hasher what was stored.

use std::{fs::File, os::fd::AsFd, sync::Arc};

use attestfs_digest::{Digests, FileHasher};
use rustix::fs::{FallocateFlags, Mode};

use crate::{
    error::Error,
    fact::Process,
    gate::{Admitted, Permit},
    identity::Identity,
    read::Reading,
    run::{Change, Content, Opened, Run, Tracked, Verification},
};

/// One open that may write. Dropped at RELEASE; the last one of a file lets its content settle.
#[derive(Debug)]
pub(crate) struct WriteHandle {
    tracked: Arc<Tracked>,
    run: Arc<Run>,
    opened: Opened,
    by: Process,
    permit: Permit,
    /// Not if it was opened for writing only.
    reads: bool,
    verification: Option<Arc<Verification>>,
}

impl WriteHandle {
    pub(crate) fn new(
        run: Arc<Run>,
        tracked: Arc<Tracked>,
        opened: Opened,
        by: Process,
        permit: Permit,
        admitted: Option<Admitted>,
    ) -> Self {
        tracked.content().writers += 1;
        let verification = admitted.as_ref().and_then(|admitted| admitted.verify(&run, &tracked));
        let reads = admitted.is_some();
        Self { tracked, run, opened, by, permit, reads, verification }
    }

    /// # Errors
    /// [`Error::UnknownHandle`] when it was opened for writing only.
    pub(crate) fn reading(&self) -> Result<Reading<'_>, Error> {
        if !self.reads {
            return Err(Error::UnknownHandle);
        }
        let Self { run, tracked, opened, verification, by, .. } = self;
        Ok(Reading { run, tracked, opened, verification: verification.as_ref(), by })
    }

    pub(crate) fn file(&self) -> &File {
        &self.opened.file
    }

    /// What is in the file was there before: it stays, so the run builds on it.
    pub(crate) fn tell_found(&self, found: (Identity, Option<Digests>)) {
        self.run.opened(&self.tracked, found, &self.opened, || self.by.clone());
    }

    /// Stores bytes at an offset and says how many were stored.
    ///
    /// Store and hasher see the writes of one file in the same order, under the content's lock. A
    /// short write hashes what was stored; a failed one hashes nothing.
    pub(crate) fn write(&self, bytes: &[u8], offset: u64) -> Result<usize, Error> {
        self.change(
            |opened| Ok(opened.backing.write_at(&opened.file, bytes, offset)?),
            |hasher, stored| hasher.write(offset, &bytes[..*stored]),
        )
    }

    pub(crate) fn truncate(&self, length: u64) -> Result<(), Error> {
        self.change(
            |opened| Ok(opened.backing.truncate(&opened.file, length)?),
            |hasher, ()| hasher.set_length(length),
        )
    }

    /// `fallocate` with any of its flags that keep offsets as they are: keep the size, punch,
    /// zero.
    pub(crate) fn allocate(
        &self,
        mode: FallocateFlags,
        offset: u64,
        length: u64,
    ) -> Result<(), Error> {
        let end = offset.checked_add(length).ok_or(Error::Invalid)?;
        self.change(
            |opened| Ok(opened.backing.allocate(&opened.file, mode, offset, length)?),
            |hasher, ()| {
                if !mode.contains(FallocateFlags::KEEP_SIZE) && end > hasher.length() {
                    hasher.set_length(end);
                }
                if mode.intersects(FallocateFlags::PUNCH_HOLE | FallocateFlags::ZERO_RANGE) {
                    hasher.touch(offset..end);
                }
            },
        )
    }

    /// Copies inside the backing store, so that it can share blocks.
    pub(crate) fn copy_from(
        &self,
        source: (&File, u64),
        offset: u64,
        length: usize,
    ) -> Result<usize, Error> {
        self.change(
            |opened| Ok(opened.backing.copy_range(source, (&opened.file, offset), length)?),
            |hasher, copied| {
                let end = offset + *copied as u64;
                if end > hasher.length() {
                    hasher.set_length(end);
                }
                hasher.touch(offset..end);
            },
        )
    }

    /// Takes set-user-id, and set-group-id where it means that, from a file that is written to by
    /// somebody without the right to keep them: the kernel leaves this to us (`HANDLE_KILLPRIV_V2`).
    pub(crate) fn drop_privilege_bits(&self) -> Result<(), Error> {
        drop_privilege_bits(&self.opened)
    }

    fn change<T>(
        &self,
        operation: impl FnOnce(&Opened) -> Result<T, Error>,
        follow: impl FnOnce(&mut FileHasher, &T),
    ) -> Result<T, Error> {
        let mut content = self.tracked.content();
        let change = Change { tracked: &self.tracked, opened: &self.opened, by: &self.by };
        ask_again(&self.run, &self.permit, &mut content, change)?;
        self.run.change(&mut content, change, operation, follow)
    }
}

impl Drop for WriteHandle {
    fn drop(&mut self) {
        self.run.writer_left(&self.tracked, &self.opened);
    }
}

/// Truncates a file that nobody holds open, as `truncate(2)` does.
pub(crate) fn truncate_unopened(
    run: &Run,
    permit: &Permit,
    change: Change<'_>,
    length: u64,
) -> Result<(), Error> {
    let mut content = change.tracked.content();
    ask_again(run, permit, &mut content, change)?;
    run.change(
        &mut content,
        change,
        |opened| Ok(opened.backing.truncate(&opened.file, length)?),
        |hasher, ()| hasher.set_length(length),
    )?;
    run.settle(change.tracked, &mut content, change.opened);
    Ok(())
}

/// Asked at each change: somebody may have opened the file for verified reading, and it may have been
/// published, since this one was opened.
fn ask_again(
    run: &Run,
    permit: &Permit,
    content: &mut Content,
    change: Change<'_>,
) -> Result<(), Error> {
    if permit.keeps_off_readers() && change.tracked.is_verified_against(run) {
        return Err(Error::InUse);
    }
    permit.check_again(run, content, change)
}

pub(crate) fn drop_privilege_bits(opened: &Opened) -> Result<(), Error> {
    let stat = opened.stat()?;
    let mode = Mode::from_raw_mode(u32::from(stat.statx.stx_mode));
    let mut kept = mode & !Mode::SUID;
    if mode.contains(Mode::XGRP) {
        kept &= !Mode::SGID;
    }
    if kept != mode {
        opened.backing.change_mode(opened.file.as_fd(), kept)?;
    }
    Ok(())
}
