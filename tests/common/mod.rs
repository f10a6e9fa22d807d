//! What several test programs need: a mount inside this process, and the facts that it tells.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may fail")]

pub(crate) mod require;
mod store;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, mem,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use attestfs_attestation::Policy;
use attestfs_digest::Digests;
use attestfs_fs::{
    Attachment, Backing, Capture, Clock, Directory, Fact, Gate, GateParts, Identity, Inputs,
    KnownDigests, LeftOut, Limits, Mount, MountError, MountOptions, Recorder, Run, RunVersion,
    Scope, TreePath,
};
use jiff::Timestamp;
use parking_lot::Mutex;
use rustix::{
    fs::{Mode, OFlags},
    mount::UnmountFlags,
};
use sha2::Digest;
use tempfile::TempDir;

use self::require::require;
pub(crate) use self::store::Store;

/// Whether this machine lets us mount.
pub(crate) fn can_mount() -> bool {
    let can = Path::new("/dev/fuse").exists() && rustix::process::geteuid().is_root();
    require(can, "root and /dev/fuse")
}

/// A directory and the mount that fronts it, side by side.
pub(crate) struct Scratch {
    directory: TempDir,
    mount: Option<Mount>,
    pub(crate) run: Arc<Run>,
    pub(crate) facts: Facts,
}

/// What the mount told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts(Arc<Mutex<Vec<Fact>>>);

impl Recorder for Facts {
    fn record(&self, fact: Fact) {
        self.0.lock().push(fact);
    }
}

impl Facts {
    pub(crate) fn all(&self) -> Vec<Fact> {
        self.0.lock().clone()
    }

    /// Facts must make sense one after the other: whoever reads them back refuses others.
    pub(crate) fn check_order(&self) {
        let (mut found, mut written) = (BTreeSet::new(), BTreeSet::new());
        for fact in self.all() {
            let told = match &fact {
                Fact::Opened { version, .. } => {
                    found.insert(*version) && !written.contains(version)
                }
                Fact::Written { version, .. } => {
                    written.insert(*version) && !found.contains(version)
                }
                Fact::OpenedAs { version, .. }
                | Fact::Hashed { version, .. }
                | Fact::NotHashed { version, .. } => found.contains(version),
                Fact::Sealed { version, .. }
                | Fact::Unsealed { version, .. }
                | Fact::AlsoNamed { version, .. } => written.contains(version),
                Fact::Gone { version } => written.remove(version),
                Fact::Refused { .. } | Fact::Removed { .. } => true,
            };
            assert!(told, "{fact:?} out of order in {:#?}", self.all());
        }
    }

    /// The digests of what the run wrote, by each of its paths, as the last facts tell them.
    pub(crate) fn sealed(&self) -> BTreeMap<String, Digests> {
        let mut last = BTreeMap::new();
        for fact in self.all() {
            match fact {
                Fact::Sealed { version, digests, path, also, .. } => {
                    let paths = path.into_iter().chain(also);
                    let told: Vec<_> = paths.map(|path| path.path).collect();
                    last.insert(version, (digests, told));
                }
                Fact::AlsoNamed { version, also } => {
                    if let Some((_, told)) = last.get_mut(&version) {
                        told.extend(also.into_iter().map(|path| path.path));
                    }
                }
                Fact::Gone { version } | Fact::Unsealed { version, .. } => {
                    last.remove(&version);
                }
                _ => {}
            }
        }
        let by_name = |(digests, names): (Digests, Vec<String>)| {
            names.into_iter().map(move |name| (name, digests))
        };
        last.into_values().flat_map(by_name).collect()
    }

    /// The materials by path, with their digests where they have one.
    pub(crate) fn materials(&self) -> BTreeMap<String, Option<Digests>> {
        let mut paths: BTreeMap<RunVersion, String> = BTreeMap::new();
        let mut materials = BTreeMap::new();
        for fact in self.all() {
            match fact {
                Fact::Opened { version, path, .. } => {
                    paths.insert(version, path.path.clone());
                    materials.insert(path.path, None);
                }
                Fact::Hashed { version, digests, .. } => {
                    materials.insert(paths[&version].clone(), Some(digests));
                }
                _ => {}
            }
        }
        materials
    }
}

/// A clock that stands still.
#[derive(Debug)]
pub(crate) struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        "2026-06-01T12:00:00Z".parse().unwrap()
    }
}

/// A store that knows no digests.
#[derive(Debug)]
pub(crate) struct NothingKnown;

