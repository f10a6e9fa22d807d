use sha2::Digest;

use crate::{
    content::{ReadAt, ReadError},
    digest::{Blake3, Digests, Sha256},
    reader::{Progress, Reader, unwatched},
};

/// Both digests of the first `length` bytes of a content, in one pass. Holes count as zeros and are
/// not read.
///
/// # Errors
/// [`ReadError::Shrank`] when the content is shorter, [`ReadError::Failed`] when it cannot be read.
pub fn digests<C: ReadAt + ?Sized>(content: &C, length: u64) -> Result<Digests, ReadError> {
    digests_with_progress(content, length, &mut unwatched)
}

/// As [`digests`], reporting how far it is, and ready to stop.
///
/// # Errors
/// As [`digests`], and [`ReadError::Stopped`].
pub fn digests_with_progress<C: ReadAt + ?Sized>(
    content: &C,
    length: u64,
    progress: &mut Progress<'_>,
) -> Result<Digests, ReadError> {
    let mut sha256 = sha2::Sha256::new();
    let mut blake3 = blake3::Hasher::new();
    Reader::new(content, length, progress).read_to_end(0, |_, bytes| {
        blake3.update(bytes);
        sha256.update(bytes);
    })?;
    Ok(Digests {
        sha256: Sha256(sha256.finalize().into()),
        blake3: Blake3(blake3.finalize().into()),
    })
}

/// The SHA-256 alone of the first `length` bytes of a content.
///
/// # Errors
/// As [`digests`].
pub fn sha256<C: ReadAt + ?Sized>(content: &C, length: u64) -> Result<Sha256, ReadError> {
    let mut hasher = sha2::Sha256::new();
    Reader::new(content, length, &mut unwatched).read_to_end(0, |_, bytes| hasher.update(bytes))?;
    Ok(Sha256(hasher.finalize().into()))
}

/// The BLAKE3 alone of the first `length` bytes of a content.
///
/// # Errors
/// As [`digests`].
pub fn blake3<C: ReadAt + ?Sized>(content: &C, length: u64) -> Result<Blake3, ReadError> {
    let mut hasher = blake3::Hasher::new();
    Reader::new(content, length, &mut unwatched).read_to_end(0, |_, bytes| {
        hasher.update(bytes);
    })?;
    Ok(Blake3(hasher.finalize().into()))
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::testing::{judged, pattern};

    /// Around the borders of blocks, chunks, chunk groups and pieces.
    const LENGTHS: [usize; 16] = [
        0, 1, 63, 64, 65, 1023, 1024, 1025, 65_535, 65_536, 65_537, 131_072, 196_609, 1_048_575,
        1_048_576, 1_048_577,
    ];

    #[test]
    fn every_length_has_the_digests_of_the_libraries() {
        for length in LENGTHS {
            let bytes = pattern(length);
            let digests = digests(&bytes[..], length as u64).unwrap();
            assert_eq!(digests, judged(&bytes), "{length} bytes");
        }
    }

    #[test]
    fn one_digest_alone_is_the_same_as_both() {
        for length in [0, 65_537, (1 << 20) + 1] {
            let bytes = pattern(length);
            let judged = judged(&bytes);
            assert_eq!(sha256(&bytes[..], length as u64).unwrap(), judged.sha256);
            assert_eq!(blake3(&bytes[..], length as u64).unwrap(), judged.blake3);
        }
    }

    #[test]
    fn a_longer_content_is_hashed_up_to_the_length_asked_for() {
        let bytes = pattern(5000);
        assert_eq!(digests(&bytes[..], 4000).unwrap(), judged(&bytes[..4000]));
    }

    #[test]
    fn progress_rises_to_the_length() {
        let bytes = pattern(3_000_000);
        let mut seen = Vec::new();
        digests_with_progress(&bytes[..], 3_000_000, &mut |done| {
            seen.push(done);
            ControlFlow::Continue(())
        })
        .unwrap();
        assert!(seen.is_sorted() && seen.len() == 3, "{seen:?}");
        assert_eq!(seen.last(), Some(&3_000_000));
    }

    #[test]
    fn a_stop_is_obeyed_at_the_next_piece() {
        let bytes = pattern(3 << 20);
        let mut calls = 0;
        let error = digests_with_progress(&bytes[..], 3 << 20, &mut |_| {
            calls += 1;
            ControlFlow::Break(())
        })
        .unwrap_err();
        assert!(matches!(error, ReadError::Stopped));
        assert_eq!(calls, 1);
    }

    /// The official vectors feed bytes that count up to 250 and start again.
    #[test]
    fn published_vectors_of_blake3_hold() {
        let vectors = [
            (0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
            (1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"),
            (1023, "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11"),
            (1024, "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7"),
            (1025, "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444"),
            (102_400, "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085"),
        ];
        for (length, expected) in vectors {
            let bytes: Vec<u8> = (0..=250).cycle().take(length).collect();
            let found = blake3(&bytes[..], length as u64).unwrap();
            assert_eq!(found.to_string(), expected, "{length} bytes");
        }
    }
}
