//! A mount and a plain directory, to which the same is done.

use std::{
    collections::BTreeMap,
    fmt::{self, Debug},
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use attestfs_fs::{Fact, Identity, Inputs, LeftOut, Limits, Run, Scope, Unsealed};
use parking_lot::Mutex;
use rustix::{io::Errno, mount::UnmountFlags};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    common::{Facts, Scratch, digests_of},
    deed::{Bytes, Deed, HANDS, Name},
    hand::{Answer, Hand},
    history::{History, Step},
    pool::POOL,
    reference::{Reference, content},
};

/// Where the mount is not as the plain directory is, or promises what is not so.
pub(crate) struct Difference(String);

impl Debug for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Goes through a history from a new mount to its end.
///
/// # Errors
/// A [`Difference`], with the steps that were taken up to it.
pub(crate) fn carry_out(history: &History) -> Result<(), Difference> {
    let (trial, steps) = (Trial::new(history.is_watched), history.steps.clone());
    let (mount, taken) = (trial.scratch.path(""), Arc::clone(&trial.taken));
    let (tell, told) = mpsc::channel();
    let worker = thread::spawn(move || {
        let result = trial.go_through(&steps);
        // Nobody listens any more when it took too long.
        tell.send(result).unwrap_or_default();
    });
    let result = told.recv_timeout(DEADLINE).unwrap_or_else(|error| {
        Err(Difference(match error {
            RecvTimeoutError::Disconnected => panic_of(worker),
            RecvTimeoutError::Timeout => {
                // Whoever waits for an answer is told that there is none.
                rustix::mount::unmount(&mount, UnmountFlags::FORCE | UnmountFlags::DETACH).unwrap();
                format!("no end after {DEADLINE:?}")
            }
        }))
    });
    result.map_err(|Difference(difference)| {
        let steps: Vec<String> = taken.lock().iter().map(|step| format!("{step:?}")).collect();
        Difference(format!(
            "{difference}\nis_watched: {}\n{}",
            history.is_watched,
            steps.join("\n")
        ))
    })
}

fn panic_of(worker: JoinHandle<()>) -> String {
    let panic = worker.join().expect_err("it would have told");
    let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
    format!("panicked: {text}")
}

struct Trial {
    // Dropped first: who has a file open keeps the mount.
    hands: Vec<Hand>,
    onlooker: Option<Hand>,
    scratch: Scratch,
    /// Holds the plain directory, and the pool for the processes.
    place: TempDir,
    reference: Reference,
    /// The runs of the mount that have ended.
    ended: Vec<(Arc<Run>, Facts)>,
    /// As they could be taken.
    taken: Arc<Mutex<Vec<Step>>>,
}

