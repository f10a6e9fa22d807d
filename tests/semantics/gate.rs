//! What may be read, and what may be changed.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may fail")]
#![expect(clippy::disallowed_methods, reason = "some tests look at how long something takes")]

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read, Write},
    os::{
        fd::AsRawFd,
        unix::{
            fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink},
            process::ExitStatusExt,
        },
    },
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use attestfs_attestation::{
    Attestations, Bundle, BundleError, Lock, Locked, Policy, Publication, Publications, SigningKey,
    Unavailable, WrittenLock,
};
use attestfs_digest::Sha256;
use attestfs_fs::{
    BundleSource, Fact, Gate, GateParts, Identity, Inputs, Limits, Maker, PublishedFile, TreePath,
    Unsealed,
};
use rustix::{
    fs::{FallocateFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT},
    io::Errno,
    process::Signal,
};

use sha2::Digest;

use crate::common::{Noon, Scratch, Store, can_mount, digests_of};

/// A mount with a policy, and a store to publish in.
pub(crate) struct Lab {
    store: Store,
    pub(crate) key: SigningKey,
    pub(crate) scratch: Scratch,
}

impl Lab {
    /// Guards `*.pt` at this level. The backing directory holds these files.
    pub(crate) fn guarding(level: &str, files: &[(&str, &[u8])]) -> Self {
        let rule = format!("[[rule]]\npaths = [\"**/*.pt\"]\nlevel = \"{level}\"\n");
        Self::with("enforce", &rule, files)
    }

    pub(crate) fn with(mode: &str, rules: &str, files: &[(&str, &[u8])]) -> Self {
        let (store, key) = (Store::default(), SigningKey::generate().unwrap());
        let policy = policy(&key, mode, rules);
        let scratch = Scratch::beside(&store, Some(policy), |root| fill(root, files));
        Self { store, key, scratch }
    }

    /// Publishes files of the backing directory, as they are now.
    pub(crate) fn publish(&self, names: &[&str]) {
        self.store.publish(&self.key, "train", &root(&self.scratch), names);
    }

    /// Attests a file that another machine published: here its inode is like any other.
    pub(crate) fn publish_elsewhere(&self, name: &str) {
        let root = root(&self.scratch);
        let claims = Store::claims(&self.key, &root, &[name]);
        fs::write(root.join("claims.jsonl"), claims).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.scratch.path(name))
    }

    pub(crate) fn assert_refused(&self, name: &str) {
        assert_eq!(kind(self.read(name)), ErrorKind::PermissionDenied, "{name}");
    }

    /// Path, number of the check and reason of each refusal that was told.
    pub(crate) fn refusals(&self) -> Vec<(String, u8, String)> {
        refusals(&self.scratch)
    }
}

/// The backing directory, as statements spell it.
fn root(scratch: &Scratch) -> PathBuf {
    scratch.stored("any").parent().unwrap().to_owned()
}

fn refusals(scratch: &Scratch) -> Vec<(String, u8, String)> {
    let told = scratch.facts.all().into_iter().filter_map(|fact| match fact {
        Fact::Refused { path, check, reason, .. } => Some((path.path, check, reason)),
        _ => None,
    });
    told.collect()
}

pub(crate) fn gate_with(
    policy: Option<Policy>,
    lock: Option<Lock>,
    source: Box<dyn BundleSource>,
) -> Arc<Gate> {
    Gate::new(GateParts { policy, lock, source, clock: Box::new(Noon) })
}

/// Outputs go to these directories.
pub(crate) fn behind(gate: Arc<Gate>, outputs: &[&str], files: &[(&str, &[u8])]) -> Scratch {
    let output = |path: &&str| TreePath { tree: 0, path: (*path).to_owned() };
    Scratch::behind(
        |_| (gate, outputs.iter().map(output).collect()),
        |root| fill(root, files),
        Inputs::Opened,
        Limits::default(),
        |backing| backing,
    )
}

pub(crate) fn policy(key: &SigningKey, mode: &str, rules: &str) -> Policy {
    let signers = "[signers.trainer]\nkey = \"trainer.pub\"";
    let text = format!("version = 1\nmode = \"{mode}\"\n{signers}\n{rules}");
    let pem = key.verifying_key().to_pem();
    Policy::parse(&text, &mut |_file| Ok(pem.clone().into_bytes())).unwrap()
}

fn fill(root: &Path, files: &[(&str, &[u8])]) {
    for (name, bytes) in files {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), bytes).unwrap();
    }
}

/// The kernel tells of a close when it has time.
pub(crate) fn eventually(mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(5));
    }
}

fn kind<T>(result: io::Result<T>) -> ErrorKind {
    result.err().unwrap().kind()
}

pub(crate) fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().unwrap().raw_os_error()
}

/// `truncate(2)`, which no library here offers without unsafe code.
pub(crate) fn truncate(path: &Path, length: u64) -> io::Result<()> {
    let program = "truncate($ARGV[0], $ARGV[1]) or exit($! + 0)";
    let mut perl = Command::new("perl");
    let ended = perl.args(["-e", program]).arg(path).arg(length.to_string()).status()?;
    match ended.code() {
        Some(0) => Ok(()),
        code => Err(io::Error::from_raw_os_error(code.unwrap())),
    }
}

pub(crate) fn append(path: &Path) -> io::Result<File> {
    File::options().append(true).open(path)
}

pub(crate) fn read_write(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).open(path)
}

const EPERM: Option<i32> = Some(Errno::PERM.raw_os_error());

const GROUP: usize = 64 * 1024;

#[test]
fn a_guarded_file_that_nobody_vouches_for_is_not_read() {
    if !can_mount() {
        return;
    }
    for level in ["stat", "rehash", "per-read"] {
        let lab = Lab::guarding(level, &[("model/w.pt", b"weights")]);
        let path = lab.scratch.path("model/w.pt");
        lab.assert_refused("model/w.pt");
        assert_eq!(kind(read_write(&path)), ErrorKind::PermissionDenied);
        assert_eq!(errno(truncate(&path, 3)), Some(Errno::ACCESS.raw_os_error()));
        assert_eq!(fs::read(lab.scratch.stored("model/w.pt")).unwrap(), b"weights");
    }
}

#[test]
fn names_keep_resolving_when_a_file_is_refused() {
    if !can_mount() {
        return;
    }
    let lab = Lab::guarding("rehash", &[("w.pt", b"weights")]);
    lab.assert_refused("w.pt");
    assert_eq!(fs::metadata(lab.scratch.path("w.pt")).unwrap().len(), 7);
    let names = fs::read_dir(lab.scratch.path("")).unwrap();
    assert_eq!(names.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>(), ["w.pt"]);
    fs::rename(lab.scratch.path("w.pt"), lab.scratch.path("moved.pt")).unwrap();
    fs::remove_file(lab.scratch.path("moved.pt")).unwrap();
}

#[test]
fn a_refusal_is_told_with_its_reason_when_it_happens() {
    if !can_mount() {
        return;
    }
    let lab = Lab::guarding("rehash", &[("w.pt", b"weights")]);
    lab.assert_refused("w.pt");
    // Tried again at once it is not told again: the clock of this test stands still.
    lab.assert_refused("w.pt");
    let [Fact::Refused { path, sha256, check, reason, next_step, enforced, by }] =
        &lab.scratch.facts.all()[..]
    else {
        panic!("{:?}", lab.scratch.facts.all());
    };
    assert_eq!((path.path.as_str(), *check, *enforced), ("w.pt", 1, true));
    assert_eq!(*sha256, Some(digests_of(&lab.scratch.stored("w.pt")).sha256));
    assert!(reason.contains("no attestation"), "{reason}");
    assert!(!next_step.is_empty());
    assert_eq!(by.pid, Some(process::id()));
}

