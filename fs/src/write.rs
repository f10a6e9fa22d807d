//! Writing a file: store the bytes, then tell the hasher what was stored.

use std::{fs::File, os::fd::AsFd, sync::Arc};

use attestfs_digest::FileHasher;
use rustix::fs::{FallocateFlags, Mode};

use crate::{
    error::Error,
    fact::Process,
    run::{Content, Opened, Run, Tracked},
};

/// One open that may write. Dropped at RELEASE; the last one of a file lets its content settle.
#[derive(Debug)]
pub(crate) struct WriteHandle {
    tracked: Arc<Tracked>,
    run: Arc<Run>,
    opened: Opened,
    by: Process,
}

impl WriteHandle {
    pub(crate) fn new(run: Arc<Run>, tracked: Arc<Tracked>, opened: Opened, by: Process) -> Self {
        tracked.content().writers += 1;
        Self { tracked, run, opened, by }
    }

    pub(crate) fn file(&self) -> &File {
        &self.opened.file
    }

    /// Stores bytes at an offset and says how many were stored.
    ///
    /// Store and hasher see the writes of one file in the same order, under the content's lock. A
    /// short write hashes what was stored; a failed one hashes nothing.
    pub(crate) fn write(&self, bytes: &[u8], offset: u64) -> Result<usize, Error> {
        self.change(|opened, hasher| {
            let stored = opened.backing.write_at(&opened.file, bytes, offset)?;
            hasher.write(offset, &bytes[..stored]);
            Ok(stored)
        })
    }

    pub(crate) fn truncate(&self, length: u64) -> Result<(), Error> {
        self.change(|opened, hasher| {
            opened.backing.truncate(&opened.file, length)?;
            hasher.set_length(length);
            Ok(())
        })
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
        self.change(|opened, hasher| {
            opened.backing.allocate(&opened.file, mode, offset, length)?;
            if !mode.contains(FallocateFlags::KEEP_SIZE) && end > hasher.length() {
                hasher.set_length(end);
            }
            if mode.intersects(FallocateFlags::PUNCH_HOLE | FallocateFlags::ZERO_RANGE) {
                hasher.touch(offset..end);
            }
            Ok(())
        })
    }

    /// Copies inside the backing store, so that it can share blocks.
    pub(crate) fn copy_from(
        &self,
        source: (&File, u64),
        offset: u64,
        length: usize,
    ) -> Result<usize, Error> {
        self.change(|opened, hasher| {
            let copied = opened.backing.copy_range(source, (&opened.file, offset), length)?;
            let end = offset + copied as u64;
            if end > hasher.length() {
                hasher.set_length(end);
            }
            hasher.touch(offset..end);
            Ok(copied)
        })
    }

    /// Takes set-user-id, and set-group-id where it means that, from a file that is written to by
    /// somebody without the right to keep them: the kernel leaves this to us (`HANDLE_KILLPRIV_V2`).
    pub(crate) fn drop_privilege_bits(&self) -> Result<(), Error> {
        drop_privilege_bits(&self.opened)
    }

    fn change<T>(
        &self,
        operation: impl FnOnce(&Opened, &mut FileHasher) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut content = self.tracked.content();
        change(&self.run, &self.tracked, &mut content, (&self.opened, &self.by), operation)
    }
}

impl Drop for WriteHandle {
    fn drop(&mut self) {
        self.run.writer_left(&self.tracked, &self.opened);
    }
}

/// Truncates a file that nobody holds open, as `truncate(2)` does.
pub(crate) fn truncate_unopened(
    run: &Arc<Run>,
    tracked: &Arc<Tracked>,
    opened: &Opened,
    by: &Process,
    length: u64,
) -> Result<(), Error> {
    let mut content = tracked.content();
    change(run, tracked, &mut content, (opened, by), |opened, hasher| {
        opened.backing.truncate(&opened.file, length)?;
        hasher.set_length(length);
        Ok(())
    })?;
    run.settle(tracked, &mut content, opened);
    Ok(())
}

/// A file that was made without being opened (`mknod`): an empty output.
pub(crate) fn created_unopened(
    run: &Arc<Run>,
    tracked: &Arc<Tracked>,
    opened: &Opened,
    by: &Process,
) -> Result<(), Error> {
    truncate_unopened(run, tracked, opened, by, 0)
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

fn change<T>(
    run: &Run,
    tracked: &Arc<Tracked>,
    content: &mut Content,
    (opened, by): (&Opened, &Process),
    operation: impl FnOnce(&Opened, &mut FileHasher) -> Result<T, Error>,
) -> Result<T, Error> {
    let size = || Ok(opened.stat()?.statx.stx_size);
    let hasher = run.change(tracked, content, size, by)?;
    operation(opened, hasher)
}