impl Trial {
    fn new(is_watched: bool) -> Self {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join(POOL_FILE), &*POOL).unwrap();
        fs::create_dir(place.path().join(PLAIN)).unwrap();
        furnish(&place.path().join(PLAIN));
        let scratch = Scratch::with(furnish, Inputs::Opened, Limits::default(), |backing| backing);
        let (hands, onlooker, ended, taken) = (Vec::new(), None, Vec::new(), Arc::default());
        let reference = Reference::furnished(&FOUND);
        let mut trial = Self { hands, onlooker, scratch, place, reference, ended, taken };
        trial.hands = (0..HANDS).map(|_| trial.hand()).collect();
        trial.onlooker = is_watched.then(|| {
            let mut onlooker = trial.hand();
            onlooker.look_on(&trial.scratch.path(""));
            onlooker
        });
        trial
    }

    fn hand(&self) -> Hand {
        let pool = self.place.path().join(POOL_FILE);
        Hand::start(&pool, &[&self.plain(), &self.scratch.path("")])
    }

    fn plain(&self) -> PathBuf {
        self.place.path().join(PLAIN)
    }

    fn go_through(mut self, steps: &[Step]) -> Result<(), Difference> {
        for step in steps {
            if let Some(step) = self.fitted(*step) {
                self.taken.lock().push(step);
                self.take(step)?;
            }
        }
        self.finish()
    }

    fn fitted(&self, step: Step) -> Option<Step> {
        match step {
            Step::Do(deed) => Some(Step::Do(self.reference.fitted(deed)?)),
            step => Some(step),
        }
    }

    fn take(&mut self, step: Step) -> Result<(), Difference> {
        match step {
            Step::Do(deed) => return self.compare(deed),
            Step::Kill(number) => {
                self.hands[number] = self.hand();
                self.reference.close_where(|slot| slot % HANDS == number);
            }
            Step::Rest => {
                self.scratch.run.quiesce(&Scope::Run, Duration::ZERO);
                return self.check_facts(&self.scratch.facts);
            }
            Step::Begin => {
                let ended = self.scratch.begin("next");
                self.ended.push(ended);
                self.reference.begin(Some(self.ended.len()));
            }
            Step::Idle => {
                let ended = self.scratch.idle();
                self.ended.push(ended);
                self.reference.begin(None);
            }
            Step::Forget => fs::write("/proc/sys/vm/drop_caches", b"2").unwrap(),
        }
        Ok(())
    }

    /// Does it in the plain directory, in memory and through the mount.
    fn compare(&mut self, deed: Deed) -> Result<(), Difference> {
        let (plain, mount) = (self.plain(), self.scratch.path(""));
        let hand = &mut self.hands[deed.hand()];
        let mut do_in = |tree: &Path| {
            let died = || Difference(format!("{deed:?} killed who did it in {}", tree.display()));
            hand.do_in(tree, &deed).ok_or_else(died)
        };
        let (real, mounted) = (do_in(&plain)?, do_in(&mount)?);
        // What no file system below can do is done nowhere.
        let expected = if real == Err(Errno::NOTSUP) {
            Err(Errno::NOTSUP)
        } else {
            self.reference.apply(deed)
        };
        equal(
            "in memory and in a plain directory",
            &expected,
            &comparable(real, &expected),
            &deed,
        )?;
        equal("in memory and through the mount", &expected, &comparable(mounted, &expected), &deed)
    }

    /// Ends the processes, and looks at what is left.
    fn finish(mut self) -> Result<(), Difference> {
        self.hands.clear();
        self.reference.close_where(|_| true);
        self.onlooker = None;
        let outputs = self.reference.outputs();
        self.come_to_rest(&self.scratch.run, &self.scratch.facts, &outputs)?;
        for (run, facts) in &self.ended {
            self.come_to_rest(run, facts, &[])?;
        }
        self.check_trees()?;
        self.check_outputs()
    }

    /// A run leaves nothing out, or else what other runs have changed, which these outputs are not.
    fn come_to_rest(&self, run: &Run, facts: &Facts, outputs: &[String]) -> Result<(), Difference> {
        for LeftOut { path, unsealed } in run.quiesce(&Scope::Run, PATIENCE) {
            // The other run may have been faster than the hashing.
            let is_changed = matches!(unsealed, Unsealed::ChangedBelow | Unsealed::Unreadable(_));
            if !is_changed || outputs.contains(&path.path) {
                return Err(Difference(format!("{path} is left out: {unsealed}")));
            }
        }
        self.check_facts(facts)
    }

    /// Facts come in order, and no digest is wrong that was told of what the store holds now.
    fn check_facts(&self, facts: &Facts) -> Result<(), Difference> {
        facts.check_order();
        let mut stored = Vec::new();
        for name in self.reference.files() {
            let path = self.scratch.stored(&name);
            // What others do who have it open may not be stored yet.
            let before = identity(&path);
            let digests = digests_of(&path);
            stored.extend((before == identity(&path)).then_some((before, digests, name)));
        }
        for fact in facts.all() {
            let (Fact::Sealed { identity, digests, .. } | Fact::Hashed { identity, digests, .. }) =
                fact
            else {
                continue;
            };
            for (_, of_store, name) in stored.iter().filter(|(known, ..)| *known == identity) {
                equal("stored and told", of_store, &digests, name)?;
            }
        }
        Ok(())
    }

    /// Through the mount, below it, in a plain directory and in memory is the same.
    fn check_trees(&self) -> Result<(), Difference> {
        let expected = self.reference.tree();
        let (plain, store, mount) = (self.plain(), self.scratch.stored(""), self.scratch.path(""));
        for (tree, root) in [("plain", &plain), ("store", &store), ("mount", &mount)] {
            let mut found = BTreeMap::new();
            collect(root, "", &mut found);
            equal("in memory and on disk", &expected, &found, &tree)?;
        }
        for name in expected.keys() {
            let number = |root: &Path| fs::symlink_metadata(root.join(name)).unwrap().ino();
            equal("numbers of inodes", &number(&store), &number(&mount), name)?;
        }
        Ok(())
    }

    /// What the last run wrote is sealed with its digests.
    fn check_outputs(&self) -> Result<(), Difference> {
        let sealed = self.scratch.facts.sealed();
        for name in self.reference.outputs() {
            let digests = digests_of(&self.scratch.stored(&name));
            equal("stored and told", &Some(&digests), &sealed.get(&name), &name)?;
            let mut state = [0; 64];
            let path = self.scratch.path(&name);
            let length =
                rustix::fs::getxattr(&path, "user.attestfs.state", &mut state[..]).unwrap();
            equal("states", &"sealed", &str::from_utf8(&state[..length]).unwrap(), &name)?;
        }
        Ok(())
    }
}

