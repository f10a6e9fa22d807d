//! One mount, one stage after another.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may fail")]

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::{FileExt, PermissionsExt},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use attestfs_attestation::{Policy, SigningKey};
use attestfs_fs::{Fact, Identity, Inputs, Limits, Scope};
use rustix::io::Errno;

use crate::common::{Facts, Scratch, Store, can_mount, digests_of};

fn idle_scratch(files: &[(&str, &[u8])]) -> Scratch {
    let prepare = |store: &Path| {
        for (name, bytes) in files {
            fs::write(store.join(name), bytes).unwrap();
        }
    };
    let mut scratch = Scratch::with(prepare, Inputs::Opened, Limits::default(), |backing| backing);
    let (_, before) = scratch.idle();
    assert_eq!(before.all(), []);
    scratch
}

fn names(facts: &Facts) -> (Vec<String>, Vec<String>) {
    (facts.materials().into_keys().collect(), facts.sealed().into_keys().collect())
}

#[test]
fn an_idle_mount_tells_nothing_of_reads_and_writes() {
    if !can_mount() {
        return;
    }
    let scratch = idle_scratch(&[("found", b"1"), ("changed", b"1")]);
    fs::read(scratch.path("found")).unwrap();
    fs::write(scratch.path("made"), b"2").unwrap();
    File::options().append(true).open(scratch.path("changed")).unwrap().write_all(b"2").unwrap();
    fs::rename(scratch.path("made"), scratch.path("moved")).unwrap();
    fs::remove_file(scratch.path("moved")).unwrap();
    assert!(scratch.run.is_idle());
    assert_eq!(scratch.quiesce(), []);
    assert_eq!(scratch.facts.all(), []);
    assert_eq!(fs::read(scratch.stored("changed")).unwrap(), b"12");
}

#[test]
fn requests_belong_to_the_stage_that_is_open() {
    if !can_mount() {
        return;
    }
    let mut scratch = idle_scratch(&[("raw", b"1")]);
    fs::write(scratch.path("before"), b"2").unwrap();
    scratch.begin("first");
    fs::read(scratch.path("raw")).unwrap();
    fs::read(scratch.path("before")).unwrap();
    fs::write(scratch.path("made"), b"3").unwrap();
    scratch.check_digests();
    let (_, first) = scratch.begin("second");
    fs::read(scratch.path("made")).unwrap();
    fs::write(scratch.path("last"), b"4").unwrap();
    scratch.check_digests();
    let (_, second) = scratch.idle();
    fs::read(scratch.path("last")).unwrap();
    let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&first), (own(&["before", "raw"]), own(&["made"])));
    assert_eq!(names(&second), (own(&["made"]), own(&["last"])));
    assert_eq!(scratch.facts.all(), []);
}

#[test]
fn what_was_opened_before_a_stage_makes_neither_its_outputs_nor_its_materials() {
    if !can_mount() {
        return;
    }
    let mut scratch = idle_scratch(&[("read", b"1"), ("written", b"1")]);
    let mut reader = File::open(scratch.path("read")).unwrap();
    let writer = File::options().read(true).write(true).open(scratch.path("written")).unwrap();
    scratch.begin("stage");
    reader.read_to_end(&mut Vec::new()).unwrap();
    writer.write_all_at(b"more", 0).unwrap();
    writer.set_len(2).unwrap();
    drop((reader, writer));
    scratch.quiesce();
    assert_eq!(scratch.facts.all(), []);
    // What nobody's run wrote is no stage's own.
    fs::read(scratch.path("written")).unwrap();
    scratch.quiesce();
    let digests = digests_of(&scratch.stored("written"));
    assert_eq!(scratch.facts.materials()["written"], Some(digests));
}

#[test]
fn what_is_open_when_a_stage_ends_stays_with_it() {
    if !can_mount() {
        return;
    }
    let mut scratch = Scratch::new();
    let file = File::create(scratch.path("log.tmp")).unwrap();
    file.write_all_at(b"first", 0).unwrap();
    let (first, told) = scratch.begin("second");
    file.write_all_at(b"more", 5).unwrap();
    fs::rename(scratch.path("log.tmp"), scratch.path("log")).unwrap();
    assert_eq!(first.quiesce(&Scope::Run, Duration::ZERO).len(), 1);
    drop(file);
    assert_eq!(first.quiesce(&Scope::Run, Duration::from_secs(20)), []);
    told.check_order();
    assert_eq!(told.sealed()["log"], digests_of(&scratch.stored("log")));
    scratch.quiesce();
    assert_eq!(scratch.facts.all(), []);
}

