//! The second stage: `clean/train.csv` to `model/`, with a checkpoint in the middle.

use std::{fs, io, path::Path};

use crate::{clean::CLEAN, network::Network, random::Random, table};

/// Where the model lies.
pub(crate) const MODEL: &str = "model";

/// The name of the weights, in the model and in each checkpoint.
pub(crate) const WEIGHTS: &str = "weights.safetensors";

/// How often the network sees all recordings.
const EPOCHS: u16 = 800;

/// After how many epochs the weights so far are kept.
pub(crate) const CHECKPOINT: u16 = 400;

pub(crate) fn run() -> io::Result<()> {
    let mut rows = table::read(&Path::new(CLEAN).join("train.csv"))?;
    let mut random = Random::seeded(42);
    let mut network = Network::untrained(&rows, &mut random);
    fs::create_dir_all(MODEL)?;
    for epoch in 1..=EPOCHS {
        random.shuffle(&mut rows);
        let rate = 0.02 * (1.0 - f32::from(epoch) / f32::from(EPOCHS + 1));
        let surprise: f32 = rows.iter().map(|row| network.learn(row, rate)).sum();
        if epoch % 200 == 0 {
            println!("epoch {epoch:>3}   loss {surprise:.1}");
        }
        if epoch == CHECKPOINT {
            checkpoint(&network)?;
        }
    }
    network.save(&Path::new(MODEL).join(WEIGHTS))
}

/// Written under another name first, as training frameworks do, so that nobody takes half a
/// checkpoint for a whole one.
fn checkpoint(network: &Network) -> io::Result<()> {
    let complete = Path::new(MODEL).join(format!("checkpoint-{CHECKPOINT}"));
    let unfinished = complete.with_extension("tmp");
    fs::create_dir(&unfinished)?;
    network.save(&unfinished.join(WEIGHTS))?;
    fs::rename(unfinished, complete)
}