#[test]
fn an_attested_file_is_read_and_what_the_gate_hashed_is_not_hashed_again() {
    if !can_mount() {
        return;
    }
    for level in ["stat", "rehash", "per-read"] {
        let lab = Lab::guarding(level, &[("model/w.pt", b"weights")]);
        lab.publish(&["model/w.pt"]);
        assert_eq!(lab.read("model/w.pt").unwrap(), b"weights", "{level}");
        assert_eq!(lab.refusals(), []);
        assert_eq!(lab.read("model/w.pt").unwrap(), b"weights", "again");
    }
    let (store, key) = (Store::default(), SigningKey::generate().unwrap());
    let policy = policy(&key, "enforce", "[[rule]]\npaths = [\"**\"]\nlevel = \"rehash\"");
    let gate = gate_with(Some(policy), None, Box::new(store.clone()));
    let prepare = |root: &Path| fill(root, &[("w.pt", b"weights")]);
    let backing = |backing| backing;
    let limits = Limits::default();
    let scratch = Scratch::behind(|_| (gate, Vec::new()), prepare, Inputs::None, limits, backing);
    store.publish(&key, "train", &root(&scratch), &["w.pt"]);
    assert_eq!(fs::read(scratch.path("w.pt")).unwrap(), b"weights");
    // Nobody else was to hash it.
    let digests = digests_of(&scratch.stored("w.pt"));
    assert_eq!(scratch.facts.materials()["w.pt"], Some(digests));
}

#[test]
fn what_was_admitted_is_judged_again_when_something_may_speak_against_it() {
    if !can_mount() {
        return;
    }
    let lab = Lab::guarding("rehash", &[("a.pt", b"1"), ("b.pt", b"2"), ("other", b"3")]);
    let attest = |name: &str| lab.store.attest(&lab.key, &root(&lab.scratch), &[name]);
    lab.publish(&["a.pt"]);
    lab.read("a.pt").unwrap();
    let searches = lab.store.searches();
    attest("other");
    lab.read("a.pt").unwrap();
    assert_eq!(lab.store.searches(), searches, "nothing speaks against it");
    lab.publish(&["other"]);
    lab.read("a.pt").unwrap();
    assert!(lab.store.searches() > searches);
    lab.assert_refused("b.pt");
    attest("other");
    lab.assert_refused("b.pt");
    attest("b.pt");
    assert_eq!(
        lab.read("b.pt").unwrap(),
        b"2",
        "a refusal counts no longer than nothing is published"
    );
}

#[test]
fn what_no_rule_has_is_read_as_ever() {
    if !can_mount() {
        return;
    }
    let lab = Lab::guarding("rehash", &[("notes.txt", b"text"), ("w.pt.bak", b"old")]);
    assert_eq!(lab.read("notes.txt").unwrap(), b"text");
    assert_eq!(lab.read("w.pt.bak").unwrap(), b"old");
    assert_eq!(lab.refusals(), []);
}

#[test]
fn what_a_rule_refuses_is_refused_whoever_vouches_for_it() {
    if !can_mount() {
        return;
    }
    let rules = "[[rule]]\npaths = [\"*.pkl\"]\nrefuse = \"pickle runs code\"\n
                 [[rule]]\npaths = [\"**\"]\nlevel = \"rehash\"";
    let lab = Lab::with("enforce", rules, &[("model.pkl", b"code")]);
    lab.publish(&["model.pkl"]);
    lab.assert_refused("model.pkl");
    let [(_, 11, reason)] = &lab.refusals()[..] else { panic!("{:?}", lab.refusals()) };
    assert!(reason.contains("pickle runs code"), "{reason}");
    let unread = |fact| matches!(fact, Fact::Refused { sha256: None, .. });
    assert!(lab.scratch.facts.all().into_iter().all(unread));
}

#[test]
fn a_guarded_file_of_a_huge_hole_is_refused_and_never_a_hang() {
    if !can_mount() {
        return;
    }
    let lab = Lab::guarding("rehash", &[]);
    File::create(lab.scratch.stored("w.pt")).unwrap().set_len(1 << 40).unwrap();
    lab.assert_refused("w.pt");
    assert!(lab.refusals()[0].2.contains("sparse"), "{:?}", lab.refusals());
}

#[test]
fn at_level_stat_and_rehash_a_change_below_is_seen_at_the_next_open() {
    if !can_mount() {
        return;
    }
    for level in ["stat", "rehash"] {
        let lab = Lab::guarding(level, &[("w.pt", b"weights")]);
        lab.publish(&["w.pt"]);
        assert_eq!(lab.read("w.pt").unwrap(), b"weights");
        change_and_keep_mtime(&lab.scratch.stored("w.pt"), b"Weights");
        lab.assert_refused("w.pt");
        fs::write(lab.scratch.stored("w.pt"), b"weights").unwrap();
        assert_eq!(lab.read("w.pt").unwrap(), b"weights", "what was attested is back");
    }
}

/// As whoever wants to hide it would.
fn change_and_keep_mtime(path: &Path, bytes: &[u8]) {
    let before = fs::metadata(path).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    let then = Timespec { tv_sec: before.mtime(), tv_nsec: before.mtime_nsec() };
    let keep = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let times = Timestamps { last_access: keep, last_modification: then };
    rustix::fs::futimens(&file, &times).unwrap();
    assert_eq!(file.metadata().unwrap().mtime_nsec(), before.mtime_nsec());
}

#[test]
fn at_level_stat_the_digest_of_what_was_published_here_is_believed_and_at_rehash_it_is_not() {
    if !can_mount() {
        return;
    }
    for (level, read) in [("stat", true), ("rehash", false)] {
        let lab = Lab::guarding(level, &[("w.pt", b"weights")]);
        lab.publish(&["w.pt"]);
        // As if the disk had lost a bit: the store knows this identity by other bytes.
        fs::write(lab.scratch.stored("w.pt"), b"wEights").unwrap();
        lab.store.mistake(&lab.scratch.stored("w.pt"));
        assert_eq!(lab.read("w.pt").is_ok(), read, "{level}");
    }
}

#[test]
fn at_level_per_read_a_change_below_is_seen_at_once() {
    if !can_mount() {
        return;
    }
    let content = vec![7; 40 * GROUP + 5];
    let lab = Lab::guarding("per-read", &[("w.pt", &content)]);
    lab.publish(&["w.pt"]);
    let file = File::open(lab.scratch.path("w.pt")).unwrap();
    let mut first = [0; 10];
    file.read_exact_at(&mut first, 0).unwrap();
    assert_eq!(first, [7; 10]);
    change_and_keep_mtime_at(&lab.scratch.stored("w.pt"), 30 * GROUP + 1);
    let mut bytes = vec![0; GROUP];
    let read = file.read_exact_at(&mut bytes, 30 * GROUP as u64);
    assert_eq!(errno(read), Some(Errno::IO.raw_os_error()));
    let other = file.read_exact_at(&mut bytes, 20 * GROUP as u64);
    assert!(other.is_ok() && bytes == vec![7; GROUP], "what did not change is read");
    let [(path, 8, _)] = &lab.refusals()[..] else { panic!("{:?}", lab.refusals()) };
    assert_eq!(path, "w.pt");
    lab.assert_refused("w.pt");
}

fn change_and_keep_mtime_at(path: &Path, place: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[place] ^= 1;
    change_and_keep_mtime(path, &bytes);
}

/// The kernel would keep pages of what it reads through us.
#[test]
fn published_content_is_read_by_the_kernel_itself() {
    if !can_mount() {
        return;
    }
    for published in [true, false] {
        let lab = Lab::guarding("rehash", &[("w.pt", &vec![7; 4 * GROUP])]);
        if published {
            lab.publish(&["w.pt"]);
        } else {
            lab.publish_elsewhere("w.pt");
        }
        let file = File::open(lab.scratch.path("w.pt")).unwrap();
        let byte = || {
            let mut byte = [0];
            file.read_exact_at(&mut byte, GROUP as u64).unwrap();
            byte[0]
        };
        assert_eq!(byte(), 7);
        change_and_keep_mtime_at(&lab.scratch.stored("w.pt"), GROUP);
        assert_eq!(byte(), if published { 6 } else { 7 });
    }
}

#[test]
fn what_grew_or_shrank_below_is_read_to_its_end_at_the_next_open() {
    if !can_mount() {
        return;
    }
    for level in ["stat", "rehash", "per-read"] {
        let lab = Lab::guarding(level, &[("w.pt", &[7; 100])]);
        for length in [100, 5000, 90, 3 * GROUP, 2 * GROUP + 1, 4 * GROUP] {
            // The kernel goes by what it is told now for a second.
            fs::metadata(lab.scratch.path("w.pt")).unwrap();
            fs::write(lab.scratch.stored("w.pt"), vec![8; length]).unwrap();
            lab.publish_elsewhere("w.pt");
            assert!(lab.read("w.pt").unwrap() == vec![8; length], "{length} at {level}");
        }
    }
}

#[test]
fn who_is_refused_to_open_a_file_and_empty_it_has_emptied_nothing() {
    if !can_mount() {
        return;
    }
    let mut lab = Lab::guarding("stat", &[("w.bin", &vec![7; 4 * GROUP])]);
    lab.publish(&["w.bin"]);
    let path = lab.scratch.path("w.bin");
    // Whoever may not change it reads it past us.
    let reader = File::open(&path).unwrap();
    lab.scratch.begin_with_outputs("replaces", &["w.bin"]);
    let mut empties = File::options();
    empties.read(true).write(true).truncate(true);
    assert_eq!(errno(empties.open(&path)), Some(Errno::TXTBSY.raw_os_error()));
    assert_eq!(fs::metadata(lab.scratch.stored("w.bin")).unwrap().len(), 4 * GROUP as u64);
    assert_eq!(lab.scratch.quiesce(), []);
    assert!(lab.scratch.facts.sealed().is_empty());
    drop(reader);
    empties.open(&path).unwrap();
    assert_eq!(fs::metadata(lab.scratch.stored("w.bin")).unwrap().len(), 0);
}

#[test]
fn who_opens_for_a_change_waits_for_readers_past_us_to_close() {
    if !can_mount() {
        return;
    }
    let mut lab = Lab::guarding("stat", &[("w.bin", &vec![7; 4 * GROUP])]);
    lab.publish(&["w.bin"]);
    let path = lab.scratch.path("w.bin");
    let reader = File::open(&path).unwrap();
    lab.scratch.begin_with_outputs("replaces", &["w.bin"]);
    let closes = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        drop(reader);
    });
    File::options().read(true).write(true).truncate(true).open(&path).unwrap();
    closes.join().unwrap();
}

