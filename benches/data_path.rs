//! What it costs to write and read through the mount, and to end with a signed model:
//! `cargo bench --bench data_path`, with options after `--` (see `Options`).
//!
//! Every number is the median of several rounds, and every round measures all lines of a group one
//! after the other, so that a machine that slows down slows all of them.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock and its arguments")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its results")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark may stop at the first surprise"
)]

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use tempfile::TempDir;

/// What the command line can change.
#[derive(Debug)]
struct Options {
    /// `--size-mib N`: of the file.
    size_mib: u64,
    /// `--rounds N`.
    rounds: usize,
    /// `--model-signing PATH`: the reference implementation to compare with.
    model_signing: Option<PathBuf>,
}

/// A file system on which everything is measured.
struct Place {
    name: &'static str,
    directory: TempDir,
    size_mib: u64,
    model_signing: Option<PathBuf>,
}

/// What a line measures.
#[derive(Clone, Copy)]
enum Work {
    /// Work on a plain directory, timed by the worker itself.
    Native(&'static str),
    /// The same behind the mount.
    Mounted(&'static str),
    /// Reading behind the mount a file that no run has seen so far: it is hashed at the same time.
    ReadUnknown,
    /// Writing a model natively and signing it with the reference implementation.
    ModelSigning,
    /// Writing a model natively and signing it with `attestfs sign`.
    SignAtRest,
    /// Writing a model behind the mount, up to its `model.sig`.
    Run,
}

/// Works that are compared; the first one is the measure of the others.
struct Group {
    name: &'static str,
    lines: &'static [(&'static str, Work)],
}

const GROUPS: [Group; 4] = [
    Group {
        name: "write",
        lines: &[("native", Work::Native("write")), ("through the mount", Work::Mounted("write"))],
    },
    Group {
        name: "write and fsync",
        lines: &[
            ("native", Work::Native("write-fsync")),
            ("through the mount", Work::Mounted("write-fsync")),
        ],
    },
    Group {
        name: "read what the store has in memory",
        lines: &[
            ("native", Work::Native("read")),
            ("through the mount, digest known", Work::Mounted("read")),
            ("through the mount, hashed meanwhile", Work::ReadUnknown),
        ],
    },
    Group {
        name: "first byte to signed model",
        lines: &[
            ("native, then model_signing sign", Work::ModelSigning),
            ("native, then attestfs sign", Work::SignAtRest),
            ("attestfs run", Work::Run),
        ],
    },
];

/// First argument of this program when it is the job that is measured.
const WORKER: &str = "worker";

const ATTESTFS: &str = env!("CARGO_BIN_EXE_attestfs");

fn main() {
    let mut arguments: Vec<String> = env::args().skip(1).collect();
    if let [first, work, path, size_mib] = arguments.as_slice()
        && first == WORKER
    {
        return worker(work, Path::new(path), size_mib.parse().unwrap());
    }
    arguments.retain(|argument| argument != "--bench");
    measure(&Options::parse(&arguments));
}

impl Options {
    fn parse(arguments: &[String]) -> Self {
        let mut options = Self { size_mib: 512, rounds: 5, model_signing: None };
        for pair in arguments.chunks(2) {
            match pair {
                [name, value] if name == "--size-mib" => options.size_mib = value.parse().unwrap(),
                [name, value] if name == "--rounds" => options.rounds = value.parse().unwrap(),
                [name, value] if name == "--model-signing" => {
                    options.model_signing = Some(PathBuf::from(value));
                }
                other => panic!("{other:?}: only --size-mib, --rounds and --model-signing"),
            }
        }
        options
    }
}

fn measure(options: &Options) {
    let shared_memory = Path::new("/dev/shm");
    let places = [("tmpfs", shared_memory), ("disk", Path::new(env!("CARGO_TARGET_TMPDIR")))]
        .map(|(name, path)| Place::new(name, path, options));
    println!("{}", machine());
    println!("{} MiB in one file, median of {}\n", options.size_mib, options.rounds);
    print!("{:<40}", "");
    for place in &places {
        print!("{:>12}{:>9}", place.name, "");
    }
    println!();
    for group in &GROUPS {
        println!("{}", group.name);
        let medians: Vec<_> = places.iter().map(|place| medians(place, group, options)).collect();
        for (index, (name, _)) in group.lines.iter().enumerate() {
            print!("  {name:<38}");
            for of_place in &medians {
                print_cell(of_place, index, options.size_mib);
            }
            println!();
        }
    }
}

/// The median of each line of a group; none where it could not be measured.
fn medians(place: &Place, group: &Group, options: &Options) -> Vec<Option<f64>> {
    let mut seconds = vec![Vec::new(); group.lines.len()];
    for _ in 0..options.rounds {
        for ((_, work), seconds) in group.lines.iter().zip(&mut seconds) {
            seconds.extend(place.measure(*work).map(|duration| duration.as_secs_f64()));
        }
    }
    let median = |mut seconds: Vec<f64>| {
        seconds.sort_by(f64::total_cmp);
        seconds.get(seconds.len() / 2).copied()
    };
    seconds.into_iter().map(median).collect()
}

/// Speed, and how often it fits into the first line's time.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn print_cell(medians: &[Option<f64>], index: usize, size_mib: u64) {
    let Some(seconds) = medians[index] else {
        return print!("{:>12}{:>9}", "-", "");
    };
    let speed = (size_mib << 20) as f64 / seconds / 1e9;
    print!("{speed:>7.2} GB/s");
    match medians[0] {
        Some(first) => print!("{:>7.2} x", first / seconds),
        None => print!("{:>9}", ""),
    }
}

