//! What programs are used to besides bytes and names, and what the kernel leaves to a filesystem.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may fail")]

use std::{
    fs::{self, File},
    io::{self, IsTerminal, Read, Write},
    mem::MaybeUninit,
    os::unix::fs::{FileExt, FileTypeExt, MetadataExt, chown},
    path::Path,
    process::{Child, Command},
    thread,
    time::Duration,
};

use attestfs_fs::{Fact, Inputs, Limits};
use rustix::{
    fs::{
        CWD, FileType, Mode, OFlags, XattrFlags,
        inotify::{self, CreateFlags, ReadFlags, WatchFlags},
    },
    io::Errno,
};

use crate::common::{Scratch, can_mount};

/// The processes that changed something, as they were told.
fn writers(scratch: &Scratch) -> Vec<Option<u32>> {
    let by = |fact| match fact {
        Fact::Written { by, .. } => Some(by.pid),
        _ => None,
    };
    scratch.facts.all().into_iter().filter_map(by).collect()
}

fn python(script: &str, path: &Path) -> Child {
    Command::new("python3").arg("-c").arg(script).arg(path).spawn().unwrap()
}

#[test]
fn who_opens_a_file_in_a_thread_is_told_as_the_process() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    thread::scope(|threads| {
        threads.spawn(|| fs::write(scratch.path("a"), b"x").unwrap());
    });
    assert_eq!(writers(&scratch), [Some(std::process::id())]);
}

/// The kernel says of pages that it writes back neither who stored them nor by which open file.
#[test]
fn what_is_stored_in_a_mapping_is_told_by_who_opened_the_file() {
    if !can_mount() {
        return;
    }
    let prepare = |store: &Path| fs::write(store.join("mapped"), vec![0; 8192]).unwrap();
    let scratch = Scratch::with(prepare, Inputs::None, Limits::default(), |backing| backing);
    let script = "import mmap, sys\n\
        with open(sys.argv[1], 'r+b') as file: pages = mmap.mmap(file.fileno(), 0)\n\
        pages[4096:4101] = b'hello'\n";
    let mut child = python(script, &scratch.path("mapped"));
    assert!(child.wait().unwrap().success());
    assert_eq!(scratch.check_digests().len(), 1);
    assert_eq!(writers(&scratch), [Some(child.id())]);
}

/// As writers of GGUF do, who close a duplicate after each tensor.
#[test]
fn a_duplicate_that_is_closed_is_not_the_end_of_a_file() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let file = File::create(scratch.path("a")).unwrap();
    for piece in 0..3 {
        file.write_all_at(&[piece; 100], u64::from(piece) * 100).unwrap();
        drop(file.try_clone().unwrap());
        assert_eq!(attribute(&scratch.path("a"), "user.attestfs.state").unwrap(), b"open");
        assert!(scratch.facts.sealed().is_empty());
    }
    drop(file);
    assert_eq!(scratch.check_digests().len(), 1);
}

#[test]
fn a_writer_that_is_killed_leaves_the_digest_of_what_is_stored() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let script = "import mmap, os, sys\n\
        file = open(sys.argv[1], 'w+b', buffering=0); file.write(bytes(100000))\n\
        pages = mmap.mmap(file.fileno(), 0); pages[50000:50005] = b'hello'\n\
        os.kill(os.getpid(), 9)\n";
    assert_eq!(python(script, &scratch.path("a")).wait().unwrap().code(), None);
    assert_eq!(scratch.check_digests().len(), 1);
    assert_eq!(&fs::read(scratch.stored("a")).unwrap()[50_000..50_005], b"hello");
}

/// The kernel keeps none back to write it later in the name of nobody.
#[test]
fn a_small_write_lies_in_the_store_when_it_returns() {
    if !can_mount() {
        return;
    }
    let prepare = |store: &Path| fs::write(store.join("found"), b"x").unwrap();
    let scratch = Scratch::with(prepare, Inputs::None, Limits::default(), |backing| backing);
    let made = File::create(scratch.path("made")).unwrap();
    let found = File::options().read(true).write(true).open(scratch.path("found")).unwrap();
    for (file, name, length) in [(made, "made", 0), (found, "found", 1)] {
        for end in length..length + 3 {
            file.write_all_at(b"y", end).unwrap();
            assert_eq!(scratch.stored(name).metadata().unwrap().len(), end + 1, "{name}");
        }
    }
}

