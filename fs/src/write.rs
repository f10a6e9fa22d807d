//! Writing a file: store the bytes, then tell the hasher what was stored.

use std::{
    fs::File,
    os::fd::AsFd,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use attestfs_digest::Digests;
use parking_lot::Mutex;
use rustix::{
    fs::{FallocateFlags, Mode},
    io::Errno,
};

use crate::{
    error::Error,
    fact::{Process, TreePath},
    gate::{Admitted, Permit},
    identity::Identity,
    read::Reading,
    run::{
        Change, Content, Follower, Haste, Hold, Opened, Place, Run, Tracked, Verification,
        WritesPast,
    },
};

/// One open that may write. Dropped at RELEASE; the last one of a file lets its content settle.
#[derive(Debug)]
pub(crate) struct WriteHandle {
    tracked: Arc<Tracked>,
    run: Arc<Run>,
    opened: Opened,
    by: Process,
    permit: Permit,
    hold: Hold,
    /// Not if it was opened for writing only.
    reads: bool,
    verification: Option<Arc<Verification>>,
    /// Why a write that was answered was not stored.
    lost: Mutex<Option<Lost>>,
    /// As long as the kernel may write by itself.
    past: OnceLock<WritesPast>,
    /// Whether others read the file past us: they see what is stored, not what is answered.
    beside_passthrough: AtomicBool,
}

/// What befell a write after it was answered.
#[derive(Debug)]
struct Lost {
    error: Error,
    /// To who wrote on. Who syncs or closes is told all the same.
    is_told: bool,
}

impl WriteHandle {
    /// Of a file that is held open. `admitted` is none of one that is opened for nothing but writing.
    pub(crate) fn new(
        run: Arc<Run>,
        tracked: Arc<Tracked>,
        opened: Opened,
        by: Process,
        (permit, hold): (Permit, Hold),
        admitted: Option<Admitted>,
    ) -> Self {
        let reads = admitted.is_some();
        let verification = admitted.and_then(|admitted| admitted.verify(&tracked));
        tracked.content().writers += 1;
        let (lost, beside_passthrough) = (Mutex::default(), AtomicBool::default());
        Self {
            tracked,
            run,
            opened,
            by,
            permit,
            hold,
            reads,
            verification,
            lost,
            past: OnceLock::new(),
            beside_passthrough,
        }
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

    /// What it is open on was just made, and is empty.
    pub(crate) fn tell_made(&self, identity: Identity) {
        let change = Change { tracked: &self.tracked, opened: &self.opened, by: &self.by };
        self.run.made(change, identity);
    }

    /// Others read the file past us.
    pub(crate) fn set_beside_passthrough(&self) {
        self.beside_passthrough.store(true, Relaxed);
    }

    /// The kernel writes by itself from now on.
    pub(crate) fn write_past(&self) {
        self.past.get_or_init(|| self.tracked.write_past());
    }

    pub(crate) fn writes_past(&self) -> bool {
        self.past.get().is_some()
    }

    /// Who opened it, and where the file is or was.
    pub(crate) fn holder(&self) -> (&Process, Option<TreePath>) {
        (&self.by, self.tracked.path_or_former())
    }

    /// The run is to know all of the file at the end only: the kernel writes by itself, through this open file or another.
    pub(crate) fn know_at_the_end(&self) {
        self.run.written_past(&self.tracked, &self.opened);
    }

    /// What is in the file was there before: it stays, so the run builds on it.
    pub(crate) fn tell_found(&self, found: (Identity, Option<Digests>)) {
        self.run.opened(&self.tracked, found, &self.opened, || self.by.clone());
    }

    /// Stores bytes at an offset and says how many were stored.
    ///
    /// Store and hasher see the writes of one file in the same order: that of its line. A short write
    /// hashes what was stored; a failed one hashes nothing. So does one after another that was answered and
    /// not stored: it is told that.
    pub(crate) fn write(&self, bytes: &[u8], offset: u64) -> Result<usize, Error> {
        let place = self.tracked.line().enter();
        place.wait_to_store();
        self.tell_lost_to_writer()?;
        self.write_in_turn(place, bytes, offset)
    }

    /// As [`write`](Self::write), for the kernel, which has kept in its pages what somebody stored in a mapping:
    /// what that one is still to be told is no matter of it. It takes a part that was stored for all: so none counts.
    pub(crate) fn write_back(&self, bytes: &[u8], offset: u64) -> Result<usize, Error> {
        let mut place = self.tracked.line().enter();
        let lost = self.store_all(&mut place, (bytes, offset), Haste::OthersWait);
        lost.map_or(Ok(bytes.len()), Err)
    }

    /// As [`write`](Self::write), but says that all is stored before it is. Nobody sees a difference but
    /// by a crash: whoever looks at the file waits until it is stored. What goes wrong is told to the
    /// next one who writes, syncs or closes.
    ///
    /// # Returns
    /// Whether it was stored.
    pub(crate) fn write_behind(
        &self,
        bytes: &[u8],
        offset: u64,
        answer: impl FnOnce(Result<usize, Error>),
    ) -> bool {
        let mut place = self.tracked.line().enter();
        if let Err(error) = self.tell_lost_to_writer().and_then(|()| self.check_if_first(&place)) {
            drop(place);
            answer(Err(error));
            return false;
        }
        answer(Ok(bytes.len()));
        let lost = self.store_all(&mut place, (bytes, offset), Haste::None);
        // Before the place is left: whoever waits for that asks what was lost.
        if let Some(error) = lost {
            self.tracked.content_as_it_is().lost.get_or_insert(error);
            *self.lost.lock() = Some(Lost { error, is_told: false });
        }
        lost.is_none()
    }

    /// Whether a small write is answered first as well: something before it is not stored yet.
    pub(crate) fn is_behind(&self) -> bool {
        !self.tracked.line().is_empty()
    }

    /// Whether nobody sees a difference if a write is answered first. Who has lost one, and has not synced since,
    /// is to hear of each other one itself: an error in the place of a later write may end as a short one.
    pub(crate) fn may_be_behind(&self) -> bool {
        !self.beside_passthrough.load(Relaxed) && self.lost.lock().is_none()
    }

    /// Waits until all that was answered is stored. Any process that has the descriptor may close it: what was
    /// lost stays to be told.
    ///
    /// # Errors
    /// That of a write that was answered and could not be stored.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        self.wait_until_stored();
        self.lost.lock().as_ref().map_or(Ok(()), |lost| Err(lost.error))
    }

    /// As [`flush`](Self::flush), and it has been told.
    ///
    /// # Errors
    /// As those of [`flush`](Self::flush).
    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.wait_until_stored();
        self.lost.lock().take().map_or(Ok(()), |lost| Err(lost.error))
    }

    /// Waits until all writes to the file that were answered are stored.
    pub(crate) fn wait_until_stored(&self) {
        self.tracked.line().wait_until_empty();
    }

    /// Whoever may not change the file any more is told so at once, unless others are being stored: then
    /// that is found out when they are.
    fn check_if_first(&self, place: &Place<'_>) -> Result<(), Error> {
        if !place.is_first() {
            return Ok(());
        }
        let change = Change { tracked: &self.tracked, opened: &self.opened, by: &self.by };
        let mut content = self.tracked.content_as_it_is();
        self.allows(&mut content, change, &self.opened.stat()?.identity)
    }

    /// Whether the file of this identity may be changed now: since it was opened it may have been published, and
    /// somebody may have been admitted to read it.
    fn allows(
        &self,
        content: &mut Content,
        change: Change<'_>,
        identity: &Identity,
    ) -> Result<(), Error> {
        self.permit.check_again(&self.run, content, change, identity)?;
        self.permit.check_readers(&self.run, change, Some(&self.hold))
    }

    /// Once, so that who goes on all the same can.
    fn tell_lost_to_writer(&self) -> Result<(), Error> {
        match self.lost.lock().as_mut() {
            Some(lost) if !lost.is_told => {
                lost.is_told = true;
                Err(lost.error)
            }
            _ => Ok(()),
        }
    }

    fn write_in_turn(
        &self,
        mut place: Place<'_>,
        bytes: &[u8],
        offset: u64,
    ) -> Result<usize, Error> {
        let mut write =
            |opened: &Opened| Ok(opened.backing.write_at(&opened.file, bytes, offset)?);
        self.store(&mut place, (bytes, offset), Haste::OthersWait, &mut write)
    }

    /// Why not all of it could be stored. A store that takes only a part says so when it is asked to take the rest.
    fn store_all(
        &self,
        place: &mut Place<'_>,
        (bytes, offset): (&[u8], u64),
        haste: Haste,
    ) -> Option<Error> {
        let mut lost = None;
        let mut write = |opened: &Opened| {
            let (mut stored, backing) = (0, &opened.backing);
            while stored < bytes.len() && lost.is_none() {
                let rest = (&bytes[stored..], offset + stored as u64);
                match backing.write_at(&opened.file, rest.0, rest.1) {
                    Ok(0) => lost = Some(Errno::IO.into()),
                    Ok(count) => stored += count,
                    Err(errno) if stored == 0 => return Err(errno.into()),
                    Err(errno) => lost = Some(errno.into()),
                }
            }
            Ok(stored)
        };
        let stored = self.store(place, (bytes, offset), haste, &mut write);
        stored.err().or(lost)
    }

    /// Has `write` store them and the hasher follow. The caller is in this `haste`; others may be who have come
    /// since.
    fn store(
        &self,
        place: &mut Place<'_>,
        (bytes, offset): (&[u8], u64),
        haste: Haste,
        write: &mut dyn FnMut(&Opened) -> Result<usize, Error>,
    ) -> Result<usize, Error> {
        place.wait_to_store();
        let mut follower = None;
        let stored = self.change_in_turn(write, |hasher, _| follower = Some(Arc::clone(hasher)))?;
        place.stored();
        if let Some(hasher) = follower {
            let waited_for = haste == Haste::OthersWait || !place.is_last();
            let haste = if waited_for { Haste::OthersWait } else { Haste::None };
            hasher.wrote(offset, &bytes[..stored], haste);
            self.run.trail(&hasher, &self.opened);
        }
        Ok(stored)
    }

    pub(crate) fn truncate(&self, length: u64) -> Result<(), Error> {
        self.change(|opened| truncate(opened, length), |hasher, ()| hasher.resized(length))
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
            |opened| {
                opened.backing.allocate(&opened.file, mode, offset, length)?;
                drop_privilege_bits(opened)
            },
            |hasher, ()| {
                if !mode.contains(FallocateFlags::KEEP_SIZE) {
                    hasher.reaches(end);
                }
                if mode.intersects(FallocateFlags::PUNCH_HOLE | FallocateFlags::ZERO_RANGE) {
                    hasher.touched(offset..end);
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
            |opened| {
                let copied = opened.backing.copy_range(source, (&opened.file, offset), length)?;
                drop_privilege_bits(opened)?;
                Ok(copied)
            },
            |hasher, copied| {
                let end = offset + *copied as u64;
                hasher.reaches(end);
                hasher.touched(offset..end);
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
        follow: impl FnOnce(&Follower, &T),
    ) -> Result<T, Error> {
        let place = self.tracked.line().enter();
        place.wait_to_be_first();
        self.change_in_turn(operation, follow)
    }

    /// For whoever stands in line, and whose turn it is.
    fn change_in_turn<T>(
        &self,
        operation: impl FnOnce(&Opened) -> Result<T, Error>,
        follow: impl FnOnce(&Follower, &T),
    ) -> Result<T, Error> {
        let mut content = self.tracked.content_as_it_is();
        let change = Change { tracked: &self.tracked, opened: &self.opened, by: &self.by };
        let allows =
            |content: &mut Content, identity: &Identity| self.allows(content, change, identity);
        self.run.change(&mut content, change, allows, operation, follow)
    }
}

impl Drop for WriteHandle {
    fn drop(&mut self) {
        // Before the last one has the file hashed.
        drop(self.past.take());
        self.run.writer_left(&self.tracked, &self.opened);
    }
}

/// Truncates a file that is held for that and not open, as `truncate(2)` does.
pub(crate) fn truncate_unopened(
    run: &Run,
    permit: &Permit,
    change: Change<'_>,
    hold: &Hold,
    length: u64,
) -> Result<(), Error> {
    let place = change.tracked.line().enter();
    place.wait_to_be_first();
    let mut content = change.tracked.content_as_it_is();
    let allows = |content: &mut Content, identity: &Identity| {
        permit.check_again(run, content, change, identity)?;
        permit.check_readers(run, change, Some(hold))
    };
    let truncate = |opened: &Opened| truncate(opened, length);
    run.change(&mut content, change, allows, truncate, |hasher, ()| hasher.resized(length))?;
    run.settle(change.tracked, &mut content, change.opened);
    Ok(())
}

fn truncate(opened: &Opened, length: u64) -> Result<(), Error> {
    opened.backing.truncate(&opened.file, length)?;
    drop_privilege_bits(opened)
}

/// Of writes the kernel says when the writer may not keep these bits. Of other changes it says so too, but the FUSE
/// library does not pass it on: they take the bits away whoever makes them.
fn drop_privilege_bits(opened: &Opened) -> Result<(), Error> {
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