#[test]
fn at_level_per_read_a_file_that_grows_or_shrinks_below_is_not_read_to_another_end() {
    if !can_mount() {
        return;
    }
    for length in [GROUP - 1, GROUP + 1, 3 * GROUP] {
        let lab = Lab::guarding("per-read", &[("w.pt", &vec![7; GROUP])]);
        lab.publish(&["w.pt"]);
        let mut file = File::open(lab.scratch.path("w.pt")).unwrap();
        let stored = File::options().write(true).open(lab.scratch.stored("w.pt")).unwrap();
        stored.set_len(length as u64).unwrap();
        let mut bytes = Vec::new();
        let read = file.read_to_end(&mut bytes);
        assert_eq!(errno(read), Some(Errno::IO.raw_os_error()), "{length}");
        assert!(bytes.is_empty());
    }
}

#[test]
fn at_level_per_read_copied_bytes_are_verified_too() {
    if !can_mount() {
        return;
    }
    let lab = Lab::guarding("per-read", &[("w.pt", &vec![7; 4 * GROUP])]);
    lab.publish(&["w.pt"]);
    let from = File::open(lab.scratch.path("w.pt")).unwrap();
    let to = File::create(lab.scratch.path("copy")).unwrap();
    let (mut read, mut written) = (0, 0);
    let mut copy = |length| {
        rustix::fs::copy_file_range(&from, Some(&mut read), &to, Some(&mut written), length)
    };
    assert_eq!(copy(GROUP), Ok(GROUP));
    change_and_keep_mtime_at(&lab.scratch.stored("w.pt"), 2 * GROUP);
    assert_eq!(copy(3 * GROUP), Err(Errno::IO));
    assert_eq!(fs::read(lab.scratch.stored("copy")).unwrap(), vec![7; GROUP]);
}

#[test]
fn at_level_per_read_whoever_changes_a_file_reads_his_own_bytes() {
    if !can_mount() {
        return;
    }
    let lab = Lab::guarding("per-read", &[("w.pt", &vec![7; 2 * GROUP])]);
    lab.publish_elsewhere("w.pt");
    let file = read_write(&lab.scratch.path("w.pt")).unwrap();
    file.write_all_at(b"mine", 10).unwrap();
    let mut bytes = [0; 6];
    file.read_exact_at(&mut bytes, 9).unwrap();
    assert_eq!(&bytes, b"\x07mine\x07");
    drop(file);
    assert_eq!(lab.read("w.pt").unwrap()[9..15], *b"\x07mine\x07");
}

#[test]
fn at_level_per_read_what_others_read_of_the_file_is_verified_too() {
    if !can_mount() {
        return;
    }
    let mut lab = Lab::guarding("per-read", &[]);
    let path = lab.scratch.path("w.pt");
    fs::write(&path, vec![7; 4 * GROUP]).unwrap();
    let own = File::open(&path).unwrap();
    lab.scratch.quiesce();
    lab.publish(&["w.pt"]);
    let _ended = lab.scratch.begin("serve");
    let verified = File::open(&path).unwrap();
    change_and_keep_mtime_at(&lab.scratch.stored("w.pt"), 2 * GROUP + 1);
    let read = |file: &File| file.read_exact_at(&mut [0; 10], 2 * GROUP as u64);
    for file in [&verified, &own, &verified] {
        assert_eq!(errno(read(file)), Some(Errno::IO.raw_os_error()));
    }
    drop(verified);
    eventually(|| read(&own).is_ok());
}

#[test]
fn at_level_per_read_what_others_mapped_is_verified_too() {
    if !can_mount() {
        return;
    }
    let mut lab = Lab::guarding("per-read", &[]);
    let path = lab.scratch.path("w.pt");
    fs::write(&path, vec![7; 4 * GROUP]).unwrap();
    lab.scratch.quiesce();
    let script = "import mmap, sys\n\
        file = open(sys.argv[1], 'rb')\n\
        m = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)\n\
        print('mapped', flush=True); sys.stdin.readline(); m[2 * 65536 + 1]\n";
    let mut reads = Command::new("python3");
    reads.arg("-c").arg(script).arg(&path).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut reads = reads.spawn().unwrap();
    reads.stdout.as_mut().unwrap().read_exact(&mut [0; 7]).unwrap();
    lab.publish(&["w.pt"]);
    let _ended = lab.scratch.begin("serve");
    let verified = File::open(&path).unwrap();
    change_and_keep_mtime_at(&lab.scratch.stored("w.pt"), 2 * GROUP + 1);
    drop(reads.stdin.take());
    assert_eq!(reads.wait().unwrap().signal(), Some(Signal::BUS.as_raw()));
    let read = verified.read_exact_at(&mut [0; 10], 2 * GROUP as u64);
    assert_eq!(errno(read), Some(Errno::IO.raw_os_error()));
}

