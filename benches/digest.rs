//! What hashing costs beside the two libraries it is made of: `cargo bench --bench digest`.
//!
//! Every line is the best of several rounds over the same bytes, and its ratio to the first line of its
//! group. Best and not mean: other work on the machine only ever slows a round down.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its results")]
#![expect(clippy::unwrap_used, reason = "a benchmark may stop at the first surprise")]

use std::{
    fs::File,
    hint::black_box,
    io,
    ops::ControlFlow,
    os::unix::fs::FileExt,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Instant,
};

use attestfs_digest::{
    Chain, FileHasher, Outboard, blake3_of, digests, digests_parallel, feed_all, sha256,
    sha256_many,
};
use sha2::Digest;

const LENGTH: usize = 256 << 20;
const ROUNDS: usize = 5;

fn main() {
    let bytes = pattern();
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all_at(&bytes, 0).unwrap();

    following(&bytes, file.as_file());
    tree(&bytes);
    side_by_side(&bytes);
    several_threads(file.as_file(), file.path());
}

/// Both digests of a file that is written.
fn following(bytes: &[u8], file: &File) {
    let mut group = Group::new("both digests, one thread");
    group.line("both libraries, pieces of 1 MiB", || libraries(bytes));
    for piece in [4 << 10, 128 << 10, 1 << 20, 4 << 20] {
        let name = format!("FileHasher, sequential, pieces of {} KiB", piece >> 10);
        group.line(&name, || sequential(bytes, piece));
    }
    group.line("FileHasher, unread file", || unread(file));
    group.line("digests of a file", || digests(file, LENGTH as u64).unwrap());
    group.line("sha256 of a file", || sha256(file, LENGTH as u64).unwrap());
}

/// What a writer waits for while SHA-256 trails behind it, and a reader whose every read is verified.
fn tree(bytes: &[u8]) {
    let outboard = Outboard::of(bytes, LENGTH as u64, &mut unwatched).unwrap().1;
    let mut group = Group::new("the tree alone, one thread");
    group.line("blake3 library, pieces of 1 MiB", || library(bytes));
    for piece in [8 << 10, 128 << 10, 1 << 20] {
        let name = format!("FileHasher, trailing, pieces of {} KiB", piece >> 10);
        group.line(&name, || trailing(bytes, piece));
    }
    group.line("Outboard, verify pieces of 1 MiB", || {
        assert!(pieces(bytes, 1 << 20).all(|(offset, piece)| outboard.verify(offset, piece)));
    });
}

/// SHA-256 of several files at a time.
fn side_by_side(bytes: &[u8]) {
    let mut group = Group::new("SHA-256 of several files, one thread");
    group.line("sha2 library, pieces of 1 MiB", || {
        pieces(bytes, 1 << 20)
            .fold(sha2::Sha256::new(), |sha256, (_, piece)| sha256.chain_update(piece))
    });
    for count in [1, 2, 4, 8, 9, 12, 16, 32] {
        group.line(&format!("feed_all, {count} chains"), || chains(bytes, count));
    }
}

/// A file and a directory that somebody waits for.
fn several_threads(file: &File, path: &Path) {
    let length = LENGTH as u64;
    for threads in [1, thread::available_parallelism().unwrap().get()] {
        let mut group = Group::new(&format!("files in memory, threads: {threads}"));
        group.line("BLAKE3 of one file", || {
            blake3_of(file, length, threads, &mut unwatched).unwrap()
        });
        if Command::new("b3sum").arg("--version").stdout(Stdio::null()).status().is_ok() {
            group.line("b3sum of the same file", || b3sum(path, threads));
        }
        group.line("both digests of one file", || {
            digests_parallel(file, length, threads, &mut unwatched).unwrap()
        });
        for count in [8, 64] {
            let name = format!("SHA-256 of {count} files");
            group.line(&name, || directory(file, count, threads));
        }
    }
}