impl KnownDigests for NothingKnown {
    fn known(&self, identities: &[Identity]) -> Vec<Option<Digests>> {
        vec![None; identities.len()]
    }
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self::with(|_| {}, Inputs::Opened, Limits::default(), |backing| backing)
    }

    /// `prepare` fills the backing directory before it is mounted; `wrap` may stand between the
    /// filesystem and its store.
    pub(crate) fn with(
        prepare: impl FnOnce(&Path),
        inputs: Inputs,
        limits: Limits,
        wrap: impl FnOnce(Arc<dyn Backing>) -> Arc<dyn Backing>,
    ) -> Self {
        let gate = |_store: &Path| (Gate::open(), Vec::new());
        Self::behind(gate, prepare, inputs, limits, wrap)
    }

    /// As [`Scratch::with`], behind the gate and with the places for outputs that `gate` makes for
    /// the backing directory.
    pub(crate) fn behind(
        gate: impl FnOnce(&Path) -> (Arc<Gate>, Vec<TreePath>),
        prepare: impl FnOnce(&Path),
        inputs: Inputs,
        limits: Limits,
        wrap: impl FnOnce(Arc<dyn Backing>) -> Arc<dyn Backing>,
    ) -> Self {
        let serve = |options: &mut MountOptions| {
            let (gate, replaceable) = gate(&options.origin);
            options.replaceable = replaceable;
            gate
        };
        Self::try_with(serve, prepare, inputs, limits, wrap).unwrap()
    }

    /// A mount that is to be read-only, though the kernel knows nothing of that.
    pub(crate) fn read_only(prepare: impl FnOnce(&Path)) -> Self {
        let serve = |options: &mut MountOptions| {
            options.read_only = true;
            Gate::open()
        };
        let backing = |backing| backing;
        Self::try_with(serve, prepare, Inputs::Opened, Limits::default(), backing).unwrap()
    }

    /// A mount that the kernel writes past.
    pub(crate) fn rereading() -> Self {
        let serve = |options: &mut MountOptions| {
            options.capture = Capture::Reread;
            Gate::open()
        };
        let backing = |backing| backing;
        Self::try_with(serve, |_| {}, Inputs::Opened, Limits::default(), backing).unwrap()
    }

    /// A mount that keeps no more than so many descriptors of files that nobody has open.
    pub(crate) fn keeping(descriptors: usize, prepare: impl FnOnce(&Path)) -> Self {
        let serve = |options: &mut MountOptions| {
            options.descriptors = descriptors;
            Gate::open()
        };
        let backing = |backing| backing;
        Self::try_with(serve, prepare, Inputs::Opened, Limits::default(), backing).unwrap()
    }

    /// `serve` changes the options of the mount and makes its gate.
    fn try_with(
        serve: impl FnOnce(&mut MountOptions) -> Arc<Gate>,
        prepare: impl FnOnce(&Path),
        inputs: Inputs,
        limits: Limits,
        wrap: impl FnOnce(Arc<dyn Backing>) -> Arc<dyn Backing>,
    ) -> Result<Self, MountError> {
        let directory = tempfile::tempdir().unwrap();
        let (store, mount) = (directory.path().join("store"), directory.path().join("mount"));
        fs::create_dir(&store).unwrap();
        fs::create_dir(&mount).unwrap();
        prepare(&store);
        let facts = Facts::default();
        let run = Run::start(Box::new(facts.clone()), Box::new(NothingKnown), inputs, limits);
        let root = rustix::fs::open(&store, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let backing = wrap(Arc::new(Directory::new(root)));
        let mut options = MountOptions {
            target: Some(mount.clone()),
            origin: store.clone(),
            read_only: false,
            sees_callers: true,
            mapped_users: false,
            sole_user: None,
            tree: 0,
            stage: "test".to_owned(),
            run_id: "run-1".to_owned(),
            passthrough: true,
            capture: capture(),
            replaceable: Vec::new(),
            threads: 4,
            descriptors: 1024,
        };
        let gate = serve(&mut options);
        // Not one of a run: processes that see such a mount take themselves for a part of that run.
        let source = store.clone().into_os_string();
        let attachment = Attachment { source, read_only: false, no_exec: false };
        let device = attestfs_fs::attach(&mount, &attachment).unwrap();
        let mount = Mount::serve(Arc::clone(&run), gate, backing, device, options);
        let mount = mount.inspect_err(|_| unmount(&directory, UnmountFlags::DETACH))?;
        Ok(Self { directory, mount: Some(mount), run, facts })
    }

    /// As [`Scratch::with`], where the publications of `store` are known, and this policy guards.
    pub(crate) fn beside(
        store: &Store,
        policy: Option<Policy>,
        prepare: impl FnOnce(&Path),
    ) -> Self {
        Self::try_beside(store, policy, prepare).unwrap()
    }

    /// As [`Scratch::beside`], where the policy may want what cannot be had.
    pub(crate) fn try_beside(
        store: &Store,
        policy: Option<Policy>,
        prepare: impl FnOnce(&Path),
    ) -> Result<Self, MountError> {
        let (source, clock) = (Box::new(store.clone()), Box::new(Noon));
        let gate = Gate::new(GateParts { policy, lock: None, source, clock });
        let backing = |backing| backing;
        Self::try_with(|_| gate, prepare, Inputs::Opened, Limits::default(), backing)
    }

    /// Unmounts it although somebody waits for it.
    pub(crate) fn abort(&mut self) {
        self.break_off().unwrap();
    }

    /// The same, and answers how it ended.
    pub(crate) fn break_off(&mut self) -> Result<(), MountError> {
        unmount(&self.directory, UnmountFlags::FORCE | UnmountFlags::DETACH);
        self.mount.take().unwrap().join()
    }

    /// Unmounts it, and waits until its threads have ended.
    pub(crate) fn end(&mut self) {
        unmount(&self.directory, UnmountFlags::empty());
        self.mount.take().unwrap().join().unwrap();
    }

    /// Begins another run on the living mount, and answers with the one that was on before.
    pub(crate) fn begin(&mut self, stage: &str) -> (Arc<Run>, Facts) {
        self.begin_with_outputs(stage, &[])
    }

    /// The same, and its outputs lie at or below these paths.
    pub(crate) fn begin_with_outputs(
        &mut self,
        stage: &str,
        outputs: &[&str],
    ) -> (Arc<Run>, Facts) {
        let facts = Facts::default();
        let (recorder, known) = (Box::new(facts.clone()), Box::new(NothingKnown));
        let run = Run::start(recorder, known, Inputs::Opened, Limits::default());
        self.pass_to(run, facts, stage, outputs)
    }

    /// Leaves the mount to nobody's run.
    pub(crate) fn idle(&mut self) -> (Arc<Run>, Facts) {
        let facts = Facts::default();
        self.pass_to(Run::idle(Box::new(facts.clone())), facts, "", &[])
    }

    fn pass_to(
        &mut self,
        run: Arc<Run>,
        facts: Facts,
        stage: &str,
        outputs: &[&str],
    ) -> (Arc<Run>, Facts) {
        let mount = self.mount.as_ref().unwrap();
        let output = |path: &&str| TreePath { tree: 0, path: (*path).to_owned() };
        let replaceable = outputs.iter().map(output).collect();
        mount.begin_run(Arc::clone(&run), stage.to_owned(), format!("run-{stage}"), replaceable);
        (mem::replace(&mut self.run, run), mem::replace(&mut self.facts, facts))
    }

    /// A path through the mount.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("mount").join(name)
    }

    /// The same file below the mount.
    pub(crate) fn stored(&self, name: &str) -> PathBuf {
        self.directory.path().join("store").join(name)
    }

    /// Takes the mount away by force, whoever has a file open.
    pub(crate) fn take_away(&mut self) -> Mount {
        let mount = self.mount.take().expect("it is mounted");
        unmount(&self.directory, UnmountFlags::FORCE | UnmountFlags::DETACH);
        mount.end_within(Duration::from_secs(20)).expect("it ends").unwrap();
        mount
    }

    /// Brings the run to rest and answers with what has no digest.
    pub(crate) fn quiesce(&self) -> Vec<LeftOut> {
        let left_out = self.run.quiesce(&Scope::Run, Duration::from_secs(20));
        let waited = self.run.wait_for_materials(&mut |_| ControlFlow::Continue(()));
        assert!(waited.is_continue());
        left_out
    }

    /// Brings the run to rest, and holds every digest that it told against the stored file.
    pub(crate) fn check_digests(&self) -> BTreeMap<String, Digests> {
        assert_eq!(self.quiesce(), []);
        self.facts.check_order();
        let sealed = self.facts.sealed();
        for (path, digests) in &sealed {
            assert_eq!(*digests, digests_of(&self.stored(path)), "{path}");
        }
        sealed
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(mount) = self.mount.take() {
            unmount(&self.directory, UnmountFlags::DETACH);
            mount.join().unwrap();
        }
    }
}

fn unmount(directory: &TempDir, flags: UnmountFlags) {
    rustix::mount::unmount(directory.path().join("mount"), flags).unwrap();
}

/// In which of the two ways all tests write: `ATTESTFS_TEST_CAPTURE=reread` for the one that is not the default.
#[expect(clippy::disallowed_methods, reason = "whoever runs the tests says so")]
fn capture() -> Capture {
    match std::env::var("ATTESTFS_TEST_CAPTURE").as_deref() {
        Ok("reread") => Capture::Reread,
        _ => Capture::Inline,
    }
}

/// The digests of a file by the plain libraries.
pub(crate) fn digests_of(path: &Path) -> Digests {
    let bytes = fs::read(path).unwrap();
    Digests {
        sha256: attestfs_digest::Sha256(sha2::Sha256::digest(&bytes).into()),
        blake3: attestfs_digest::Blake3(blake3::hash(&bytes).into()),
    }
}