#[test]
fn at_level_verity_nothing_is_read_that_the_kernel_does_not_verify() {
    if !can_mount() {
        return;
    }
    let (store, key) = (Store::default(), SigningKey::generate().unwrap());
    let rules = "[[rule]]\npaths = [\"**\"]\nlevel = \"verity\"";
    let policy = policy(&key, "enforce", rules);
    match Scratch::try_beside(&store, Some(policy), |root| fill(root, &[("w.pt", b"weights")])) {
        Ok(scratch) => {
            store.publish(&key, "train", &root(&scratch), &["w.pt"]);
            let lab = Lab { store, key, scratch };
            lab.assert_refused("w.pt");
            assert!(lab.refusals()[0].2.contains("no fs-verity"), "{:?}", lab.refusals());
        }
        Err(error) => assert!(error.to_string().contains("fs-verity"), "{error}"),
    }
}

#[test]
fn two_attested_files_that_were_swapped_are_refused() {
    if !can_mount() {
        return;
    }
    let lab = Lab::guarding("rehash", &[("a.pt", b"A"), ("b.pt", b"B")]);
    lab.publish(&["a.pt", "b.pt"]);
    let stored = |name| lab.scratch.stored(name);
    fs::rename(stored("a.pt"), stored("c.pt")).unwrap();
    fs::rename(stored("b.pt"), stored("a.pt")).unwrap();
    fs::rename(stored("c.pt"), stored("b.pt")).unwrap();
    lab.assert_refused("a.pt");
    lab.assert_refused("b.pt");
    assert!(lab.refusals().iter().all(|(_, check, _)| *check == 8), "{:?}", lab.refusals());
}

#[test]
fn what_is_renamed_over_a_file_is_judged_by_itself_and_who_has_it_open_reads_on() {
    if !can_mount() {
        return;
    }
    let lab = Lab::guarding("rehash", &[("w.pt", b"good"), ("evil", b"evil")]);
    lab.publish(&["w.pt"]);
    let mut open = File::open(lab.scratch.path("w.pt")).unwrap();
    fs::rename(lab.scratch.path("evil"), lab.scratch.path("w.pt")).unwrap();
    lab.assert_refused("w.pt");
    let mut read = String::new();
    open.read_to_string(&mut read).unwrap();
    assert_eq!(read, "good");
}

#[test]
fn what_the_run_wrote_it_reads_at_once() {
    if !can_mount() {
        return;
    }
    let lab = Lab::guarding("rehash", &[]);
    let path = lab.scratch.path("w.pt");
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    file.write_all(b"weights").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"weights", "while it is being written");
    drop(file);
    assert_eq!(fs::read(&path).unwrap(), b"weights");
    lab.scratch.quiesce();
    append(&path).unwrap().write_all(b" and more").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"weights and more");
    fs::rename(&path, lab.scratch.path("renamed.pt")).unwrap();
    assert_eq!(lab.read("renamed.pt").unwrap(), b"weights and more");
    assert_eq!(lab.refusals(), []);
    assert!(lab.scratch.facts.materials().is_empty());
}

#[test]
fn what_was_changed_below_since_the_run_wrote_it_is_not_its_own() {
    if !can_mount() {
        return;
    }
    let lab = Lab::guarding("rehash", &[]);
    fs::write(lab.scratch.path("w.pt"), b"weights").unwrap();
    lab.scratch.quiesce();
    fs::write(lab.scratch.stored("w.pt"), b"Weights").unwrap();
    lab.assert_refused("w.pt");
    lab.assert_refused("w.pt");
}

#[test]
fn what_was_only_touched_below_since_the_run_wrote_it_is_its_own() {
    if !can_mount() {
        return;
    }
    let lab = Lab::guarding("rehash", &[]);
    fs::write(lab.scratch.path("w.pt"), b"weights").unwrap();
    lab.scratch.quiesce();
    let mode = fs::Permissions::from_mode(0o640);
    fs::set_permissions(lab.scratch.stored("w.pt"), mode).unwrap();
    assert_eq!(lab.read("w.pt").unwrap(), b"weights");
}

#[test]
fn what_one_run_wrote_another_reads_when_it_is_published() {
    if !can_mount() {
        return;
    }
    let mut lab = Lab::guarding("rehash", &[]);
    fs::write(lab.scratch.path("w.pt"), b"weights").unwrap();
    lab.scratch.quiesce();
    lab.scratch.begin("serve");
    lab.assert_refused("w.pt");
    lab.publish(&["w.pt"]);
    assert_eq!(lab.read("w.pt").unwrap(), b"weights");
}

#[test]
fn while_no_stage_is_open_nothing_is_anybodys_own() {
    if !can_mount() {
        return;
    }
    let mut lab = Lab::guarding("rehash", &[]);
    lab.scratch.idle();
    fs::write(lab.scratch.path("w.pt"), b"weights").unwrap();
    lab.assert_refused("w.pt");
    assert_eq!(lab.refusals().len(), 1);
}

#[test]
fn what_the_run_builds_on_what_was_not_admitted_stays_unreadable_until_it_is_emptied() {
    if !can_mount() {
        return;
    }
    let lab = Lab::guarding("rehash", &[("w.pt", b"evil"), ("free", b"evil")]);
    let path = lab.scratch.path("w.pt");
    append(&path).unwrap().write_all(b" and mine").unwrap();
    lab.assert_refused("w.pt");
    lab.scratch.quiesce();
    lab.assert_refused("w.pt");
    // By the way of a name that nothing guards.
    append(&lab.scratch.path("free")).unwrap().write_all(b" and mine").unwrap();
    assert_eq!(lab.read("free").unwrap(), b"evil and mine");
    fs::rename(lab.scratch.path("free"), lab.scratch.path("free.pt")).unwrap();
    lab.assert_refused("free.pt");
    fs::write(&path, b"mine").unwrap();
    assert_eq!(lab.read("w.pt").unwrap(), b"mine");
}

#[test]
fn what_the_run_builds_on_what_was_not_admitted_is_no_output() {
    if !can_mount() {
        return;
    }
    let files: [(&str, &[u8]); 3] = [("w.pt", b"evil"), ("later", b"evil"), ("log", b"text")];
    let lab = Lab::guarding("rehash", &files);
    for (name, _) in files {
        append(&lab.scratch.path(name)).unwrap().write_all(b" and mine").unwrap();
    }
    let left_out = |lab: &Lab| {
        let left_out = lab.scratch.quiesce().into_iter();
        left_out.map(|left_out| (left_out.path.path, left_out.unsealed)).collect::<Vec<_>>()
    };
    assert_eq!(left_out(&lab), [("w.pt".to_owned(), Unsealed::NotAdmitted)]);
    assert!(lab.scratch.facts.sealed().contains_key("log"), "nothing guards that name");
    fs::rename(lab.scratch.path("later"), lab.scratch.path("later.pt")).unwrap();
    fs::write(lab.scratch.path("w.pt"), b"mine").unwrap();
    assert_eq!(left_out(&lab), [("later.pt".to_owned(), Unsealed::NotAdmitted)]);
    assert!(lab.scratch.facts.sealed().contains_key("w.pt"), "it was emptied");
    let rule = "[[rule]]\npaths = [\"**/*.pt\"]\nlevel = \"rehash\"\n";
    let lab = Lab::with("audit", rule, &files);
    append(&lab.scratch.path("w.pt")).unwrap().write_all(b" and mine").unwrap();
    assert_eq!(left_out(&lab), [], "audit mode changes nothing");
}

#[test]
fn what_the_run_builds_on_what_was_admitted_is_its_own() {
    if !can_mount() {
        return;
    }
    let lab = Lab::guarding("rehash", &[("w.pt", b"weights")]);
    lab.publish_elsewhere("w.pt");
    let mut file = read_write(&lab.scratch.path("w.pt")).unwrap();
    file.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
    file.write_all(b"W").unwrap();
    drop(file);
    assert_eq!(lab.read("w.pt").unwrap(), b"Weights");
}

