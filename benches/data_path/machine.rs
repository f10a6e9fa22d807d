//! What was measured, and on what.

use std::{fs, path::Path, thread};

use crate::{
    command::{find, version},
    options::Options,
    place::ATTESTFS,
};

/// Lines about the machine, the rounds and all programs that take part.
pub(crate) fn describe(options: &Options) -> String {
    let Options { rounds, shrink, capture, .. } = options;
    let mut lines = vec![machine(), format!("medians of {rounds} (least..most)")];
    if *shrink > 1 {
        lines.push(format!("everything {shrink} times smaller: no measure of what was promised"));
    }
    lines.push(format!("attestfs --capture {capture} where something is written"));
    if cfg!(debug_assertions) {
        lines.push("a debug build: its numbers mean nothing".to_owned());
    }
    lines.push(versions(options));
    lines.join("\n") + "\n"
}

/// How many threads can work at once.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().unwrap().get()
}

/// Bytes of memory that could be used now.
pub(crate) fn available_memory() -> u64 {
    let memory = fs::read_to_string("/proc/meminfo").unwrap();
    kibibytes_after("MemAvailable:", &memory)
}

/// The number of a line of `/proc` that has kibibytes, in bytes.
pub(crate) fn kibibytes_after(label: &str, lines: &str) -> u64 {
    let line = lines.lines().find_map(|line| line.strip_prefix(label)).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

/// The processor, its cores, memory and the kernel.
pub(crate) fn machine() -> String {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name"));
    let model =
        model.map_or("unknown processor", |model| model.trim_start_matches([' ', '\t', ':']));
    let memory = kibibytes_after("MemTotal:", &fs::read_to_string("/proc/meminfo").unwrap()) >> 30;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let release = release.split('-').next().unwrap().trim();
    format!("{model}, {} cores, {memory} GiB, Linux {release}", cores())
}

/// The programs that take part, as far as they are there.
fn versions(options: &Options) -> String {
    let programs = [ATTESTFS, "mergerfs", "bindfs", "b3sum", "python3"].map(Path::new).into_iter();
    let programs = programs.chain([options.model_signing.as_path()]);
    let versions: Vec<_> = programs.filter_map(|it| version(&find(it)?)).collect();
    versions.join(", ")
}
