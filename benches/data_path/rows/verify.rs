//! P8: contents that nobody has looked at so far.

use std::{
    fs::File,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use super::{
    published::{Published, check_admitted, weights_in},
    write::sized,
};
use crate::{
    bench::Bench,
    command::{find, finish, timed},
    hashing,
    machine::cores,
    mounted::Reads,
    peers::{WITHOUT_B3SUM, WITHOUT_MODEL_SIGNING},
    row::{Comparison, Figure, Goal, Row},
    work,
};

const GOAL: Goal = Goal::AtLeast(0.90);

/// P8: `verify`, and the first open, of a content with a known BLAKE3; and of a model of which only
/// SHA-256 are known.
pub(crate) fn verification(bench: &Bench) -> Vec<Row> {
    let mut rows = attested(bench);
    rows.push(foreign(bench));
    rows
}

fn attested(bench: &Bench) -> Vec<Row> {
    let length = bench.bytes(4 << 30);
    let works = ["verify", "first open at level rehash of"]
        .map(|work| format!("{work} {}, attested here", sized(length)));
    let Some(program) = find("b3sum".as_ref()) else {
        return works.map(|work| Row::nothing("P8", work, WITHOUT_B3SUM)).into();
    };
    let place = bench.memory();
    let published = Published::new(&place, length);
    let mut verify = place.attestfs(["verify", "--key"]);
    verify.arg(place.public_key()).arg(published.model());
    let mut b3sum = Command::new(program);
    b3sum.arg("--num-threads").arg(cores().to_string()).arg(published.weights());
    let rate = |taken: Duration| length as f64 / taken.as_secs_f64();
    let [verifying, opening, other] = bench.rounds(|| {
        [rate(timed(&mut verify)), rate(first_open(&published)), rate(timed(&mut b3sum))]
    });
    let other = Figure::speed(format!("b3sum, {} threads", cores()), other);
    let ours = [Figure::speed("attestfs verify", verifying), Figure::speed("attestfs", opening)];
    let compare =
        |(work, ours)| Row::measured("P8", work, Comparison::new(ours, other.clone(), GOAL));
    works.into_iter().zip(ours).map(compare).collect()
}

/// On a mount that knows nothing so far.
fn first_open(published: &Published<'_>) -> Duration {
    let mounted = published.guarded("rehash", Reads::AsEver);
    let weights = weights_in(&mounted);
    let start = Instant::now();
    drop(File::open(&weights).unwrap());
    let taken = start.elapsed();
    check_admitted(&weights, "rehash");
    taken
}

fn foreign(bench: &Bench) -> Row {
    const FILES: u64 = 8;
    let length = bench.bytes(512 << 20);
    let work = format!("verify {FILES} x {}, signed by others", sized(length));
    let Some(reference) = bench.model_signing() else {
        return Row::nothing("P8", work, WITHOUT_MODEL_SIGNING);
    };
    let place = bench.memory();
    let model = place.directory("model");
    work::write_files(&model, FILES, length);
    finish(&mut reference.sign(&place, &model));
    let files: Vec<PathBuf> = (0..FILES).map(|number| work::numbered(&model, number)).collect();
    let mut verify = place.attestfs(["verify", "--key"]);
    verify.arg(place.public_key()).arg(&model);
    let rate = |taken: Duration| (FILES * length) as f64 / taken.as_secs_f64();
    let [ours, streams] = bench
        .rounds(|| [rate(timed(&mut verify)), rate(hashing::sha256_of_files(&files, cores()))]);
    let streams = Figure::speed(format!("SHA-256, {} threads", cores()), streams);
    Row::measured(
        "P8",
        work,
        Comparison::new(Figure::speed("attestfs verify", ours), streams, GOAL),
    )
}
