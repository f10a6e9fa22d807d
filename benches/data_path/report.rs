//! The table, for programs.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    bench::Bench,
    row::{Comparison, Figure, Goal, Row, Unit},
    table::said,
};

/// Writes all rows as one JSON object.
pub(crate) fn write(file: &Path, bench: &Bench, head: &str, rows: &[Row]) {
    let report = json!({
        "machine": head.lines().collect::<Vec<_>>(),
        "rounds": bench.options.rounds,
        "shrink": bench.options.shrink,
        "rows": rows.iter().map(row).collect::<Vec<_>>(),
    });
    fs::write(file, format!("{report:#}\n")).unwrap();
}

fn row(row: &Row) -> Value {
    match &row.result {
        Ok(comparison) => json!({
            "number": row.number,
            "work": row.work,
            "ours": figure(&comparison.ours),
            "other": comparison.other.as_ref().map(figure),
            "beside": comparison.beside.iter().map(figure).collect::<Vec<_>>(),
            "ratio": comparison.ratio(),
            "goal": goal(comparison),
            "reached": comparison.is_reached(),
        }),
        Err(nothing) => {
            json!({ "number": row.number, "work": row.work, "withoutNumbers": said(nothing) })
        }
    }
}

fn figure(figure: &Figure) -> Value {
    let samples = &figure.samples;
    json!({
        "name": figure.name,
        "unit": unit(figure.unit),
        "median": samples.median(),
        "least": samples.least(),
        "most": samples.most(),
    })
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::BytesPerSecond => "bytes/s",
        Unit::PerSecond => "1/s",
        Unit::Seconds => "s",
        Unit::Bytes => "bytes",
        Unit::SecondsPerGigabyte => "s/10^9 bytes",
    }
}

fn goal(comparison: &Comparison) -> Value {
    match comparison.goal {
        Goal::AtLeast(bound) => json!({ "atLeast": bound }),
        Goal::AtMost(bound) => json!({ "atMost": bound }),
        Goal::Shown => Value::Null,
    }
}