impl Place {
    fn new(name: &'static str, path: &Path, options: &Options) -> Self {
        let directory = TempDir::with_prefix_in("attestfs-bench-", path).unwrap();
        let place = Self {
            name,
            directory,
            size_mib: options.size_mib,
            model_signing: options.model_signing.clone(),
        };
        for name in ["tree", "keys"] {
            fs::create_dir(place.path(name)).unwrap();
        }
        finish(place.attestfs(["keygen", "--out"]).arg(place.path("keys")));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn attestfs<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(ATTESTFS);
        command.args(arguments);
        command.env("ATTESTFS_STATE", self.path("state")).env("ATTESTFS_IDLE_SECONDS", "3");
        command
    }

    fn run(&self) -> Command {
        let mut run = self.attestfs(["run", "--stage", "bench", "--key"]);
        run.arg(self.path("keys/attestfs.key")).arg("--dir").arg(self.path("tree"));
        run
    }

    /// None where something it needs is missing.
    fn measure(&self, work: Work) -> Option<Duration> {
        Some(match work {
            Work::Native(work) => self.native(work),
            Work::Mounted(work) => self.mounted(work),
            Work::ReadUnknown => self.read_unknown(),
            Work::ModelSigning => self.model_signing(self.model_signing.as_deref()?),
            Work::SignAtRest => self.sign_at_rest(),
            Work::Run => self.run_to_signature(),
        })
    }

    fn native(&self, work: &str) -> Duration {
        let file = self.prepare(work);
        timed(self.worker(&mut Command::new(this_program()), work, &file))
    }

    fn mounted(&self, work: &str) -> Duration {
        let file = self.prepare(work);
        let mut run = self.run();
        timed(self.worker(run.arg("--").arg(this_program()), work, &file))
    }

    fn read_unknown(&self) -> Duration {
        let file = File::options().write(true).open(self.prepare("read")).unwrap();
        file.set_modified(SystemTime::now()).unwrap();
        self.mounted("read")
    }

    fn model_signing(&self, program: &Path) -> Duration {
        let mut sign = Command::new(program);
        sign.args(["sign", "key"]).arg(self.path("tree/model"));
        sign.arg("--private_key").arg(self.path("keys/attestfs.key"));
        sign.arg("--signature").arg(self.path("tree/model/model.sig"));
        self.write_and_sign(&mut sign)
    }

    fn sign_at_rest(&self) -> Duration {
        let mut sign = self.attestfs(["sign", "--key"]);
        sign.arg(self.path("keys/attestfs.key")).arg(self.path("tree/model"));
        self.write_and_sign(&mut sign)
    }

    fn write_and_sign(&self, sign: &mut Command) -> Duration {
        let file = self.prepare("model");
        let start = Instant::now();
        finish(self.worker(&mut Command::new(this_program()), "write", &file));
        finish(sign);
        self.signed(start)
    }

    fn run_to_signature(&self) -> Duration {
        let file = self.prepare("model");
        let start = Instant::now();
        let mut run = self.run();
        run.args(["--out", "model", "--"]).arg(this_program());
        finish(self.worker(&mut run, "write", &file));
        self.signed(start)
    }

    fn signed(&self, start: Instant) -> Duration {
        let taken = start.elapsed();
        assert!(self.path("tree/model/model.sig").exists());
        taken
    }

    /// Makes the tree what `work` expects, and says on which file it works.
    fn prepare(&self, work: &str) -> PathBuf {
        let (model, file) = (self.path("tree/model"), self.path("tree/file"));
        match work {
            "read" => {
                if !file.exists() {
                    finish(self.worker(&mut Command::new(this_program()), "write", &file));
                }
                return file;
            }
            "model" => {
                if model.exists() {
                    fs::remove_dir_all(&model).unwrap();
                }
                fs::create_dir(&model).unwrap();
                return model.join("weights");
            }
            _ if file.exists() => fs::remove_file(&file).unwrap(),
            _ => {}
        }
        file
    }

    fn worker<'command>(
        &self,
        command: &'command mut Command,
        work: &str,
        file: &Path,
    ) -> &'command mut Command {
        command.arg(WORKER).arg(work).arg(file).arg(self.size_mib.to_string())
    }
}

/// The job: works on a file and prints how many nanoseconds that took.
fn worker(work: &str, path: &Path, size_mib: u64) {
    let mut buffer = pattern();
    let start = Instant::now();
    if work == "read" {
        let mut file = File::open(path).unwrap();
        while file.read(&mut buffer).unwrap() > 0 {}
    } else {
        let mut file = File::create(path).unwrap();
        (0..size_mib).for_each(|_| file.write_all(&buffer).unwrap());
        if work == "write-fsync" {
            file.sync_all().unwrap();
        }
    }
    println!("{}", start.elapsed().as_nanos());
}

/// One mebibyte that no file system takes for a hole.
fn pattern() -> Vec<u8> {
    (0_u32..1 << 18).flat_map(|word| word.wrapping_mul(0x9E37_79B1).to_le_bytes()).collect()
}

/// The duration that a worker printed.
fn timed(command: &mut Command) -> Duration {
    Duration::from_nanos(finish(command).trim().parse().unwrap())
}

fn finish(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn this_program() -> PathBuf {
    env::current_exe().unwrap()
}

/// The processor, its cores and the kernel.
fn machine() -> String {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name"));
    let model =
        model.map_or("unknown processor", |model| model.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().unwrap();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let release = release.split('-').next().unwrap().trim();
    format!("{model}, {cores} cores, Linux {release}")
}
