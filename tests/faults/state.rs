//! The disk of the state directory fails at its n-th call: of the journal, the store, or what is published.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use attestfs_fs::{Inputs, Limits};

use crate::{
    common::Scratch,
    disk::Disk,
    evidence::{Bundle, INCOMPLETE_RUN, PROVENANCE, attestations, check_digests},
    fault::{Fault, Faults, Lasts},
    lab::{Ended, Finish, Lab},
    setting::number,
};

/// So many calls of a list are left out, one after another, where nobody asks for all.
const STRIDE: u64 = 151;

/// Rounds that share a state: what one spoilt, the next one would see.
const ROUNDS_OF_A_LAB: u64 = 8;

#[test]
fn whatever_call_of_the_state_s_disk_fails_nothing_is_published_that_is_not_whole_and_so() {
    let stride = number("ATTESTFS_FAULTS_STRIDE").unwrap_or(STRIDE);
    let first = number("ATTESTFS_FAULTS_FIRST").unwrap_or(1);
    let mut counts = Counts::default();
    // While the database is opened on a disk that fails for good, it may leave what it cannot open any more (daemon/LINEAGE.md).
    // That is tried by whoever asks for all, until it is mended.
    let faults = Fault::all().filter(|fault| stride == 1 || fault.lasts == Lasts::Once);
    for (offset, fault) in (0..).zip(faults) {
        let mut nth = first + offset * 19 % stride;
        let mut strikes = true;
        while strikes {
            let Some(scene) = Scene::new() else { return };
            for _ in 0..ROUNDS_OF_A_LAB {
                strikes = Round { fault, nth }.carry_out(&scene, &mut counts);
                if !strikes {
                    break;
                }
                nth += stride;
            }
        }
    }
    println!("{counts:#?}");
}

/// What was looked at.
#[derive(Debug, Default)]
struct Counts {
    /// By the call that failed first, and the code with which the run ended.
    ended: BTreeMap<&'static str, BTreeMap<i32, u64>>,
    successes: u64,
    incomplete_runs: u64,
    unattested: u64,
}

struct Round {
    fault: Fault,
    nth: u64,
}

/// A lab whose state lies on a disk that may fail: a mount of ours, of nobody's run. When the daemon has ended, the fields
/// go in this order: nothing is mounted in the lab any more when it is removed.
struct Scene {
    _state: Disk,
    disk: Scratch,
    faults: Faults,
    lab: Lab,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.lab.end_daemon();
    }
}

impl Scene {
    fn new() -> Option<Self> {
        let lab = Lab::new()?;
        let faults = Faults::default();
        let wrap = |store| faults.in_front_of(store);
        let mut disk = Scratch::with(|_| {}, Inputs::None, Limits::default(), wrap);
        disk.idle();
        fs::set_permissions(disk.path(""), fs::Permissions::from_mode(0o700)).unwrap();
        rustix::mount::mount_bind(disk.path(""), lab.state()).unwrap();
        let state = Disk::mounted(&lab.state());
        Some(Self { _state: state, disk, faults, lab })
    }

    /// Trains a model of two files from one, in a tree of its own.
    fn train(&self, tree: &str) -> Ended {
        fs::write(self.lab.directory(tree).join("data.csv"), format!("data of {tree}")).unwrap();
        let mut run = self.lab.run("train");
        run.args(["--dir", tree, "--out", "model", "--", "sh", "-ec", SCRIPT, tree]).finish()
    }

    /// The attestations of what was made in this tree.
    fn attestations(&self, tree: &str) -> Vec<Bundle> {
        let tree = fs::canonicalize(self.lab.path(tree)).unwrap();
        let state = self.disk.stored("");
        if !state.join("attestations").exists() {
            return Vec::new();
        }
        let all = attestations(&state).into_iter();
        all.filter(|bundle| bundle.artifact_root().starts_with(&tree)).collect()
    }
}

