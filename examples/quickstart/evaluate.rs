//! The third stage: `model/` and `clean/test.csv` to `metrics/metrics.json`.

use std::{fs, io, path::Path};

use serde_json::json;

use crate::{
    clean::CLEAN,
    condition::Condition,
    network::Network,
    table::{self, Row},
    train::{MODEL, WEIGHTS},
};

/// Where the verdict on the model lies.
pub(crate) const METRICS: &str = "metrics";

pub(crate) fn run() -> io::Result<()> {
    let network = Network::load(&Path::new(MODEL).join(WEIGHTS))?;
    let rows = table::read(&Path::new(CLEAN).join("test.csv"))?;
    let right = share(&rows, |row| network.condition(&row.features) == row.condition)?;
    let guessed = guess(&rows)?;
    fs::create_dir_all(METRICS)?;
    let metrics =
        json!({ "accuracy": right, "accuracy_of_guessing": guessed, "recordings": rows.len() });
    fs::write(Path::new(METRICS).join("metrics.json"), format!("{metrics:#}\n"))?;
    println!("accuracy {:.1} %, by guessing {:.1} %", 100.0 * right, 100.0 * guessed);
    if right > guessed { Ok(()) } else { Err(io::Error::other("the model has learned nothing")) }
}

/// How often somebody is right who always says the same.
fn guess(rows: &[Row]) -> io::Result<f64> {
    let shares = Condition::ALL.map(|answer| share(rows, |row| row.condition == answer));
    shares.into_iter().try_fold(0.0, |best: f64, share| Ok(best.max(share?)))
}

fn share(rows: &[Row], counts: impl Fn(&Row) -> bool) -> io::Result<f64> {
    let number = |count: usize| u32::try_from(count).map(f64::from).map_err(io::Error::other);
    Ok(number(rows.iter().filter(|row| counts(row)).count())? / number(rows.len())?)
}
