//! P14: what the gate adds to an open.

use super::published::{Published, check_admitted, weights_in};
use crate::{
    bench::Bench,
    mounted::Reads,
    row::{Comparison, Figure, Goal, Row},
    work::{self, MEBIBYTE},
};

/// P14: a file that was admitted before, against the same mount without a policy.
pub(crate) fn judged_open(bench: &Bench) -> Vec<Row> {
    let place = bench.memory();
    let published = Published::new(&place, MEBIBYTE);
    let (guarding, plain) =
        (published.guarded("rehash", Reads::AsEver), published.unguarded(Reads::AsEver));
    let (judged, unjudged) = (weights_in(&guarding), weights_in(&plain));
    for weights in [&judged, &unjudged] {
        work::open(weights, 1);
    }
    check_admitted(&judged, "rehash");
    let times = bench.count(20_000);
    let [ours, other] = bench.rounds(|| {
        [&judged, &unjudged].map(|path| work::open(path, times).as_secs_f64() / times as f64)
    });
    vec![Row::measured(
        "P14",
        "open a file with a cached verdict",
        Comparison::new(
            Figure::time("attestfs", ours),
            Figure::time("attestfs without policy", other),
            Goal::AtMost(1.05),
        ),
    )]
}
