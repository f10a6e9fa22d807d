//! Large files that are written.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::Instant,
};

use crate::{
    bench::Bench,
    hashing,
    machine::available_memory,
    process::{peak_memory, seconds_of_us_and},
    row::{Comparison, Figure, Goal, Row, Unit},
    view::View,
    work::{self, MEBIBYTE, attribute, wait_until_sealed},
};

/// P1 and P2: the same writes, once until `close` has returned and once until both digests are
/// final.
pub(crate) fn one_stream(bench: &Bench) -> Vec<Row> {
    let place = bench.memory();
    let (native, ours) = (View::native(&place), View::attestfs(&place, &[]));
    let length = bench.bytes(4 << 30);
    let [plain, closed, sealed, bound] = bench.rounds(|| {
        let plain = rate(length, write_plainly(&native, length));
        let [closed, sealed] = write_and_seal(&ours, length).map(|taken| length as f64 / taken);
        [plain, closed, sealed, plain.min(hashing::sha256_stream())]
    });
    check_digest(&ours, &place.path("behind-attestfs"), length);
    let size = sized(length);
    vec![
        Row::measured(
            "P1",
            format!("write {size} by 1 MiB, to close"),
            Comparison::new(
                Figure::speed("attestfs", closed),
                Figure::speed("native", plain),
                Goal::AtLeast(0.90),
            ),
        ),
        Row::measured(
            "P2",
            format!("write {size} by 1 MiB, to both digests"),
            Comparison::new(
                Figure::speed("attestfs", sealed),
                Figure::speed("min(native, SHA-256)", bound),
                Goal::AtLeast(0.85),
            ),
        ),
    ]
}

/// P3: several files at once, and the time of processors that it takes until all are sealed.
pub(crate) fn several_streams(bench: &Bench) -> Vec<Row> {
    const STREAMS: u64 = 4;
    let place = bench.memory();
    let (native, ours) = (View::native(&place), View::attestfs(&place, &[]));
    let length = fitting(bench.bytes(1 << 30), STREAMS);
    let total = (STREAMS * length) as f64;
    let [plain, through, plain_processors, through_processors] = bench.rounds(|| {
        let [plain, plain_processors] = write_together(&native, STREAMS, length);
        let [through, through_processors] = write_together(&ours, STREAMS, length);
        let with_digests = plain_processors / total + hashing::processors_of_both();
        [total / plain, total / through, with_digests * 1e9, through_processors / total * 1e9]
    });
    let what = format!("{STREAMS} streams of {}", sized(length));
    let cost = |name: &str, samples| Figure::new(name, Unit::SecondsPerGigabyte, samples);
    vec![
        Row::measured(
            "P3",
            format!("write {what} (about 0.50 with 2 cores)"),
            Comparison::new(
                Figure::speed("attestfs", through),
                Figure::speed("native", plain),
                Goal::Shown,
            ),
        ),
        Row::measured(
            "P3",
            format!("{what}: processors, until sealed"),
            Comparison::new(
                cost("attestfs", through_processors),
                cost("native + both digests", plain_processors),
                Goal::Shown,
            ),
        ),
    ]
}

/// P4: a file on the disk, with `fsync` at the end.
pub(crate) fn on_disk(bench: &Bench) -> Vec<Row> {
    let place = bench.disk();
    let (native, ours) = (View::native(&place), View::attestfs(&place, &[]));
    let length = bench.bytes(4 << 30);
    let write = |view: &View<'_>| {
        let path = view.path("file");
        let taken = work::write_and_sync(&path, length, MEBIBYTE);
        fs::remove_file(path).unwrap();
        rate(length, taken.as_secs_f64())
    };
    let [plain, through] = bench.rounds(|| [write(&native), write(&ours)]);
    vec![Row::measured(
        "P4",
        format!("write {} by 1 MiB and fsync, on disk", sized(length)),
        Comparison::new(
            Figure::speed("attestfs", through),
            Figure::speed("native", plain),
            Goal::AtLeast(0.98),
        ),
    )]
}

/// P13: what the serving process has in memory at most while many write.
pub(crate) fn memory(bench: &Bench) -> Vec<Row> {
    const STREAMS: u64 = 8;
    let length = fitting(bench.bytes(4 << 30), STREAMS);
    let [peak] = bench.rounds(|| {
        let place = bench.memory();
        let ours = View::attestfs(&place, &[]);
        write_together(&ours, STREAMS, length);
        [peak_memory(ours.server().unwrap()) as f64]
    });
    let bound = f64::from(512 << 20);
    vec![Row::measured(
        "P13",
        format!("peak memory, {STREAMS} streams of {}", sized(length)),
        Comparison::alone(Figure::new("attestfs", Unit::Bytes, peak), Goal::AtMost(bound)),
    )]
}

fn write_plainly(view: &View<'_>, length: u64) -> f64 {
    let path = view.path("file");
    let taken = work::write(&path, length, MEBIBYTE);
    fs::remove_file(path).unwrap();
    taken.as_secs_f64()
}

/// Seconds until `close` has returned, and until both digests are final.
fn write_and_seal(view: &View<'_>, length: u64) -> [f64; 2] {
    let path = view.path("file");
    let start = Instant::now();
    let closed = work::write(&path, length, MEBIBYTE);
    wait_until_sealed(&path);
    let sealed = start.elapsed();
    fs::remove_file(path).unwrap();
    [closed, sealed].map(|taken| taken.as_secs_f64())
}

/// Seconds until the last `close` has returned, and those of processors until all is sealed.
fn write_together(view: &View<'_>, streams: u64, length: u64) -> [f64; 2] {
    let paths: Vec<PathBuf> =
        (0..streams).map(|number| view.path(&format!("stream-{number}"))).collect();
    let before = seconds_of_us_and(view.server());
    let taken = work::write_streams(&paths, length, MEBIBYTE);
    if view.server().is_some() {
        for path in &paths {
            wait_until_sealed(path);
        }
    }
    let processors = seconds_of_us_and(view.server()) - before;
    for path in paths {
        fs::remove_file(path).unwrap();
    }
    [taken.as_secs_f64(), processors]
}

/// A speed at which the wrong digest is made is none.
fn check_digest(ours: &View<'_>, behind: &Path, length: u64) {
    let path = ours.path("file");
    work::write(&path, length, MEBIBYTE);
    wait_until_sealed(&path);
    let stored = File::open(behind.join("file")).unwrap();
    assert_eq!(stored.metadata().unwrap().len(), length);
    let expected = attestfs_digest::sha256(&stored, length).unwrap().to_string();
    assert_eq!(attribute(&path, "user.attestfs.sha256"), Some(expected));
    fs::remove_file(path).unwrap();
}

/// The length, or less where several files of it, and their pages once more in the cache of a
/// mount, do not fit into memory.
fn fitting(length: u64, files: u64) -> u64 {
    length.min((available_memory() / 3 / files) >> 20 << 20)
}

fn rate(length: u64, seconds: f64) -> f64 {
    length as f64 / seconds
}

/// In words.
pub(crate) fn sized(length: u64) -> String {
    match length {
        length if length >= 1 << 30 && length.trailing_zeros() >= 28 => {
            format!("{} GiB", length as f64 / f64::from(1 << 30))
        }
        length => format!("{} MiB", length >> 20),
    }
}
