//! Who keeps whom from a file that both want open.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may fail")]

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Lines, Write},
    os::unix::fs::FileExt,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use attestfs_attestation::{Lock, Locked, SigningKey, WrittenLock};
use attestfs_digest::Sha256;
use attestfs_fs::{Fact, Inputs, LeftOut, Limits, Scope, TreePath, Unsealed};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};
use sha2::Digest;

use crate::{
    common::{Scratch, Store, can_mount, digests_of},
    gate::{Lab, append, behind, errno, eventually, gate_with, policy, read_write, truncate},
};

/// A process that has a file open for reading and writing, and mapped; its descriptor is closed.
struct Mapping {
    process: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Mapping {
    fn of(path: &Path) -> Self {
        let script = "import mmap, os, sys\n\
            file = open(sys.argv[1], 'rb+')\n\
            pages = mmap.mmap(file.fileno(), 0)\n\
            file.close()\n\
            print('mapped', flush=True)\n\
            for line in sys.stdin:\n\
            \x20   pages[:4] = b'EVIL'\n\
            \x20   print('stored', flush=True)\n";
        let mut python = Command::new("python3");
        python.arg("-c").arg(script).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = python.spawn().unwrap();
        let said = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut mapping = Self { process, said };
        assert_eq!(mapping.said.next().unwrap().unwrap(), "mapped");
        mapping
    }

    fn store(&mut self) {
        self.process.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        assert_eq!(self.said.next().unwrap().unwrap(), "stored");
    }

    fn end(mut self) {
        drop(self.process.stdin.take());
        assert!(self.process.wait().unwrap().success());
    }
}

/// A mount that guards a file at this level, which came along with its attestation.
fn guarded(level: &str) -> Lab {
    let lab = Lab::guarding(level, &[("w.pt", WEIGHTS)]);
    lab.publish_elsewhere("w.pt");
    lab
}

/// Two times of a mount that are not the same run's: all of them at each level. At once, for whoever is
/// refused has waited for others first.
fn each_level_and_tenure(test: impl Fn(&mut Lab, &dyn Fn(&mut Lab)) + Sync) {
    let at = |level, idle| {
        let next = move |lab: &mut Lab| {
            if idle {
                lab.scratch.idle()
            } else {
                lab.scratch.begin("next")
            };
        };
        let mut lab = guarded(level);
        next(&mut lab);
        test(&mut lab, &next);
    };
    thread::scope(|threads| {
        for level in ["stat", "rehash", "per-read"] {
            for idle in [false, true] {
                let at = &at;
                threads.spawn(move || at(level, idle));
            }
        }
    });
}

fn verdict(path: &Path) -> String {
    let mut value = vec![0; 4096];
    let length = rustix::fs::getxattr(path, "user.attestfs.verdict", &mut value).unwrap();
    String::from_utf8(value[..length].to_vec()).unwrap()
}

#[test]
fn who_may_write_to_a_file_keeps_others_from_reading_what_was_judged() {
    if !can_mount() {
        return;
    }
    each_level_and_tenure(|lab, next| {
        let path = lab.scratch.path("w.pt");
        let writer = append(&path).unwrap();
        next(lab);
        assert_eq!(errno(File::open(&path)), BUSY);
        drop(writer);
        eventually(|| File::open(&path).is_ok());
        eventually(|| read_write(&path).is_ok());
        let mapping = Mapping::of(&path);
        let process = mapping.process.id();
        next(lab);
        assert_eq!(errno(File::open(&path)), BUSY);
        assert_eq!(errno(read_write(&path)), BUSY);
        let (name, check, reason) = lab.refusals().pop().unwrap();
        assert_eq!((name.as_str(), check), ("w.pt", 15));
        assert!(reason.starts_with(&format!("process {process} (/")), "{reason}");
        assert!(reason.contains("has 'w.pt' open for writing"), "{reason}");
        assert!(verdict(&path).starts_with(&format!("refused: {reason}\nnext: ")));
        mapping.end();
        eventually(|| lab.read("w.pt").is_ok_and(|bytes| bytes == WEIGHTS));
    });
}

#[test]
fn who_reads_what_was_judged_keeps_others_from_opening_it_for_writing() {
    if !can_mount() {
        return;
    }
    each_level_and_tenure(|lab, next| {
        let path = lab.scratch.path("w.pt");
        let reader = File::open(&path).unwrap();
        next(lab);
        assert_eq!(errno(read_write(&path)), BUSY);
        let emptied = File::options().read(true).write(true).truncate(true).open(&path);
        assert_eq!(errno(emptied), BUSY);
        assert_eq!(lab.read("w.pt").unwrap(), WEIGHTS, "others read it, too");
        let (name, check, reason) = lab.refusals().remove(0);
        assert_eq!((name.as_str(), check), ("w.pt", 15));
        let reads = format!("process {} ", std::process::id());
        assert!(reason.starts_with(&reads) && reason.contains("admitted to read"), "{reason}");
        drop(reader);
        eventually(|| read_write(&path).is_ok());
    });
}

#[test]
fn nobody_else_changes_what_somebody_was_admitted_to_read() {
    if !can_mount() {
        return;
    }
    each_level_and_tenure(|lab, next| {
        let path = lab.scratch.path("w.pt");
        let reader = File::open(&path).unwrap();
        next(lab);
        assert_eq!(errno(append(&path)), BUSY);
        assert_eq!(errno(File::create(&path)), BUSY);
        assert_eq!(errno(emptied_by_reader(&path)), BUSY);
        assert_eq!(errno(truncate(&path, 1)), BUSY);
        assert_eq!(fs::read(lab.scratch.stored("w.pt")).unwrap(), WEIGHTS);
        drop(reader);
        eventually(|| append(&path).is_ok());
    });
}

/// `O_TRUNC`, which Linux grants to readers as well.
fn emptied_by_reader(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::TRUNC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

#[test]
fn what_others_stored_in_a_mapping_is_judged_when_it_is_gone() {
    if !can_mount() {
        return;
    }
    each_level_and_tenure(|lab, next| {
        let path = lab.scratch.path("w.pt");
        let mut mapping = Mapping::of(&path);
        next(lab);
        mapping.store();
        assert_eq!(errno(lab.read("w.pt")), BUSY);
        mapping.end();
        // As soon as it is nobody's way any more, the stores are in the store.
        eventually(|| errno(lab.read("w.pt")) == Some(Errno::ACCESS.raw_os_error()));
        assert!(fs::read(lab.scratch.stored("w.pt")).unwrap().starts_with(b"EVIL"));
    });
}

#[test]
fn a_run_does_not_exclude_itself() {
    if !can_mount() {
        return;
    }
    for level in ["stat", "rehash", "per-read"] {
        let lab = guarded(level);
        let path = lab.scratch.path("w.pt");
        let (reader, mut mapping) = (File::open(&path).unwrap(), Mapping::of(&path));
        assert_eq!(lab.read("w.pt").unwrap(), WEIGHTS);
        mapping.store();
        let writer = read_write(&path).unwrap();
        writer.write_all_at(b"mine", 8).unwrap();
        drop((reader, writer));
        mapping.end();
        assert_eq!(lab.read("w.pt").unwrap(), b"EVIL 123mine 789");
        assert_eq!(lab.refusals(), []);
    }
}

#[test]
fn what_nobodys_run_opened_excludes_every_other_open_and_not_itself() {
    if !can_mount() {
        return;
    }
    for level in ["stat", "rehash", "per-read"] {
        let mut lab = guarded(level);
        lab.scratch.idle();
        let path = lab.scratch.path("w.pt");
        let file = read_write(&path).unwrap();
        assert_eq!(errno(read_write(&path)), BUSY);
        assert_eq!(errno(File::open(&path)), BUSY);
        assert_eq!(errno(append(&path)), BUSY);
        file.write_all_at(b"mine", 8).unwrap();
        let mut bytes = [0; 6];
        file.read_exact_at(&mut bytes, 7).unwrap();
        assert_eq!(&bytes, b"3mine ", "{level}");
    }
}

#[test]
fn what_nothing_guards_is_shared_as_ever() {
    if !can_mount() {
        return;
    }
    let mut lab = Lab::guarding("rehash", &[("free", WEIGHTS)]);
    let path = lab.scratch.path("free");
    let reader = File::open(&path).unwrap();
    lab.scratch.idle();
    let (one, mut mapping) = (read_write(&path).unwrap(), Mapping::of(&path));
    mapping.store();
    one.write_all_at(b"more", 8).unwrap();
    let mut bytes = [0; 12];
    reader.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"EVIL 123more");
    mapping.end();
}

#[test]
fn in_audit_mode_nobody_is_kept_apart_and_who_would_be_is_told() {
    if !can_mount() {
        return;
    }
    let rules = "[[rule]]\npaths = [\"**/*.pt\"]\nlevel = \"rehash\"";
    let mut lab = Lab::with("audit", rules, &[("w.pt", WEIGHTS)]);
    lab.publish_elsewhere("w.pt");
    let path = lab.scratch.path("w.pt");
    let reader = File::open(&path).unwrap();
    lab.scratch.idle();
    let writer = read_write(&path).unwrap();
    lab.scratch.begin("next");
    File::open(&path).unwrap();
    writer.write_all_at(b"mine", 0).unwrap();
    let told: Vec<_> = lab.scratch.facts.all();
    let enforced = |fact: &Fact| match fact {
        Fact::Refused { check: 15, enforced, .. } => Some(*enforced),
        _ => None,
    };
    assert_eq!(told.iter().filter_map(enforced).collect::<Vec<_>>(), [false]);
    drop((reader, writer));
}

#[test]
fn what_a_lock_has_is_kept_from_change_as_what_a_rule_guards() {
    if !can_mount() {
        return;
    }
    let key = SigningKey::generate().unwrap();
    let audit = || policy(&key, "audit", "[[rule]]\npaths = [\"**\"]\nlevel = \"rehash\"");
    for policy in [None, Some(audit())] {
        let sha256 = Sha256(sha2::Sha256::digest(WEIGHTS).into());
        let locked = Locked { sha256, size: WEIGHTS.len() as u64 };
        let entries = [("a.csv".to_owned(), locked)].into_iter().collect();
        let written = WrittenLock::of(&[entries]);
        let lock = Lock::parse(written.bytes(), &mut |_| Err(String::new())).unwrap();
        let gate = gate_with(policy, Some(lock), Box::new(Store::default()));
        let mut scratch = behind(gate, &[], &[("a.csv", WEIGHTS)]);
        let path = scratch.path("a.csv");
        let writer = read_write(&path).unwrap();
        scratch.begin("next");
        assert_eq!(errno(File::open(&path)), BUSY);
        drop(writer);
        eventually(|| File::open(&path).is_ok());
        let reader = File::open(&path).unwrap();
        scratch.idle();
        assert_eq!(errno(read_write(&path)), BUSY);
        assert_eq!(errno(append(&path)), BUSY);
        drop(reader);
    }
}

#[test]
fn readers_and_writers_never_have_it_open_at_once() {
    if !can_mount() {
        return;
    }
    let mut lab = guarded("stat");
    lab.scratch.idle();
    let path = lab.scratch.path("w.pt");
    let (readers, writers) = (Party::default(), Party::default());
    thread::scope(|threads| {
        for rest_ms in [5, 7] {
            let (path, readers, writers) = (&path, &readers, &writers);
            let reads = move || readers.come_and_go(writers, rest_ms, || File::open(path));
            let stores = move || writers.come_and_go(readers, rest_ms, || read_write(path));
            threads.spawn(reads);
            threads.spawn(stores);
        }
    });
    assert!(readers.is_satisfied() && writers.is_satisfied(), "{readers:?} {writers:?}");
    for party in [readers, writers] {
        assert_eq!(party.met.into_inner(), 0);
    }
}

/// Those who want a file open in one way.
#[derive(Debug, Default)]
struct Party {
    inside: AtomicUsize,
    visits: AtomicUsize,
    met: AtomicUsize,
}

impl Party {
    /// Opens and closes until both parties have done so often enough. Who is counted as inside has it
    /// open, and may have it open a little longer.
    fn come_and_go(&self, others: &Self, rest_ms: u64, open: impl Fn() -> io::Result<File>) {
        for _ in 0..2000 {
            if self.is_satisfied() && others.is_satisfied() {
                return;
            }
            thread::sleep(Duration::from_millis(rest_ms));
            let Ok(file) = open() else { continue };
            self.inside.fetch_add(1, Ordering::SeqCst);
            thread::yield_now();
            self.met.fetch_add(others.inside.load(Ordering::SeqCst), Ordering::SeqCst);
            self.inside.fetch_sub(1, Ordering::SeqCst);
            drop(file);
            self.visits.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn is_satisfied(&self) -> bool {
        self.visits.load(Ordering::SeqCst) >= 50
    }
}

#[test]
fn who_has_closed_a_file_is_in_nobodys_way() {
    if !can_mount() {
        return;
    }
    let comes_and_goes = "set -e; for turn in $(seq 200); do\n\
        : >> w.pt\n\
        cat w.pt > shown\n\
        if [ $((turn % 10)) = 0 ]; then cp copy w.pt; cat w.pt > shown; truncate -s 16 w.pt; fi\n\
        done";
    let mut lab = guarded("stat");
    fs::write(lab.scratch.stored("copy"), WEIGHTS).unwrap();
    lab.scratch.idle();
    let mut shell = Command::new("sh");
    let shell = shell.args(["-c", comes_and_goes]).current_dir(lab.scratch.path(""));
    assert!(shell.status().unwrap().success(), "{:?}", lab.refusals());
    assert_eq!(lab.refusals(), []);
    each_level_and_tenure(|lab, next| {
        let path = lab.scratch.path("w.pt");
        for _ in 0..20 {
            drop(append(&path).unwrap());
            next(lab);
            drop(File::open(&path).unwrap());
            next(lab);
        }
    });
}

#[test]
fn whoever_waits_for_others_to_close_a_file_keeps_nobody_else_waiting() {
    if !can_mount() {
        return;
    }
    let others = ["1.pt", "2.pt", "3.pt", "4.pt", "5.pt"];
    let files = [("w.pt", WEIGHTS)].into_iter().chain(others.map(|name| (name, &b"other"[..])));
    let mut lab = Lab::guarding("rehash", &files.collect::<Vec<_>>());
    lab.publish_elsewhere("w.pt");
    lab.publish(&others);
    lab.scratch.idle();
    let path = lab.scratch.path("w.pt");
    let writer = append(&path).unwrap();
    let is_read_before = |other| {
        thread::scope(|threads| {
            // More than there are threads for requests, for judgements and for hashing.
            let open = || errno(File::open(&path));
            let waiting: Vec<_> = (0..30).map(|_| threads.spawn(open)).collect();
            thread::sleep(Duration::from_millis(100));
            assert_eq!(lab.read(other).unwrap(), b"other");
            let finished = waiting.iter().filter(|open| open.is_finished()).count();
            assert!(waiting.into_iter().all(|open| open.join().unwrap() == BUSY));
            finished < 8
        })
    };
    // Once is enough: this machine may have others to wait for.
    assert!(others.into_iter().any(is_read_before));
    drop(writer);
}

#[test]
fn who_was_admitted_reads_what_was_admitted_while_others_write() {
    if !can_mount() {
        return;
    }
    let mut lab = guarded("stat");
    lab.scratch.idle();
    let path = lab.scratch.path("w.pt");
    let done = AtomicBool::new(false);
    let (admitted, wrong, changes) = thread::scope(|threads| {
        let writer = threads.spawn(|| write_until(&path, &done));
        let (mut admitted, mut wrong) = (0, 0);
        for _ in 0..200 {
            let Ok(file) = File::open(&path) else { continue };
            for _ in 0..20 {
                let mut bytes = [0; 16];
                let read = file.read_exact_at(&mut bytes, 0);
                wrong += usize::from(read.is_err() || bytes != *WEIGHTS);
            }
            admitted += 1;
        }
        done.store(true, Ordering::Relaxed);
        (admitted, wrong, writer.join().unwrap())
    });
    assert!(admitted > 0 && changes > 0, "{admitted} {changes}");
    assert_eq!(wrong, 0);
}

/// Changes a file and changes it back, as often as it may.
fn write_until(path: &Path, done: &AtomicBool) -> usize {
    let mut changes = 0;
    while !done.load(Ordering::Relaxed) {
        let write = |bytes: &[u8]| {
            let file = File::options().write(true).open(path);
            file.and_then(|file| file.write_at(bytes, 0)).is_ok()
        };
        changes += usize::from(write(b"EVIL"));
        while !write(&WEIGHTS[..4]) && !done.load(Ordering::Relaxed) {}
        // So long the gate waits until a content is old enough to be hashed.
        thread::sleep(Duration::from_millis(25));
    }
    changes
}

#[test]
fn a_file_that_somebody_has_open_for_writing_is_left_out_and_named() {
    if !can_mount() {
        return;
    }
    for open in [read_write, append] {
        let mut scratch =
            Scratch::with(|_| {}, Inputs::Opened, Limits::default(), |backing| backing);
        let path = scratch.path("w");
        fs::write(&path, b"0").unwrap();
        let ended = open(&path).unwrap();
        scratch.idle();
        let nobodys = open(&path).unwrap();
        scratch.begin("stage");
        fs::write(&path, b"new").unwrap();
        let own = open(&path).unwrap();
        for writer in [ended, nobodys, own] {
            let left_out = scratch.run.quiesce(&Scope::Run, Duration::from_millis(200));
            let path = TreePath { tree: 0, path: "w".to_owned() };
            assert_eq!(left_out, [LeftOut { path, unsealed: Unsealed::Open }]);
            assert!(scratch.facts.sealed().is_empty());
            drop(writer);
        }
        let sealed = scratch.check_digests();
        assert_eq!(sealed["w"], digests_of(&scratch.stored("w")));
    }
}

const WEIGHTS: &[u8] = b"w123 123 456 789";

const BUSY: Option<i32> = Some(Errno::TXTBSY.raw_os_error());
