//! All groups of rows, in their order.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::{close, files, lineage, model, open, read, verify, write};
use crate::{
    bench::Bench,
    row::{Nothing, Row},
    table,
};

/// Rows that one set-up measures together.
struct Group {
    numbers: &'static [&'static str],
    measure: fn(&Bench) -> Vec<Row>,
}

const GROUPS: [Group; 13] = [
    Group { numbers: &["P1", "P2"], measure: write::one_stream },
    Group { numbers: &["P3"], measure: write::several_streams },
    Group { numbers: &["P4"], measure: write::on_disk },
    Group { numbers: &["P5"], measure: model::signed_model },
    Group { numbers: &["P6"], measure: close::stage_close },
    Group { numbers: &["P7"], measure: read::admitted_file },
    Group { numbers: &["P8"], measure: verify::verification },
    Group { numbers: &["P9"], measure: read::verified_reads },
    Group { numbers: &["P10"], measure: files::many_files },
    Group { numbers: &["P11"], measure: files::small_appends },
    Group { numbers: &["P12"], measure: lineage::edges },
    Group { numbers: &["P13"], measure: write::memory },
    Group { numbers: &["P14"], measure: open::judged_open },
];

/// Measures the rows that somebody wants to see, and prints each when it is there. A group that
/// fails is told in its row, and the others are measured all the same.
pub(crate) fn measure(bench: &Bench) -> Vec<Row> {
    let mut rows = Vec::new();
    table::print_head();
    for group in GROUPS {
        if !group.numbers.iter().any(|number| bench.options.wants(number)) {
            continue;
        }
        let measured = catch_unwind(AssertUnwindSafe(|| (group.measure)(bench)));
        let measured = measured.unwrap_or_else(|panic| failed(group.numbers, &*panic));
        let wanted = measured.into_iter().filter(|row| bench.options.wants(row.number));
        let first = rows.len();
        rows.extend(wanted);
        rows[first..].iter().for_each(table::print_row);
    }
    rows
}

fn failed(numbers: &[&'static str], panic: &(dyn Any + Send)) -> Vec<Row> {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    let reason = text.unwrap_or_else(|| "it panicked".to_owned());
    let row = |&number| Row::nothing(number, "stopped", Nothing::Failed { reason: reason.clone() });
    numbers.iter().map(row).collect()
}
