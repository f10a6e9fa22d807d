//! Requests that hang in the store, or break off: everybody else goes on.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may fail")]
#![expect(clippy::disallowed_methods, reason = "some tests look at how long something takes")]

use std::{
    fs::{self, File},
    io,
    ops::ControlFlow,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use attestfs_fs::{Inputs, LeftOut, Limits, MountError, Scope, Unsealed, meter};
use rustix::io::Errno;

use crate::{
    common::{Scratch, can_mount},
    gate::{errno, eventually},
    hooked::{Barrier, Hooked},
};

/// More than there are threads as long as nothing hangs.
const HANGING: usize = 12;

/// A mount, and what keeps everybody in its store from the bytes of `hangs*`.
fn with_barrier() -> (Scratch, Barrier) {
    let barrier = Barrier::default();
    let passage = barrier.passage();
    let prepare = |store: &Path| {
        for number in 0..HANGING {
            fs::write(store.join(format!("hangs{number}")), "at last").unwrap();
        }
        fs::write(store.join("other"), "at once").unwrap();
    };
    let before = move |name: &str| {
        if name.starts_with("hangs") {
            passage();
        }
    };
    let wrap = |store| Hooked::in_front_of(store, before);
    (Scratch::with(prepare, Inputs::None, Limits::default(), wrap), barrier)
}

/// Somebody reads a file.
fn reader(scratch: &Scratch, name: &str) -> JoinHandle<io::Result<Vec<u8>>> {
    let path = scratch.path(name);
    thread::spawn(move || fs::read(path))
}

/// The same for all files that hang. Returns when all of them do.
fn hanging_readers(scratch: &Scratch, barrier: &Barrier) -> Vec<JoinHandle<io::Result<Vec<u8>>>> {
    let read = |number| reader(scratch, &format!("hangs{number}"));
    let readers = (0..HANGING).map(read).collect();
    eventually(|| barrier.waiting() == HANGING);
    readers
}

#[test]
fn whatever_hangs_in_the_store_other_files_stay_usable() {
    if !can_mount() {
        return;
    }
    let (scratch, barrier) = with_barrier();
    let readers = hanging_readers(&scratch, &barrier);
    let other = reader(&scratch, "other");
    eventually(|| other.is_finished());
    assert_eq!(other.join().unwrap().unwrap(), b"at once");
    let path = scratch.path("new");
    let writer = thread::spawn(move || fs::write(path, vec![7; 3 << 20]));
    eventually(|| writer.is_finished());
    writer.join().unwrap().unwrap();
    barrier.open();
    for reader in readers {
        assert_eq!(reader.join().unwrap().unwrap(), b"at last");
    }
    assert_eq!(scratch.check_digests().len(), 1);
}

#[test]
fn a_write_that_hangs_keeps_only_those_waiting_who_look_at_the_file() {
    if !can_mount() {
        return;
    }
    let (scratch, barrier) = with_barrier();
    let path = scratch.path("hangs0");
    let writer = thread::spawn(move || fs::write(path, vec![7; 9 << 20]));
    eventually(|| barrier.waiting() > 0);
    let path = scratch.path("hangs0");
    let looks: Vec<_> = (0..HANGING)
        .map(|_| path.clone())
        .map(|path| thread::spawn(move || fs::metadata(path).unwrap().len()))
        .collect();
    thread::sleep(Duration::from_millis(300));
    let other = reader(&scratch, "other");
    eventually(|| other.is_finished());
    barrier.open();
    writer.join().unwrap().unwrap();
    assert!(looks.into_iter().all(|look| look.join().unwrap() > 0));
    assert_eq!(scratch.check_digests().len(), 1);
}

#[test]
fn a_request_that_hangs_for_long_is_counted_until_it_is_answered() {
    if !can_mount() {
        return;
    }
    let (scratch, barrier) = with_barrier();
    let reader = reader(&scratch, "hangs0");
    eventually(|| meter().stuck_requests() > 0);
    barrier.open();
    assert_eq!(reader.join().unwrap().unwrap(), b"at last");
    eventually(|| meter().stuck_requests() == 0);
}

#[test]
fn a_mount_that_is_broken_off_ends_although_requests_hang() {
    if !can_mount() {
        return;
    }
    let (mut scratch, barrier) = with_barrier();
    let readers = hanging_readers(&scratch, &barrier);
    let (tell, told) = mpsc::channel();
    thread::scope(|threads| {
        threads.spawn(|| tell.send(scratch.break_off()).unwrap());
        let ended = told.recv_timeout(Duration::from_secs(30));
        barrier.open();
        assert!(matches!(ended, Ok(Err(MountError::Broken { .. }))), "{ended:?}");
    });
    for reader in readers {
        assert!(reader.join().unwrap().is_err());
    }
}

#[test]
fn an_unmount_waits_for_no_thread_that_rests() {
    if !can_mount() {
        return;
    }
    let mut times: Vec<_> = (0..9).map(|_| time_of_unmount()).collect();
    times.sort_unstable();
    assert!(times[4] < Duration::from_millis(250), "{times:?}");
}

/// Of a mount where many more threads have answered than are awake.
fn time_of_unmount() -> Duration {
    let prepare = |store: &Path| fs::write(store.join("f"), "content").unwrap();
    let mut scratch = Scratch::with(prepare, Inputs::None, Limits::default(), |backing| backing);
    for _ in 0..100 {
        assert_eq!(fs::read(scratch.path("f")).unwrap(), b"content");
    }
    let began = Instant::now();
    scratch.end();
    began.elapsed()
}

#[test]
fn a_request_that_breaks_off_is_answered_with_an_error_and_takes_no_other_along() {
    if !can_mount() {
        return;
    }
    let before = |name: &str| assert!(!name.starts_with("breaks"), "a fault in the store");
    let prepare = |store: &Path| fs::write(store.join("breaks"), "content").unwrap();
    let wrap = |store| Hooked::in_front_of(store, before);
    let scratch = Scratch::with(prepare, Inputs::None, Limits::default(), wrap);
    // More often than there are threads, be they awake or not.
    for _ in 0..50 {
        let broken = fs::read(scratch.path("breaks"));
        assert_eq!(errno(broken), Some(Errno::IO.raw_os_error()));
    }
    fs::write(scratch.path("new"), "content").unwrap();
    assert_eq!(fs::read(scratch.path("new")).unwrap(), b"content");
    assert_eq!(scratch.check_digests().len(), 1);
}

/// More often than there are threads that hash.
const BROKEN: usize = 20;

#[test]
fn what_breaks_off_while_it_is_hashed_has_no_digest_and_keeps_nobody_waiting() {
    if !can_mount() {
        return;
    }
    let is_broken = Arc::new(AtomicBool::new(false));
    let is_broken_now = Arc::clone(&is_broken);
    let before = move |name: &str| {
        let breaks = name.starts_with("breaks") && is_broken_now.load(Ordering::Relaxed);
        assert!(!breaks, "a fault in the store");
    };
    let prepare = |store: &Path| {
        for number in 0..BROKEN {
            fs::write(store.join(format!("breaks-found{number}")), "content").unwrap();
        }
        fs::write(store.join("found"), "content").unwrap();
    };
    let wrap = |store| Hooked::in_front_of(store, before);
    let scratch = Scratch::with(prepare, Inputs::Opened, Limits::default(), wrap);
    let written: Vec<_> =
        (0..BROKEN).map(|number| patched(&scratch, &format!("breaks-made{number}"))).collect();
    is_broken.store(true, Ordering::Relaxed);
    drop(written);
    for number in 0..BROKEN {
        File::open(scratch.path(&format!("breaks-found{number}"))).unwrap();
    }
    fs::read(scratch.path("found")).unwrap();
    drop(patched(&scratch, "made"));
    let left_out = scratch.run.quiesce(&Scope::Run, Duration::from_secs(20));
    let is_unreadable = |left: &LeftOut| matches!(left.unsealed, Unsealed::Unreadable(_));
    assert!(left_out.len() == BROKEN && left_out.iter().all(is_unreadable), "{left_out:?}");
    assert_eq!(scratch.facts.sealed().keys().collect::<Vec<_>>(), ["made"]);
    let mut looks = 0..200;
    let watch = &mut |_| looks.next().map_or(ControlFlow::Break(()), |_| ControlFlow::Continue(()));
    assert!(scratch.run.wait_for_materials(watch).is_continue());
    let materials = scratch.facts.materials();
    let hashed = materials.iter().filter(|(_, digests)| digests.is_some());
    assert_eq!(hashed.map(|(path, _)| path).collect::<Vec<_>>(), ["found"]);
}

/// A new file that has to be read back to be hashed.
fn patched(scratch: &Scratch, name: &str) -> File {
    let file = File::create(scratch.path(name)).unwrap();
    file.write_all_at(b"end", 300_000).unwrap();
    file.write_all_at(b"beginning", 0).unwrap();
    file
}
