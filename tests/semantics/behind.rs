//! Writes that are answered before they are stored, and reads that pass by us: nobody sees a difference.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may fail")]

use std::{
    ffi::CString,
    fs::{self, File},
    io::{Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use attestfs_fs::{Inputs, Limits, Unsealed};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    mount::{MountFlags, UnmountFlags},
};

use crate::common::{Scratch, can_mount, digests_of};

const MIB: usize = 1 << 20;

/// What the kernel asks to be written by one request, wherever it lies in memory.
const PIECE: usize = MIB / 2;

/// Bytes that no two pieces have in common.
pub(crate) fn pattern(length: usize, seed: u32) -> Vec<u8> {
    let words = (seed..).map(|word| word.wrapping_mul(0x9E37_79B1));
    words.flat_map(u32::to_le_bytes).take(length).collect()
}

#[test]
fn what_is_answered_is_read_back_whoever_asks() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.path("big");
    let mut file = File::create(&path).unwrap();
    let other = File::open(&path).unwrap();
    for number in 0..40 {
        let piece = pattern(MIB, number << 20);
        file.write_all(&piece).unwrap();
        let mut back = vec![0; MIB];
        let offset = u64::from(number) * MIB as u64;
        other.read_exact_at(&mut back, offset).unwrap();
        assert!(back == piece, "piece {number}");
        assert_eq!(fs::metadata(&path).unwrap().len(), offset + MIB as u64);
    }
    drop((file, other));
    scratch.check_digests();
}

#[test]
fn what_is_synced_or_closed_lies_in_the_store() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let bytes = pattern(9 * MIB + 5, 0);
    let mut file = File::create(scratch.path("f")).unwrap();
    file.write_all(&bytes).unwrap();
    file.sync_all().unwrap();
    assert!(fs::read(scratch.stored("f")).unwrap() == bytes);
    file.write_all(&bytes).unwrap();
    drop(file);
    assert!(fs::read(scratch.stored("f")).unwrap() == [&bytes[..], &bytes].concat());
    scratch.check_digests();
}

#[test]
fn appends_lose_nothing_while_somebody_looks_at_the_directory() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    // Both pause for moments that never match for long.
    let script = "import mmap, os, random, sys, time\n\
        def pause(most):\n    \
            until = time.perf_counter() + random.random() * most\n    \
            while time.perf_counter() < until: pass\n\
        looker = os.fork()\n\
        while looker == 0:\n    \
            for entry in os.scandir(sys.argv[1]): pass\n    \
            pause(.0015)\n\
        fd = os.open(sys.argv[1] + '/log', os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n\
        piece = mmap.mmap(-1, 1 << 20)\n\
        for number in range(200):\n    \
            piece[:] = bytes([number]) * (1 << 20)\n    \
            assert os.write(fd, piece) == 1 << 20\n    \
            pause(.0008)\n\
        os.close(fd); os.kill(looker, 9); os.wait()\n";
    let done = Command::new("python3").args(["-c", script]).arg(scratch.path("")).status().unwrap();
    assert!(done.success());
    let stored = fs::read(scratch.stored("log")).unwrap();
    assert_eq!(stored.len(), 200 * MIB);
    let mut pieces = stored.chunks(MIB).zip(0_u8..);
    assert!(pieces.all(|(piece, number)| piece.iter().all(|byte| *byte == number)));
    scratch.check_digests();
}

