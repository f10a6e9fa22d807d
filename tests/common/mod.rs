//! What several test programs need: a mount inside this process, and the facts that it tells.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may fail")]

mod require;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use attestfs_digest::Digests;
use attestfs_fs::{
    Backing, Directory, Fact, Identity, Inputs, KnownDigests, LeftOut, Limits, Mount, MountOptions,
    Recorder, Run, RunVersion, Scope,
};
use parking_lot::Mutex;
use rustix::{
    fs::{Mode, OFlags},
    mount::UnmountFlags,
};
use sha2::Digest;
use tempfile::TempDir;

use self::require::require;

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
                Fact::Hashed { version, .. } | Fact::NotHashed { version, .. } => {
                    found.contains(version)
                }
                Fact::Sealed { version, .. } | Fact::Unsealed { version, .. } => {
                    written.contains(version)
                }
                Fact::Gone { version } => written.remove(version),
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
                    let told: Vec<_> = paths.map(|path| (path.path, digests)).collect();
                    last.insert(version, told);
                }
                Fact::Gone { version } | Fact::Unsealed { version, .. } => {
                    last.remove(&version);
                }
                _ => {}
            }
        }
        last.into_values().flatten().collect()
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
        let directory = tempfile::tempdir().unwrap();
        let (store, mount) = (directory.path().join("store"), directory.path().join("mount"));
        fs::create_dir(&store).unwrap();
        fs::create_dir(&mount).unwrap();
        prepare(&store);
        let facts = Facts::default();
        let run = Run::start(Box::new(facts.clone()), Box::new(NothingKnown), inputs, limits);
        let root = rustix::fs::open(&store, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let backing = wrap(Arc::new(Directory::new(root)));
        let options = MountOptions {
            target: mount.clone(),
            tree: 0,
            stage: "test".to_owned(),
            run_id: "run-1".to_owned(),
            threads: 4,
        };
        let device = attestfs_fs::attach(&mount).unwrap();
        let mount = Mount::serve(Arc::clone(&run), backing, device, options).unwrap();
        Self { directory, mount: Some(mount), run, facts }
    }

    /// A path through the mount.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("mount").join(name)
    }

    /// The same file below the mount.
    pub(crate) fn stored(&self, name: &str) -> PathBuf {
        self.directory.path().join("store").join(name)
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
            rustix::mount::unmount(self.path(""), UnmountFlags::DETACH).unwrap();
            mount.join().unwrap();
        }
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
