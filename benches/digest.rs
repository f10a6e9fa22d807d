//! What hashing costs beside the two libraries it is made of: `cargo bench --bench digest`.
//!
//! Every line is the best of several rounds over the same bytes, and its ratio to both libraries
//! called directly. Best and not mean: other work on the machine only ever slows a round down.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its results")]
#![expect(clippy::unwrap_used, reason = "a benchmark may stop at the first surprise")]

use std::{fs::File, hint::black_box, os::unix::fs::FileExt, time::Instant};

use attestfs_digest::{FileHasher, blake3, digests, sha256};
use sha2::Digest;

const LENGTH: usize = 256 << 20;
const ROUNDS: usize = 5;

fn main() {
    let bytes = pattern();
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&bytes, 0).unwrap();

    let base = seconds(|| libraries(&bytes));
    let report = |name: &str, seconds: f64| {
        println!("{name:<44} {:6.2} GB/s  {:5.2} x", rate(seconds), base / seconds);
    };
    report("both libraries, pieces of 1 MiB", base);
    for piece in [4 << 10, 128 << 10, 1 << 20, 4 << 20] {
        let name = format!("FileHasher, sequential, pieces of {} KiB", piece >> 10);
        report(&name, seconds(|| sequential(&bytes, piece)));
    }
    report("FileHasher, after a gap (BLAKE3 alone)", seconds(|| after_gap(&bytes)));
    report("FileHasher, unread file", seconds(|| unread(&file)));
    report("digests of a file", seconds(|| digests(&file, LENGTH as u64).unwrap()));
    report("sha256 of a file", seconds(|| sha256(&file, LENGTH as u64).unwrap()));
    report("blake3 of a file", seconds(|| blake3(&file, LENGTH as u64).unwrap()));
}

fn libraries(bytes: &[u8]) -> (blake3::Hash, Vec<u8>) {
    let (mut blake3, mut sha256) = (blake3::Hasher::new(), sha2::Sha256::new());
    for piece in bytes.chunks(1 << 20) {
        blake3.update(piece);
        sha256.update(piece);
    }
    (blake3.finalize(), sha256.finalize().to_vec())
}

fn sequential(bytes: &[u8], piece: usize) -> attestfs_digest::Digests {
    let mut hasher = FileHasher::new();
    for (index, written) in bytes.chunks(piece).enumerate() {
        hasher.write((index * piece) as u64, written);
    }
    hasher.finish(&b""[..]).unwrap()
}

fn after_gap(bytes: &[u8]) -> FileHasher {
    let mut hasher = FileHasher::new();
    for (index, written) in bytes.chunks(1 << 20).enumerate() {
        hasher.write(((index + 1) << 20) as u64, written);
    }
    hasher
}

fn unread(file: &File) -> attestfs_digest::Digests {
    FileHasher::unread(LENGTH as u64).finish(file).unwrap()
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