#[test]
fn writers_that_overlap_leave_the_digests_of_what_is_stored() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.path("shared");
    File::create(&path).unwrap().set_len(24 * MIB as u64).unwrap();
    thread::scope(|threads| {
        for writer in 0..4_u32 {
            let path = &path;
            threads.spawn(move || {
                let file = File::options().write(true).open(path).unwrap();
                for step in 0..24_u32 {
                    let piece = pattern(MIB + 4097, writer << 24 | step);
                    let place = u64::from(step * 7 % 22) * MIB as u64 + u64::from(writer) * 4096;
                    file.write_all_at(&piece, place).unwrap();
                    if step % 8 == writer {
                        file.set_len(u64::from(20 + step % 5) * MIB as u64).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(scratch.check_digests().len(), 1);
}

#[test]
fn a_large_file_that_is_patched_or_cut_while_it_is_hashed_has_the_digests_of_its_bytes() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let mut archive = File::create(scratch.path("archive")).unwrap();
    for number in 0..48 {
        archive.write_all(&pattern(MIB, number << 20)).unwrap();
        if number % 16 == 9 {
            archive.write_all_at(b"header", u64::from(number) * 1000).unwrap();
        }
    }
    drop(archive);
    let mut cut = File::create(scratch.path("cut")).unwrap();
    cut.write_all(&pattern(32 * MIB, 1)).unwrap();
    cut.set_len(7 * MIB as u64 + 3).unwrap();
    cut.write_all_at(&pattern(6 * MIB, 2), 7 * MIB as u64 + 3).unwrap();
    drop(cut);
    // As safetensors does: full length first.
    let mut filled = File::create(scratch.path("filled")).unwrap();
    filled.set_len(40 * MIB as u64).unwrap();
    for number in 0..40 {
        filled.write_all(&pattern(MIB, number << 20)).unwrap();
    }
    drop(filled);
    assert_eq!(scratch.check_digests().len(), 3);
}

/// A store of its own in memory, where it can be filled up below.
struct SmallStore {
    scratch: Scratch,
    root: OwnedFd,
}

impl SmallStore {
    fn new(bytes: usize) -> Self {
        let mut root = None;
        let prepare = |store: &Path| {
            let options = CString::new(format!("size={bytes}")).unwrap();
            rustix::mount::mount("tmpfs", store, "tmpfs", MountFlags::empty(), options.as_c_str())
                .unwrap();
            let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
            root = Some(rustix::fs::open(store, flags, Mode::empty()).unwrap());
        };
        let scratch = Scratch::with(prepare, Inputs::Opened, Limits::default(), |backing| backing);
        // Who has it open keeps it.
        rustix::mount::unmount(scratch.stored(""), UnmountFlags::DETACH).unwrap();
        Self { scratch, root: root.unwrap() }
    }

    fn below(&self, name: &str) -> PathBuf {
        Path::new("/proc/self/fd").join(self.root.as_raw_fd().to_string()).join(name)
    }

    fn fill(&self) {
        let mut rest = File::create(self.below("rest")).unwrap();
        while rest.write_all(&[1; 4096]).is_ok() {}
    }

    /// Of its two writes the second one was answered, for there was room when it was looked at, and not stored.
    fn file_that_lost_a_write(&self) -> File {
        let mut file = File::create(self.scratch.path("f")).unwrap();
        file.write_all(&pattern(PIECE, 0)).unwrap();
        file.sync_all().unwrap();
        self.fill();
        file.write_all(&pattern(PIECE, 1)).unwrap();
        file
    }
}

#[test]
fn on_a_full_store_a_write_fails_itself() {
    if !can_mount() {
        return;
    }
    let store = SmallStore::new(16 * MIB);
    store.fill();
    let mut file = File::create(store.scratch.path("f")).unwrap();
    let error = file.write_all(&pattern(MIB, 0)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
    file.sync_all().unwrap();
}

#[test]
fn a_write_that_is_answered_and_cannot_be_stored_is_told_once_and_no_output() {
    if !can_mount() {
        return;
    }
    let store = SmallStore::new(64 * MIB);
    let mut file = store.file_that_lost_a_write();
    let error = file.sync_all().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
    file.sync_all().unwrap();
    let error = file.write_all(&pattern(PIECE, 1)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::NOSPC.raw_os_error()), "it was looked at again");
    drop(file);
    let left_out = store.scratch.quiesce();
    assert_eq!(left_out.len(), 1);
    assert!(matches!(left_out[0].unsealed, Unsealed::NotStored(_)), "{left_out:?}");
    // Emptied, it is as good as new.
    fs::remove_file(store.below("rest")).unwrap();
    fs::write(store.scratch.path("f"), pattern(2 * MIB, 3)).unwrap();
    assert!(store.scratch.quiesce().is_empty());
    assert_eq!(store.scratch.facts.sealed()["f"], digests_of(&store.below("f")));
}

#[test]
fn a_small_write_is_told_as_well_that_a_large_one_could_not_be_stored() {
    if !can_mount() {
        return;
    }
    let store = SmallStore::new(64 * MIB);
    let mut file = store.file_that_lost_a_write();
    // Asked for the size, we wait until it is known that it is not stored.
    file.metadata().unwrap();
    fs::remove_file(store.below("rest")).unwrap();
    let error = file.write_all(b"small").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
    file.write_all(b"small").unwrap();
    let error = file.sync_all().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
}

#[test]
fn what_is_written_to_be_synced_is_synced_when_it_is_answered() {
    if !can_mount() {
        return;
    }
    for flag in [OFlags::DSYNC, OFlags::SYNC] {
        let store = SmallStore::new(64 * MIB);
        let lower = store.scratch.path("lower");
        fs::create_dir(&lower).unwrap();
        // What is lost there is told to whoever syncs.
        let bind = |place: &Path| rustix::mount::mount_bind(&lower, place).unwrap();
        let upper = Scratch::with(bind, Inputs::Opened, Limits::default(), |backing| backing);
        rustix::mount::unmount(upper.stored(""), UnmountFlags::DETACH).unwrap();
        let mut options = File::options();
        options.write(true).create(true).custom_flags(flag.bits().cast_signed());
        let mut file = options.open(upper.path("f")).unwrap();
        file.write_all(&pattern(PIECE, 0)).unwrap();
        store.fill();
        let error = file.write_all(&pattern(PIECE, 1)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::NOSPC.raw_os_error()), "{flag:?}");
    }
}

#[test]
fn a_write_that_could_not_be_stored_is_told_by_close() {
    if !can_mount() {
        return;
    }
    assert_eq!(full_meanwhile(WRITES_ON, "os.close(fd)"), Some(7));
}

#[test]
fn what_could_not_be_stored_is_told_to_the_writer_whoever_else_closes_the_file() {
    if !can_mount() {
        return;
    }
    let closes_a_copy = "if os.fork() == 0: os._exit(0)\n    os.wait()\n    os.fsync(fd)";
    assert_eq!(full_meanwhile(WRITES_ON, closes_a_copy), Some(7));
}

#[test]
fn what_could_not_be_stored_of_a_mapping_is_told_to_whoever_syncs_it() {
    if !can_mount() {
        return;
    }
    // The kernel may write its pages back through the other one.
    let stores_in_one_of_two = "other = os.open(sys.argv[1], os.O_RDWR)\n\
        os.ftruncate(fd, 1 << 21)\n\
        one, two = mmap.mmap(fd, 1 << 21), mmap.mmap(other, 1 << 21)\n\
        one[1 << 20:] = bytes([1]) * (1 << 20)";
    assert_eq!(full_meanwhile(stores_in_one_of_two, "one.flush()"), Some(7));
}

#[test]
fn a_part_of_a_mapping_that_could_not_be_stored_is_told_to_whoever_syncs_it() {
    if !can_mount() {
        return;
    }
    // The store is full in the middle of what the kernel writes back at once.
    let stores_at_both_ends = "os.ftruncate(fd, 1 << 20)\n\
        mapped = mmap.mmap(fd, 1 << 20)\n\
        mapped[(1 << 19) - 4096:] = bytes([1]) * ((1 << 19) + 4096)";
    assert_eq!(full_meanwhile(stores_at_both_ends, "mapped.flush()"), Some(7));
}

/// Is answered, and cannot be stored.
const WRITES_ON: &str = "assert os.write(fd, bytes(1 << 19)) == 1 << 19";

/// A program writes, the store is full, it does one thing and another: 7 if that is told ENOSPC.
fn full_meanwhile(first: &str, then: &str) -> Option<i32> {
    let store = SmallStore::new(64 * MIB);
    let script = format!(
        "import errno, mmap, os, sys\n\
         fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n\
         os.write(fd, bytes(1 << 19))\n\
         print(flush=True); sys.stdin.readline()\n\
         {first}\n\
         try:\n    {then}\n\
         except OSError as error: sys.exit(7 if error.errno == errno.ENOSPC else 8)\n"
    );
    let mut writer = Command::new("python3");
    writer.arg("-c").arg(script).arg(store.scratch.path("f"));
    writer.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut writer = writer.spawn().unwrap();
    writer.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    store.fill();
    drop(writer.stdin.take());
    writer.wait().unwrap().code()
}

#[test]
fn a_file_that_is_read_may_be_changed_meanwhile() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.path("data");
    fs::write(&path, pattern(MIB, 0)).unwrap();
    scratch.quiesce();
    let reader = File::open(&path).unwrap();
    let read = |offset| {
        let mut byte = [0];
        reader.read_exact_at(&mut byte, offset).unwrap();
        byte[0]
    };
    read(0);
    let writer = File::options().write(true).open(&path).unwrap();
    writer.write_all_at(b"w", 100).unwrap();
    assert_eq!(read(100), b'w');
    let changer = File::options().read(true).write(true).open(&path).unwrap();
    changer.write_all_at(b"c", 200).unwrap();
    changer.read_exact_at(&mut [0; 10], 195).unwrap();
    assert_eq!(read(200), b'c');
    fs::OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(&path)
        .unwrap()
        .write_all(b"new")
        .unwrap();
    assert_eq!(read(1), b'e');
    assert_eq!(reader.metadata().unwrap().size(), 3);
    drop((reader, writer, changer));
    scratch.check_digests();
}

#[test]
fn what_is_stored_in_a_mapping_beside_readers_is_hashed_when_it_is_closed() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.path("data");
    fs::write(&path, pattern(MIB, 0)).unwrap();
    scratch.check_digests();
    let reader = File::open(&path).unwrap();
    reader.read_exact_at(&mut [0], 0).unwrap();
    let script = "import mmap, sys\n\
        file = open(sys.argv[1], 'r+b')\n\
        m = mmap.mmap(file.fileno(), 0)\n\
        file.close()\n\
        m[70000] = m[70000] ^ 255\n";
    let stored = Command::new("python3").args(["-c", script]).arg(&path).status().unwrap();
    assert!(stored.success());
    drop(reader);
    let before = pattern(MIB, 0)[70_000];
    assert_eq!(fs::read(scratch.stored("data")).unwrap()[70_000], before ^ 255);
    scratch.check_digests();
}
