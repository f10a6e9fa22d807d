//! Reading a file.

use std::fs::File;

use crate::{backing::Backing, error::Error, run::Opened};

/// One open for reading.
#[derive(Debug)]
pub(crate) struct ReadHandle {
    opened: Opened,
}

impl ReadHandle {
    pub(crate) fn new(opened: Opened) -> Self {
        Self { opened }
    }

    pub(crate) fn file(&self) -> &File {
        &self.opened.file
    }
}

/// Fills `buffer` with what the file holds from `offset` on, and says how many bytes there were;
/// fewer than asked for only at the end of the file.
pub(crate) fn read(
    backing: &dyn Backing,
    file: &File,
    buffer: &mut [u8],
    offset: u64,
) -> Result<usize, Error> {
    Ok(backing.read_at(file, buffer, offset)?)
}
