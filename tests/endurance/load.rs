//! Everything at once, for long.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use sha2::{Digest, Sha256};

use crate::{
    curve,
    lab::{Finish, Lab, Running, eventually},
    mounted::Mounted,
    needs,
    process::{Process, metrics},
    setting::number,
    watch::{Samples, Watched},
};

#[test]
fn under_a_mixed_load_memory_descriptors_and_queues_stay_flat() {
    let Some(python) = needs::program_of("ATTESTFS_PYTHON") else { return };
    let Some(lab) = Lab::new() else { return };
    let seconds = number("ATTESTFS_SOAK_SECONDS").unwrap_or(15);
    lab.directory("tree/model");
    fs::write(lab.path("policy.toml"), POLICY).unwrap();
    let options = ["--metrics", "unix:metrics.sock", "--policy", "policy.toml"];
    let mounted = Mounted::new(&lab, "tree", "mnt", &options);
    fs::write(mounted.path.join("stray.bin"), content(0)).unwrap();

    let stop = lab.path("stop");
    let mut load = start(&lab, &python, &mounted.path, &stop);
    let samples = watch(&lab, &mounted, &mut load, Duration::from_secs(seconds));
    fs::write(stop, "").unwrap();
    assert_eq!(load.code(), Some(0), "what the load says stands above");
    tell(&samples);

    let socket = lab.path("metrics.sock");
    eventually("all is closed", || metrics(&socket)["attestfs_open_handles"] < 0.5);
    mounted.umount(&[]).succeed();
    if seconds >= LONG_ENOUGH {
        assert_eq!(samples.grown(), Vec::<String>::new());
    }
}

/// Until caches are as full as they get under this load.
const LONG_ENOUGH: u64 = 300;

const POLICY: &str = r#"
version = 1
[signers.trainer]
key = "keys/attestfs.pub"
[[rule]]
paths = ["**/*.bin"]
level = "rehash"
signed_by = ["trainer"]
"#;

fn start(lab: &Lab, python: &Path, mount: &Path, stop: &Path) -> Running {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/endurance/load.py");
    let mut load = lab.configured(python);
    Running::start(load.arg(program).arg(mount).arg(stop).arg("1"))
}

/// Opens and ends stages, and measures once a second.
fn watch(lab: &Lab, mounted: &Mounted, load: &mut Running, duration: Duration) -> Samples {
    let mut samples = Samples::new();
    for stage in 0.. {
        if samples.elapsed() >= duration {
            break;
        }
        lab.attestfs(["stage", "open", "--stage", "train", "--out", "model", "mnt"]).succeed();
        replace(mounted.path.join("model/weights.bin"), &content(stage));
        for _ in 0..SAMPLES_PER_STAGE {
            assert!(!load.has_ended(), "what the load says stands above");
            let daemon = lab.daemon().expect("a stage is open");
            let daemon = Process(daemon.as_raw_nonzero().get().cast_unsigned());
            let socket = lab.path("metrics.sock");
            samples.take(&Watched { server: Process(mounted.pid()), daemon, socket });
            thread::sleep(Duration::from_secs(1));
        }
        // Of four one has failed.
        let end = if stage % 4 == 3 { "abort" } else { "close" };
        lab.attestfs(["stage", end, "mnt"]).succeed();
    }
    samples
}

const SAMPLES_PER_STAGE: u32 = 3;

/// Bytes that say which ones they are, as those of `load.py` do.
fn content(seed: u32) -> Vec<u8> {
    let body: Vec<u8> = (0..100_000_u32).flat_map(|word| (word ^ seed).to_le_bytes()).collect();
    [&Sha256::digest(&body)[..], &body].concat()
}

fn replace(path: PathBuf, content: &[u8]) {
    let aside = path.with_extension("aside");
    fs::File::create(&aside).unwrap().write_all(content).unwrap();
    fs::rename(aside, path).unwrap();
}

fn tell(samples: &Samples) {
    samples.print();
    if let Some(file) = curve_file() {
        fs::write(file, curve::svg(samples)).unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "tests are configured by their environment")]
fn curve_file() -> Option<PathBuf> {
    std::env::var_os("ATTESTFS_SOAK_CURVE").map(PathBuf::from)
}
