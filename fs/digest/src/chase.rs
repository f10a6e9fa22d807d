use blake3::hazmat::ChainingValue;

use crate::{
    content::{ReadAt, ReadError},
    digest::Digests,
    midstate::Midstate,
    outboard::values,
    parallel::{PIECE_BYTES, digests_from, digests_parallel},
    reader::Progress,
    tree::ChunkGroup,
};

/// Both digests of a file that somebody writes whom nobody watches: the SHA-256, which takes longest, is made behind
/// the writer of what lies in the store by then. When the writer is gone all is read once more for BLAKE3, on several
/// threads; where what was read before had the same chunk groups, its SHA-256 holds.
///
/// Memory: 32 bytes per 64 KiB of content, twice while it ends.
#[derive(Debug, Default)]
pub struct Chase {
    sha256: Midstate,
    /// Of the chunk groups that went into it.
    groups: Vec<ChainingValue>,
}

impl Chase {
    /// Where to read on.
    pub fn cursor(&self) -> u64 {
        self.sha256.length()
    }

    /// The store held these bytes at the cursor. Takes whole multiples of 256 KiB and leaves what is over.
    pub fn feed(&mut self, bytes: &[u8]) {
        let whole = bytes.len() - bytes.len() % PIECE_BYTES;
        for piece in bytes[..whole].chunks(PIECE_BYTES) {
            self.groups.extend(values(self.cursor(), piece));
            self.sha256.absorb(piece);
        }
    }

    /// The digests of the content as it is now, of this length, by so many threads, two at least. Reports bytes read: all
    /// of them twice where what was fed is not there any more.
    ///
    /// # Errors
    /// As [`digests_parallel`].
    pub fn finish<C: ReadAt + Sync + ?Sized>(
        self,
        content: &C,
        length: u64,
        threads: usize,
        progress: &mut Progress<'_>,
    ) -> Result<Digests, ReadError> {
        let mut read = 0;
        if self.cursor() <= length && length > ChunkGroup::LENGTH {
            let Self { sha256, groups } = self;
            let mut count = |bytes| {
                read = bytes;
                progress(bytes)
            };
            let (digests, outboard) = digests_from(sha256, content, length, threads, &mut count)?;
            if outboard.begins_with(&groups) {
                return Ok(digests);
            }
        }
        let mut count_on = |bytes| progress(read + bytes);
        Ok(digests_parallel(content, length, threads, &mut count_on)?.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        reader::unwatched,
        testing::{judged, pattern},
    };

    /// Reads behind a writer who has written `before`, in steps, and ends when all of `bytes` is there.
    fn chase(before: &[u8], steps: &[usize], bytes: &[u8], threads: usize) -> Digests {
        let mut chase = Chase::default();
        for &step in steps {
            let rest = &before[usize::try_from(chase.cursor()).unwrap()..];
            chase.feed(&rest[..step.min(rest.len())]);
        }
        chase.finish(bytes, bytes.len() as u64, threads, &mut unwatched).unwrap()
    }

    #[test]
    fn what_was_appended_since_is_hashed_on() {
        for length in [0, 1, ChunkGroup::BYTES, PIECE_BYTES, 5 * PIECE_BYTES + 7] {
            let bytes = pattern(length);
            for steps in [&[][..], &[PIECE_BYTES], &[3 * PIECE_BYTES + 1, 0, usize::MAX]] {
                for threads in [0, 1, 2, 5] {
                    let digests = chase(&bytes, steps, &bytes, threads);
                    assert_eq!(digests, judged(&bytes), "{length} bytes, {steps:?}, {threads}");
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_was_changed_since_has_the_digests_of_the_end(
            length in 0..6 * PIECE_BYTES,
            end in 0..6 * PIECE_BYTES,
            changes in prop::collection::vec((0..6 * PIECE_BYTES, any::<u8>()), 0..3),
            steps in prop::collection::vec(0..4 * PIECE_BYTES, 0..4),
        ) {
            let before = pattern(length);
            let mut bytes = before.clone();
            bytes.resize(end, 5);
            for (at, byte) in changes {
                if let Some(changed) = bytes.get_mut(at) {
                    *changed = byte;
                }
            }
            prop_assert_eq!(chase(&before, &steps, &bytes, 3), judged(&bytes));
        }
    }

    #[test]
    fn progress_rises_beyond_what_was_read_in_vain() {
        let mut bytes = pattern(9 * PIECE_BYTES);
        let length = bytes.len() as u64;
        let mut chase = Chase::default();
        chase.feed(&bytes[..4 * PIECE_BYTES]);
        bytes[7] ^= 1;
        let mut seen = Vec::new();
        let watch = &mut |done| {
            seen.push(done);
            std::ops::ControlFlow::Continue(())
        };
        assert_eq!(chase.finish(&bytes[..], length, 3, watch).unwrap(), judged(&bytes));
        assert!(seen.is_sorted() && seen.last() == Some(&(2 * length)), "{seen:?}");
    }

    #[test]
    fn a_stop_is_obeyed() {
        let bytes = pattern(9 * PIECE_BYTES);
        for fed in [0, 4, 9] {
            let mut chase = Chase::default();
            chase.feed(&bytes[..fed * PIECE_BYTES]);
            let stop = &mut |_| std::ops::ControlFlow::Break(());
            let error = chase.finish(&bytes[..], bytes.len() as u64, 3, stop).unwrap_err();
            assert!(matches!(error, ReadError::Stopped));
        }
    }

    #[test]
    fn what_cannot_be_read_again_is_an_error() {
        let bytes = pattern(9 * PIECE_BYTES);
        let mut chase = Chase::default();
        chase.feed(&bytes);
        let shorter = &bytes[..2 * PIECE_BYTES];
        let error = chase.finish(shorter, bytes.len() as u64, 3, &mut unwatched).unwrap_err();
        assert!(matches!(error, ReadError::Shrank { .. }), "{error}");
    }
}
