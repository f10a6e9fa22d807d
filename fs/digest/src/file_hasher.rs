use std::ops::Range;

use crate::{
    chain::{Chain, Stream},
    content::{ReadAt, ReadError},
    digest::Digests,
    reader::{Progress, Reader, unwatched},
    tree::{ChunkGroup, Tree},
    whole::digests_with_progress,
};

/// Follows one file while it is written, and knows its digests with as little reading as possible.
///
/// It is told what the *store* holds: call [`FileHasher::write`], [`FileHasher::touch`] and
/// [`FileHasher::set_length`] after the store did its part, in the order in which it did, with
/// the bytes that were stored and not those that were asked for. When told in another order, it
/// gives a wrong digest; when in doubt, `touch`.
///
/// SHA-256 is the slower of the two digests by a factor of four, so a writer need not wait for it: a hasher made
/// by [`FileHasher::trailing`] lends its SHA-256 to a thread that reads the store behind the writer.
///
/// Memory: 2 KiB, and for more than 64 KiB of content 66 bytes per 64 KiB of it, one thousandth;
/// twice that while it grows. A hole takes memory only when it is read back, which is when the digest
/// is asked for: refuse a file whose apparent size is out of proportion before that. Of a file above
/// 1 TiB no tree is built; [`FileHasher::finish`] reads it whole.
#[derive(Debug)]
pub struct FileHasher {
    tree: Tree,
    stream: Stream,
    /// How far the SHA-256 of what is written in order is made at once.
    eager: u64,
}

impl FileHasher {
    /// For an empty file. Both digests keep up with a sequential writer.
    pub fn new() -> Self {
        Self::trailing(u64::MAX)
    }

    /// For an empty file, whose SHA-256 keeps up with a sequential writer for the first `eager` bytes.
    /// What follows is left to whoever borrows it ([`FileHasher::lend`]), or to the next finish.
    pub fn trailing(eager: u64) -> Self {
        Self { tree: Tree::new(), stream: Stream::default(), eager }
    }

    /// From now on SHA-256 of what is written in order is made at once as far as this.
    pub fn set_eager(&mut self, eager: u64) {
        self.eager = eager;
    }

    /// For a file of this length, of which nothing is known.
    pub fn unread(length: u64) -> Self {
        Self::unread_trailing(length, u64::MAX)
    }

    /// As [`FileHasher::unread`], of a file that is written on as after [`FileHasher::trailing`].
    pub fn unread_trailing(length: u64, eager: u64) -> Self {
        let mut hasher = Self::trailing(eager);
        hasher.set_length(length);
        hasher
    }

    /// Bytes in the file, as far as it was told.
    pub fn length(&self) -> u64 {
        self.tree.length()
    }

