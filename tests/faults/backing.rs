//! The store behind a mount fails at its n-th call.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, panic,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use attestfs_digest::Digests;
use attestfs_fs::{Fact, Inputs, LeftOut, Limits, Scope};

use crate::{
    common::{Facts, Scratch, can_mount},
    fault::{Fault, Faults, Lasts},
    setting::number,
    stage::{Actor, Step, prepare},
    stored::{Entry, Tree, tree},
};

/// Of so many calls one fails, where nobody asks for all.
const STRIDE: u64 = 23;

#[test]
fn whatever_call_of_the_store_fails_the_caller_is_told_and_every_digest_is_of_what_is_stored() {
    if !can_mount() {
        return;
    }
    count_panics();
    let stride = number("ATTESTFS_FAULTS_STRIDE").unwrap_or(STRIDE);
    let first = number("ATTESTFS_FAULTS_FIRST").unwrap_or(1);
    let mut actor = Actor::new();
    let unharmed = Scene::new().carry_out(&mut actor, None);
    unharmed.check_is_whole();
    let mut counts = Counts::default();
    for (offset, fault) in (0..).zip(Fault::all()) {
        // Not the same calls with each.
        let mut nth = first + offset * 3 % stride;
        while (Round { fault, nth }).carry_out(&mut actor, &unharmed, &mut counts) {
            nth += stride;
        }
    }
    println!("{counts:#?}");
    assert_eq!(PANICS.load(Relaxed), 0, "something panicked");
}

/// What was looked at.
#[derive(Debug, Default)]
struct Counts {
    rounds: BTreeMap<String, u64>,
    /// By the call that failed first, and by the first step that was told.
    told: BTreeMap<&'static str, BTreeMap<String, u64>>,
    files_as_without_fault: u64,
    digests: u64,
    left_out: BTreeMap<String, u64>,
}

struct Round {
    fault: Fault,
    nth: u64,
}

impl Round {
    /// Whether the stage made so many calls.
    fn carry_out(&self, actor: &mut Actor, unharmed: &Outcome, counts: &mut Counts) -> bool {
        let outcome = Scene::new().carry_out(actor, Some(self));
        let Some(call) = outcome.struck.first() else { return false };
        println!("{}, call {}: {call}", self.fault, self.nth);
        outcome.check(self.fault, unharmed);
        *counts.rounds.entry(self.fault.to_string()).or_default() += 1;
        let told = outcome.first_told().map_or("nobody", |step| &step.name).to_owned();
        *counts.told.entry(call).or_default().entry(told).or_default() += 1;
        counts.files_as_without_fault += outcome.files_beyond_doubt(unharmed).count() as u64;
        counts.digests += outcome.sealed.len() as u64;
        for file in &outcome.left_out {
            *counts.left_out.entry(file.unsealed.to_string()).or_default() += 1;
        }
        true
    }
}

/// A mount in front of a store that may fail.
struct Scene {
    scratch: Scratch,
    faults: Faults,
}

/// What came of one stage.
#[derive(Debug)]
struct Outcome {
    steps: Vec<Step>,
    struck: Vec<&'static str>,
    /// Before the stage, and after it.
    found: Tree,
    stored: Tree,
    sealed: BTreeMap<String, Digests>,
    materials: BTreeMap<String, Option<Digests>>,
    /// What has no digest, by all of its names.
    unsealed: BTreeSet<String>,
    left_out: Vec<LeftOut>,
}

impl Scene {
    fn new() -> Self {
        let faults = Faults::default();
        let wrap = |store| faults.in_front_of(store);
        let scratch = Scratch::with(prepare, Inputs::Opened, Limits::default(), wrap);
        Self { scratch, faults }
    }

    fn carry_out(self, actor: &mut Actor, round: Option<&Round>) -> Outcome {
        let Self { scratch, faults } = &self;
        actor.enter(&scratch.path(""));
        let found = tree(&scratch.stored(""));
        if let Some(Round { fault, nth }) = round {
            faults.arm(*fault, *nth);
        }
        let steps = actor.act();
        let left_out = scratch.run.quiesce(&Scope::Run, PATIENCE);
        let struck = faults.mend();
        self.check_is_usable();
        let again = scratch.quiesce();
        assert!(again.iter().all(|file| left_out.contains(file)), "{left_out:?} {again:?}");
        scratch.facts.check_order();
        Outcome {
            steps,
            struck,
            found,
            stored: tree(&scratch.stored("")),
            sealed: scratch.facts.sealed(),
            materials: scratch.facts.materials(),
            unsealed: unsealed(&scratch.facts),
            left_out,
        }
    }

