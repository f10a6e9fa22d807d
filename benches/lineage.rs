//! What the lineage store costs: `cargo bench --bench lineage`, with `--edges N` for another size.
//!
//! The graph is made of pipelines of 20 stages, one run each. A run reads what the run before it
//! wrote, and a data set that all runs of its pipeline share, and writes as many files as it was
//! handed. In *experiments* most edges lead to content that is known already; in *conversions* every
//! second edge leads to a version that is new, with its digests, names and three keys to find it by.
//!
//! Facts arrive in the pieces in which the daemon takes a journal in, and every run ends with a
//! frozen commit, as in production: that is when the disk has it.
//!
//! No library times this: a graph of a million edges is made once and not in samples, its time is taken in
//! parts, and half of what is told are bytes.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock and its arguments")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its results")]
#![expect(clippy::unwrap_used, reason = "a benchmark may stop at the first surprise")]
#![expect(clippy::cast_precision_loss, reason = "numbers for people, far below 2^53")]

mod common;

use std::{
    env, fs,
    hint::black_box,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, Instant},
};

use attestfs_attestation::Outcome;
use attestfs_daemon::lineage::{
    Bounds, CommitId, Direction, DiskStore, Graph, LineageStore, RunEnd, RunId, VersionId, trace,
};
use attestfs_digest::{Blake3, Digests, Sha256};
use attestfs_fs::{Fact, FileKey, Identity, Process, RunVersion, TreePath};

use common::description;

const STAGES: u64 = 20;
const PIECE_FACTS: usize = 4096;
const SHAPES: [Shape; 2] = [
    Shape { name: "experiments", data_set: 950, handed_on: 25 },
    Shape { name: "conversions", data_set: 0, handed_on: 500 },
];

fn main() {
    let edges = edges_wanted();
    let headers = ["ingest", "with flushes", "on disk", "memory", "close", "reopen", "ancestors"];
    print!("{:<12} {:>9}", "graph", "edges");
    println!("{}", headers.map(|header| format!(" {header:>13}")).concat());
    for shape in SHAPES {
        measure(&shape, edges);
    }
}

/// The files of a pipeline: its data set, then what was handed to the first stage, to the second..
struct Shape {
    name: &'static str,
    data_set: u64,
    handed_on: u64,
}

/// Where the time of inserting went.
#[derive(Default)]
struct Spent {
    ingesting: Duration,
    beginning_and_freezing: Duration,
}

fn measure(shape: &Shape, edges: u64) {
    let pipelines = edges.div_ceil(shape.edges());
    let edges = (pipelines * shape.edges()) as f64;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();

    let resident_before = resident_bytes();
    let store = DiskStore::open(folder.path()).unwrap();
    let mut spent = Spent::default();
    for pipeline in 0..pipelines {
        (0..STAGES).for_each(|stage| insert(&store, shape, pipeline, stage, &mut spent));
    }
    let resident = resident_bytes().saturating_sub(resident_before);
    let ((), closing) = timed(|| drop(store));
    let bytes = size_of_folder(folder.path()) as f64;
    let (store, reopening) = timed(|| DiskStore::open(folder.path()).unwrap());
    let (graph, tracing) = ancestors(&store, shape, pipelines / 2);

    let rate = |time: Duration| format!("{:.0} /s", edges / time.as_secs_f64());
    println!(
        "{:<12} {edges:>9} {:>13} {:>13} {:>13} {:>13} {:>13} {:>13} {:>13} of {} runs, {} versions",
        shape.name,
        rate(spent.ingesting),
        rate(spent.ingesting + spent.beginning_and_freezing),
        format!("{:.0} B/edge", bytes / edges),
        format!("{} MiB", resident >> 20),
        milliseconds(closing),
        milliseconds(reopening),
        milliseconds(tracing),
        graph.runs.len(),
        graph.versions.len(),
    );
}

fn insert(store: &DiskStore, shape: &Shape, pipeline: u64, stage: u64, spent: &mut Spent) {
    let run = RunId(format!("{pipeline:012x}-{stage:04x}-7000-8000-000000000000"));
    let facts = shape.facts(pipeline, stage);
    let description = description(&run, &format!("stage-{stage:02}"), "/home/lab/project/data");
    let end = RunEnd { outcome: Outcome::Success, finished: description.started };

    let ((), beginning) = timed(|| store.begin(&description).unwrap());
    let ((), ingesting) = timed(|| {
        let mut from = 0;
        for piece in facts.chunks(PIECE_FACTS) {
            let to = from + piece.len() as u64;
            store.ingest(&run, from..to, piece).unwrap();
            from = to;
        }
    });
    let ((), freezing) = timed(|| {
        store.end(&run, &end).unwrap();
        store.freeze(&CommitId(run.0.clone()), b"statement").unwrap();
        store.publish(&CommitId(run.0), &[]).unwrap();
    });
    spent.ingesting += ingesting;
    spent.beginning_and_freezing += beginning + freezing;
}

