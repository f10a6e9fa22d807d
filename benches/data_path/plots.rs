//! The plots of `benches/README.md`: measured and drawn.

use std::{fs, path::Path};

use crate::{
    bench::Bench,
    chart::{Chart, Line},
    machine::machine,
    rows::hold,
    view::View,
    work,
};

/// Measures and draws both, beside the sources of this program.
pub(crate) fn draw(bench: &Bench) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches");
    for (name, chart) in [("write-size.svg", write_sizes(bench)), ("files.svg", files(bench))] {
        let path = folder.join(name);
        fs::write(&path, chart.to_svg()).unwrap();
        println!("drawn: benches/{name}");
    }
}

/// Throughput against the size of each `write`.
fn write_sizes(bench: &Bench) -> Chart {
    let length = bench.bytes(1 << 30);
    let pieces: Vec<u64> = (12..=23).map(|power| 1 << power).collect();
    let speed = |view: &View<'_>, piece: u64| {
        let path = view.path("file");
        let taken = work::write(&path, length, piece);
        fs::remove_file(path).unwrap();
        length as f64 / taken.as_secs_f64() / 1e9
    };
    Chart {
        title: format!("Writing a file of {} MiB, until close has returned", length >> 20),
        subtitle: subtitle(bench),
        across: "bytes of each write".to_owned(),
        up: "GB/s".to_owned(),
        lines: lines(bench, &pieces, speed),
    }
}

/// Files a second against the number of files.
fn files(bench: &Bench) -> Chart {
    let mut counts: Vec<u64> = (0..=5).map(|power| bench.count(10_u64.pow(power))).collect();
    // The line ends where a mount of ours can hold no more.
    counts.pop_if(|&mut most| hold(bench, most).is_err());
    let speed = |view: &View<'_>, count: u64| {
        let directory = view.path("files");
        let taken = work::write_files(&directory, count, 10 << 10);
        fs::remove_dir_all(directory).unwrap();
        count as f64 / taken.as_secs_f64() / 1e3
    };
    Chart {
        title: "Creating files of 10 KiB".to_owned(),
        subtitle: subtitle(bench),
        across: "files".to_owned(),
        up: "1000 files/s".to_owned(),
        lines: lines(bench, &counts, speed),
    }
}

fn subtitle(bench: &Bench) -> String {
    format!("in memory, medians of {}; {}", bench.options.rounds, machine())
}

/// A line for each way to a directory, with the medians of all rounds at each point.
fn lines(bench: &Bench, points: &[u64], speed: impl Fn(&View<'_>, u64) -> f64) -> Vec<Line> {
    let place = bench.memory();
    let views = View::all(&place, &[]);
    let mut lines: Vec<Line> =
        views.iter().map(|view| Line { name: view.name, points: Vec::new() }).collect();
    for &point in points {
        let speeds = bench.rounds_of(|| views.iter().map(|view| speed(view, point)).collect());
        for (line, speed) in lines.iter_mut().zip(speeds) {
            line.points.push((point, speed.median()));
        }
    }
    lines
}