#[test]
fn whoever_waits_for_hashing_keeps_nobody_else_waiting() {
    if !can_mount() {
        return;
    }
    let lab = Lab::guarding("rehash", &[("free", b"free")]);
    let stored = File::create(lab.scratch.stored("w.pt")).unwrap();
    stored.set_len(2 << 30).unwrap();
    drop(stored);
    let path = lab.scratch.path("w.pt");
    thread::scope(|scope| {
        // More than there are threads for requests.
        let waiting: Vec<_> = (0..6).map(|_| scope.spawn(|| kind(File::open(&path)))).collect();
        thread::sleep(Duration::from_millis(100));
        let began = Instant::now();
        assert_eq!(lab.read("free").unwrap(), b"free");
        assert_eq!(fs::metadata(&path).unwrap().len(), 2 << 30);
        let waited = began.elapsed();
        assert!(waiting.iter().any(|open| !open.is_finished()), "the file was hashed too fast");
        assert!(waited < Duration::from_secs(1), "{waited:?}");
        for open in waiting {
            assert_eq!(open.join().unwrap(), ErrorKind::PermissionDenied);
        }
    });
    assert_eq!(lab.refusals().len(), 1, "one process, told once");
}

#[test]
fn whoever_waits_for_a_signature_to_be_checked_does_not_wait_for_hashing() {
    if !can_mount() {
        return;
    }
    let mut lab = Lab::guarding("stat", &[("w.pt", b"weights")]);
    lab.publish(&["w.pt"]);
    let large: Vec<_> = (0..20).map(|number| format!("{number}.pt")).collect();
    for name in &large {
        File::create(lab.scratch.stored(name)).unwrap().set_len(15 << 30).unwrap();
    }
    let paths = large.iter().map(|name| lab.scratch.path(name));
    let waiting: Vec<_> = paths.map(|path| thread::spawn(|| File::open(path).is_err())).collect();
    thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    assert_eq!(lab.read("w.pt").unwrap(), b"weights");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    lab.scratch.abort();
    assert!(waiting.into_iter().all(|open| open.join().unwrap()));
}

#[test]
fn whoever_waits_for_a_file_that_is_being_hashed_keeps_no_other_from_being_hashed() {
    if !can_mount() {
        return;
    }
    let mut lab = Lab::guarding("rehash", &[("w.pt", b"weights")]);
    lab.publish(&["w.pt"]);
    File::create(lab.scratch.stored("large.pt")).unwrap().set_len(15 << 30).unwrap();
    let large = lab.scratch.path("large.pt");
    let open = || {
        let path = large.clone();
        thread::spawn(move || File::open(path).is_err())
    };
    // More than there are threads for hashing.
    let waiting: Vec<_> = (0..20).map(|_| open()).collect();
    thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    assert_eq!(lab.read("w.pt").unwrap(), b"weights");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(waiting.iter().all(|open| !open.is_finished()), "the file was hashed too fast");
    lab.scratch.abort();
    assert!(waiting.into_iter().all(|open| open.join().unwrap()));
}

