//! The first stage: `raw/*.csv` to `clean/train.csv` and `clean/test.csv`.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    condition::Condition,
    random::Random,
    raw::{RAW, SAMPLES},
    table::{self, Features, Row},
};

/// Where the clean data lie.
pub(crate) const CLEAN: &str = "clean";

/// One recording in this many is kept from training.
const TESTED: usize = 5;

pub(crate) fn run() -> io::Result<()> {
    let files: io::Result<BTreeSet<PathBuf>> =
        fs::read_dir(RAW)?.map(|file| Ok(file?.path())).collect();
    let mut rows = Vec::new();
    for file in files? {
        rows.extend(recordings(&file)?);
    }
    Random::seeded(7).shuffle(&mut rows);
    let (test, train) = rows.split_at(rows.len() / TESTED);
    fs::create_dir_all(CLEAN)?;
    table::write(&Path::new(CLEAN).join("train.csv"), train)?;
    table::write(&Path::new(CLEAN).join("test.csv"), test)?;
    println!("{} recordings to train with, {} to test with", train.len(), test.len());
    Ok(())
}

/// The recordings of one machine, without those in which the sensor failed.
fn recordings(file: &Path) -> io::Result<Vec<Row>> {
    let text = fs::read_to_string(file)?;
    let rows: Vec<Row> =
        text.lines().filter_map(|line| recording(line).transpose()).collect::<io::Result<_>>()?;
    println!("{:<14} {} dropped", file.display(), text.lines().count() - rows.len());
    Ok(rows)
}

fn recording(line: &str) -> io::Result<Option<Row>> {
    let (name, samples) = line.split_once(',').unwrap_or((line, ""));
    let condition = Condition::named(name)?;
    let samples: Vec<f32> = samples.split(',').filter_map(|sample| sample.parse().ok()).collect();
    let samples = <[f32; SAMPLES]>::try_from(samples).ok();
    Ok(samples.map(|samples| Row { condition, features: features(&samples) }))
}

fn features(samples: &[f32; SAMPLES]) -> Features {
    let mean = average(samples.iter().copied());
    let power = average(samples.iter().map(|sample| (sample - mean).powi(2)));
    let fourth = average(samples.iter().map(|sample| (sample - mean).powi(4)));
    let loudness = power.sqrt();
    let peak = samples.iter().fold(0.0, |peak: f32, sample| peak.max((sample - mean).abs()));
    let steps = samples.windows(2).map(|pair| (pair[1] - pair[0]).abs());
    [loudness, peak, peak / loudness, fourth / power.powi(2), average(steps) / loudness]
}

fn average(numbers: impl Iterator<Item = f32>) -> f32 {
    let (sum, count) = numbers.fold((0.0, 0.0), |(sum, count), number| (sum + number, count + 1.0));
    sum / count
}