fn equal<T: Debug + PartialEq>(
    what: &str,
    one: &T,
    other: &T,
    of: &dyn Debug,
) -> Result<(), Difference> {
    if one == other {
        return Ok(());
    }
    Err(Difference(format!("{what}, of {of:?}:\n  {one:?}\n  {other:?}")))
}

/// Without the time of modification where that is not known.
fn comparable(mut answer: Answer, expected: &Answer) -> Answer {
    let is_known = expected.as_ref().is_ok_and(|expected| expected.get("modified").is_some());
    if !is_known && let Ok(Value::Object(shown)) = &mut answer {
        shown.remove("modified");
    }
    answer
}

fn identity(path: &Path) -> Identity {
    Identity::of(fs::File::open(path).unwrap()).unwrap()
}

/// As [`Reference::tree`] tells it.
fn collect(directory: &Path, prefix: &str, tree: &mut BTreeMap<String, Value>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        let (path, metadata) = (entry.path(), entry.metadata().unwrap());
        let mode = metadata.permissions().mode() & 0o7777;
        let (size, links) = (metadata.len(), metadata.nlink());
        if metadata.is_dir() {
            collect(&path, &format!("{name}/"), tree);
            tree.insert(name, json!({"kind": "directory", "mode": mode}));
        } else if metadata.is_symlink() {
            let target = fs::read_link(path).unwrap();
            tree.insert(
                name,
                json!({"kind": "link", "mode": mode, "size": size, "links": links, "target": target}),
            );
        } else {
            let content = content(&fs::read(path).unwrap());
            tree.insert(
                name,
                json!({"kind": "file", "mode": mode, "size": size, "links": links, "content": content}),
            );
        }
    }
}

fn furnish(root: &Path) {
    for directory in ["d", "e"] {
        fs::create_dir(root.join(directory)).unwrap();
        fs::set_permissions(root.join(directory), fs::Permissions::from_mode(0o755)).unwrap();
    }
    for (name, bytes) in FOUND {
        fs::write(root.join(name), bytes.of_pool()).unwrap();
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
}

/// What is there before anything happens.
const FOUND: [(Name, Bytes); 2] =
    [("a", Bytes { start: 0, length: 200_000 }), ("d/a", Bytes { start: 1, length: 2_500_001 })];

const POOL_FILE: &str = "pool";

const PLAIN: &str = "plain";

/// Many times what any history takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(90);

/// As long a commit waits for those who close files.
const PATIENCE: Duration = Duration::from_secs(20);