fn libraries(bytes: &[u8]) -> (blake3::Hash, Vec<u8>) {
    let (mut blake3, mut sha256) = (blake3::Hasher::new(), sha2::Sha256::new());
    for (_, piece) in pieces(bytes, 1 << 20) {
        blake3.update(piece);
        sha256.update(piece);
    }
    (blake3.finalize(), sha256.finalize().to_vec())
}

fn library(bytes: &[u8]) -> blake3::Hash {
    let mut blake3 = blake3::Hasher::new();
    for (_, piece) in pieces(bytes, 1 << 20) {
        blake3.update(piece);
    }
    blake3.finalize()
}

fn sequential(bytes: &[u8], size: usize) -> attestfs_digest::Digests {
    let mut hasher = FileHasher::new();
    for (offset, piece) in pieces(bytes, size) {
        hasher.write(offset, piece);
    }
    hasher.finish(&b""[..]).unwrap()
}

fn trailing(bytes: &[u8], size: usize) -> FileHasher {
    let mut hasher = FileHasher::trailing(0);
    for (offset, piece) in pieces(bytes, size) {
        hasher.write(offset, piece);
    }
    hasher
}

fn unread(file: &File) -> attestfs_digest::Digests {
    FileHasher::unread(LENGTH as u64).finish(file).unwrap()
}

/// Each chain has its part of the bytes, and 64 KiB of it at a time, as a reader behind writers has.
fn chains(bytes: &[u8], count: usize) -> Vec<Chain> {
    let parts: Vec<&[u8]> = bytes.chunks_exact(LENGTH / count).take(count).collect();
    let lend = || FileHasher::unread((LENGTH / count) as u64).lend(0).unwrap();
    let mut chains: Vec<Chain> = parts.iter().map(|_| lend()).collect();
    for start in (0..LENGTH / count).step_by(64 << 10) {
        let end = (start + (64 << 10)).min(LENGTH / count);
        let pieces = parts.iter().map(|part| &part[start..end]);
        feed_all(&mut chains.iter_mut().zip(pieces).collect::<Vec<_>>());
    }
    chains
}

/// As many files as if the one were cut into them.
fn directory(file: &File, count: u64, threads: usize) {
    let length = LENGTH as u64 / count;
    let parts: Vec<u64> = (0..count).map(|part| part * length).collect();
    let open = |&start: &u64| Ok((Part { file, start }, length));
    let digests = sha256_many(&parts, open, threads, &mut unwatched);
    assert!(digests.iter().all(Result::is_ok));
}

fn b3sum(path: &Path, threads: usize) {
    let status = Command::new("b3sum")
        .arg(format!("--num-threads={threads}"))
        .arg(path)
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success());
}

/// A file within a file.
struct Part<'a> {
    file: &'a File,
    start: u64,
}

impl attestfs_digest::ReadAt for Part<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(self.file, buffer, self.start + offset)
    }
}

/// Lines that are held against the first of them.
struct Group {
    base: Option<f64>,
}

impl Group {
    fn new(title: &str) -> Self {
        println!("{title}");
        Self { base: None }
    }

    fn line<T>(&mut self, name: &str, work: impl FnMut() -> T) {
        let seconds = seconds(work);
        let base = *self.base.get_or_insert(seconds);
        println!("  {name:<44} {:6.2} GB/s  {:5.2} x", rate(seconds), base / seconds);
    }
}

fn pieces(bytes: &[u8], size: usize) -> impl Iterator<Item = (u64, &[u8])> {
    (0..).step_by(size).zip(bytes.chunks(size))
}

fn unwatched(_bytes: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn pattern() -> Vec<u8> {
    (0_u32..).flat_map(|word| word.wrapping_mul(0x9E37_79B1).to_le_bytes()).take(LENGTH).collect()
}

fn seconds<T>(mut work: impl FnMut() -> T) -> f64 {
    (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            black_box(work());
            start.elapsed().as_secs_f64()
        })
        .fold(f64::MAX, f64::min)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn rate(seconds: f64) -> f64 {
    LENGTH as f64 / seconds / 1e9
}