const SCRIPT: &str =
    "mkdir $0/model; cat $0/data.csv > $0/model/weights; cp $0/data.csv $0/model/copy";

impl Round {
    /// Whether so many calls were made.
    fn carry_out(&self, scene: &Scene, counts: &mut Counts) -> bool {
        let Self { fault, nth } = *self;
        let tree = format!("tree-{nth}");
        scene.lab.end_daemon();
        scene.faults.arm(fault, nth);
        let ended = scene.train(&tree);
        let struck = scene.faults.mend();
        let Some(call) = struck.first() else {
            assert_eq!(ended.code, Some(0), "{ended:?}");
            return false;
        };
        let told = format!("{fault}, call {nth}, {call}: {ended:?}");
        println!("{told}");
        let after = After { scene, tree: &tree, ended: &ended, told };
        after.check();
        after.check_is_usable();
        *counts.ended.entry(call).or_default().entry(ended.code.unwrap()).or_default() += 1;
        match after.check().as_deref() {
            Some(PROVENANCE) => counts.successes += 1,
            Some(_) => counts.incomplete_runs += 1,
            None => counts.unattested += 1,
        }
        true
    }
}

/// When nothing fails any more.
struct After<'a> {
    scene: &'a Scene,
    tree: &'a str,
    ended: &'a Ended,
    /// What happened.
    told: String,
}

impl After<'_> {
    /// Nobody has to mend anything by hand.
    fn check_is_usable(&self) {
        let Self { scene: Scene { lab, .. }, tree, told, .. } = self;
        let next = self.scene.train(&format!("{tree}-next"));
        assert_eq!(next.code, Some(0), "{told}\nnext: {next:?}");
        // A daemon that begins takes up what was left.
        lab.end_daemon();
        lab.attestfs(["status"]).succeed();
        lab.end_daemon();
    }

    /// What is published is whole, and so.
    ///
    /// # Returns
    /// As what it is.
    fn check(&self) -> Option<String> {
        let Self { scene: Scene { lab, .. }, tree, ended, told } = self;
        let found = self.scene.attestations(tree);
        assert!(found.len() <= 1, "{told}\n{found:?}");
        let kind = found.first().map(|bundle| bundle.predicate_type().to_owned());
        match ended.code {
            Some(0) => assert_eq!(kind.as_deref(), Some(PROVENANCE), "{told}"),
            Some(125) => assert!(ended.stderr.contains("attestfs: "), "{told}"),
            _ => panic!("{told}"),
        }
        for bundle in &found {
            self.check_attestation(bundle);
        }
        if lab.path(tree).join("model/model.sig").exists() {
            assert_eq!(kind.as_deref(), Some(PROVENANCE), "{told}");
            lab.verify(format!("{tree}/model")).succeed();
        }
        kind
    }

    fn check_attestation(&self, bundle: &Bundle) {
        let state = self.scene.disk.stored("");
        check_digests(&bundle.subjects(&state));
        if bundle.predicate_type() != PROVENANCE {
            return assert_eq!(bundle.predicate_type(), INCOMPLETE_RUN, "{}", self.told);
        }
        // A run that was lost is signed for by the daemon: the key went with it.
        bundle.check_signature(&self.scene.lab.public_key());
        let root = fs::canonicalize(self.scene.lab.path(self.tree)).unwrap();
        check_whole(bundle, &state, &root);
    }
}

/// A success says all that the run read and wrote.
fn check_whole(bundle: &Bundle, state: &Path, root: &Path) {
    let written: Vec<PathBuf> = bundle.subjects(state).into_keys().collect();
    assert_eq!(written, ["copy", "weights"].map(|name| root.join("model").join(name)));
    let mut read = bundle.materials();
    let data = read.remove(&root.join("data.csv")).flatten();
    let found = BTreeMap::from([(root.join("data.csv"), data.unwrap_or_default())]);
    assert!(read.is_empty(), "{read:?}");
    check_digests(&found);
}
