//! One crash.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    evidence::{Bundle, INCOMPLETE_RUN, PROVENANCE, attestations},
    lab::{Finish, Lab, Running, eventually},
    mounted::{Mounted, attribute, is_running, mount},
    told::{self, Known, sha256_of},
};

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Server,
    Daemon,
    Job,
}

/// How the files are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Serving {
    /// By `attestfs run`.
    Run,
    /// By `attestfs mount --stage`.
    Mount,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    seed: u64,
    victim: Victim,
    serving: Serving,
    capture: &'static str,
    moment: Duration,
}

/// What was looked at.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// By who was killed and how it was served.
    pub(crate) rounds: BTreeMap<String, u64>,
    pub(crate) files_that_were_closed: u64,
    pub(crate) files_that_were_synced: u64,
    pub(crate) files_that_were_being_written: u64,
    pub(crate) digests_shown: u64,
    pub(crate) publications: u64,
    pub(crate) incomplete_runs: u64,
    pub(crate) subjects: u64,
}

/// Where it happens.
struct Scene<'l> {
    lab: &'l Lab,
    tree: String,
    mount_point: String,
    told: PathBuf,
    stop: PathBuf,
}

impl Round {
    pub(crate) fn of(seed: u64) -> Self {
        let bits = blake3::hash(&seed.to_le_bytes());
        let bits = bits.as_bytes();
        let pick = |position: usize, of: u8| bits[position] % of;
        Self {
            seed,
            victim: [Victim::Server, Victim::Daemon, Victim::Job][usize::from(pick(0, 3))],
            serving: if pick(1, 2) == 0 { Serving::Run } else { Serving::Mount },
            capture: if pick(2, 3) == 0 { "reread" } else { "inline" },
            moment: Duration::from_micros(u64::from(u16::from_le_bytes([bits[3], bits[4]])) * 5),
        }
    }

    pub(crate) fn carry_out(&self, lab: &Lab, counts: &mut Counts) {
        let scene = Scene::new(lab, self.seed);
        let ended_well = match self.serving {
            Serving::Run => self.happen_in_a_run(&scene),
            Serving::Mount => self.happen_on_a_mount(&scene),
        };
        *counts.rounds.entry(format!("{:?}, {:?}", self.victim, self.serving)).or_default() += 1;
        let (files, begun) = told::read(&scene.told);
        assert!(begun);
        let published = ended_well && scene.has_files();
        scene.check_files(&files, counts);
        scene.come_back(self.serving, counts);
        scene.check_files(&files, &mut Counts::default());
        scene.check_attestations(published, counts);
        let signature = scene.stored("model.sig");
        let signs = published && self.serving == Serving::Run;
        assert_eq!(signature.exists(), signs, "{}", scene.said());
    }

    /// Whether the run is to be attested as a success.
    fn happen_in_a_run(&self, scene: &Scene<'_>) -> bool {
        let mut run = scene.lab.run("train");
        run.args(["--capture", self.capture, "--dir", &scene.tree, "--out", "model", "--"]);
        let job = scene.job(&scene.tree, self.seed);
        run.arg(job.get_program()).args(job.get_args());
        let mut run = Running::start(run.stdout(Stdio::null()).stderr(scene.console()));
        scene.wait_for_begin();
        thread::sleep(self.moment);
        match self.victim {
            Victim::Server => {
                run.kill();
                // It cannot do anything any more but what it does past the mount.
                eventually("the job has ended", || scene.jobs().is_empty());
            }
            Victim::Daemon => {
                scene.kill_daemon();
                scene.stop();
            }
            Victim::Job => scene.jobs().into_iter().for_each(kill),
        }
        let code = run.code();
        assert_eq!(
            code,
            match self.victim {
                Victim::Server => None,
                Victim::Daemon => Some(0),
                Victim::Job => Some(137),
            },
            "{}",
            scene.said()
        );
        self.victim == Victim::Daemon
    }

    fn happen_on_a_mount(&self, scene: &Scene<'_>) -> bool {
        let options = ["--capture", self.capture, "--stage", "train"];
        let server = scene.serve(&options);
        let mut job = scene.job(&scene.mount_point, self.seed);
        let mut job = Running::start(job.stdout(Stdio::null()).stderr(scene.console()));
        scene.wait_for_begin();
        thread::sleep(self.moment);
        match self.victim {
            Victim::Server => {
                kill(server);
                eventually("the server is gone", || !is_running(server));
                scene.stop();
                job.code();
                return false;
            }
            Victim::Daemon => {
                scene.kill_daemon();
                scene.stop();
                assert_eq!(job.code(), Some(0), "{}", scene.said());
            }
            Victim::Job => job.kill(),
        }
        // A program that looks at every mount there is, as `sync` and `df` do, may use it this moment.
        let umount = || scene.lab.attestfs(["umount", &scene.mount_point]).finish();
        eventually("it is unmounted", || umount().code == Some(0));
        eventually("the server has ended", || !is_running(server));
        true
    }
}

impl<'l> Scene<'l> {
    fn new(lab: &'l Lab, seed: u64) -> Self {
        let tree = format!("tree-{seed}");
        fs::write(lab.directory(&tree).join("data.csv"), seed.to_string()).unwrap();
        Self {
            lab,
            tree,
            mount_point: format!("mnt-{seed}"),
            told: lab.path(&format!("told-{seed}")),
            stop: lab.path(&format!("stop-{seed}")),
        }
    }

