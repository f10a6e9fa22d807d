//! Files that the kernel writes past us: they are read again, and their digests are true.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may fail")]
#![expect(
    clippy::disallowed_methods,
    reason = "a test looks at the clock to see that somebody was waited for"
)]

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use attestfs_fs::{Inputs, Limits, Scope, Unsealed};
use rustix::{fs::FallocateFlags, io::Errno};

use crate::{
    behind::pattern,
    common::{Scratch, can_mount, digests_of},
    gate::{append, errno, eventually, read_write},
    hooked::{Barrier, Hooked},
};

const MIB: usize = 1 << 20;

/// As long as it takes to read behind.
const CATCH_UP: Duration = Duration::from_millis(60);

#[test]
fn what_the_kernel_wrote_by_itself_has_the_digests_of_the_store() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::rereading();
    for length in [0, 1, 64 << 10, (64 << 10) + 1, MIB, 5 * MIB + 3, 40 * MIB] {
        fs::write(scratch.path(&format!("at-once-{length}")), pattern(length, 1)).unwrap();
    }
    let mut slow = File::create(scratch.path("slow")).unwrap();
    for number in 0..12 {
        slow.write_all(&pattern(MIB, number << 20)).unwrap();
        thread::sleep(CATCH_UP / 3);
    }
    drop(slow);
    assert_eq!(scratch.check_digests().len(), 8);
}

#[test]
fn what_is_changed_after_it_was_read_behind_the_writer_is_read_again() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::rereading();
    let written = |name: &str| {
        let mut file = File::create(scratch.path(name)).unwrap();
        file.write_all(&pattern(9 * MIB, 7)).unwrap();
        thread::sleep(CATCH_UP);
        file
    };
    written("patched").write_all_at(b"header", 3 * MIB as u64).unwrap();
    written("cut").set_len(2 * MIB as u64 + 3).unwrap();
    let cut_and_grown = written("cut-and-grown");
    cut_and_grown.set_len(MIB as u64).unwrap();
    cut_and_grown.write_all_at(&pattern(9 * MIB, 8), MIB as u64 - 5).unwrap();
    let punched = written("punched");
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&punched, hole, MIB as u64, MIB as u64).unwrap();
    let joined = written("joined");
    append(&scratch.path("joined")).unwrap().write_all(b"by another").unwrap();
    joined.write_all_at(b"and back", 0).unwrap();
    drop((cut_and_grown, punched, joined));
    // As safetensors does: full length first.
    let filled = File::create(scratch.path("filled")).unwrap();
    filled.set_len(9 * MIB as u64).unwrap();
    thread::sleep(CATCH_UP);
    filled.write_all_at(&pattern(9 * MIB, 9), 0).unwrap();
    drop(filled);
    assert_eq!(scratch.check_digests().len(), 6);
}

#[test]
fn who_could_map_what_is_written_past_us_is_refused_until_the_writer_has_closed_it() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::rereading();
    let path = scratch.path("f");
    let mut writer = File::create(&path).unwrap();
    writer.write_all(b"bytes").unwrap();
    let since = Instant::now();
    assert_eq!(errno(read_write(&path)), Some(Errno::TXTBSY.raw_os_error()));
    assert!(since.elapsed() > Duration::from_millis(500), "a close may be on its way");
    assert_eq!(fs::read(&path).unwrap(), b"bytes");
    drop(writer);
    for number in 0..100 {
        fs::write(&path, number.to_string()).unwrap();
        read_write(&path).unwrap().write_all(b"0").unwrap();
        let expected = number.to_string().split_off(1);
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("0{expected}"));
    }
    scratch.check_digests();
}

#[test]
fn who_writes_on_past_us_when_the_stage_has_ended_leaves_true_digests() {
    if !can_mount() {
        return;
    }
    for first_closes_first in [true, false] {
        let mut scratch = Scratch::rereading();
        let path = scratch.path("f");
        let mut first = File::create(&path).unwrap();
        first.write_all(&pattern(3 * MIB, 1)).unwrap();
        let (earlier, facts) = scratch.begin("next");
        let mut second = append(&path).unwrap();
        second.write_all(&pattern(MIB, 2)).unwrap();
        first.write_all_at(b"once more", 5).unwrap();
        if first_closes_first {
            drop(first);
            drop(second);
            scratch.check_digests();
        } else {
            drop(second);
            first.write_all_at(b"and once more", 2 * MIB as u64).unwrap();
            // What somebody may still write past us has no digest.
            let left_out = scratch.run.quiesce(&Scope::Run, CATCH_UP);
            assert!(left_out.iter().all(|left_out| left_out.unsealed == Unsealed::Open));
            assert_eq!(scratch.facts.sealed().len(), 0);
            drop(first);
        }
        assert_eq!(earlier.quiesce(&Scope::Run, Duration::from_secs(20)), []);
        let stored = digests_of(&scratch.stored("f"));
        assert!(facts.sealed().values().all(|digests| *digests == stored));
    }
}

