//! Reading a file: what the gate admitted, and where it says so only verified bytes of that.

use std::{cell::RefCell, ops::Range, sync::Arc};

use attestfs_digest::Outboard;

use crate::{
    error::Error,
    fact::Process,
    run::{Hold, Opened, Run, Tracked, Verification},
};

/// One open for reading.
#[derive(Debug)]
pub(crate) struct ReadHandle {
    pub(crate) run: Arc<Run>,
    pub(crate) tracked: Arc<Tracked>,
    pub(crate) opened: Opened,
    /// None of one that is read as it is, as long as nobody else has it verified.
    pub(crate) verification: Option<Arc<Verification>>,
    /// Looked up where a read may fail in a way that has to be told.
    pub(crate) by: Process,
    /// Of one that was judged: nobody else changes it.
    pub(crate) _hold: Option<Hold>,
}

impl ReadHandle {
    pub(crate) fn reading(&self) -> Reading<'_> {
        let Self { run, tracked, opened, verification, by, .. } = self;
        Reading { run, tracked, opened, verification: verification.as_ref(), by }
    }
}

/// An open file that may be read, however it was opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading<'a> {
    pub(crate) run: &'a Run,
    pub(crate) tracked: &'a Tracked,
    pub(crate) opened: &'a Opened,
    pub(crate) verification: Option<&'a Arc<Verification>>,
    pub(crate) by: &'a Process,
}

impl Reading<'_> {
    /// Fills `buffer` with what the file holds from `offset` on, and says how many bytes there were;
    /// fewer than asked for only at the end of the file.
    ///
    /// # Errors
    /// [`Error::WrongBytes`] when they are not those that were admitted; else those of the store.
    pub(crate) fn read(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Error> {
        let Some(verification) = self.verifies() else {
            return self.read_as_it_is(buffer, offset);
        };
        match self.read_verified(&verification.outboard, buffer, offset) {
            // The run itself changed it meanwhile.
            Err(Error::WrongBytes) if self.verifies().is_none() => {
                self.read_as_it_is(buffer, offset)
            }
            read => read,
        }
    }

    /// Whatever the store holds.
    pub(crate) fn read_as_it_is(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Error> {
        self.tracked.line().wait_until_empty();
        Ok(self.opened.backing.read_at(&self.opened.file, buffer, offset)?)
    }

    /// Against what each read is verified, if it is: because this open was admitted so, or because
    /// another one was, which would be given the pages that this one reads. What the run made of the
    /// content since is its own.
    pub(crate) fn verifies(&self) -> Option<Arc<Verification>> {
        let verification = match self.verification {
            Some(verification) => Arc::clone(verification),
            None => self.tracked.verification()?,
        };
        let own = self.tracked.content().has_written_over(&verification);
        (!own).then_some(verification)
    }

    /// Reads and verifies whole chunk groups, and looks whether the content ends where it must.
    fn read_verified(
        &self,
        outboard: &Outboard,
        buffer: &mut [u8],
        offset: u64,
    ) -> Result<usize, Error> {
        let end = offset.saturating_add(buffer.len() as u64).min(outboard.length());
        let given = length(&(offset..end));
        let mut rest = &mut buffer[..given];
        let mut at = offset;
        while !rest.is_empty() {
            let whole = whole_groups(outboard, &(at..end));
            let read = if whole > 0 {
                self.fill_verified(outboard, &mut rest[..whole], at)?;
                whole
            } else {
                self.read_part_of_group(outboard, rest, at)?
            };
            rest = &mut rest[read..];
            at += read as u64;
        }
        // Who reads the last group hears where the content ends.
        if outboard.cover(&(offset..end)).end == outboard.length() {
            self.check_end(outboard)?;
        }
        Ok(given)
    }

    /// Fills the buffer, which has the size of whole chunk groups, with those that begin at `start`.
    fn fill_verified(
        &self,
        outboard: &Outboard,
        buffer: &mut [u8],
        start: u64,
    ) -> Result<(), Error> {
        let count = self.read_as_it_is(buffer, start)?;
        if count == buffer.len() && outboard.verify(start, buffer) {
            return Ok(());
        }
        Err(Error::WrongBytes)
    }

    /// Gives what `buffer` takes of one chunk group from `at` on, and says how many bytes that is.
    fn read_part_of_group(
        &self,
        outboard: &Outboard,
        buffer: &mut [u8],
        at: u64,
    ) -> Result<usize, Error> {
        let cover = outboard.cover(&(at..at + 1));
        GROUP.with_borrow_mut(|group| {
            group.resize(length(&cover), 0);
            self.fill_verified(outboard, group, cover.start)?;
            let part = &group[length(&(cover.start..at))..];
            let given = part.len().min(buffer.len());
            buffer[..given].copy_from_slice(&part[..given]);
            Ok(given)
        })
    }

    /// Whether nothing follows the last byte.
    fn check_end(&self, outboard: &Outboard) -> Result<(), Error> {
        match self.read_as_it_is(&mut [0], outboard.length())? {
            0 => Ok(()),
            _ => Err(Error::WrongBytes),
        }
    }
}

/// How many bytes of whole chunk groups `wanted` begins with. They are read to where they are wanted, with
/// nothing to be allocated, cleared or copied.
fn whole_groups(outboard: &Outboard, wanted: &Range<u64>) -> usize {
    let first = outboard.cover(&(wanted.start..wanted.start + 1));
    if first.start < wanted.start {
        return 0;
    }
    let last = outboard.cover(&(wanted.end - 1..wanted.end));
    let end = if last.end == wanted.end { last.end } else { last.start };
    length(&(wanted.start..end))
}

/// Of what one request asks for, which fits into memory.
fn length(range: &Range<u64>) -> usize {
    usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX)
}

