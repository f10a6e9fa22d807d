//! Reading a file: what the gate admitted, and where it says so only verified bytes of that.

use std::{ops::Range, sync::Arc};

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

    /// Whole chunk groups are read and verified, and a byte more where the content must end.
    fn read_verified(
        &self,
        outboard: &Outboard,
        buffer: &mut [u8],
        offset: u64,
    ) -> Result<usize, Error> {
        let wanted = offset..offset.saturating_add(buffer.len() as u64);
        let cover = outboard.cover(&wanted);
        let beyond = usize::from(cover.end == outboard.length());
        let mut bytes = vec![0; length(&cover).saturating_add(beyond)];
        let count = self.read_as_it_is(&mut bytes, cover.start)?;
        bytes.truncate(count);
        if count != length(&cover) || !outboard.verify(cover.start, &bytes) {
            return Err(Error::WrongBytes);
        }
        let rest = usize::try_from(offset - cover.start.min(offset)).ok();
        let rest = rest.and_then(|skipped| bytes.get(skipped..)).unwrap_or_default();
        let given = rest.len().min(buffer.len());
        buffer[..given].copy_from_slice(&rest[..given]);
        Ok(given)
    }
}

/// Of what one request asks for, which fits into memory.
fn length(range: &Range<u64>) -> usize {
    usize::try_from(range.end - range.start).unwrap_or(usize::MAX)
}
