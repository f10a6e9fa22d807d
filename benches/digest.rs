//! What hashing costs beside the two libraries it is made of: `cargo bench --bench digest`, and with
//! `-- --sort location` in the order of this file.
//!
//! Look at the column *fastest*: other work on the machine only ever slows a round down.

#![expect(clippy::unwrap_used, reason = "a benchmark may stop at the first surprise")]

use std::{
    fs::File,
    io::{self, Write},
    ops::ControlFlow,
    os::unix::fs::FileExt,
    sync::LazyLock,
};

const LENGTH: usize = 256 << 20;

/// What is hashed.
static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let words = (0_u32..).map(|word| word.wrapping_mul(0x9E37_79B1));
    words.flat_map(u32::to_le_bytes).take(LENGTH).collect()
});

/// The same in a file without a name, which is gone with the process.
static FILE: LazyLock<File> = LazyLock::new(|| {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&BYTES).unwrap();
    file
});

fn main() {
    LazyLock::force(&FILE);
    divan::main();
}

/// Both digests of a file that is written.
#[divan::bench_group(
    name = "both digests, one thread",
    bytes_count = LENGTH,
    sample_count = 5,
    sample_size = 1
)]
mod following {
    use attestfs_digest::{Digests, FileHasher, Sha256, digests, sha256};
    use sha2::Digest;

    use super::{FILE, LENGTH, pieces};

    #[divan::bench(name = "both libraries, pieces of 1 MiB")]
    fn libraries() -> (blake3::Hash, Vec<u8>) {
        let (mut blake3, mut sha256) = (blake3::Hasher::new(), sha2::Sha256::new());
        for (_, piece) in pieces(1 << 20) {
            blake3.update(piece);
            sha256.update(piece);
        }
        (blake3.finalize(), sha256.finalize().to_vec())
    }

    #[divan::bench(name = "FileHasher, sequential, KiB of a piece", args = [4, 128, 1024, 4096])]
    fn sequential(kibibytes: usize) -> Digests {
        let mut hasher = FileHasher::new();
        for (offset, piece) in pieces(kibibytes << 10) {
            hasher.write(offset, piece);
        }
        hasher.finish(&b""[..]).unwrap()
    }

    #[divan::bench(name = "FileHasher, unread file")]
    fn unread() -> Digests {
        FileHasher::unread(LENGTH as u64).finish(&*FILE).unwrap()
    }

    #[divan::bench(name = "digests of a file")]
    fn digests_of_file() -> Digests {
        digests(&*FILE, LENGTH as u64).unwrap()
    }

    #[divan::bench(name = "sha256 of a file")]
    fn sha256_of_file() -> Sha256 {
        sha256(&*FILE, LENGTH as u64).unwrap()
    }
}

/// What a writer waits for while SHA-256 trails behind it, and a reader whose every read is verified.
#[divan::bench_group(
    name = "the tree alone, one thread",
    bytes_count = LENGTH,
    sample_count = 5,
    sample_size = 1
)]
mod tree {
    use attestfs_digest::{FileHasher, Outboard};
    use divan::Bencher;

    use super::{BYTES, LENGTH, pieces, unwatched};

    #[divan::bench(name = "blake3 library, pieces of 1 MiB")]
    fn library() -> blake3::Hash {
        let mut blake3 = blake3::Hasher::new();
        for (_, piece) in pieces(1 << 20) {
            blake3.update(piece);
        }
        blake3.finalize()
    }

    #[divan::bench(name = "FileHasher, trailing, KiB of a piece", args = [8, 128, 1024])]
    fn trailing(kibibytes: usize) -> FileHasher {
        let mut hasher = FileHasher::trailing(0);
        for (offset, piece) in pieces(kibibytes << 10) {
            hasher.write(offset, piece);
        }
        hasher
    }

    #[divan::bench(name = "Outboard, verify pieces of 1 MiB")]
    fn verify(bencher: Bencher) {
        let outboard = Outboard::of(&BYTES[..], LENGTH as u64, &mut unwatched).unwrap().1;
        bencher.bench(|| {
            assert!(pieces(1 << 20).all(|(offset, piece)| outboard.verify(offset, piece)));
        });
    }
}