#[test]
fn an_unmount_ends_the_waiting() {
    if !can_mount() {
        return;
    }
    let mut lab = Lab::guarding("rehash", &[]);
    File::create(lab.scratch.stored("w.pt")).unwrap().set_len(15 << 30).unwrap();
    let path = lab.scratch.path("w.pt");
    let open = thread::spawn(move || File::open(path).is_err());
    thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    lab.scratch.abort();
    assert!(open.join().unwrap());
    drop(lab);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn in_audit_mode_everything_is_read_and_what_would_be_refused_is_told() {
    if !can_mount() {
        return;
    }
    let rules = "[[rule]]\npaths = [\"*.pkl\"]\nrefuse = \"pickle runs code\"\n
                 [[rule]]\npaths = [\"**\"]\nlevel = \"rehash\"";
    let lab = Lab::with("audit", rules, &[("w.pt", b"weights"), ("model.pkl", b"code")]);
    assert_eq!(lab.read("w.pt").unwrap(), b"weights");
    assert_eq!(lab.read("model.pkl").unwrap(), b"code");
    let told: Vec<_> = lab.refusals().into_iter().map(|(path, check, _)| (path, check)).collect();
    assert_eq!(told, [("w.pt".to_owned(), 1), ("model.pkl".to_owned(), 11)]);
    let enforced = lab
        .scratch
        .facts
        .all()
        .into_iter()
        .any(|fact| matches!(fact, Fact::Refused { enforced: true, .. }));
    assert!(!enforced);
    let digests = digests_of(&lab.scratch.stored("w.pt"));
    assert_eq!(lab.scratch.facts.materials()["w.pt"], Some(digests));
}

#[test]
fn a_hard_link_is_guarded_if_any_known_name_is() {
    if !can_mount() {
        return;
    }
    let lab = Lab::guarding("rehash", &[("w.pt", b"weights")]);
    fs::hard_link(lab.scratch.path("w.pt"), lab.scratch.path("free")).unwrap();
    lab.assert_refused("free");
    assert_eq!(lab.refusals()[0].0, "w.pt");
    // Also when the kernel has forgotten the file, and the other name with it.
    fs::write("/proc/sys/vm/drop_caches", b"2").unwrap();
    thread::sleep(Duration::from_millis(300));
    lab.assert_refused("free");
}

#[test]
fn every_guarded_name_of_a_file_must_be_attested() {
    if !can_mount() {
        return;
    }
    let lab = Lab::guarding("rehash", &[("a.pt", b"weights")]);
    lab.publish(&["a.pt"]);
    fs::hard_link(lab.scratch.path("a.pt"), lab.scratch.path("b.pt")).unwrap();
    lab.assert_refused("b.pt");
    lab.assert_refused("a.pt");
    fs::remove_file(lab.scratch.path("b.pt")).unwrap();
    eventually(|| lab.read("a.pt").is_ok());
}

#[test]
fn a_file_is_guarded_by_the_names_of_links_that_lead_to_it() {
    if !can_mount() {
        return;
    }
    let files: [(&str, &[u8]); 3] =
        [("blobs/9f", b"evil"), ("blobs/9e", b"good"), ("blobs/9d", b"free")];
    let lab = Lab::guarding("rehash", &files);
    lab.publish(&["blobs/9e"]);
    fs::create_dir_all(lab.scratch.path("snapshots/1")).unwrap();
    symlink("../../blobs/9f", lab.scratch.path("snapshots/1/model.pt")).unwrap();
    symlink("../../blobs/9e", lab.scratch.stored("snapshots/1/good.pt")).unwrap();
    symlink("snapshots/1", lab.scratch.stored("latest")).unwrap();
    lab.assert_refused("snapshots/1/model.pt");
    lab.assert_refused("latest/model.pt");
    lab.assert_refused("blobs/9f");
    assert_eq!(lab.refusals()[0].0, "snapshots/1/model.pt");
    assert_eq!(lab.read("snapshots/1/good.pt").unwrap(), b"good", "attested by its own name");
    // A link that is gone guards nothing, and one that is renamed guards by its new name.
    fs::remove_file(lab.scratch.path("snapshots/1/model.pt")).unwrap();
    eventually(|| lab.read("blobs/9f").is_ok());
    symlink("blobs/9d", lab.scratch.path("free")).unwrap();
    assert_eq!(lab.read("free").unwrap(), b"free");
    fs::rename(lab.scratch.path("free"), lab.scratch.path("free.pt")).unwrap();
    lab.assert_refused("free.pt");
}

#[test]
fn each_rule_that_has_a_path_to_a_file_judges_for_itself() {
    if !can_mount() {
        return;
    }
    let rules = "[[rule]]\npaths = [\"*.pt\"]\nlevel = \"rehash\"\n
                 [[rule]]\npaths = [\"*.gguf\"]\nlevel = \"rehash\"\nstages = [\"quantize\"]";
    let lab = Lab::with("enforce", rules, &[("blobs/9f", b"weights")]);
    lab.publish(&["blobs/9f"]);
    symlink("blobs/9f", lab.scratch.path("w.pt")).unwrap();
    assert_eq!(lab.read("w.pt").unwrap(), b"weights");
    symlink("blobs/9f", lab.scratch.path("w.gguf")).unwrap();
    lab.assert_refused("w.gguf");
    let [(_, 11, reason)] = &lab.refusals()[..] else { panic!("{:?}", lab.refusals()) };
    assert!(reason.contains("'train'"), "{reason}");
}

#[test]
fn a_rule_for_a_directory_has_what_a_link_to_it_leads_to() {
    if !can_mount() {
        return;
    }
    let rules = "[[rule]]\npaths = [\"current/**\"]\nlevel = \"stat\"";
    let lab = Lab::with("enforce", rules, &[("step-1/w", b"weights"), ("step-2/w", b"weights")]);
    symlink("step-1", lab.scratch.stored("current")).unwrap();
    lab.assert_refused("current/w");
    assert_eq!(lab.read("step-2/w").unwrap(), b"weights");
}

#[test]
fn a_guarded_link_is_not_followed_out_of_the_tree() {
    if !can_mount() {
        return;
    }
    let lab = Lab::guarding("rehash", &[("w.pt", b"weights")]);
    lab.publish(&["w.pt"]);
    let outside = tempfile::NamedTempFile::new().unwrap();
    fs::write(&outside, b"evil").unwrap();
    symlink(outside.path(), lab.scratch.stored("evil")).unwrap();
    symlink("evil", lab.scratch.stored("evil.pt")).unwrap();
    symlink("../../../../etc/passwd", lab.scratch.stored("passwd.pt")).unwrap();
    symlink(lab.scratch.path("w.pt"), lab.scratch.stored("good.pt")).unwrap();
    symlink("nowhere", lab.scratch.stored("dangling.pt")).unwrap();
    lab.assert_refused("evil.pt");
    lab.assert_refused("passwd.pt");
    assert!(lab.refusals()[0].2.contains("out of the tree"), "{:?}", lab.refusals());
    assert_eq!(lab.read("good.pt").unwrap(), b"weights", "an absolute link to the mount itself");
    assert_eq!(lab.read("evil").unwrap(), b"evil", "nothing guards that name");
    assert_eq!(kind(lab.read("dangling.pt")), ErrorKind::NotFound);
}

#[test]
fn a_pipe_of_a_guarded_name_is_not_found() {
    if !can_mount() {
        return;
    }
    let lab = Lab::guarding("rehash", &[("w.txt", b"text")]);
    let pipe = |path: &Path| {
        let (kind, mode) = (FileType::Fifo, Mode::from_raw_mode(0o600));
        rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0)
    };
    for name in ["below.pt", "free", "other"] {
        pipe(&lab.scratch.stored(name)).unwrap();
    }
    let refused = |result: io::Result<()>| assert_eq!(kind(result), ErrorKind::PermissionDenied);
    let path = |name| lab.scratch.path(name);
    refused(fs::metadata(path("below.pt")).map(drop));
    let [(name, 11, reason)] = &lab.refusals()[..] else { panic!("{:?}", lab.refusals()) };
    assert!(name == "below.pt" && reason.contains("no file but a pipe"), "{reason}");
    assert!(fs::metadata(path("free")).unwrap().file_type().is_fifo());
    // Nor does one get such a name through the mount.
    refused(pipe(&path("new.pt")).map_err(Into::into));
    refused(fs::rename(path("free"), path("free.pt")));
    refused(fs::hard_link(path("other"), path("other.pt")));
    refused(fs::rename(path("below.pt"), path("below")));
    for name in ["new.pt", "free.pt", "other.pt"] {
        assert!(!lab.scratch.stored(name).exists(), "{name}");
    }
    assert_eq!(lab.read("w.txt").unwrap(), b"text");
}

#[test]
fn a_file_of_one_link_has_the_name_that_was_seen_last() {
    if !can_mount() {
        return;
    }
    let lab = Lab::guarding("rehash", &[("tmp.pt", b"weights")]);
    lab.assert_refused("tmp.pt");
    fs::rename(lab.scratch.stored("tmp.pt"), lab.scratch.stored("w.pt")).unwrap();
    lab.publish(&["w.pt"]);
    lab.assert_refused("w.pt");
    // Nobody can be coming by the other one any more.
    eventually(|| lab.read("w.pt").is_ok());
}

#[test]
fn a_file_without_a_name_is_guarded_by_the_one_it_had() {
    if !can_mount() {
        return;
    }
    let lab = Lab::guarding("rehash", &[("w.pt", b"weights"), ("free", b"text")]);
    let open_without_name = |name| {
        let path = lab.scratch.path(name);
        let handle =
            rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        fs::remove_file(&path).unwrap();
        File::open(format!("/proc/self/fd/{}", handle.as_raw_fd()))
    };
    assert_eq!(kind(open_without_name("w.pt")), ErrorKind::PermissionDenied);
    assert!(open_without_name("free").is_ok());
}

#[test]
fn what_travels_with_a_directory_is_always_read_and_no_link_is_followed_to_it() {
    if !can_mount() {
        return;
    }
    let rules = "[[rule]]\npaths = [\"**\"]\nlevel = \"rehash\"";
    let lab = Lab::with("enforce", rules, &[("model/w.pt", b"weights")]);
    let claims = Store::claims(&lab.key, &lab.scratch.stored("model"), &["w.pt"]);
    fs::write(lab.scratch.stored("model/elsewhere"), &claims).unwrap();
    symlink("elsewhere", lab.scratch.stored("model/claims.jsonl")).unwrap();
    lab.assert_refused("model/w.pt");
    fs::remove_file(lab.scratch.stored("model/claims.jsonl")).unwrap();
    fs::write(lab.scratch.stored("model/claims.jsonl"), &claims).unwrap();
    assert_eq!(lab.read("model/claims.jsonl").unwrap(), claims);
    assert_eq!(lab.read("model/w.pt").unwrap(), b"weights");
    fs::write(lab.scratch.stored("model/claims.jsonl"), b"{").unwrap();
    lab.assert_refused("model/w.pt");
}

#[test]
fn when_the_store_cannot_be_asked_the_gate_stays_shut() {
    if !can_mount() {
        return;
    }
    for level in ["stat", "rehash"] {
        let lab = Lab::guarding(level, &[("w.pt", b"weights")]);
        lab.publish(&["w.pt"]);
        lab.store.set_away(true);
        lab.assert_refused("w.pt");
        let [(_, _, reason)] = &lab.refusals()[..] else { panic!("{:?}", lab.refusals()) };
        assert!(reason.contains("it is away"), "{reason}");
        assert_eq!(kind(append(&lab.scratch.path("w.pt"))), ErrorKind::PermissionDenied);
        lab.store.set_away(false);
        assert_eq!(lab.read("w.pt").unwrap(), b"weights", "{level}");
    }
}

/// A store that nobody thought of.
#[derive(Debug)]
enum Odd {
    Faulty,
    /// Until this is let go.
    Slow(Arc<Mutex<()>>),
}

impl Attestations for Odd {
    #[expect(clippy::panic, reason = "the fault")]
    fn naming(&self, _content: Sha256) -> Vec<Sha256> {
        match self {
            Self::Faulty => panic!("a fault in what judges"),
            Self::Slow(held) => drop(held.lock().unwrap()),
        }
        Vec::new()
    }

    fn came_along(&self, _name: Sha256) -> bool {
        false
    }

    fn attestation(&self, _name: Sha256) -> Vec<Result<Bundle, BundleError>> {
        Vec::new()
    }

    fn manifest(&self, _digest: Sha256) -> Option<Vec<u8>> {
        None
    }
}

impl Publications for Odd {
    fn history(&self, _root: &str, _name: &str) -> Result<Vec<Publication>, Unavailable> {
        Ok(Vec::new())
    }
}

impl BundleSource for Odd {
    fn generation(&self) -> Result<u64, Unavailable> {
        Ok(0)
    }

    fn published(&self, _identity: &Identity) -> Result<Option<PublishedFile>, Unavailable> {
        Ok(None)
    }

    fn maker(&self, _statement: Sha256) -> Result<Maker, Unavailable> {
        Ok(Maker::default())
    }

    fn attestations(&self) -> Result<Vec<Sha256>, Unavailable> {
        Ok(Vec::new())
    }
}

#[test]
fn a_fault_in_what_judges_refuses_and_nothing_else_breaks() {
    if !can_mount() {
        return;
    }
    let key = SigningKey::generate().unwrap();
    let policy = policy(&key, "enforce", "[[rule]]\npaths = [\"*.pt\"]\nlevel = \"rehash\"");
    let gate = gate_with(Some(policy), None, Box::new(Odd::Faulty));
    let scratch = behind(gate, &[], &[("w.pt", b"weights"), ("free", b"text")]);
    for _ in 0..20 {
        assert_eq!(kind(File::open(scratch.path("w.pt"))), ErrorKind::PermissionDenied);
    }
    assert_eq!(fs::read(scratch.path("free")).unwrap(), b"text");
}

#[test]
fn whoever_asks_for_a_verdict_keeps_nobody_else_waiting() {
    if !can_mount() {
        return;
    }
    let key = SigningKey::generate().unwrap();
    let policy = policy(&key, "enforce", "[[rule]]\npaths = [\"*.pt\"]\nlevel = \"stat\"");
    let held = Arc::new(Mutex::new(()));
    let gate = gate_with(Some(policy), None, Box::new(Odd::Slow(Arc::clone(&held))));
    let scratch = behind(gate, &[], &[("w.pt", b"weights"), ("free", b"text")]);
    assert_eq!(errno(File::open(scratch.path("w.pt"))), Some(Errno::ACCESS.raw_os_error()));
    // What was judged of other evidence does not count.
    fs::write(scratch.stored("claims.jsonl"), "").unwrap();
    let path = scratch.path("w.pt");
    let verdict = || rustix::fs::getxattr(&path, "user.attestfs.verdict", &mut [0; 512][..]);
    thread::scope(|scope| {
        let judging = held.lock().unwrap();
        // More than there are threads for requests.
        let waiting: Vec<_> = (0..6).map(|_| scope.spawn(verdict)).collect();
        thread::sleep(Duration::from_millis(100));
        let reading = scope.spawn(|| fs::read(scratch.path("free")));
        thread::sleep(Duration::from_secs(1));
        let (read, asking) =
            (reading.is_finished(), !waiting.iter().any(thread::ScopedJoinHandle::is_finished));
        drop(judging);
        assert!(read && asking, "{read} {asking}");
        assert!(waiting.into_iter().all(|verdict| verdict.join().unwrap().is_ok()));
    });
}

#[test]
fn a_lock_says_what_may_be_read_and_with_which_content_guarded_or_not() {
    if !can_mount() {
        return;
    }
    let files: [(&str, &[u8]); 3] = [("a.csv", b"1"), ("changed.csv", b"1"), ("new.csv", b"1")];
    let locked =
        |bytes: &[u8]| Locked { sha256: Sha256(sha2::Sha256::digest(bytes).into()), size: 1 };
    let entries = [("a.csv", locked(b"1")), ("changed.csv", locked(b"0"))];
    let entries = entries.map(|(name, locked)| (name.to_owned(), locked));
    let written = WrittenLock::of(&[entries.into_iter().collect()]);
    let lock = Lock::parse(written.bytes(), &mut |_| Err(String::new())).unwrap();
    let gate = gate_with(None, Some(lock), Box::new(Store::default()));
    let scratch = behind(gate, &[], &files);
    assert_eq!(fs::read(scratch.path("a.csv")).unwrap(), b"1");
    assert_eq!(kind(fs::read(scratch.path("changed.csv"))), ErrorKind::PermissionDenied);
    assert_eq!(kind(fs::read(scratch.path("new.csv"))), ErrorKind::PermissionDenied);
    let told = refusals(&scratch);
    assert_eq!(told.iter().map(|(_, check, _)| *check).collect::<Vec<_>>(), [13, 13]);
    fs::write(scratch.path("own.csv"), b"1").unwrap();
    assert_eq!(fs::read(scratch.path("own.csv")).unwrap(), b"1", "what it wrote is no material");
}

#[test]
fn two_locked_files_that_are_swapped_are_refused_and_moved_back_they_are_read() {
    if !can_mount() {
        return;
    }
    let locked =
        |bytes: &[u8]| Locked { sha256: Sha256(sha2::Sha256::digest(bytes).into()), size: 1 };
    let entries = [("a.csv", locked(b"1")), ("b.csv", locked(b"2"))];
    let entries = entries.map(|(name, locked)| (name.to_owned(), locked));
    let written = WrittenLock::of(&[entries.into_iter().collect()]);
    let lock = Lock::parse(written.bytes(), &mut |_| Err(String::new())).unwrap();
    let files: [(&str, &[u8]); 2] = [("a.csv", b"1"), ("b.csv", b"2")];
    let scratch = behind(gate_with(None, Some(lock), Box::new(Store::default())), &[], &files);
    let (one, other) = (scratch.path("a.csv"), scratch.path("b.csv"));
    let swap = || {
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        rustix::fs::renameat_with(rustix::fs::CWD, &one, rustix::fs::CWD, &other, flags).unwrap();
    };
    swap();
    assert_eq!(kind(fs::read(&one)), ErrorKind::PermissionDenied);
    assert_eq!(kind(fs::read(&other)), ErrorKind::PermissionDenied);
    swap();
    eventually(|| fs::read(&one).is_ok_and(|bytes| bytes == b"1"));
}

#[test]
fn what_the_run_builds_on_what_the_lock_has_is_its_own() {
    if !can_mount() {
        return;
    }
    let sha256 = Sha256(sha2::Sha256::digest(b"1").into());
    let entries = [("a.csv".to_owned(), Locked { sha256, size: 1 })].into_iter().collect();
    let written = WrittenLock::of(&[entries]);
    let lock = Lock::parse(written.bytes(), &mut |_| Err(String::new())).unwrap();
    let gate = gate_with(None, Some(lock), Box::new(Store::default()));
    let scratch = behind(gate, &[], &[("a.csv", b"1"), ("new.csv", b"1")]);
    let mut file = read_write(&scratch.path("a.csv")).unwrap();
    file.write_all(b"mine").unwrap();
    drop(file);
    assert_eq!(fs::read(scratch.path("a.csv")).unwrap(), b"mine");
    append(&scratch.path("new.csv")).unwrap().write_all(b" and mine").unwrap();
    assert_eq!(kind(fs::read(scratch.path("new.csv"))), ErrorKind::PermissionDenied);
}

#[test]
fn the_lock_among_the_data_opens_as_it_was_read_and_what_lies_beside_it_not_at_all() {
    if !can_mount() {
        return;
    }
    let locked = Locked { sha256: Sha256(sha2::Sha256::digest(b"1").into()), size: 1 };
    let many = (0..1001).map(|number| (format!("raw/{number}"), locked)).collect();
    let written = WrittenLock::of(&[many]);
    let [manifest] = written.manifests() else { panic!("one manifest") };
    let parsed = Lock::parse(written.bytes(), &mut |_| Ok(manifest.bytes().to_vec()));
    let lock = parsed.unwrap().lying_at(0, "data.lock");
    let beside = format!("data.lock.d/{}.manifest", manifest.sha256());
    let files: [(&str, &[u8]); 5] = [
        ("raw/0", b"1"),
        ("raw/evil.csv", b"evil"),
        ("data.lock.d/stray", b"evil"),
        ("data.lock", written.bytes()),
        (&beside, manifest.bytes()),
    ];
    let gate = gate_with(None, Some(lock), Box::new(Store::default()));
    let scratch = behind(gate, &[], &files);
    for name in ["raw/0", "data.lock", &beside] {
        fs::read(scratch.path(name)).unwrap();
    }
    let assert_refused = |name: &str| {
        assert_eq!(kind(fs::read(scratch.path(name))), ErrorKind::PermissionDenied, "{name}");
    };
    assert_refused("data.lock.d/stray");
    for link in ["data.lock.d/link", "data.lock.d/00.manifest", "data.lock.bak"] {
        fs::hard_link(scratch.path("raw/evil.csv"), scratch.path(link)).unwrap();
        fs::metadata(scratch.path(link)).unwrap();
        assert_refused(link);
        assert_refused("raw/evil.csv");
    }
    for own in ["data.lock", &beside] {
        fs::rename(scratch.path("raw/evil.csv"), scratch.path(own)).unwrap();
        assert_refused(own);
        fs::rename(scratch.path(own), scratch.path("raw/evil.csv")).unwrap();
        assert_refused("raw/evil.csv");
    }
}

#[test]
fn who_may_not_change_published_content_is_told_how_to_replace_it() {
    if !can_mount() {
        return;
    }
    let (store, key) = (Store::default(), SigningKey::generate().unwrap());
    let gate = gate_with(None, None, Box::new(store.clone()));
    let files: [(&str, &[u8]); 3] = [("out/a", b"1"), ("kept", b"1"), ("before", b"1")];
    let scratch = behind(Arc::clone(&gate), &["out"], &files);
    fs::hard_link(scratch.path("out/a"), scratch.path("alias")).unwrap();
    let before = read_write(&scratch.path("before")).unwrap();
    store.publish(&key, "train", &root(&scratch), &["out/a", "kept", "before"]);
    let path = scratch.path("kept");
    let attempts: [&dyn Fn() -> Option<i32>; 5] = [
        &|| errno(append(&path)),
        &|| errno(File::create(&path)),
        &|| errno(truncate(&path, 1)),
        &|| errno(append(&scratch.path("out/a"))),
        &|| errno(before.write_at(b"x", 0)),
    ];
    for attempt in attempts {
        assert_eq!(attempt(), EPERM);
    }
    let facts = scratch.facts.all();
    let told: Vec<_> = facts.iter().filter(|fact| matches!(fact, Fact::Refused { .. })).collect();
    let names = told.iter().map(|fact| match fact {
        Fact::Refused { path, check: 14, reason, next_step, enforced: true, by, .. } => {
            assert!(reason.contains(&format!("'{path}' is what attestation ")), "{reason}");
            assert!(next_step.contains("--out"), "{next_step}");
            assert!(by.pid.is_some());
            path.path.as_str()
        }
        other => panic!("{other:?}"),
    });
    // The clock stands still: the same process is told once; `truncate` is another. Of several names
    // the one that is kept is told.
    assert_eq!(names.collect::<Vec<_>>(), ["kept", "kept", "alias", "before"]);
    assert_eq!(gate.refusals(), 0, "nobody was kept from reading");
}

#[test]
fn published_content_is_immutable_and_sealed_content_is_not() {
    if !can_mount() {
        return;
    }
    let lab = Lab::guarding("stat", &[("published", b"1"), ("sealed", b"1")]);
    lab.publish(&["published"]);
    let path = lab.scratch.path("published");
    assert_eq!(errno(append(&path)), EPERM);
    assert_eq!(errno(read_write(&path)), EPERM);
    assert_eq!(errno(File::create(&path)), EPERM);
    assert_eq!(errno(truncate(&path, 0)), EPERM);
    assert_eq!(errno(truncate(&path, 1)), EPERM);
    assert_eq!(fs::read(lab.scratch.stored("published")).unwrap(), b"1");
    append(&lab.scratch.path("sealed")).unwrap().write_all(b"2").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    File::open(&path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(errno(append(&path)), EPERM, "still, by its inode");
    fs::rename(&path, lab.scratch.path("moved")).unwrap();
    assert_eq!(errno(append(&lab.scratch.path("moved"))), EPERM);
    fs::remove_file(lab.scratch.path("moved")).unwrap();
    fs::write(&path, b"another file").unwrap();
}

#[test]
fn what_was_published_is_immutable_to_who_opened_it_before() {
    if !can_mount() {
        return;
    }
    let lab = Lab::guarding("stat", &[("found", b"12"), ("source", b"x")]);
    fs::write(lab.scratch.path("own"), b"12").unwrap();
    lab.scratch.quiesce();
    for name in ["found", "own"] {
        let before = read_write(&lab.scratch.path(name)).unwrap();
        lab.publish(&[name]);
        assert_eq!(errno(before.write_at(b"x", 0)), EPERM, "{name}");
        assert_eq!(errno(before.set_len(1)), EPERM);
        let flags = FallocateFlags::empty();
        assert_eq!(rustix::fs::fallocate(&before, flags, 0, 10), Err(Errno::PERM));
        let source = File::open(lab.scratch.path("source")).unwrap();
        let copied = rustix::fs::copy_file_range(&source, None, &before, Some(&mut 0), 1);
        assert_eq!(copied, Err(Errno::PERM));
        assert_eq!(fs::read(lab.scratch.stored(name)).unwrap(), b"12");
    }
}

#[test]
fn what_was_published_is_immutable_to_who_still_writes_to_it() {
    if !can_mount() {
        return;
    }
    let mut lab = Lab::guarding("stat", &[]);
    let create = |name| {
        let mut file = File::create_new(lab.scratch.path(name)).unwrap();
        file.write_all(b"12").unwrap();
        file
    };
    let (changed, unchanged) = (create("changed"), create("unchanged"));
    let _ended = lab.scratch.begin("second");
    append(&lab.scratch.path("changed")).unwrap().write_all(b"34").unwrap();
    lab.publish(&["changed", "unchanged"]);
    assert_eq!(errno(changed.write_at(b"x", 0)), EPERM);
    assert_eq!(errno(unchanged.write_at(b"x", 0)), EPERM);
    assert_eq!(fs::read(lab.scratch.stored("changed")).unwrap(), b"1234");
}

#[test]
fn whether_a_file_was_published_is_asked_again_only_when_something_was() {
    if !can_mount() {
        return;
    }
    let mut lab = Lab::guarding("stat", &[("file", b"1"), ("other", b"1")]);
    for idle in [false, true] {
        let _ended = if idle { lab.scratch.idle() } else { lab.scratch.begin("next") };
        let mut file = append(&lab.scratch.path("file")).unwrap();
        let asked = lab.store.questions();
        for _ in 0..10 {
            file.write_all(b"2").unwrap();
        }
        assert_eq!(lab.store.questions() - asked, 1);
        lab.publish(&["other"]);
        file.write_all(b"2").unwrap();
        file.write_all(b"2").unwrap();
        assert_eq!(lab.store.questions() - asked, 2);
    }
}

#[test]
fn a_run_replaces_what_was_published_where_its_outputs_go() {
    if !can_mount() {
        return;
    }
    let (store, key) = (Store::default(), SigningKey::generate().unwrap());
    let gate = gate_with(None, None, Box::new(store.clone()));
    let files: [(&str, &[u8]); 3] = [("out/a", b"1"), ("out/b", b"1"), ("kept", b"1")];
    let scratch = behind(gate, &["out"], &files);
    fs::hard_link(scratch.path("out/b"), scratch.path("b")).unwrap();
    store.publish(&key, "train", &root(&scratch), &["out/a", "out/b", "kept"]);
    fs::write(scratch.path("out/a"), b"2").unwrap();
    assert_eq!(errno(append(&scratch.path("kept"))), EPERM);
    assert_eq!(errno(append(&scratch.path("out/b"))), EPERM, "it has a name elsewhere");
}