thread_local! {
    /// The chunk group of which somebody wants only a part.
    static GROUP: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        ops::ControlFlow,
        path::PathBuf,
    };

    use attestfs_digest::{blake3_of, digests};

    use super::*;
    use crate::{backing::Directory, fact::Fact, port::Recorder};

    const GROUP_BYTES: usize = 64 << 10;

    #[derive(Debug)]
    struct Deaf;

    impl Recorder for Deaf {
        fn record(&self, _fact: Fact) {}
    }

    /// A file that somebody may read as it is now, and no other way.
    struct Lab {
        directory: tempfile::TempDir,
        run: Arc<Run>,
        tracked: Arc<Tracked>,
        opened: Opened,
        verification: Arc<Verification>,
    }

    impl Lab {
        fn with(content: &[u8]) -> Self {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join("file"), content).unwrap();
            let backing = Arc::new(Directory::new(File::open(directory.path()).unwrap().into()));
            let file = Arc::new(File::open(directory.path().join("file")).unwrap());
            let opened = Opened { backing, file };
            let identity = opened.stat().unwrap().identity;
            let run = Run::idle(Box::new(Deaf));
            let tracked = run.track(identity.file);
            let length = content.len() as u64;
            let (_, outboard) =
                blake3_of(content, length, 1, &mut |_| ControlFlow::Continue(())).unwrap();
            let found = (identity, digests(content, length).unwrap());
            let verification = tracked.verify(found, &Arc::new(outboard));
            Self { directory, run, tracked, opened, verification }
        }

        fn path(&self) -> PathBuf {
            self.directory.path().join("file")
        }

        fn read(&self, offset: usize, length: usize) -> Result<Vec<u8>, Error> {
            let Self { run, tracked, opened, verification, .. } = self;
            let (by, verification) = (&Process::default(), Some(verification));
            let reading = Reading { run, tracked, opened, verification, by };
            let mut buffer = vec![0xff; length];
            let count = reading.read(&mut buffer, offset as u64)?;
            buffer.truncate(count);
            Ok(buffer)
        }
    }

    fn pattern(length: usize) -> Vec<u8> {
        (0..=250).cycle().take(length).collect()
    }

    /// Around the borders of chunk groups, up to `end`.
    fn places(end: usize) -> Vec<usize> {
        let borders = (0..=end / GROUP_BYTES).map(|group| group * GROUP_BYTES).chain([end]);
        let near = borders.flat_map(|border| [border.saturating_sub(1), border, border + 1]);
        near.collect()
    }

    #[test]
    fn a_verified_read_gives_what_the_file_holds_wherever_it_begins_and_ends() {
        for size in [0, 1, GROUP_BYTES, 3 * GROUP_BYTES, 3 * GROUP_BYTES + 5] {
            let content = pattern(size);
            let lab = Lab::with(&content);
            for start in places(size) {
                for end in places(size).into_iter().filter(|&end| end >= start) {
                    let expected = &content[start.min(size)..end.min(size)];
                    let given = lab.read(start, end - start).unwrap();
                    assert_eq!(given, expected, "{start}..{end} of {size}");
                }
            }
        }
    }

    #[test]
    fn a_changed_byte_is_given_to_nobody_and_spoils_no_other_group() {
        let mut content = pattern(4 * GROUP_BYTES);
        let lab = Lab::with(&content);
        content[GROUP_BYTES + 7] ^= 1;
        fs::write(lab.path(), &content).unwrap();
        for (start, end) in [(0, 4), (1, 2), (1, 4)] {
            let read = lab.read(start * GROUP_BYTES, (end - start) * GROUP_BYTES);
            assert!(matches!(read, Err(Error::WrongBytes)), "{start}..{end}");
        }
        for (start, end) in [(GROUP_BYTES, GROUP_BYTES + 1), (9, GROUP_BYTES + 1)] {
            let read = lab.read(start, end - start);
            assert!(matches!(read, Err(Error::WrongBytes)), "{start}..{end}");
        }
        assert!(lab.read(0, GROUP_BYTES).is_ok() && lab.read(2 * GROUP_BYTES, GROUP_BYTES).is_ok());
    }

    #[test]
    fn who_reads_the_last_group_hears_that_the_content_ends_elsewhere_by_now() {
        for size in [0, 1, GROUP_BYTES, GROUP_BYTES + 1] {
            let lab = Lab::with(&pattern(size));
            let last = size.saturating_sub(1);
            let file = File::options().write(true).open(lab.path()).unwrap();
            file.set_len(size as u64 + 1).unwrap();
            for (start, length) in [(last, 1), (last, 2), (size, 1), (size + 1, 1), (0, 1 << 20)] {
                let read = lab.read(start, length);
                assert!(matches!(read, Err(Error::WrongBytes)), "{start}, {length} of {size}");
            }
            let Some(shorter) = size.checked_sub(1) else { continue };
            file.set_len(shorter as u64).unwrap();
            assert!(matches!(lab.read(last, 1), Err(Error::WrongBytes)), "{size}");
        }
    }
}