/// SHA-256 of several files at a time.
#[divan::bench_group(
    name = "SHA-256 of several files, one thread",
    bytes_count = LENGTH,
    sample_count = 5,
    sample_size = 1
)]
mod side_by_side {
    use attestfs_digest::{Chain, FileHasher, feed_all};
    use sha2::Digest;

    use super::{BYTES, LENGTH, pieces};

    #[divan::bench(name = "sha2 library, pieces of 1 MiB")]
    fn library() -> Vec<u8> {
        let mut sha256 = sha2::Sha256::new();
        for (_, piece) in pieces(1 << 20) {
            sha256.update(piece);
        }
        sha256.finalize().to_vec()
    }

    /// Each chain has its part of the bytes, and 64 KiB of it at a time, as a reader behind writers has.
    #[divan::bench(name = "feed_all, chains", args = [1, 2, 4, 8, 9, 12, 16, 32])]
    fn chains(count: usize) -> Vec<Chain> {
        let parts: Vec<&[u8]> = BYTES.chunks_exact(LENGTH / count).take(count).collect();
        let lend = || FileHasher::unread((LENGTH / count) as u64).lend(0).unwrap();
        let mut chains: Vec<Chain> = parts.iter().map(|_| lend()).collect();
        for start in (0..LENGTH / count).step_by(64 << 10) {
            let end = (start + (64 << 10)).min(LENGTH / count);
            let pieces = parts.iter().map(|part| &part[start..end]);
            feed_all(&mut chains.iter_mut().zip(pieces).collect::<Vec<_>>());
        }
        chains
    }
}

/// A file and a directory that somebody waits for, by the number of threads.
#[divan::bench_group(
    name = "files in memory, threads",
    bytes_count = LENGTH,
    sample_count = 5,
    sample_size = 1
)]
mod several_threads {
    use std::{
        os::fd::AsRawFd,
        process::{self, Command, Stdio},
        thread,
    };

    use attestfs_digest::{Blake3, Digests, Outboard, blake3_of, digests_parallel, sha256_many};

    use super::{FILE, LENGTH, Part, unwatched};

    #[divan::bench(name = "BLAKE3 of one file", args = thread_counts())]
    fn one_file(threads: usize) -> (Blake3, Outboard) {
        blake3_of(&*FILE, LENGTH as u64, threads, &mut unwatched).unwrap()
    }

    #[divan::bench(name = "b3sum of the same file", args = thread_counts(), ignore = !has_b3sum())]
    fn b3sum(threads: usize) {
        let status = Command::new("b3sum")
            .arg(format!("--num-threads={threads}"))
            .arg(format!("/proc/{}/fd/{}", process::id(), FILE.as_raw_fd()))
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success());
    }

    #[divan::bench(name = "both digests of one file", args = thread_counts())]
    fn both(threads: usize) -> (Digests, Outboard) {
        digests_parallel(&*FILE, LENGTH as u64, threads, &mut unwatched).unwrap()
    }

    #[divan::bench(name = "SHA-256 of 8 files", args = thread_counts())]
    fn few_files(threads: usize) {
        directory(8, threads);
    }

    #[divan::bench(name = "SHA-256 of 64 files", args = thread_counts())]
    fn many_files(threads: usize) {
        directory(64, threads);
    }

    /// As many files as if the one were cut into them.
    fn directory(count: u64, threads: usize) {
        let length = LENGTH as u64 / count;
        let parts: Vec<u64> = (0..count).map(|part| part * length).collect();
        let open = |&start: &u64| Ok((Part { start }, length));
        let digests = sha256_many(&parts, open, threads, &mut unwatched);
        assert!(digests.iter().all(Result::is_ok));
    }

    fn thread_counts() -> [usize; 2] {
        [1, thread::available_parallelism().unwrap().get()]
    }

    fn has_b3sum() -> bool {
        Command::new("b3sum").arg("--version").stdout(Stdio::null()).status().is_ok()
    }
}

/// A file within a file.
struct Part {
    start: u64,
}

impl attestfs_digest::ReadAt for Part {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(&*FILE, buffer, self.start + offset)
    }
}

fn pieces(size: usize) -> impl Iterator<Item = (u64, &'static [u8])> {
    (0..).step_by(size).zip(BYTES.chunks(size))
}

fn unwatched(_bytes: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}