#[test]
fn a_write_of_any_size_is_taken_whole() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let file = File::create(scratch.path("a")).unwrap();
    for (offset, size) in [(0, 1), (1, 9 << 20), (3, (4 << 20) + 1), (4096, 1 << 20)] {
        assert_eq!(file.write_at(&vec![7; size], offset).unwrap(), size);
    }
    drop(file);
    assert_eq!(scratch.check_digests().len(), 1);
}

/// Those of `flock`, of a process (`lockf`) and of an open file.
#[test]
fn locks_of_each_kind_keep_others_out_and_their_owner_writes() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    fs::write(scratch.path("a"), b"x").unwrap();
    let script = "import fcntl, os, struct, sys\n\
        at_once = fcntl.LOCK_EX | fcntl.LOCK_NB\n\
        whole = struct.pack('hhqqi4x', fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)\n\
        locks = [lambda file: fcntl.flock(file, at_once), lambda file: fcntl.lockf(file, at_once),\n\
        \x20        lambda file: fcntl.fcntl(file, fcntl.F_OFD_SETLK, whole)]\n\
        def is_refused(lock):\n\
        \x20   with open(sys.argv[1], 'r+b') as other:\n\
        \x20       try: lock(other)\n\
        \x20       except BlockingIOError: return True\n\
        for lock in locks:\n\
        \x20   with open(sys.argv[1], 'r+b', buffering=0) as own:\n\
        \x20       lock(own)\n\
        \x20       if os.fork() == 0: os._exit(0 if is_refused(lock) else 1)\n\
        \x20       assert os.wait()[1] == 0\n\
        \x20       own.write(b'yy')\n\
        \x20   assert not is_refused(lock)\n";
    assert!(python(script, &scratch.path("a")).wait().unwrap().success());
    assert_eq!(scratch.check_digests().len(), 1);
    assert_eq!(fs::read(scratch.stored("a")).unwrap(), b"yy");
}

#[test]
fn whoever_watches_a_directory_hears_of_what_is_done_through_the_mount_and_of_nothing_below() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let watch = inotify::init(CreateFlags::NONBLOCK).unwrap();
    let flags = WatchFlags::CREATE | WatchFlags::CLOSE_WRITE | WatchFlags::DELETE;
    inotify::add_watch(&watch, scratch.path(""), flags).unwrap();
    fs::write(scratch.stored("below"), b"x").unwrap();
    fs::write(scratch.path("a"), b"x").unwrap();
    fs::remove_file(scratch.path("a")).unwrap();
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(&watch, &mut buffer);
    let mut heard = Vec::new();
    while let Ok(event) = reader.next() {
        heard.push((event.events(), event.file_name().unwrap().to_owned()));
    }
    let of_a = |flags: ReadFlags| (flags, c"a".to_owned());
    let expected = [ReadFlags::CREATE, ReadFlags::CLOSE_WRITE, ReadFlags::DELETE].map(of_a);
    assert_eq!(heard, expected);
}

/// Python asks that of every file that it opens.
#[test]
fn whoever_asks_whether_a_file_is_a_terminal_is_told_that_it_is_none() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let file = File::create(scratch.path("a")).unwrap();
    assert!(!file.is_terminal());
    assert_eq!(io::Error::last_os_error().raw_os_error(), Some(Errno::NOTTY.raw_os_error()));
}

fn attribute(path: &Path, name: &str) -> rustix::io::Result<Vec<u8>> {
    let mut value = vec![0; 128];
    let length = rustix::fs::getxattr(path, name, &mut value[..])?;
    value.truncate(length);
    Ok(value)
}

#[test]
fn an_attribute_is_told_with_its_length_and_never_cut_off() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.path("a");
    fs::write(&path, b"x").unwrap();
    scratch.quiesce();
    rustix::fs::setxattr(&path, "user.note", b"remark", XattrFlags::empty()).unwrap();
    for name in ["user.note", "user.attestfs.state"] {
        assert_eq!(rustix::fs::getxattr_query(&path, name), Ok(6));
        let into = |room| rustix::fs::getxattr(&path, name, &mut vec![0; room][..]);
        assert_eq!((into(5), into(6)), (Err(Errno::RANGE), Ok(6)));
    }
    assert_eq!(rustix::fs::listxattr_query(&path), Ok(10));
    let into = |room| rustix::fs::listxattr(&path, &mut vec![0; room][..]);
    assert_eq!((into(9), into(10)), (Err(Errno::RANGE), Ok(10)));
}

