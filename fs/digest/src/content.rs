use std::{io, ops::Range};

/// A content that can be read at any offset, by position and not by a cursor.
pub trait ReadAt {
    /// Reads some bytes from `offset` on into `buffer` and says how many; 0 at the end of the
    /// content. A hole reads as zeros.
    ///
    /// # Errors
    /// Whatever the store answers. [`io::ErrorKind::Interrupted`] makes the caller try again.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// The first range of data at or after `offset`, cut at `end`; the empty range at `end` when
    /// only a hole follows. What lies between `offset` and the range is hashed as zeros without
    /// being read, so a content that ends before `end` must not call the missing part a hole.
    ///
    /// Without an implementation of its own, everything is data.
    ///
    /// # Errors
    /// As [`ReadAt::read_at`].
    fn data_from(&self, offset: u64, end: u64) -> io::Result<Range<u64>> {
        Ok(offset..end)
    }
}

/// Why a content has no digest.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Somebody truncated the content while it was being hashed, or its length was never right.
    #[error("the content ends at byte {offset} and not at its expected length of {length} bytes")]
    Shrank {
        /// Where it ends.
        offset: u64,
        /// The length that the caller gave.
        length: u64,
    },
    /// The store could not read.
    #[error("byte {offset} of the content could not be read: {source}")]
    Failed {
        /// Of the read that failed.
        offset: u64,
        /// What the store said.
        source: io::Error,
    },
    /// The progress callback asked for an end.
    #[error("hashing was stopped before it was done")]
    Stopped,
    /// Somebody else reads the content for its SHA-256. Wait until the chain is given back.
    #[error("the content's SHA-256 is still being made elsewhere")]
    Lent,
}

/// Borrowed, it can be read as well.
impl<C: ReadAt + ?Sized> ReadAt for &C {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        (**self).read_at(offset, buffer)
    }

    fn data_from(&self, offset: u64, end: u64) -> io::Result<Range<u64>> {
        (**self).data_from(offset, end)
    }
}

/// Memory, for tests and for users without a file.
impl ReadAt for [u8] {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let start = usize::try_from(offset).map_or(self.len(), |offset| offset.min(self.len()));
        io::Read::read(&mut &self[start..], buffer)
    }
}

