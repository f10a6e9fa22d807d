//! P5: from the first byte of a model to its signature.

use std::{fs, os::unix::fs::MetadataExt, path::Path, time::Duration};

use super::write::sized;
use crate::{
    bench::Bench,
    command::finish,
    job::{Job, Moments, now},
    peers::{ModelSigning, WITHOUT_MODEL_SIGNING},
    place::Place,
    row::{Comparison, Figure, Goal, Row},
};

const FILES: u64 = 8;

/// Seconds that a model took.
struct Taken {
    /// From the first byte to the signature.
    whole: f64,
    /// To the signature from the last `close`; of the reference from its start.
    signing: f64,
}

/// P5: behind the mount, against a plain directory that the reference implementation then signs.
pub(crate) fn signed_model(bench: &Bench) -> Vec<Row> {
    let length = bench.bytes(512 << 20);
    let what = format!("{FILES} x {} to model.sig", sized(length));
    let Some(reference) = bench.model_signing() else {
        return vec![Row::nothing("P5", what, WITHOUT_MODEL_SIGNING)];
    };
    let place = bench.memory();
    let tree = place.directory("tree");
    let total = (FILES * length) as f64;
    let [ours_whole, ours_signing, other_whole, other_signing] = bench.rounds(|| {
        let ours = under_run(&place, &tree, length);
        finish(&mut reference.verify(&place, &tree.join("model")));
        fs::remove_dir_all(tree.join("model")).unwrap();
        let other = signed_at_rest(&place, &tree, length, &reference);
        fs::remove_dir_all(tree.join("model")).unwrap();
        [total / ours.whole, ours.signing, total / other.whole, other.signing]
    });
    vec![
        Row::measured(
            "P5",
            format!("(a) first byte of {what}"),
            Comparison::new(
                Figure::speed("attestfs run", ours_whole),
                Figure::speed("native, model_signing", other_whole),
                Goal::AtLeast(1.5),
            ),
        ),
        Row::measured(
            "P5",
            format!("(b) last close of {what}"),
            Comparison::new(
                Figure::time("attestfs run", ours_signing),
                Figure::time("model_signing alone", other_signing),
                Goal::AtMost(0.15),
            ),
        ),
    ]
}

fn under_run(place: &Place, tree: &Path, length: u64) -> Taken {
    let mut run = place.attestfs(["run", "--stage", "bench", "--out", "model", "--key"]);
    run.arg(place.key()).args(["--capture", &place.capture]).arg("--dir").arg(tree);
    let moments = Moments::parse(&finish(&mut job(tree, length).command_of(run)));
    let signed = signed_at(tree);
    Taken {
        whole: seconds(moments.first_byte, signed),
        signing: seconds(moments.last_close, signed),
    }
}

fn signed_at_rest(place: &Place, tree: &Path, length: u64, reference: &ModelSigning) -> Taken {
    let moments = Moments::parse(&finish(&mut job(tree, length).command()));
    let start = now();
    finish(&mut reference.sign(place, &tree.join("model")));
    let signed = signed_at(tree);
    Taken { whole: seconds(moments.first_byte, signed), signing: seconds(start, signed) }
}

/// None at all where the clock of files, which is some milliseconds behind, says so.
fn seconds(from: Duration, to: Duration) -> f64 {
    to.saturating_sub(from).as_secs_f64()
}

fn job(tree: &Path, length: u64) -> Job {
    Job::Write { directory: tree.join("model"), files: FILES, length }
}

/// When the signature got its name.
fn signed_at(tree: &Path) -> Duration {
    let signature = fs::metadata(tree.join("model/model.sig")).unwrap();
    let seconds = Duration::from_secs(signature.ctime().try_into().unwrap());
    seconds + Duration::from_nanos(signature.ctime_nsec().try_into().unwrap())
}