#[test]
fn an_attribute_of_another_kind_is_not_supported_and_takes_no_other_away() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.path("a");
    fs::write(&path, b"x").unwrap();
    for name in ["other.note", "system.posix_acl_access", "security.capability"] {
        let set = rustix::fs::setxattr(&path, name, b"x", XattrFlags::empty());
        assert!(matches!(set, Err(Errno::OPNOTSUPP | Errno::INVAL)), "{name}: {set:?}");
        let found = attribute(&path, name);
        assert!(matches!(found, Err(Errno::OPNOTSUPP | Errno::NODATA)), "{name}: {found:?}");
        rustix::fs::setxattr(&path, "user.note", b"mine", XattrFlags::empty()).unwrap();
        assert_eq!(attribute(&path, "user.note").unwrap(), b"mine");
    }
}

/// Asked for before each write otherwise (`HANDLE_KILLPRIV_V2`).
#[test]
fn a_change_takes_the_capabilities_of_a_program_away() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let changes: [fn(&Path); 4] = [
        |path| File::options().append(true).open(path).unwrap().write_all(b"y").unwrap(),
        |path| drop(File::create(path).unwrap()),
        |path| File::options().write(true).open(path).unwrap().set_len(0).unwrap(),
        |path| chown(path, Some(1), None).unwrap(),
    ];
    for (number, change) in changes.iter().enumerate() {
        let name = number.to_string();
        fs::write(scratch.path(&name), b"x").unwrap();
        let stored = scratch.stored(&name);
        // To bind to low ports, as `setcap` writes it.
        let mut capability = [0; 20];
        (capability[0], capability[3], capability[5]) = (1, 2, 4);
        let empty = XattrFlags::empty();
        rustix::fs::setxattr(&stored, "security.capability", &capability, empty).unwrap();
        change(&scratch.path(&name));
        assert_eq!(attribute(&stored, "security.capability"), Err(Errno::NODATA), "{number}");
    }
}

#[test]
fn a_file_without_any_name_is_not_made_and_who_wants_one_is_told_so() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let unnamed = OFlags::TMPFILE | OFlags::RDWR;
    let made = rustix::fs::open(scratch.path(""), unnamed, Mode::RUSR);
    assert_eq!(made.unwrap_err(), Errno::OPNOTSUPP);
}

#[test]
fn pipes_sockets_and_devices_are_made_in_the_store() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let (mode, null) = (Mode::RUSR | Mode::WUSR, rustix::fs::makedev(1, 3));
    let make = |name, kind, device| {
        rustix::fs::mknodat(CWD, scratch.path(name), kind, mode, device).unwrap();
        let (shown, stored) = (scratch.path(name).metadata(), scratch.stored(name).metadata());
        let (shown, stored) = (shown.unwrap(), stored.unwrap());
        assert_eq!((shown.mode(), shown.rdev()), (stored.mode(), device), "{name}");
        stored.file_type()
    };
    assert!(make("pipe", FileType::Fifo, 0).is_fifo());
    assert!(make("socket", FileType::Socket, 0).is_socket());
    assert!(make("device", FileType::CharacterDevice, null).is_char_device());
    thread::scope(|threads| {
        threads.spawn(|| fs::write(scratch.path("pipe"), b"through").unwrap());
        assert_eq!(fs::read(scratch.path("pipe")).unwrap(), b"through");
    });
    let opened = File::open(scratch.path("device"));
    assert_eq!(opened.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn what_is_changed_below_is_seen_when_a_second_has_passed() {
    if !can_mount() {
        return;
    }
    let prepare = |store: &Path| fs::write(store.join("a"), b"before").unwrap();
    let scratch = Scratch::with(prepare, Inputs::None, Limits::default(), |backing| backing);
    let mut file = File::open(scratch.path("a")).unwrap();
    assert_eq!(scratch.path("a").metadata().unwrap().len(), 6);
    assert!(!scratch.path("b").exists());
    fs::write(scratch.stored("a"), b"afterwards").unwrap();
    fs::hard_link(scratch.stored("a"), scratch.stored("b")).unwrap();
    thread::sleep(Duration::from_millis(1200));
    assert_eq!(scratch.path("a").metadata().unwrap().len(), 10);
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "afterwards");
    assert_eq!(fs::read(scratch.path("b")).unwrap(), b"afterwards");
}

#[test]
fn the_kernel_reads_as_far_ahead_as_streaming_wants() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let root = File::open(scratch.path("")).unwrap();
    let device = root.metadata().unwrap().dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let kibibytes = || fs::read_to_string(format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb"));
    assert_eq!(kibibytes().unwrap().trim(), "128");
    attestfs_fs::raise_readahead(&root);
    assert_eq!(kibibytes().unwrap().trim(), "4096");
}
