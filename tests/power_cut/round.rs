//! One cut.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    disk::Kind,
    evidence::{Bundle, PROVENANCE, attestations, files_below},
    lab::{ATTESTFS, Finish, Running, eventually},
    moments::Moments,
    mounted::{Mounted, attribute, mount},
    place::{Cut, Place},
    told::{Told, sha256_of},
};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    seed: u64,
    kind: Kind,
    cut: Cut,
    serving: Serving,
    capture: &'static str,
}

/// How the files are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Serving {
    /// By one `attestfs run` for each stage.
    Run,
    /// By one `attestfs mount`, on which stages are opened and closed.
    Mount,
}

/// What was looked at.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// By what was cut and how it was served.
    pub(crate) rounds: BTreeMap<String, u64>,
    pub(crate) stages_that_were_published: u64,
    pub(crate) their_files: u64,
    pub(crate) files_that_were_synced: u64,
    pub(crate) attestations: u64,
    pub(crate) subjects: u64,
    pub(crate) materials: u64,
    pub(crate) digests_shown: u64,
    pub(crate) verified: u64,
}

impl Round {
    pub(crate) fn of(seed: u64, kind: Kind) -> Self {
        let mut moments = Moments::of(seed);
        Self {
            seed,
            kind,
            cut: [Cut::One, Cut::Both, Cut::Store, Cut::State][usize::from(moments.pick(4))],
            serving: if moments.pick(2) == 0 { Serving::Run } else { Serving::Mount },
            capture: if moments.pick(3) == 0 { "reread" } else { "inline" },
        }
    }

    /// Whether it could be carried out here.
    pub(crate) fn carry_out(&self, counts: &mut Counts) -> bool {
        let Some(place) = Place::new(self.kind, self.cut) else { return false };
        *counts.rounds.entry(format!("{:?}, {:?}", self.cut, self.serving)).or_default() += 1;
        let mut scene = Scene { place, round: *self, told: Told::default(), seen: BTreeSet::new() };
        let mut moments = Moments::of(self.seed.wrapping_add(1 << 40));
        for cut in 0..CUTS {
            scene.work_until_the_power_goes(cut, &mut moments);
            scene.place.come_back();
            scene.check(cut, counts);
        }
        true
    }
}

/// Of one place: what a cut has left is what the next one meets.
const CUTS: u16 = 2;

/// The stages write to as many directories, one after the other.
const DIRECTORIES: u16 = 2;

struct Scene {
    place: Place,
    round: Round,
    told: Told,
    /// The statements that were looked at after an earlier cut.
    seen: BTreeSet<String>,
}

impl Scene {
    fn work_until_the_power_goes(&mut self, cut: u16, moments: &mut Moments) {
        if self.round.serving == Serving::Mount {
            self.serve();
        }
        let mut moments_left = 20 + moments.pick(800);
        for number in 0.. {
            let name = format!("stage-{cut}-{number}");
            let directory = format!("out-{}", number % DIRECTORIES);
            let mut stage =
                Running::start(&mut self.stage(&name, &directory, moments.pick(60_000)));
            while moments_left > 0 && !stage.has_ended() {
                moments_left -= 1;
                thread::sleep(MOMENT);
                self.write_something_down(moments);
            }
            if moments_left == 0 {
                let is_published = self.cut_in_the_middle_of(&mut stage, moments);
                return self.told.take(&self.telling(), &name, is_published);
            }
            assert_eq!(stage.code(), Some(0), "{}", self.said());
            self.told.take(&self.telling(), &name, true);
        }
    }

    /// Whether the stage was published in spite of it.
    fn cut_in_the_middle_of(&self, stage: &mut Running, moments: &mut Moments) -> bool {
        if moments.pick(2) == 0 {
            // What is known of the files is on the disk, and what is in them not yet.
            self.place.sync_directory();
            self.place.sync_state();
        }
        self.place.cut();
        // Some see that the disk is gone, and some have no time.
        thread::sleep(Duration::from_millis(moments.pick(300).into()));
        let is_published = stage.has_ended() && stage.code() == Some(0);
        if !is_published {
            stage.kill();
        }
        is_published
    }