/// A file, whose holes are skipped where the filesystem names them (Linux `SEEK_DATA` and
/// `SEEK_HOLE`). Asking for them moves the position of the descriptor.
#[cfg(unix)]
impl ReadAt for std::fs::File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buffer, offset)
    }

    #[cfg(target_os = "linux")]
    fn data_from(&self, offset: u64, end: u64) -> io::Result<Range<u64>> {
        linux::data_from(self, offset, end)
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{fs::File, io, ops::Range};

    use rustix::{
        fs::{SeekFrom, seek},
        io::Errno,
    };

    pub(super) fn data_from(file: &File, offset: u64, end: u64) -> io::Result<Range<u64>> {
        let start = match seek(file, SeekFrom::Data(offset)) {
            Ok(start) if start >= end => return Ok(end..end),
            Ok(start) => start,
            // Also the answer beyond the end of a file that was truncated, which is no hole.
            Err(Errno::NXIO) if file.metadata()?.len() >= end => return Ok(end..end),
            Err(Errno::NXIO | Errno::INVAL | Errno::OPNOTSUPP) => return Ok(offset..end),
            Err(errno) => return Err(errno.into()),
        };
        match seek(file, SeekFrom::Hole(start)) {
            Ok(stop) => Ok(start..stop.min(end)),
            Err(Errno::NXIO | Errno::INVAL | Errno::OPNOTSUPP) => Ok(start..end),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::{digests, testing::pattern};

    #[test]
    fn a_content_that_ends_early_is_an_error_that_says_where() {
        let error = digests(&b"seven b"[..], 8).unwrap_err();
        assert!(matches!(error, ReadError::Shrank { offset: 7, length: 8 }), "{error}");
        assert!(error.to_string().contains("ends at byte 7"), "{error}");
    }

    #[test]
    fn an_interrupted_read_is_tried_again() {
        let content = Interrupted(Cell::new(0));
        let read = digests(&content, 3).unwrap();
        assert_eq!(read, digests(&[7; 3][..], 3).unwrap());
        assert!(content.0.get() > 3);
    }

    #[test]
    fn a_failing_store_is_an_error_that_says_where_and_why() {
        let error = digests(&Broken, 10).unwrap_err();
        assert!(matches!(error, ReadError::Failed { offset: 4, .. }));
        assert!(error.to_string().contains("bad sector"), "{error}");
    }

    #[test]
    fn a_map_of_holes_that_goes_nowhere_is_not_followed() {
        let content = pattern(3000);
        assert_eq!(digests(&Lost(&content), 3000).unwrap(), digests(&content[..], 3000).unwrap());
    }

    #[test]
    fn a_hole_is_hashed_as_zeros_without_being_read() {
        let hole = HoleThenByte { length: 200_000 };
        let mut bytes = vec![0; 200_000];
        bytes[199_999] = 1;
        assert_eq!(digests(&hole, 200_000).unwrap(), digests(&bytes[..], 200_000).unwrap());
    }

    /// Is interrupted before each byte.
    struct Interrupted(Cell<u32>);

    impl ReadAt for Interrupted {
        fn read_at(&self, _offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.set(self.0.get() + 1);
            if self.0.get() % 2 == 1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            buffer[0] = 7;
            Ok(1)
        }
    }

    /// Four bytes can be read.
    struct Broken;

    impl ReadAt for Broken {
        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
            match offset {
                0 => Ok(buffer.len().min(4)),
                _ => Err(io::Error::other("bad sector")),
            }
        }
    }

    /// Always answers with an empty range in front of itself.
    struct Lost<'a>(&'a [u8]);

    impl ReadAt for Lost<'_> {
        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read_at(offset, buffer)
        }

        fn data_from(&self, offset: u64, _end: u64) -> io::Result<Range<u64>> {
            Ok(offset..offset)
        }
    }

    /// Refuses to be read anywhere but at its last byte, which is 1.
    struct HoleThenByte {
        length: u64,
    }

    impl ReadAt for HoleThenByte {
        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
            if offset != self.length - 1 {
                return Err(io::Error::other("a hole was read"));
            }
            buffer[0] = 1;
            Ok(1)
        }

        fn data_from(&self, _offset: u64, end: u64) -> io::Result<Range<u64>> {
            Ok(end - 1..end)
        }
    }

    #[cfg(target_os = "linux")]
    mod files {
        use std::{fs::File, os::unix::fs::FileExt};

        use super::*;

        const LENGTH: u64 = 1 << 20;

        /// A megabyte with data in its second half only.
        fn half_a_hole() -> File {
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(&pattern(1 << 19), LENGTH / 2).unwrap();
            file
        }

        #[test]
        fn a_sparse_file_has_the_digest_of_what_it_reads_as() {
            let file = half_a_hole();
            let mut bytes = vec![0; 1 << 20];
            file.read_exact_at(&mut bytes, 0).unwrap();
            assert_eq!(digests(&file, LENGTH).unwrap(), digests(&bytes[..], LENGTH).unwrap());
        }

        #[test]
        fn only_the_end_of_a_file_that_is_one_hole_remains() {
            let file = tempfile::tempfile().unwrap();
            file.set_len(LENGTH).unwrap();
            let data = file.data_from(0, LENGTH).unwrap();
            // A filesystem without holes calls everything data.
            assert!(data == (LENGTH..LENGTH) || data == (0..LENGTH), "{data:?}");
        }

        #[test]
        fn a_sparse_file_that_was_truncated_is_an_error_and_not_zeros() {
            for shorter in [0, 1, LENGTH / 2, LENGTH - 1] {
                let file = tempfile::tempfile().unwrap();
                file.set_len(shorter).unwrap();
                let error = digests(&file, LENGTH).unwrap_err();
                assert!(
                    matches!(error, ReadError::Shrank { offset, .. } if offset == shorter),
                    "{error}"
                );
            }
        }

        #[test]
        fn data_and_holes_are_cut_at_the_end() {
            let file = half_a_hole();
            assert!(file.data_from(0, 1000).unwrap().end <= 1000);
            let data = file.data_from(LENGTH / 2, LENGTH / 2 + 10).unwrap();
            assert_eq!(data, LENGTH / 2..LENGTH / 2 + 10);
        }
    }
}
