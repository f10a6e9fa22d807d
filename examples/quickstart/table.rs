//! The clean data: recordings boiled down to a few numbers.

use std::{fmt::Write as _, fs, io, path::Path};

use crate::condition::Condition;

/// What is kept of a recording, in this order.
pub(crate) const FEATURES: [&str; 5] = ["loudness", "peak", "crest", "kurtosis", "roughness"];

/// The features of one recording.
pub(crate) type Features = [f32; FEATURES.len()];

/// A recording of which somebody knows the condition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) condition: Condition,
    pub(crate) features: Features,
}

pub(crate) fn write(path: &Path, rows: &[Row]) -> io::Result<()> {
    let mut text = format!("condition,{}\n", FEATURES.join(","));
    for row in rows {
        text.push_str(row.condition.name());
        for value in row.features {
            write!(text, ",{value}").map_err(io::Error::other)?;
        }
        text.push('\n');
    }
    fs::write(path, text)
}

pub(crate) fn read(path: &Path) -> io::Result<Vec<Row>> {
    let text = fs::read_to_string(path)?;
    let lines = text.lines().enumerate().skip(1);
    lines
        .map(|(number, line)| {
            row(line).ok_or_else(|| {
                let place = format!("{} line {}", path.display(), number + 1);
                io::Error::other(format!("{place}: not a condition and {} numbers", FEATURES.len()))
            })
        })
        .collect()
}

fn row(line: &str) -> Option<Row> {
    let (name, numbers) = line.split_once(',')?;
    let numbers: Vec<f32> = numbers.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
    Some(Row { condition: Condition::named(name).ok()?, features: numbers.try_into().ok()? })
}