    fn write_something_down(&self, moments: &mut Moments) {
        match moments.pick(40) {
            0 => self.place.sync_state(),
            1 => self.place.sync_directory(),
            _ => {}
        }
    }

    /// One stage, which ends with 0 when it is published.
    fn stage(&self, name: &str, directory: &str, seed: u16) -> Command {
        let lab = &self.place.lab;
        let capture = self.round.capture;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/power_cut/job.py");
        let job = |root: &str| {
            let (path, telling) = (lab.path(root).join(directory), self.telling());
            format!(
                "python3 -I -S {script} {} {directory} {} {seed}",
                path.display(),
                telling.display()
            )
        };
        let mut command = match self.round.serving {
            Serving::Run => {
                let mut run = lab.run(name);
                run.args(["--capture", capture, "--dir", "store", "--out", directory]);
                run.args(["--adopt", "--", "sh", "-c", &job("store")]);
                run
            }
            Serving::Mount => {
                let mut chain = lab.configured("sh");
                let open =
                    format!("{ATTESTFS} stage open --stage {name} --out {directory} --adopt mnt");
                let job = job("mnt");
                chain.args(["-ec", &format!("{open}; {job}; {ATTESTFS} stage close mnt")]);
                chain
            }
        };
        command.stdout(self.console()).stderr(self.console());
        command
    }

    /// Serves the store by one mount, in the background.
    fn serve(&self) {
        let lab = &self.place.lab;
        lab.directory("mnt");
        let options = ["--capture", self.round.capture, "--json"];
        mount(lab, "store", "mnt", &options).succeed();
    }

    fn telling(&self) -> PathBuf {
        self.place.lab.path("told")
    }

    fn console(&self) -> Stdio {
        let path = self.place.lab.path("console");
        File::options().create(true).append(true).open(path).unwrap().into()
    }

    fn said(&self) -> String {
        fs::read_to_string(self.place.lab.path("console")).unwrap_or_default()
    }

    fn stored(&self, path: &str) -> PathBuf {
        self.place.lab.path("store").join(path)
    }
}

/// What must be so when the power is there again.
impl Scene {
    fn check(&mut self, cut: u16, counts: &mut Counts) {
        self.check_files(counts);
        let reader = self.read_all(cut);
        self.check_what_is_shown(counts);
        self.check_that_it_verifies(counts);
        self.wait_for_commits();
        self.check_attestations(&reader, counts);
        self.place.lab.end_daemon();
    }

    /// Bytes of what was acknowledged.
    fn check_files(&self, counts: &mut Counts) {
        for (path, sha256) in self.told.synced() {
            assert_eq!(sha256_at(&self.stored(path)).as_ref(), Some(sha256), "{path} was synced");
            counts.files_that_were_synced += 1;
        }
        for (stage, files) in self.told.published() {
            counts.stages_that_were_published += 1;
            for (path, sha256) in files {
                let found = sha256_at(&self.stored(path));
                assert_eq!(found.as_ref(), Some(sha256), "{path} was published by {stage}");
                counts.their_files += 1;
            }
        }
    }

    /// A stage reads everything: what the state remembers of the files must be so.
    ///
    /// # Returns
    /// Its name.
    fn read_all(&self, cut: u16) -> String {
        let name = format!("reader-{cut}");
        let mut run = self.place.lab.run(&name);
        let script = "find . -name 'part-*' -type f -exec cat {} + >/dev/null; echo $1 >seen";
        run.args(["--dir", "store", "--out", "seen", "--", "sh", "-c"]);
        run.args([&format!("cd store; {script}"), "sh", &name]).succeed();
        name
    }

    fn check_what_is_shown(&self, counts: &mut Counts) {
        let mounted = Mounted::new(&self.place.lab, "store", "mnt", &[]);
        for stored in files_below(&self.stored("")) {
            let path = mounted.path.join(stored.strip_prefix(self.stored("")).unwrap());
            let shown = attribute(&path, "user.attestfs.sha256");
            if let Some(shown) = shown {
                assert_eq!(sha256_at(&stored), Some(shown), "{}", path.display());
                counts.digests_shown += 1;
            }
        }
        mounted.umount(&[]).succeed();
        mounted.wait_for_end();
    }

