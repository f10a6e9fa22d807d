//! Large files that are read: P7 and P9.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    published::{Published, check_admitted, weights_in},
    write::sized,
};
use crate::{
    bench::Bench,
    command::find,
    mounted::{Mounted, Reads},
    peers::WITHOUT_PYTHON,
    process::processor_seconds,
    row::{Comparison, Figure, Goal, Row, Unit},
    work,
};

/// A way to read a file.
struct Reading {
    name: &'static str,
    unit: Unit,
    /// How much of the unit there is to a file of this length.
    amount: fn(&Bench, u64) -> u64,
    read: fn(&Path, u64) -> Duration,
}

const READINGS: [Reading; 3] = [
    Reading {
        name: "read by 1 MiB",
        unit: Unit::BytesPerSecond,
        amount: |_, length| length,
        read: |path, _| work::read(path),
    },
    Reading {
        name: "read 4 KiB here and there",
        unit: Unit::PerSecond,
        amount: |bench, _| bench.count(500_000),
        read: work::read_here_and_there,
    },
    Reading {
        name: TOUCHING,
        unit: Unit::BytesPerSecond,
        amount: |_, length| length,
        read: |path, _| work::touch(path).unwrap(),
    },
];

const TOUCHING: &str = "touch all pages of a mapping";

/// P7: a file that the gate has admitted, whose pages are in the cache.
pub(crate) fn admitted_file(bench: &Bench) -> Vec<Row> {
    let place = bench.memory();
    let length = bench.bytes(4 << 30);
    let published = Published::new(&place, length);
    let rows_at = |level: &str| {
        let mounts =
            [Reads::AsEver, Reads::ThroughTheServer].map(|reads| published.guarded(level, reads));
        let [weights, served] = mounts.each_ref().map(weights_in);
        for weights in [&weights, &served] {
            work::read(weights);
            check_admitted(weights, level);
        }
        let sides = [weights, published.weights(), served];
        let row = |reading| read_row(bench, reading, level, sides.each_ref().map(PathBuf::as_path));
        READINGS.iter().map(row).collect::<Vec<_>>()
    };
    ["rehash", "stat"].into_iter().flat_map(rows_at).collect()
}

fn read_row(bench: &Bench, reading: &Reading, level: &str, sides: [&Path; 3]) -> Row {
    let work = format!("{}, admitted at level {level}", reading.name);
    if reading.name == TOUCHING && find(Path::new("python3")).is_none() {
        return Row::nothing("P7", work, WITHOUT_PYTHON);
    }
    let amount = (reading.amount)(bench, sides[1].metadata().unwrap().len());
    let rate = |path: &Path| amount as f64 / (reading.read)(path, amount).as_secs_f64();
    // Into the page caches.
    for path in sides {
        rate(path);
    }
    let [ours, native, served] = bench.rounds(|| sides.map(rate));
    let figure = |name: &str, samples| Figure::new(name, reading.unit, samples);
    Row::measured(
        "P7",
        work,
        Comparison::new(figure("attestfs", ours), figure("native", native), Goal::AtLeast(0.98))
            .beside([figure("through the server", served)]),
    )
}

/// P9: every byte verified while it is read, against a plain directory, and against a mount that
/// verifies nothing and sees each byte as well.
pub(crate) fn verified_reads(bench: &Bench) -> Vec<Row> {
    let place = bench.memory();
    let length = bench.bytes(4 << 30);
    let published = Published::new(&place, length);
    let verifying = published.guarded("per-read", Reads::AsEver);
    let plain = published.unguarded(Reads::ThroughTheServer);
    let (verified, unverified) = (weights_in(&verifying), weights_in(&plain));
    work::read(&verified);
    check_admitted(&verified, "per-read");
    check_that_it_serves(&plain, || work::read_past_the_cache(&unverified), length);
    let rate = |taken: Duration| length as f64 / taken.as_secs_f64();
    let [ours, unverified, native] = bench.rounds(|| {
        [
            rate(work::read_past_the_cache(&verified)),
            rate(work::read_past_the_cache(&unverified)),
            rate(work::read(&published.weights())),
        ]
    });
    let work = format!("read {} through the server, verified", sized(length));
    let ours = Figure::speed("attestfs", ours);
    vec![
        Row::measured(
            "P9",
            &work,
            Comparison::new(ours.clone(), Figure::speed("native", native), Goal::AtLeast(0.35)),
        ),
        Row::measured(
            "P9",
            &work,
            Comparison::new(
                ours,
                Figure::speed("without verifying", unverified),
                Goal::AtLeast(0.9),
            ),
        ),
    ]
}

/// Against reads that the kernel lets pass by the server, P9 would compare something else. What is
/// too short for the clock of processes is not judged.
fn check_that_it_serves(mounted: &Mounted<'_>, read: impl FnOnce() -> Duration, length: u64) {
    let before = processor_seconds(mounted.server);
    read();
    let is_served = processor_seconds(mounted.server) > before;
    assert!(is_served || length < 1 << 30, "reads pass by the server");
}