#[test]
fn what_a_stage_wrote_is_followed_until_it_is_committed() {
    if !can_mount() {
        return;
    }
    let mut scratch = Scratch::new();
    for name in ["touched", "moved.tmp", "removed"] {
        fs::write(scratch.path(name), name).unwrap();
    }
    scratch.quiesce();
    let (ended, told) = scratch.idle();
    fs::set_permissions(scratch.path("touched"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(scratch.path("moved.tmp"), scratch.path("moved")).unwrap();
    fs::remove_file(scratch.path("removed")).unwrap();
    assert_eq!(ended.quiesce(&Scope::Run, Duration::from_secs(20)), []);
    told.check_order();
    assert_eq!(told.sealed().into_keys().collect::<Vec<_>>(), ["moved", "touched"]);
    for name in ["touched", "moved"] {
        let stored = Identity::of(File::open(scratch.stored(name)).unwrap()).unwrap();
        let last = told.all().into_iter().rev().find_map(|fact| match fact {
            Fact::Sealed { identity, path: Some(path), .. } if path.path == name => Some(identity),
            _ => None,
        });
        assert_eq!(last, Some(stored), "{name}");
    }
    assert_eq!(scratch.facts.all(), []);
}

#[test]
fn what_a_stage_wrote_is_followed_when_the_kernel_has_forgotten_it_too() {
    if !can_mount() {
        return;
    }
    for stages_between in [0, 1, 2] {
        let mut scratch = Scratch::new();
        for name in ["moved.tmp", "removed"] {
            fs::write(scratch.path(name), name).unwrap();
        }
        scratch.quiesce();
        fs::write("/proc/sys/vm/drop_caches", b"2").unwrap();
        // FORGET comes when it comes.
        thread::sleep(Duration::from_millis(300));
        let (ended, told) = scratch.begin("next");
        let _between: Vec<_> = (0..stages_between).map(|_| scratch.begin("next")).collect();
        fs::rename(scratch.path("moved.tmp"), scratch.path("moved")).unwrap();
        fs::remove_file(scratch.path("removed")).unwrap();
        assert_eq!(ended.quiesce(&Scope::Run, Duration::from_secs(20)), []);
        told.check_order();
        let outputs = told.sealed().into_keys().collect::<Vec<_>>();
        assert_eq!(outputs, ["moved"], "{stages_between}");
    }
}

#[test]
fn a_file_that_two_stages_write_at_once_has_no_wrong_digest() {
    if !can_mount() {
        return;
    }
    let mut scratch = Scratch::new();
    let earlier = File::create(scratch.path("both")).unwrap();
    let (first, told) = scratch.begin("second");
    let later = File::options().write(true).open(scratch.path("both")).unwrap();
    thread::scope(|threads| {
        for (file, start) in [(&earlier, 0), (&later, 1)] {
            threads.spawn(move || {
                for block in (start..4096).step_by(2) {
                    let bytes = [u8::try_from(block % 251).unwrap(); 100];
                    file.write_all_at(&bytes, block * 90).unwrap();
                }
            });
        }
    });
    drop((earlier, later));
    assert_eq!(first.quiesce(&Scope::Run, Duration::from_secs(20)), []);
    scratch.check_digests();
    assert_eq!(told.sealed()["both"], digests_of(&scratch.stored("both")));
}

#[test]
fn a_stage_replaces_what_was_published_where_its_outputs_lie_and_nowhere_else() {
    if !can_mount() {
        return;
    }
    let (store, key) = (Store::default(), SigningKey::generate().unwrap());
    let mut scratch = Scratch::beside(&store, None, |root| {
        for directory in ["model", "data"] {
            fs::create_dir(root.join(directory)).unwrap();
            fs::write(root.join(directory).join("w"), b"old").unwrap();
        }
    });
    store.publish(&key, "before", &scratch.stored(""), &["model/w", "data/w"]);
    let is_open = |path: &Path| match File::options().write(true).open(path) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(Errno::PERM.raw_os_error()));
            false
        }
    };
    let (model, data) = (scratch.path("model/w"), scratch.path("data/w"));
    assert_eq!((is_open(&model), is_open(&data)), (false, false));
    scratch.begin_with_outputs("train", &["model"]);
    assert_eq!((is_open(&model), is_open(&data)), (true, false));
    fs::write(&model, b"new").unwrap();
    scratch.check_digests();
    scratch.idle();
    store.publish(&key, "train", &scratch.stored("model"), &["w"]);
    assert_eq!((is_open(&model), is_open(&data)), (false, false));
}