    fn check_that_it_verifies(&self, counts: &mut Counts) {
        let stages = self.told.published();
        let directories = stages.filter_map(|(_, files)| files.keys().next()?.split('/').next());
        let directories: BTreeSet<_> = directories.collect();
        for directory in directories {
            if !self.told.is_any_touched(directory) {
                self.place.lab.verify(self.stored(directory)).succeed();
                counts.verified += 1;
            }
        }
    }

    /// What the cut has left undone is done when nothing waits any more and the daemon has ended.
    fn wait_for_commits(&self) {
        eventually("no commit waits", || {
            let mut status = self.place.lab.attestfs(["status", "--json"]);
            let status: Value = serde_json::from_str(&status.succeed()).unwrap();
            status["daemon"]["pending"].as_array().is_none_or(Vec::is_empty)
        });
        self.place.lab.end_daemon();
    }

    /// What was published is so, and is there.
    fn check_attestations(&mut self, reader: &str, counts: &mut Counts) {
        let all = attestations(&self.place.lab.state());
        for bundle in &all {
            counts.attestations += 1;
            if bundle.predicate_type() == PROVENANCE {
                // What nobody ordered is signed by the key of the state.
                bundle.check_signature(&self.place.lab.public_key());
            }
            let statement = sha256_of(&bundle.payload);
            let is_told = self.told.published().any(|(stage, _)| stage == bundle.stage());
            // Of what was told, it is known what was touched since.
            if self.seen.insert(statement) && !is_told {
                self.check_subjects(bundle, counts);
            }
        }
        self.check_what_was_told(&all, counts);
        let reader = all.iter().find(|bundle| bundle.stage() == reader).unwrap();
        for (path, sha256) in reader.materials() {
            if let Some(sha256) = sha256 {
                assert_eq!(sha256_at(&path), Some(sha256), "{}", path.display());
                counts.materials += 1;
            }
        }
    }

    /// What was published before the cut is there, and known.
    fn check_what_was_told(&self, all: &[Bundle], counts: &mut Counts) {
        let listed = self.listed();
        for (stage, files) in self.told.published() {
            let of_stage = |bundle: &&Bundle| bundle.stage() == stage;
            let bundle = all.iter().find(of_stage).unwrap_or_else(|| panic!("{stage} is lost"));
            assert_eq!(bundle.predicate_type(), PROVENANCE, "{stage}");
            assert!(listed.contains(&sha256_of(&bundle.payload)), "{stage} is not known any more");
            let subjects = bundle.subjects(&self.place.lab.state());
            for (path, sha256) in files {
                // What it only moved is no output of it.
                let subject = subjects.get(&self.canonical(path));
                assert!(subject.is_none_or(|subject| subject == sha256), "{path} of {stage}");
                counts.subjects += u64::from(subject.is_some());
            }
        }
    }

    /// What was not told, but published, is so now: nobody has done anything since.
    fn check_subjects(&self, bundle: &Bundle, counts: &mut Counts) {
        for (path, sha256) in bundle.subjects(&self.place.lab.state()) {
            let (stage, kind) = (bundle.stage(), bundle.predicate_type());
            assert_eq!(sha256_at(&path), Some(sha256), "{} of {stage}, {kind}", path.display());
            counts.subjects += 1;
        }
    }

    fn canonical(&self, path: &str) -> PathBuf {
        fs::canonicalize(self.stored("")).unwrap().join(path)
    }

    /// The statements that the store knows.
    fn listed(&self) -> String {
        self.place.lab.attestfs(["attestation", "list", "--json", "--limit", "10000"]).succeed()
    }
}

fn sha256_at(path: &Path) -> Option<String> {
    fs::read(path).ok().map(|content| sha256_of(&content))
}

/// The power goes after so many.
const MOMENT: Duration = Duration::from_millis(5);
