//! Many small files, and many small writes: P10 and P11.

use std::{
    fs::{self, File},
    io,
};

use super::write::sized;
use crate::{
    bench::Bench,
    job::Job,
    measure::Samples,
    mounted::Mounted,
    peers::{MERGERFS, WITHOUT_MERGERFS},
    process::open_files_limit,
    row::{Comparison, Figure, Goal, Nothing, Row, Unit},
    view::View,
    work,
};

const READERS: u64 = 2;

/// P10: files of 10 KiB, created, read by two processes, listed. Ours with a policy that guards
/// them all.
pub(crate) fn many_files(bench: &Bench) -> Vec<Row> {
    let promised = bench.count(100_000);
    match hold(bench, promised) {
        Ok(()) => so_many_files(bench, promised),
        Err(error) => {
            let work = format!("{promised} files of 10 KiB: create");
            let failed = Nothing::Failed { reason: error.to_string() };
            let fewer = so_many_files(bench, open_files_limit().min(promised) * 3 / 4);
            [Row::nothing("P10", work, failed)].into_iter().chain(fewer).collect()
        }
    }
}

/// Whether a mount of ours can have so many files. On a store that keeps no time of birth it holds a
/// descriptor of each that the kernel remembers.
pub(crate) fn hold(bench: &Bench, count: u64) -> io::Result<()> {
    let place = bench.memory();
    let mounted = Mounted::new(&place, &place.directory("tree"), &[]);
    (0..count).try_for_each(|number| File::create(mounted.path.join(number.to_string())).map(drop))
}

fn so_many_files(bench: &Bench, count: u64) -> Vec<Row> {
    let place = bench.memory();
    let policy = place.policy("stat");
    let views = View::all(&place, &["--policy", policy.to_str().unwrap()]);
    let speeds = bench.rounds_of(|| views.iter().flat_map(|view| files_in(view, count)).collect());
    let works = ["create", "open, read and close by 2 processes", "find -ls"];
    let row = |(index, work): (usize, &&str)| {
        let of_work = speeds.iter().skip(index).step_by(works.len()).cloned();
        let work = format!("{count} files of 10 KiB: {work}");
        against_mergerfs("P10", work, figures(&views, Unit::PerSecond, of_work))
    };
    works.iter().enumerate().map(row).collect()
}

/// Files a second that are created, read and listed.
fn files_in(view: &View<'_>, count: u64) -> [f64; 3] {
    let directory = view.path("files");
    let creating = work::write_files(&directory, count, 10 << 10);
    let readers = (0..READERS).map(|first| Job::Read {
        directory: directory.clone(),
        first,
        files: count,
        step: READERS,
    });
    let reading = work::together(readers.map(|job| job.command()).collect());
    let listing = work::list(&directory);
    fs::remove_dir_all(directory).unwrap();
    [creating, reading, listing].map(|taken| count as f64 / taken.as_secs_f64())
}

/// P11: a file that grows by small appends.
pub(crate) fn small_appends(bench: &Bench) -> Vec<Row> {
    let place = bench.memory();
    let views = View::all(&place, &[]);
    let length = bench.bytes(1 << 30);
    let speed = |view: &View<'_>| {
        let path = view.path("file");
        let taken = work::append(&path, length, 8 << 10);
        fs::remove_file(path).unwrap();
        length as f64 / taken.as_secs_f64()
    };
    let speeds = bench.rounds_of(|| views.iter().map(speed).collect());
    let work = format!("append {} by 8 KiB", sized(length));
    vec![against_mergerfs("P11", work, figures(&views, Unit::BytesPerSecond, speeds))]
}

fn figures(
    views: &[View<'_>],
    unit: Unit,
    samples: impl IntoIterator<Item = Samples>,
) -> Vec<Figure> {
    let figure = |(view, samples): (&View<'_>, _)| Figure::new(view.name, unit, samples);
    views.iter().zip(samples).map(figure).collect()
}

/// The first is ours; all but mergerfs are shown beside.
fn against_mergerfs(number: &'static str, work: String, figures: Vec<Figure>) -> Row {
    let mut figures = figures;
    let Some(mergerfs) = figures.iter().position(|it| it.name == MERGERFS.name) else {
        return Row::nothing(number, work, WITHOUT_MERGERFS);
    };
    let mergerfs = figures.remove(mergerfs);
    let ours = figures.remove(0);
    let comparison = Comparison::new(ours, mergerfs, Goal::AtLeast(1.2)).beside(figures);
    Row::measured(number, work, comparison)
}