    /// The store holds these bytes at this offset now. A write beyond the end leaves a hole, which
    /// is zeros. No store holds a byte at 2^63 or after it.
    ///
    /// Costs one BLAKE3 of the bytes, and one SHA-256 of them when they continue what was written
    /// from the start of the file without a gap: the speed of the two libraries from pieces of
    /// 128 KiB on, two thirds of it with pieces of 4 KiB. Nothing is copied. After a gap they cost no
    /// SHA-256 now; the next finish reads the file from the gap on, or from the start when a byte
    /// before the gap was changed.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.tree.write(offset, bytes);
        self.stream.forget_from(offset);
        self.stream.feed(offset, self.eager_part(offset, bytes));
    }

    /// The store changed somewhere in this range and nobody saw the bytes: a copy inside the store,
    /// a punched hole, zeroed blocks, a mapped page. Does not change the length: tell a new one with
    /// [`FileHasher::set_length`]. Bytes beyond the length are no matter.
    pub fn touch(&mut self, range: Range<u64>) {
        self.tree.touch(&range);
        if !range.is_empty() {
            self.stream.forget_from(range.start);
        }
    }

    /// The file was truncated, or extended by a hole. Says nothing new when it is the length already.
    pub fn set_length(&mut self, length: u64) {
        self.tree.set_length(length);
        self.stream.forget_from(length);
    }

    /// Lends the SHA-256 to somebody who reads behind the writer. None while it is lent, when fewer
    /// than `least` bytes lie between its cursor and the end, and for a file above 1 TiB.
    ///
    /// Writing goes on meanwhile, and the borrower needs no lock: a change that it read half of, or
    /// read before it was made, is told here after it was made. If that happens before the chain is
    /// back, [`FileHasher::give_back`] drops it; if it happens after, so does the telling.
    pub fn lend(&mut self, least: u64) -> Option<Chain> {
        self.lend_before(u64::MAX, least)
    }

    /// As [`FileHasher::lend`], for as much of the file as lies before `end`: where a hole will be filled it is
    /// in vain to read it now.
    pub fn lend_before(&mut self, end: u64, least: u64) -> Option<Chain> {
        let length = self.length();
        let end = end.min(length);
        let lacking = end.saturating_sub(self.stream.cursor()?);
        if length > TREE_LENGTH_MAX || lacking < least {
            return None;
        }
        self.stream.lend(end)
    }

    /// Takes back what was lent, and says whether it is of use: if anything below its cursor was
    /// changed meanwhile it is dropped, and SHA-256 begins anew at 0. A chain that another hasher
    /// lent changes nothing.
    pub fn give_back(&mut self, chain: Chain) -> bool {
        self.stream.give_back(chain)
    }

    /// Whether somebody has the SHA-256. One who dropped the chain has it no more.
    pub fn is_lent(&self) -> bool {
        self.stream.cursor().is_none()
    }

    /// How many bytes the next finish will read (holes count). 0 when the digests are known. While
    /// SHA-256 is lent, only what the tree lacks is counted.
    pub fn bytes_to_read(&self) -> u64 {
        let length = self.length();
        if length > TREE_LENGTH_MAX {
            return length;
        }
        let start = self.stream_start();
        self.tree
            .unknown_before(start)
            .map(|group| group.extent(length))
            .map(|extent| extent.end - extent.start)
            .sum::<u64>()
            + (length - start)
    }

    /// The digests of the file as it is in the store now: reads back the chunk groups that changed
    /// unseen and what SHA-256 did not see, at most 1 MiB at a time.
    ///
    /// The hasher stays usable: later writes go on from here. After an error it is as good as before,
    /// and what was hashed meanwhile is not hashed again.
    ///
    /// # Errors
    /// [`ReadError::Shrank`] when the store has fewer bytes than [`FileHasher::length`],
    /// [`ReadError::Failed`] when it cannot be read, [`ReadError::Lent`] while SHA-256 is lent.
    pub fn finish<C: ReadAt + ?Sized>(&mut self, content: &C) -> Result<Digests, ReadError> {
        self.finish_with_progress(content, &mut unwatched)
    }

    /// As [`FileHasher::finish`], reporting bytes read, out of [`FileHasher::bytes_to_read`].
    ///
    /// # Errors
    /// As [`FileHasher::finish`], and [`ReadError::Stopped`].
    pub fn finish_with_progress<C: ReadAt + ?Sized>(
        &mut self,
        content: &C,
        progress: &mut Progress<'_>,
    ) -> Result<Digests, ReadError> {
        if self.is_lent() {
            return Err(ReadError::Lent);
        }
        let length = self.length();
        if length > TREE_LENGTH_MAX {
            return digests_with_progress(content, length, progress);
        }
        self.read_back(&mut Reader::new(content, length, progress))?;
        Ok(Digests {
            sha256: self.stream.digest().expect("it is not lent"),
            blake3: self.tree.root().expect("every unknown group was read back"),
        })
    }

    fn read_back<C: ReadAt>(&mut self, reader: &mut Reader<'_, C>) -> Result<(), ReadError> {
        let start = self.stream_start();
        let unknown: Vec<_> = self.tree.unknown_before(start).collect();
        let mut bytes = Vec::new();
        for group in unknown {
            reader.read(group.start(), ChunkGroup::BYTES, &mut bytes)?;
            self.tree.supply(group.start(), &bytes);
        }
        reader.read_to_end(start, |offset, bytes| {
            self.tree.supply(offset, bytes);
            self.stream.feed(offset, bytes);
        })
    }

    /// What is hashed at once of bytes that were written at `offset`.
    fn eager_part<'a>(&self, offset: u64, bytes: &'a [u8]) -> &'a [u8] {
        let left = self.eager.saturating_sub(offset);
        usize::try_from(left).map_or(bytes, |left| &bytes[..bytes.len().min(left)])
    }

    /// Where reading for SHA-256 begins: at the chunk group of its cursor, so that the tree can use
    /// what is read; the end when it has seen everything, or is elsewhere.
    fn stream_start(&self) -> u64 {
        let length = self.length();
        match self.stream.cursor() {
            Some(cursor) if cursor < length => ChunkGroup::at(cursor).start(),
            _ => length,
        }
    }
}

impl Default for FileHasher {
    fn default() -> Self {
        Self::new()
    }
}

/// 1 TiB, of which the tree takes 1 GiB of memory.
const TREE_LENGTH_MAX: u64 = 1 << 40;

#[cfg(test)]
mod tests;