    /// When nothing fails any more.
    fn check_is_usable(&self) {
        let path = self.scratch.path("afterwards");
        fs::write(&path, "all is well").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"all is well");
        let listed = fs::read_dir(self.scratch.path("")).unwrap();
        assert!(listed.count() > 1);
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

impl Outcome {
    fn first_told(&self) -> Option<&Step> {
        self.steps.iter().find(|step| step.error.is_some())
    }

    /// What a step that was told an error concerned, and what others made of that.
    fn doubtful(&self) -> BTreeSet<&str> {
        let mut doubtful = BTreeSet::new();
        for Step { names, error, .. } in &self.steps {
            let names = || names.iter().map(String::as_str);
            if error.is_some() || names().any(|name| doubtful.contains(name)) {
                doubtful.extend(names());
            }
        }
        doubtful
    }

    /// All names, here and without fault, of what nobody was told an error about.
    fn files_beyond_doubt<'a>(&'a self, unharmed: &'a Self) -> impl Iterator<Item = &'a String> {
        let doubtful = self.doubtful();
        let names: BTreeSet<_> = self.stored.keys().chain(unharmed.stored.keys()).collect();
        let is_doubtful = move |name: &str| doubtful.contains(name.split('/').next().unwrap());
        names.into_iter().filter(move |name| !is_doubtful(name))
    }

    /// Nothing failed.
    fn check_is_whole(&self) {
        assert!(self.first_told().is_none(), "{:?}", self.steps);
        assert_eq!(self.left_out, []);
        self.check_digests();
        let written = self.stored.iter().filter(|(name, entry)| {
            entry.digests().is_some() && self.found.get(*name) != Some(entry)
        });
        for (name, _) in written {
            assert!(self.sealed.contains_key(name), "{name}");
        }
    }

    fn check(&self, fault: Fault, unharmed: &Self) {
        self.check_digests();
        self.check_materials();
        if let Some(step) = self.first_told() {
            let told = step.error.as_deref().unwrap();
            // A store in a mapping is told by a signal.
            assert!(told == fault.name() || told == "EFAULT", "{fault}: {step:?}");
        }
        for name in self.files_beyond_doubt(unharmed) {
            let (stored, expected) = (self.stored.get(name), unharmed.stored.get(name));
            assert_eq!(stored, expected, "{name} is lost and nobody was told: {self:?}");
            if self.sealed.contains_key(name) != unharmed.sealed.contains_key(name) {
                self.check_is_left_out(name, fault);
            }
        }
    }

    fn check_is_left_out(&self, name: &str, fault: Fault) {
        assert!(self.unsealed.contains(name), "{name} is left out and nobody says so: {self:?}");
        let was_handled = fault.lasts == Lasts::Once && self.first_told().is_some();
        assert!(!was_handled, "{name} is left out for what another one was told: {self:?}");
    }

    fn check_digests(&self) {
        for (name, digests) in &self.sealed {
            let stored = self.stored.get(name).and_then(Entry::digests);
            assert_eq!(stored.as_ref(), Some(digests), "{name}: {self:?}");
        }
    }

    /// What was read has the digest that it had, or none.
    fn check_materials(&self) {
        for (name, digests) in &self.materials {
            let found = self.found.get(name).and_then(Entry::digests);
            assert!(
                found.is_some() && (digests.is_none() || *digests == found),
                "{name}: {self:?}"
            );
        }
    }
}

/// The names of what the run wrote and has no digest, as the last facts tell them.
fn unsealed(facts: &Facts) -> BTreeSet<String> {
    let mut last = BTreeMap::new();
    for fact in facts.all() {
        match fact {
            Fact::Unsealed { version, path, also, .. } => {
                last.insert(version, path.into_iter().chain(also).collect::<Vec<_>>());
            }
            Fact::Sealed { version, .. } | Fact::Gone { version } => {
                last.remove(&version);
            }
            _ => {}
        }
    }
    last.into_values().flatten().map(|path| path.path).collect()
}

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Who serves a mount answers a panic with an error.
fn count_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Relaxed);
        before(panic);
    }));
}