#[test]
fn the_guarded_name_of_a_hard_link_is_known_in_every_stage() {
    if !can_mount() {
        return;
    }
    let text = "version = 1\nmode = \"enforce\"\n[[rule]]\npaths = [\"*.pt\"]\nrefuse = \"no\"";
    let policy = Policy::parse(text, &mut |file| Err(file.to_owned())).unwrap();
    let store = Store::default();
    let mut scratch = Scratch::beside(&store, Some(policy), |root| {
        fs::write(root.join("w.pt"), b"weights").unwrap();
    });
    fs::hard_link(scratch.path("w.pt"), scratch.path("free")).unwrap();
    let free = scratch.path("free");
    for _ in 0..2 {
        scratch.begin("next");
        fs::write("/proc/sys/vm/drop_caches", b"2").unwrap();
        // FORGET comes when it comes.
        thread::sleep(Duration::from_millis(300));
        scratch.idle();
        let refused = File::open(&free).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(Errno::ACCESS.raw_os_error()));
    }
}

#[test]
fn the_files_of_an_ended_run_are_let_go() {
    if !can_mount() {
        return;
    }
    let mut scratch = Scratch::new();
    for name in ["a", "b"] {
        fs::write(scratch.path(name), name).unwrap();
    }
    let open = File::open(scratch.path("a")).unwrap();
    let (ended, _) = scratch.idle();
    let left = Arc::downgrade(&ended);
    assert_eq!(ended.quiesce(&Scope::Run, Duration::from_secs(20)), []);
    drop((ended, open));
    // RELEASE comes when it comes, and a thread may still be at its last file.
    let is_let_go = (0..2000).any(|_| {
        thread::sleep(Duration::from_millis(10));
        left.strong_count() == 0
    });
    assert!(is_let_go, "somebody holds on to the run");
    assert_eq!(fs::read(scratch.path("b")).unwrap(), b"b");
}

#[test]
fn every_file_belongs_to_one_stage_while_stages_change_under_load() {
    if !can_mount() {
        return;
    }
    let mut scratch = Scratch::new();
    let root = scratch.path("");
    let (done, mut runs) = (AtomicBool::new(false), Vec::new());
    let written = thread::scope(|threads| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (root, done) = (&root, &done);
                threads.spawn(move || write_until(root, writer, done))
            })
            .collect();
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(5));
            runs.push(scratch.begin("next"));
        }
        done.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().unwrap()).sum::<usize>()
    });
    runs.push(scratch.idle());
    let mut told = Vec::new();
    for (run, facts) in &runs {
        assert_eq!(run.quiesce(&Scope::Run, Duration::from_secs(20)), []);
        facts.check_order();
        told.extend(facts.sealed());
    }
    for (path, digests) in &told {
        assert_eq!(*digests, digests_of(&scratch.stored(path)), "{path}");
    }
    told.sort_by(|(one, _), (other, _)| one.cmp(other));
    told.dedup_by(|(one, _), (other, _)| one == other);
    assert_eq!(told.len(), written);
    assert_eq!(runs.iter().map(|(_, facts)| facts.sealed().len()).sum::<usize>(), written);
}

fn write_until(root: &Path, writer: usize, done: &AtomicBool) -> usize {
    let mut count = 0;
    while !done.load(Ordering::Relaxed) {
        let (temporary, path) = (format!("{writer}.tmp"), format!("{writer}-{count}"));
        fs::write(root.join(&temporary), &path).unwrap();
        fs::rename(root.join(&temporary), root.join(&path)).unwrap();
        count += 1;
    }
    count
}
