//! What follows a file while it is written, and its SHA-256 that trails behind.

use std::ops::Range;

use attestfs_digest::{Chain, Digests, FileHasher, Progress, ReadAt, ReadError};

use crate::sync::Mutex;

/// Follows what is written to one file. Its SHA-256 is made at once of a small file only; of a large one it
/// is lent to whoever reads the store behind the writer, so that no writer waits for it. `J` is what may have to
/// wait until that one is back.
#[derive(Debug)]
pub(crate) struct Following<J>(Mutex<State<J>>);

/// Whether somebody waits for a write to be hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Haste {
    None,
    OthersWait,
}

#[derive(Debug)]
struct State<J> {
    hasher: FileHasher,
    /// All before this was written in order.
    front: u64,
    next: Option<J>,
}

impl<J> Following<J> {
    /// For a file of this length, of which nothing is known.
    pub(super) fn unread(length: u64) -> Self {
        let hasher = FileHasher::unread_trailing(length, EAGER_BYTES);
        Self(Mutex::new(State { hasher, front: 0, next: None }))
    }

    /// The store holds these bytes at this offset now. Of a large file SHA-256 is only made of them where
    /// nobody has to wait for it.
    pub(crate) fn wrote(&self, offset: u64, bytes: &[u8], haste: Haste) {
        let mut state = self.0.lock();
        state.hasher.set_eager(match haste {
            Haste::None => u64::MAX,
            Haste::OthersWait => EAGER_BYTES,
        });
        state.hasher.write(offset, bytes);
        if offset <= state.front {
            state.front = state.front.max(offset + bytes.len() as u64);
        }
    }

    /// The store changed somewhere in this range.
    pub(crate) fn touched(&self, range: Range<u64>) {
        self.0.lock().hasher.touch(range);
    }

    /// The store cut the file off, or made it longer by a hole.
    pub(crate) fn resized(&self, length: u64) {
        let mut state = self.0.lock();
        state.hasher.set_length(length);
        state.front = state.front.min(length);
    }

    /// As [`resized`](Self::resized), if that makes it longer.
    pub(crate) fn reaches(&self, end: u64) {
        if end > self.length() {
            self.resized(end);
        }
    }

    pub(crate) fn length(&self) -> u64 {
        self.0.lock().hasher.length()
    }

    /// The SHA-256, for whoever reads on behind the writer. None while there is little to read.
    pub(crate) fn lend_to_trail(&self) -> Option<Chain> {
        let mut state = self.0.lock();
        let front = state.front;
        state.hasher.lend_before(front, TRAIL_BYTES)
    }

    /// The SHA-256, for whoever reads the rest of a file that nobody writes any more, if it was written in order
    /// and nothing else has to be read of it. None of one whose digests are known.
    pub(super) fn lend_to_finish(&self) -> Option<Chain> {
        let mut state = self.0.lock();
        let in_order = state.front == state.hasher.length();
        in_order.then(|| state.hasher.lend(1)).flatten()
    }

    /// Takes the SHA-256 back, and gives what had to wait for that.
    pub(super) fn give_back(&self, chain: Chain) -> Option<J> {
        let mut state = self.0.lock();
        state.hasher.give_back(chain);
        state.next.take()
    }

    /// Gives back what is to be done, unless the SHA-256 is lent: then it waits for that.
    pub(super) fn when_back(&self, next: J) -> Option<J> {
        let mut state = self.0.lock();
        if state.hasher.is_lent() {
            state.next = Some(next);
            return None;
        }
        Some(next)
    }

    /// Whether something waits until the SHA-256 is back. As long as a write is hashed nothing does, and whoever asks
    /// does not wait for it.
    pub(super) fn is_waited_for(&self) -> bool {
        self.0.try_lock().is_some_and(|state| state.next.is_some())
    }

    /// Whether the digests are known and nothing has to be read.
    pub(super) fn is_complete(&self) -> bool {
        let state = self.0.lock();
        !state.hasher.is_lent() && state.hasher.bytes_to_read() == 0
    }

