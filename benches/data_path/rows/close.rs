//! P6: the end of a stage whose writers have closed.

use std::{
    fs::{self, File},
    path::Path,
    time::{Duration, Instant},
};

use super::write::sized;
use crate::{
    bench::Bench,
    measure::Samples,
    mounted::{Mounted, Outputs},
    place::Place,
    row::{Comparison, Figure, Goal, Row},
    work::{self, wait_until_sealed},
};

const FILES: u64 = 64;
const SMALL: u64 = 64 << 10;

/// When the stage is closed.
#[derive(Clone, Copy)]
enum After {
    /// All digests are final.
    Seals,
    /// The last `close` of a writer has returned.
    Close,
}

/// P6: large files against small ones, in memory; and large ones on disk beside what `fdatasync`
/// of them takes.
pub(crate) fn stage_close(bench: &Bench) -> Vec<Row> {
    let length = bench.bytes(64 << 20);
    let mut rows = in_memory(bench, length);
    rows.push(on_disk(bench, length));
    rows
}

fn in_memory(bench: &Bench, length: u64) -> Vec<Row> {
    let place = bench.memory();
    let backing = place.directory("tree");
    let mounted = Mounted::new(&place, &backing, &[]);
    let close = |length, after| {
        write_in_stage(&mounted, length, after);
        let taken = mounted.close_stage();
        fs::remove_dir_all(mounted.path.join("out")).unwrap();
        taken.as_secs_f64()
    };
    // The first one starts the daemon's work.
    close(SMALL, After::Seals);
    let [large_sealed, small_sealed, large_closed, small_closed] = bench.rounds(|| {
        [
            close(length, After::Seals),
            close(SMALL, After::Seals),
            close(length, After::Close),
            close(SMALL, After::Close),
        ]
    });
    let rows_of = |when: &str, large: Samples, small: Samples| {
        let [large, small] = [(sized(length), large), ("64 KiB".to_owned(), small)]
            .map(|(size, samples)| Figure::time(format!("{FILES} x {size}"), samples));
        let work = format!("close a stage of {} {when}", large.name);
        [
            Row::measured("P6", &work, Comparison::alone(large.clone(), Goal::AtMost(0.050))),
            Row::measured("P6", &work, Comparison::new(large, small, Goal::AtMost(1.2))),
        ]
    };
    let sealed = rows_of("that are sealed", large_sealed, small_sealed);
    sealed.into_iter().chain(rows_of("at once", large_closed, small_closed)).collect()
}

fn on_disk(bench: &Bench, length: u64) -> Row {
    let place = bench.disk();
    let backing = place.directory("tree");
    let [closing, syncing] = bench.rounds(|| {
        let closing = on_disk_once(&place, &backing, length, Mounted::close_stage);
        let syncing = on_disk_once(&place, &backing, length, |_| sync_files(&backing));
        [closing, syncing]
    });
    Row::measured(
        "P6",
        format!("the same at once, {FILES} x {}, on disk", sized(length)),
        Comparison::new(
            Figure::time("stage close", closing),
            Figure::time("fdatasync of them instead", syncing),
            Goal::Shown,
        ),
    )
}

/// On a mount of its own, since a stage that is not closed leaves nothing behind then.
fn on_disk_once<'p>(
    place: &'p Place,
    backing: &Path,
    length: u64,
    end: impl FnOnce(&Mounted<'p>) -> Duration,
) -> f64 {
    let mounted = Mounted::new(place, backing, &[]);
    write_in_stage(&mounted, length, After::Close);
    let taken = end(&mounted);
    fs::remove_dir_all(mounted.path.join("out")).unwrap();
    taken.as_secs_f64()
}

fn write_in_stage(mounted: &Mounted<'_>, length: u64, after: After) {
    mounted.open_stage(Outputs::Below("out"));
    let output = mounted.path.join("out");
    work::write_files(&output, FILES, length);
    if matches!(after, After::Seals) {
        (0..FILES).for_each(|number| wait_until_sealed(&work::numbered(&output, number)));
    }
}

fn sync_files(backing: &Path) -> Duration {
    let start = Instant::now();
    for number in 0..FILES {
        let file = File::open(work::numbered(&backing.join("out"), number)).unwrap();
        file.sync_data().unwrap();
    }
    start.elapsed()
}
