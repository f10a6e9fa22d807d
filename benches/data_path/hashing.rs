//! How fast this machine hashes without any file system, measured in the same run.

use std::{
    fs::File,
    hint::black_box,
    ops::ControlFlow,
    path::PathBuf,
    time::{Duration, Instant},
};

use attestfs_digest::sha256_many;
use sha2::Digest;

use crate::process::seconds_of_us_and;

/// How much is hashed to know a speed.
const MEBIBYTES: u64 = 512;

/// Bytes a second of one SHA-256, which no second thread can help.
pub(crate) fn sha256_stream() -> f64 {
    let mut hasher = sha2::Sha256::new();
    let speed = stream(|piece| hasher.update(piece));
    black_box(hasher.finalize());
    speed
}

/// The same of one BLAKE3 on one thread.
fn blake3_stream() -> f64 {
    let mut hasher = blake3::Hasher::new();
    let speed = stream(|piece| {
        hasher.update(piece);
    });
    black_box(hasher.finalize());
    speed
}

/// Seconds of processors that both digests of a byte take by themselves, whatever else runs.
pub(crate) fn processors_of_both() -> f64 {
    let before = seconds_of_us_and(None);
    sha256_stream();
    blake3_stream();
    (seconds_of_us_and(None) - before) / (MEBIBYTES << 20) as f64
}

/// How long the SHA-256 of each of these files takes, several at once on each of so many threads:
/// the fastest that this machine was seen to do.
pub(crate) fn sha256_of_files(files: &[PathBuf], threads: usize) -> Duration {
    let open = |path: &PathBuf| {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok((file, length))
    };
    let start = Instant::now();
    let digests = sha256_many(files, open, threads, &mut |_| ControlFlow::Continue(()));
    let taken = start.elapsed();
    assert!(digests.iter().all(Result::is_ok), "{digests:?}");
    taken
}

/// Bytes a second of something that takes mebibytes, out of the cache of the processor.
fn stream(mut take: impl FnMut(&[u8])) -> f64 {
    let piece = vec![0x5A; 1 << 20];
    let start = Instant::now();
    for _ in 0..MEBIBYTES {
        take(black_box(&piece));
    }
    (MEBIBYTES << 20) as f64 / start.elapsed().as_secs_f64()
}