    /// # Errors
    /// As [`FileHasher::finish_with_progress`].
    pub(super) fn finish<C: ReadAt + ?Sized>(
        &self,
        content: &C,
        progress: &mut Progress<'_>,
    ) -> Result<Digests, ReadError> {
        self.0.lock().hasher.finish_with_progress(content, progress)
    }
}

/// Of a file up to this size SHA-256 is made when it is written: to read it back would cost more than it
/// spares the writer.
const EAGER_BYTES: u64 = 1 << 20;

/// So much must have been written that it is worth while to read behind.
const TRAIL_BYTES: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use attestfs_digest::digests;

    use super::*;

    fn bytes(length: usize) -> Vec<u8> {
        (0_u32..)
            .flat_map(|word| word.wrapping_mul(0x9E37_79B1).to_le_bytes())
            .take(length)
            .collect()
    }

    fn written(bytes: &[u8]) -> Following<u8> {
        let following = Following::unread(0);
        for (index, piece) in bytes.chunks(1 << 20).enumerate() {
            following.wrote((index << 20) as u64, piece, Haste::OthersWait);
        }
        following
    }

    fn finish(following: &Following<u8>, bytes: &[u8]) -> Digests {
        following.finish(bytes, &mut |_| std::ops::ControlFlow::Continue(())).unwrap()
    }

    #[test]
    fn a_small_file_is_complete_when_it_is_written() {
        assert!(written(&bytes(1 << 20)).is_complete());
        assert!(written(&[]).is_complete());
        assert!(!written(&bytes((1 << 20) + 1)).is_complete());
    }

    #[test]
    fn what_nobody_waits_for_is_complete_when_it_is_written() {
        let bytes = bytes(9 << 20);
        let following = Following::<u8>::unread(0);
        following.wrote(0, &bytes, Haste::None);
        assert!(following.is_complete());
        assert!(following.lend_to_trail().is_none());
        assert_eq!(finish(&following, &bytes), digests(&bytes[..], 9 << 20).unwrap());
    }

    #[test]
    fn what_trails_a_large_file_leaves_nothing_to_read() {
        let bytes = bytes(6 << 20);
        let following = written(&bytes);
        let mut chain = following.lend_to_trail().unwrap();
        assert_eq!(chain.wanted(), 1 << 20..6 << 20);
        assert!(following.lend_to_trail().is_none());
        assert_eq!(following.when_back(7), None);
        chain.feed(&bytes[1 << 20..]);
        assert_eq!(following.give_back(chain), Some(7));
        assert_eq!(following.when_back(8), Some(8));
        assert!(following.is_complete());
        assert_eq!(finish(&following, &bytes), digests(&bytes[..], 6 << 20).unwrap());
    }

    #[test]
    fn who_reads_behind_does_not_wait_for_a_write_that_is_hashed() {
        let following = written(&bytes(6 << 20));
        let (told, hears) = mpsc::channel();
        thread::scope(|threads| {
            let hashing = following.0.lock();
            threads.spawn(|| told.send(following.is_waited_for()));
            let answer = hears.recv_timeout(Duration::from_secs(10));
            drop(hashing);
            assert_eq!(answer, Ok(false));
        });
    }

    #[test]
    fn nobody_reads_a_hole_that_will_be_filled() {
        let mut bytes = bytes(12 << 20);
        let following = Following::<u8>::unread(0);
        following.resized(12 << 20);
        assert!(following.lend_to_trail().is_none());
        following.wrote(0, &bytes[..6 << 20], Haste::OthersWait);
        assert_eq!(following.lend_to_trail().unwrap().wanted(), 1 << 20..6 << 20);
        following.wrote(8 << 20, &bytes[8 << 20..], Haste::OthersWait);
        assert!(following.lend_to_finish().is_none(), "the store knows where its holes are");
        bytes[6 << 20..8 << 20].fill(0);
        assert_eq!(finish(&following, &bytes), digests(&bytes[..], 12 << 20).unwrap());
    }
}
