//! What the kernel counts of a process.

use std::{fs, process};

use rustix::{
    param::clock_ticks_per_second,
    process::{Resource, getrlimit},
};

use crate::machine::kibibytes_after;

/// Seconds of processors that this process and another one have used so far, in ticks of the kernel
/// (a hundredth of a second).
pub(crate) fn seconds_of_us_and(server: Option<u32>) -> f64 {
    [Some(process::id()), server].into_iter().flatten().map(processor_seconds).sum()
}

/// The most memory that a process had so far, in bytes.
pub(crate) fn peak_memory(process: u32) -> u64 {
    kibibytes_after("VmHWM:", &fs::read_to_string(format!("/proc/{process}/status")).unwrap())
}

/// How many files a process may have open at most.
pub(crate) fn open_files_limit() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

/// In user space and in the kernel, of all its threads, also those that have ended.
pub(crate) fn processor_seconds(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let (_, after_name) = stat.rsplit_once(") ").unwrap();
    let ticks: f64 =
        after_name.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap()).sum();
    ticks / clock_ticks_per_second() as f64
}