    /// That writes to `model` in this directory of the lab.
    fn job(&self, directory: &str, seed: u64) -> Command {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/crash/job.py");
        let mut job = Command::new("python3");
        job.args(["-I", "-S", script]).arg(self.lab.path(directory).join("model"));
        job.args([&self.told, &self.stop]).arg(seed.to_string()).stdin(Stdio::null());
        job
    }

    /// Mounts the tree in the background.
    ///
    /// # Returns
    /// The process that serves it.
    fn serve(&self, options: &[&str]) -> u32 {
        self.lab.directory(&self.mount_point);
        let mut mount = mount(self.lab, &self.tree, &self.mount_point, options);
        let printed: Value = serde_json::from_str(&mount.arg("--json").succeed()).unwrap();
        u32::try_from(printed["pid"].as_u64().unwrap()).unwrap()
    }

    fn console(&self) -> File {
        File::options().create(true).append(true).open(self.lab.path("console")).unwrap()
    }

    /// By runs and jobs, and by mounts in the background.
    fn said(&self) -> String {
        let entries = fs::read_dir(self.lab.state().join("mounts")).into_iter().flatten().flatten();
        let logs = entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|it| it == "log"));
        let all = logs.chain([self.lab.path("console")]).map(fs::read_to_string);
        all.map(Result::unwrap_or_default).collect()
    }

    fn wait_for_begin(&self) {
        eventually("the job has begun", || told::read(&self.told).1);
    }

    fn stop(&self) {
        fs::write(&self.stop, "").unwrap();
    }

    fn kill_daemon(&self) {
        let Some(daemon) = self.lab.daemon() else { return };
        kill_process(daemon, Signal::KILL).unwrap_or_default();
        eventually("the daemon is gone", || self.lab.daemon() != Some(daemon));
    }

    /// The processes of the job, by their command lines.
    fn jobs(&self) -> Vec<u32> {
        let told = self.told.to_str().unwrap();
        let pids = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u32>().ok());
        let is_job = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            line.split('\0').next().is_some_and(|it| it.ends_with("python3")) && line.contains(told)
        };
        pids.filter(is_job).collect()
    }

    fn stored(&self, name: &str) -> PathBuf {
        self.lab.path(&self.tree).join("model").join(name)
    }

    /// Whether the job has left any. On a busy machine it may have had no time for that.
    fn has_files(&self) -> bool {
        let entries = fs::read_dir(self.stored("")).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.file_name())
            .any(|name| name.as_encoded_bytes().starts_with(b"part-"))
    }

    /// What was acknowledged is in the store.
    fn check_files(&self, files: &BTreeMap<String, Known>, counts: &mut Counts) {
        for (name, known) in files {
            known.check(&self.stored(name));
            match known {
                Known::Holds { .. } => counts.files_that_were_closed += 1,
                Known::Begins { .. } => counts.files_that_were_synced += 1,
                Known::Nothing => counts.files_that_were_being_written += 1,
                Known::Gone => {}
            }
        }
    }

    /// Serves the tree again: what it shows of the files is so.
    fn come_back(&self, serving: Serving, counts: &mut Counts) {
        if serving == Serving::Run {
            self.lab.run("next").args(["--dir", &self.tree, "--", "true"]).succeed();
        }
        let mounted = Mounted::new(self.lab, &self.tree, &self.mount_point, &[]);
        for entry in fs::read_dir(mounted.path.join("model")).unwrap() {
            let path = entry.unwrap().path();
            let content = fs::read(&path).unwrap();
            let stored = fs::read(self.stored(path.file_name().unwrap().to_str().unwrap()));
            assert_eq!(content, stored.unwrap(), "{}", path.display());
            if let Some(shown) = attribute(&path, "user.attestfs.sha256") {
                assert_eq!(shown, sha256_of(&content), "{}", path.display());
                counts.digests_shown += 1;
            }
        }
        mounted.umount(&[]).succeed();
        mounted.wait_for_end();
    }

    /// What was published is so, once, and as a success only if it was one.
    fn check_attestations(&self, is_published: bool, counts: &mut Counts) {
        let state = self.lab.state();
        let tree = fs::canonicalize(self.lab.path(&self.tree)).unwrap();
        let all = attestations(&state).into_iter().filter(|bundle| is_of(bundle, &tree));
        let (published, others): (Vec<_>, Vec<_>) =
            all.partition(|bundle| bundle.predicate_type() == PROVENANCE);
        assert!(others.iter().all(|bundle| bundle.predicate_type() == INCOMPLETE_RUN));
        assert_eq!(published.len(), usize::from(is_published), "{}", self.said());
        assert!(others.len() <= usize::from(!is_published));
        counts.incomplete_runs += others.len() as u64;
        for bundle in published.iter().chain(&others) {
            bundle.check_signature(&self.lab.public_key());
            for (path, sha256) in bundle.subjects(&state) {
                assert_eq!(sha256_of(&fs::read(&path).unwrap()), sha256, "{}", path.display());
                counts.subjects += 1;
            }
        }
        for bundle in &published {
            counts.publications += 1;
            let data = bundle.materials().remove(&tree.join("data.csv")).flatten();
            let expected = sha256_of(&fs::read(tree.join("data.csv")).unwrap());
            assert_eq!(data, Some(expected), "what was read while the daemon was away is known");
        }
    }
}

fn is_of(bundle: &Bundle, tree: &Path) -> bool {
    bundle.artifact_root().starts_with(tree)
}

fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap();
    // It may have ended this moment.
    kill_process(pid, Signal::KILL).unwrap_or_default();
}
