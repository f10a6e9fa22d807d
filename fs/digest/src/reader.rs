use std::{
    io,
    ops::{ControlFlow, Range},
};

use crate::content::{ReadAt, ReadError};

/// Is told how many bytes were read so far, after each read of at most 1 MiB, and answers whether to
/// go on. [`ControlFlow::Break`] ends the work with [`ReadError::Stopped`].
pub type Progress<'a> = dyn FnMut(u64) -> ControlFlow<()> + 'a;

/// A progress callback for those who neither look nor stop.
pub(crate) fn unwatched(_bytes: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Reads exactly what is asked of one content, and reports how much that was.
pub(crate) struct Reader<'a, C> {
    source: Source<C>,
    progress: &'a mut Progress<'a>,
    done: u64,
}

impl<'a, C: ReadAt> Reader<'a, C> {
    pub(crate) fn new(content: C, length: u64, progress: &'a mut Progress<'a>) -> Self {
        Self { source: Source::new(content, length), progress, done: 0 }
    }

    /// Gives the bytes from `from` to the end of the content to `absorb`, piece by piece, each with
    /// its offset. Every piece starts a multiple of [`PIECE_BYTES`] after `from`.
    pub(crate) fn read_to_end(
        &mut self,
        from: u64,
        mut absorb: impl FnMut(u64, &[u8]),
    ) -> Result<(), ReadError> {
        let mut piece = Vec::new();
        let mut at = from;
        while at < self.source.length {
            self.read(at, PIECE_BYTES, &mut piece)?;
            absorb(at, &piece);
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// As [`Source::read`]. Reports progress.
    pub(crate) fn read(
        &mut self,
        offset: u64,
        length_max: usize,
        piece: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        self.source.read(offset, length_max, piece)?;
        self.done += piece.len() as u64;
        match (self.progress)(self.done) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(ReadError::Stopped),
        }
    }
}

/// One content of known length, which is never asked twice where its holes are.
pub(crate) struct Source<C> {
    content: C,
    length: u64,
    /// What the content was asked about: a hole up to the start of `data`, then `data`.
    mapped: Range<u64>,
    data: Range<u64>,
}

impl<C: ReadAt> Source<C> {
    pub(crate) fn new(content: C, length: u64) -> Self {
        Self { content, length, mapped: 0..0, data: 0..0 }
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Replaces what `piece` holds by the bytes at `offset`: `length_max` of them, or what is left
    /// of the content.
    pub(crate) fn read(
        &mut self,
        offset: u64,
        length_max: usize,
        piece: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        let left = self.length.saturating_sub(offset);
        piece.resize(clip(left, length_max), 0);
        self.fill(offset, piece)
    }

    fn fill(&mut self, mut at: u64, mut rest: &mut [u8]) -> Result<(), ReadError> {
        while !rest.is_empty() {
            let filled = self.fill_some(at, rest)?;
            at += filled as u64;
            rest = &mut rest[filled..];
        }
        Ok(())
    }

    fn fill_some(&mut self, at: u64, rest: &mut [u8]) -> Result<usize, ReadError> {
        if !self.mapped.contains(&at) {
            self.map_from(at)?;
        }
        if at < self.data.start {
            let zeros = clip(self.data.start - at, rest.len());
            rest[..zeros].fill(0);
            return Ok(zeros);
        }
        let wanted = clip(self.data.end - at, rest.len());
        self.read_some(at, &mut rest[..wanted])
    }

    fn map_from(&mut self, at: u64) -> Result<(), ReadError> {
        let found = retry(|| self.content.data_from(at, self.length))
            .map_err(|source| ReadError::Failed { offset: at, source })?;
        // A hole that was punched between two questions gives an empty range here: read it, for
        // every answer must take us further.
        self.data = if found.end > at {
            found.start.max(at)..found.end.min(self.length)
        } else {
            at..self.length
        };
        self.mapped = at..self.data.end;
        Ok(())
    }

    fn read_some(&self, at: u64, buffer: &mut [u8]) -> Result<usize, ReadError> {
        match retry(|| self.content.read_at(at, buffer)) {
            Ok(0) => Err(ReadError::Shrank { offset: at, length: self.length }),
            Ok(read) => Ok(read.min(buffer.len())),
            Err(source) => Err(ReadError::Failed { offset: at, source }),
        }
    }
}

fn clip(length: u64, length_max: usize) -> usize {
    usize::try_from(length).map_or(length_max, |length| length.min(length_max))
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            answer => return answer,
        }
    }
}

/// Few enough calls, and still in the cache when the second hash comes. A multiple of a chunk group.
const PIECE_BYTES: usize = 1 << 20;
