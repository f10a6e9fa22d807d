//! The raw data: what three vibration sensors recorded, with their faults.

use std::{f32::consts::TAU, fmt::Write as _, fs, io, path::Path};

use crate::{condition::Condition, random::Random};

/// Where the raw data lie, a file per machine.
pub(crate) const RAW: &str = "raw";

/// Samples in a recording.
pub(crate) const SAMPLES: usize = 64;

/// The machines, and how loud each is.
const MACHINES: [(&str, f32); 3] = [("lathe", 1.0), ("press", 1.2), ("pump", 0.8)];

const RECORDINGS: usize = 400;

/// Writes `raw/<machine>.csv` below `project`.
pub(crate) fn record(project: &Path) -> io::Result<()> {
    let mut random = Random::seeded(1931);
    fs::create_dir(project.join(RAW))?;
    for (machine, gain) in MACHINES {
        let file = Path::new(RAW).join(machine).with_extension("csv");
        fs::write(project.join(&file), recordings(gain, &mut random))?;
        println!("{:<14} {RECORDINGS} recordings of {SAMPLES} samples", file.display());
    }
    Ok(())
}

/// A line per recording: the condition that a mechanic found, then the samples. A sensor that fails
/// in the middle leaves the rest of its line empty.
fn recordings(gain: f32, random: &mut Random) -> String {
    let mut text = String::new();
    for condition in Condition::ALL.into_iter().cycle().take(RECORDINGS) {
        text.push_str(condition.name());
        let fails = random.unit() < 0.05;
        for (position, sample) in vibration(condition, random).into_iter().enumerate() {
            text.push(',');
            if !(fails && position >= SAMPLES / 2) {
                write!(text, "{:.4}", gain * sample).expect("a string takes everything");
            }
        }
        text.push('\n');
    }
    text
}

/// A shaft that turns, noise, and what each fault adds: an unbalanced one swings wider, in a worn
/// one the balls knock against the ring.
fn vibration(condition: Condition, random: &mut Random) -> [f32; SAMPLES] {
    let turns = random.between(2.0, 5.0);
    let phase = random.between(0.0, TAU);
    let swing = match condition {
        Condition::Unbalanced => random.between(1.0, 2.4),
        Condition::Healthy | Condition::Worn => random.between(0.5, 1.3),
    };
    let knock = match condition {
        Condition::Worn => random.between(0.6, 2.6),
        Condition::Healthy | Condition::Unbalanced => 0.0,
    };
    let mut ringing = 0.0;
    let mut angle = phase;
    [(); SAMPLES].map(|()| {
        angle += TAU * turns / 64.0;
        let strikes = random.unit() < 0.08;
        ringing = if strikes { knock } else { -0.6 * ringing };
        swing * angle.sin() + ringing + 0.25 * random.normal()
    })
}
