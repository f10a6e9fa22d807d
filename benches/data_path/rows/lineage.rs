//! P12: the lineage store, which has a benchmark of its own.

use crate::{
    bench::Bench,
    row::{Nothing, Row},
};

/// P12: said here, measured there.
pub(crate) fn edges(_bench: &Bench) -> Vec<Row> {
    let elsewhere = Nothing::Elsewhere { command: "cargo bench --bench lineage" };
    vec![Row::nothing("P12", "lineage: 1 000 000 edges", elsewhere)]
}