#[test]
fn what_is_read_while_another_stage_writes_it_past_us_has_no_digest() {
    if !can_mount() {
        return;
    }
    let mut scratch = Scratch::rereading();
    let path = scratch.path("f");
    let mut writer = File::create(&path).unwrap();
    writer.write_all(&pattern(MIB, 1)).unwrap();
    scratch.begin("next");
    let read = || {
        assert_eq!(fs::read(&path).unwrap().len(), MIB);
        assert_eq!(scratch.quiesce(), []);
        scratch.facts.materials()["f"]
    };
    assert_eq!(read(), None);
    writer.write_all_at(b"x", 0).unwrap();
    drop(writer);
    // The close is told after it is done.
    let found = (0..100).find_map(|_| {
        thread::sleep(Duration::from_millis(20));
        fs::set_permissions(scratch.stored("f"), fs::Permissions::from_mode(0o600)).unwrap();
        read()
    });
    assert_eq!(found, Some(digests_of(&scratch.stored("f"))));
}

#[test]
fn nobody_gives_a_set_id_bit_to_what_another_user_writes_past_us() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::rereading();
    let directory = scratch.path("shared");
    fs::create_dir(&directory).unwrap();
    for open in [scratch.path(".."), directory.clone()] {
        fs::set_permissions(open, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let path = directory.join("f");
    let mut user = Command::new("setpriv");
    user.args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c"])
        .arg(format!("exec > '{}'; echo x; echo made >&2; read end; echo y", path.display()))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped());
    let mut user = user.spawn().unwrap();
    let mut told = String::new();
    BufReader::new(user.stderr.take().unwrap()).read_line(&mut told).unwrap();
    assert_eq!(told, "made\n");
    let set_id = || fs::set_permissions(&path, fs::Permissions::from_mode(0o4755));
    assert_eq!(errno(set_id()), Some(Errno::TXTBSY.raw_os_error()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
    user.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(user.wait().unwrap().success());
    assert_eq!(fs::read(&path).unwrap(), b"x\ny\n");
    // Who may keep the bit when he writes may set it.
    let mut root = File::create(scratch.path("root")).unwrap();
    root.set_permissions(fs::Permissions::from_mode(0o4755)).unwrap();
    root.write_all(b"x").unwrap();
    drop(root);
    scratch.check_digests();
}

#[test]
fn who_writes_past_us_when_the_mount_is_taken_away_has_not_closed_his_file() {
    if !can_mount() {
        return;
    }
    let mut scratch = Scratch::rereading();
    let mut writer = File::create(scratch.path("f")).unwrap();
    writer.write_all(&pattern(MIB, 1)).unwrap();
    let closed = File::create(scratch.path("closed")).unwrap();
    drop(closed);
    let mount = scratch.take_away();
    let (by, path) = mount.writers_past().pop().expect("one who writes past us");
    assert_eq!((by.pid, path.path.as_str()), (Some(std::process::id()), "f"));
    writer.write_all_at(b"and goes on", 0).unwrap();
    let left_out = scratch.run.quiesce(&Scope::Run, CATCH_UP);
    assert_eq!(left_out.len(), 1);
    assert_eq!(left_out[0].unsealed, Unsealed::Open);
    assert_eq!(scratch.facts.sealed().into_keys().collect::<Vec<_>>(), ["closed"]);
}

#[test]
fn who_may_write_past_a_server_that_has_ended_is_known_until_he_has_closed_the_file() {
    if !can_mount() {
        return;
    }
    let mut scratch = Scratch::rereading();
    let writer = File::create(scratch.path("f")).unwrap();
    let inode = fs::metadata(scratch.stored("f")).unwrap().ino();
    let is_marked = || {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        locks.lines().any(|lock| lock.contains("OFDLCK") && lock.contains(&format!(":{inode} ")))
    };
    assert!(is_marked());
    let mount = scratch.take_away();
    // As the end of the process would take it.
    drop(mount);
    drop(scratch);
    assert!(is_marked());
    drop(writer);
    let gone = (0..100).any(|_| {
        thread::sleep(Duration::from_millis(10));
        !is_marked()
    });
    assert!(gone);
}

#[test]
fn who_empties_what_is_written_past_us_keeps_nobody_waiting_for_another_file() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::rereading();
    let (source, written) = (scratch.path("source"), scratch.path("written"));
    fs::write(&source, pattern(192 * MIB, 1)).unwrap();
    fs::write(scratch.path("other"), "x").unwrap();
    // What it writes comes from the mount itself, page by page, while it holds the lock of the file of the store.
    let script = "import mmap, os, sys\n\
        source = mmap.mmap(os.open(sys.argv[1], os.O_RDONLY), 0, prot=mmap.PROT_READ)\n\
        file = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)\n\
        print('opened', flush=True)\n\
        os.write(file, source)";
    let mut writer = Command::new("python3");
    writer.args(["-I", "-S", "-c", script]).args([&source, &written]).stdout(Stdio::piped());
    let mut writer = writer.spawn().unwrap();
    BufReader::new(writer.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    thread::sleep(Duration::from_millis(20));
    let empty = || Command::new("sh").args(["-c", ": > \"$0\""]).arg(&written).spawn().unwrap();
    let others: Vec<_> = (0..8).map(|_| empty()).collect();
    let (tell, told) = mpsc::channel();
    let other = scratch.path("other");
    thread::spawn(move || tell.send(fs::read(other).unwrap()).unwrap());
    let read = told.recv_timeout(Duration::from_secs(10));
    if read.is_err() {
        // The mount could not be taken away otherwise.
        writer.kill().unwrap();
    }
    assert!(writer.wait().unwrap().success());
    assert_eq!(read.unwrap(), b"x");
    for mut other in others {
        assert!(other.wait().unwrap().success());
    }
    scratch.check_digests();
}

#[test]
fn who_empties_what_is_written_past_us_keeps_nobody_waiting_for_a_close() {
    if !can_mount() {
        return;
    }
    let (scratch, barrier) = (Scratch::rereading(), Barrier::default());
    let (idle, source) = (File::create(scratch.path("idle")).unwrap(), hanging_source(&barrier));
    let mut writers = write_each(&source, &scratch);
    eventually(|| barrier.waiting() == THREADS);
    let empty = |number| {
        let path = scratch.path(&format!("written{number}"));
        thread::spawn(move || File::create(path).map(drop))
    };
    let emptied: Vec<_> = (0..THREADS).map(empty).collect();
    // They wait for a close as well, and no longer than this.
    thread::sleep(Duration::from_millis(1500));
    let (tell, told) = mpsc::channel();
    let path = scratch.path("idle");
    thread::spawn(move || tell.send(read_write(&path).map(drop)).unwrap_or_default());
    let answer = told.recv_timeout(Duration::from_secs(10));
    barrier.open();
    assert!(writers.wait().unwrap().success());
    assert!(emptied.into_iter().all(|emptied| emptied.join().unwrap().is_ok()));
    assert_eq!(errno(answer.unwrap()), Some(Errno::TXTBSY.raw_os_error()));
    drop(idle);
    scratch.check_digests();
}

#[test]
fn who_waits_for_a_close_waits_no_longer_because_others_do() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::rereading();
    let (path, since) = (scratch.path("f"), Instant::now());
    let writer = File::create(&path).unwrap();
    thread::scope(|threads| {
        let open = || errno(read_write(&path));
        let opens: Vec<_> = (0..10 * THREADS).map(|_| threads.spawn(open)).collect();
        let refusals = opens.into_iter().map(|open| open.join().unwrap());
        assert!(refusals.into_iter().all(|refusal| refusal == Some(Errno::TXTBSY.raw_os_error())));
    });
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    drop(writer);
}

/// As many as there are threads that wait for a close.
const THREADS: usize = 8;

/// Files of which nobody reads a byte before the barrier is open.
fn hanging_source(barrier: &Barrier) -> Scratch {
    let fill = |root: &Path| {
        for number in 0..THREADS {
            fs::write(root.join(format!("source{number}")), "at last").unwrap();
        }
    };
    let passage = barrier.passage();
    let hang = |store| Hooked::in_front_of(store, move |_| passage());
    Scratch::with(fill, Inputs::None, Limits::default(), hang)
}

/// Writes each of these files by one call, which takes its bytes from a mapping while it holds the lock of the file of the
/// store.
fn write_each(source: &Scratch, scratch: &Scratch) -> Child {
    let script = "import mmap, os, sys, threading\n\
        source = lambda n: os.open(sys.argv[1] + str(n), os.O_RDONLY)\n\
        mapped = lambda n: mmap.mmap(source(n), 0, prot=mmap.PROT_READ)\n\
        made = lambda n: os.open(sys.argv[2] + str(n), os.O_WRONLY | os.O_CREAT)\n\
        write = lambda n: os.write(made(n), mapped(n))\n\
        threads = [threading.Thread(target=write, args=[n]) for n in range(int(sys.argv[3]))]\n\
        [thread.start() for thread in threads]\n\
        [thread.join() for thread in threads]";
    let mut python = Command::new("python3");
    python.args(["-I", "-S", "-c", script]).args([source.path("source"), scratch.path("written")]);
    python.arg(THREADS.to_string()).spawn().unwrap()
}