/// Of the last file of a pipeline, 20 runs deep: the median of some walks.
fn ancestors(store: &DiskStore, shape: &Shape, pipeline: u64) -> (Graph, Duration) {
    let last = shape.identity(pipeline, shape.files() - 1);
    let start: VersionId = store.version_of(&last).unwrap().unwrap();
    let walk = || trace(store, Direction::Ancestors, &[start], Bounds::default()).unwrap();
    let mut times: Vec<_> = (0..WALKS).map(|_| timed(|| black_box(walk())).1).collect();
    times.sort();
    (walk(), times[WALKS / 2])
}

const WALKS: usize = 9;

impl Shape {
    fn edges(&self) -> u64 {
        STAGES * (self.data_set + 2 * self.handed_on)
    }

    fn files(&self) -> u64 {
        self.data_set + (STAGES + 1) * self.handed_on
    }

    fn facts(&self, pipeline: u64, stage: u64) -> Vec<Fact> {
        let handed = self.data_set + stage * self.handed_on;
        let read = (0..self.data_set).chain(handed..handed + self.handed_on);
        let written = handed + self.handed_on..handed + 2 * self.handed_on;
        let mut facts = Vec::new();
        for (version, file) in (1..).map(RunVersion).zip(read.clone()) {
            let identity = self.identity(pipeline, file);
            let digests = self.digests(pipeline, file);
            let (path, by) = (path(pipeline, file), process(pipeline, stage));
            facts.push(Fact::Opened { version, identity, path, by });
            facts.push(Fact::Hashed { version, identity, digests });
        }
        let names = 1 + read.count() as u64..;
        for (version, file) in names.map(RunVersion).zip(written) {
            let identity = self.identity(pipeline, file);
            let digests = self.digests(pipeline, file);
            let (path, by) = (path(pipeline, file), process(pipeline, stage));
            let name = Some(path.clone());
            facts.push(Fact::Written { version, file: identity.file, path, by });
            facts.push(Fact::Sealed { version, identity, digests, path: name, also: Vec::new() });
        }
        facts
    }

    fn identity(&self, pipeline: u64, file: u64) -> Identity {
        let ordinal = pipeline * self.files() + file;
        let born_ns = 1_767_225_600_000_000_000 + ordinal.cast_signed() * 1_234_567;
        let changed_ns = born_ns + 1_000_000;
        Identity {
            file: FileKey {
                filesystem: 0x8f3a_91c2_4e5d_7706,
                inode: 1_000_000 + ordinal,
                born_ns,
            },
            size: 10_240 + ordinal % 1000,
            mtime_ns: changed_ns,
            ctime_ns: changed_ns,
        }
    }

    fn digests(&self, pipeline: u64, file: u64) -> Digests {
        let ordinal = pipeline * self.files() + file;
        let mut bytes = [0; 64];
        blake3::Hasher::new().update(&ordinal.to_le_bytes()).finalize_xof().fill(&mut bytes);
        let (sha256, blake3) = bytes.split_at(32);
        let (sha256, blake3) = (sha256.try_into().unwrap(), blake3.try_into().unwrap());
        Digests { sha256: Sha256(sha256), blake3: Blake3(blake3) }
    }
}

fn path(pipeline: u64, file: u64) -> TreePath {
    TreePath { tree: 0, path: format!("experiment-{pipeline}/shards/part-{file:05}.parquet") }
}

fn process(pipeline: u64, stage: u64) -> Process {
    Process {
        pid: u32::try_from(1000 + pipeline * STAGES + stage).ok(),
        uid: Some(1000),
        executable: Some("/usr/bin/python3.13".to_owned()),
        cgroup: Some("/user.slice/user-1000.slice/session-2.scope".to_owned()),
    }
}

fn edges_wanted() -> u64 {
    let mut arguments = env::args().skip_while(|argument| argument != "--edges").skip(1);
    arguments.next().map_or(1_000_000, |number| number.parse().unwrap())
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let answer = work();
    (answer, start.elapsed())
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// What the disk gives for it.
fn size_of_folder(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let sizes = entries.map(|entry| match entry.metadata().unwrap() {
        metadata if metadata.is_dir() => size_of_folder(&entry.path()),
        metadata => metadata.blocks() * 512,
    });
    sizes.sum()
}

fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
