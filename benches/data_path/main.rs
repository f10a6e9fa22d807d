//! What it costs to stand behind the mount: one table of all that was promised, each number beside
//! what the same machine does without us. `cargo bench --bench data_path`, with options after `--`
//! (see [`Options`]); `benches/README.md` says what the rows mean.
//!
//! Every number is the median of several rounds, and every round measures all sides of a row one
//! after the other, so that a machine that slows down slows all of them.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock and its arguments")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its results")]
#![expect(clippy::print_stderr, reason = "and on the other stream what went wrong")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark may stop at the first surprise"
)]
#![expect(
    clippy::cast_precision_loss,
    reason = "bytes, nanoseconds and files are counted far below 2^53"
)]

mod bench;
mod chart;
mod command;
mod hashing;
mod job;
mod machine;
mod measure;
mod mounted;
mod options;
mod peers;
mod place;
mod plots;
mod process;
mod report;
mod row;
mod rows;
mod table;
mod view;
mod work;

use std::{env, process::ExitCode};

use crate::{bench::Bench, job::Job, options::Options};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let Some(job) = Job::asked_for(&arguments) {
        job.run();
        return ExitCode::SUCCESS;
    }
    let bench = Bench::new(Options::parse(&arguments));
    let head = bench.machine();
    print!("{head}");
    let rows = rows::measure(&bench);
    table::print_summary(&rows);
    if let Some(file) = &bench.options.json {
        report::write(file, &bench, &head, &rows);
    }
    if bench.options.plots {
        plots::draw(&bench);
    }
    if rows.iter().any(row::Row::is_failure) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
