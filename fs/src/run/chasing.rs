//! Reading behind writers who write past us: nobody tells what they write, so the store is asked what is there.

use std::{
    fs::File,
    mem,
    os::fd::AsFd,
    sync::{Arc, Weak},
    time::Duration,
};

use attestfs_digest::Chase;
use rustix::{fs::SeekFrom, io::Errno};

use super::{queue::Queue, run::Opened, trailing::be_nice};
use crate::{
    backing::Backing,
    meter::{HashedFor, meter},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
        thread,
    },
};

/// What was read of a file behind those who write to it past us.
#[derive(Debug, Default)]
pub(crate) struct Chased {
    chase: Mutex<Chase>,
    is_over: AtomicBool,
}

impl Chased {
    /// Nobody writes any more: gives what was read by then. Who reads behind goes no further.
    pub(super) fn end(&self) -> Chase {
        self.is_over.store(true, Relaxed);
        mem::take(&mut *self.chase.lock())
    }
}

/// A file to be read behind its writer. Keeps it not open.
#[derive(Debug)]
pub(super) struct Quarry {
    chased: Weak<Chased>,
    backing: Arc<dyn Backing>,
    file: Weak<File>,
}

/// How a file was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// There was more of it.
    Longer,
    /// As it was.
    Same,
    /// Nobody writes it any more, or it cannot be read: whoever completes its digests tells why.
    Over,
}

impl Quarry {
    pub(super) fn of(chased: &Arc<Chased>, opened: &Opened) -> Self {
        Self {
            chased: Arc::downgrade(chased),
            backing: Arc::clone(&opened.backing),
            file: Arc::downgrade(&opened.file),
        }
    }

    /// Reads on by a piece, if there is one.
    fn step(&self, piece: &mut [u8]) -> Found {
        let (Some(chased), Some(file)) = (self.chased.upgrade(), self.file.upgrade()) else {
            return Found::Over;
        };
        let mut chase = chased.chase.lock();
        if chased.is_over.load(Relaxed) {
            return Found::Over;
        }
        let cursor = chase.cursor();
        if !self.is_written(&file, cursor) {
            return Found::Same;
        }
        let Ok(read) = self.backing.read_at(&file, piece, cursor) else {
            return Found::Over;
        };
        chase.feed(&piece[..read]);
        meter().hashed(HashedFor::SEAL, chase.cursor() - cursor);
        if chase.cursor() > cursor { Found::Longer } else { Found::Same }
    }

    /// Whether there is a piece to read, as far as can be told: who makes a file as long as it will be before he fills it
    /// leaves a hole ahead of him. Where there are none nobody asks for them: to do so waits for the writer.
    fn is_written(&self, file: &File, start: u64) -> bool {
        let Ok(stat) = self.backing.stat(file.as_fd()) else { return true };
        let (size, end) = (stat.identity.size, start + PIECE_BYTES as u64);
        let is_data = |at| match self.backing.seek(file, SeekFrom::Data(at)) {
            Ok(found) => found == at,
            Err(errno) => errno != Errno::NXIO,
        };
        end <= size && (!stat.has_holes() || is_data(start) && is_data(end - 1))
    }
}

/// Reads behind writers until the queue is closed. Looks now and then whether there is more, so that those who
/// write files one after the other wake nobody.
pub(super) fn chase(quarries: &Queue<Quarry>) {
    be_nice();
    let mut chased: Vec<Quarry> = Vec::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut pauses = 0;
    loop {
        let free = CHASED_MAX - chased.len();
        let taken = if chased.is_empty() && pauses > PAUSES_MAX {
            quarries.pop(free)
        } else {
            quarries.pop_what_nobody_waits_for(free)
        };
        let Some(taken) = taken else { return };
        let begin = !taken.is_empty();
        chased.extend(taken);
        let mut longer = false;
        chased.retain(|quarry| {
            let found = quarry.step(&mut piece);
            longer |= found == Found::Longer;
            found != Found::Over
        });
        if longer {
            pauses = 0;
            continue;
        }
        pauses = if begin { 1 } else { pauses + 1 };
        thread::sleep(PAUSE.saturating_mul(pauses).min(PAUSE_MAX));
    }
}

/// Files that one thread reads at a time; others wait.
const CHASED_MAX: usize = 64;

/// Read at a time: it stays in the cache of a core while it is hashed.
const PIECE_BYTES: usize = 256 << 10;

/// A gigabyte a second is a mebibyte a millisecond.
const PAUSE: Duration = Duration::from_millis(1);

/// Who begins to write is caught up with in no time all the same.
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// After these nobody looks until somebody begins to write.
const PAUSES_MAX: u32 = 20;
