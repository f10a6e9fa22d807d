//! Many more files are known than descriptors are kept.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests, which may fail and say why"
)]

use std::{
    collections::HashMap,
    ffi::CString,
    fs::{self, File},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use attestfs_fs::Identity;
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, Statx, StatxFlags, XattrFlags},
    io::Errno,
    mount::{MountFlags, UnmountFlags, mount, unmount},
};

use crate::common::{Scratch, can_mount, digests_of};

/// A file that the kernel knows by its number, as long as this lives: whoever asks for it names it to us by nothing
/// else.
struct Known(OwnedFd);

impl Known {
    fn new(path: &Path) -> Self {
        Self::below(CWD, path)
    }

    fn below(directory: impl rustix::fd::AsFd, name: impl AsRef<Path>) -> Self {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Self(rustix::fs::openat(directory, name.as_ref(), flags, Mode::empty()).unwrap())
    }

    fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }

    fn read(&self) -> Result<String, Errno> {
        fs::read_to_string(self.path()).map_err(|error| Errno::from_io_error(&error).unwrap())
    }

    /// Where a symbolic link leads.
    fn text(&self) -> String {
        let text = rustix::fs::readlinkat(&self.0, c"", Vec::new()).unwrap();
        text.into_string().unwrap()
    }

    /// Not from what the kernel was told before.
    fn stat(&self) -> Result<Statx, Errno> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
        rustix::fs::statx(&self.0, c"", flags, StatxFlags::BASIC_STATS)
    }
}

/// Descriptors that a mount keeps.
const KEPT: usize = 8;

/// Files that take all the room; and so many that others, made meanwhile, cannot take all their numbers.
const COUNT: usize = 100;

/// Whether this machine lets us mount, and files below the mount can be told from each other by their birth.
fn can_let_go() -> bool {
    let born = Identity::of(tempfile::tempfile().unwrap()).unwrap().file.born_ns;
    if born == 0 {
        println!("skipped: this file system keeps no time of birth");
    }
    born != 0 && can_mount()
}

/// A mount with little room, and files enough to fill it.
fn scratch(prepare: impl FnOnce(&Path)) -> Scratch {
    Scratch::keeping(KEPT, |store| {
        fill(store);
        prepare(store);
    })
}

fn fill(store: &Path) {
    fs::create_dir(store.join("crowd")).unwrap();
    for index in 0..COUNT {
        fs::write(store.join(format!("crowd/{index}")), "").unwrap();
    }
}

/// Has everything let go that may be.
fn crowd_out(scratch: &Scratch) {
    let crowd = (0..COUNT).map(|index| Known::new(&scratch.path(&format!("crowd/{index}"))));
    let crowd: Vec<_> = crowd.collect();
    for known in crowd.iter().chain(&crowd) {
        known.stat().unwrap();
    }
}

/// How many descriptors this process, which serves the mount, has of files of the store.
fn kept(scratch: &Scratch) -> usize {
    let store = scratch.stored("");
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    open.filter(|open| fs::read_link(open.path()).is_ok_and(|file| file.starts_with(&store)))
        .count()
}

#[test]
fn many_more_files_are_known_than_descriptors_are_open() {
    if !can_let_go() {
        return;
    }
    let scratch = scratch(|_| {});
    for directory in 0..20 {
        fs::create_dir(scratch.path(&format!("{directory}-0"))).unwrap();
    }
    let known = (0..1000).map(|index| {
        let path = scratch.path(&format!("{}-0/{index}", index % 20));
        fs::write(&path, index.to_string()).unwrap();
        Known::new(&path)
    });
    let known: Vec<_> = known.collect();
    scratch.quiesce();
    for round in 0..3 {
        for (index, known) in known.iter().enumerate() {
            assert_eq!(known.stat().unwrap().stx_nlink, 1);
            assert_eq!(known.read().unwrap(), index.to_string());
            let mode = fs::Permissions::from_mode(0o600 + round);
            fs::set_permissions(known.path(), mode).unwrap();
            rustix::fs::setxattr(known.path(), "user.note", b"x", XattrFlags::empty()).unwrap();
        }
        for directory in 0..20 {
            let path = |round| scratch.path(&format!("{directory}-{round}"));
            fs::rename(path(round), path(round + 1)).unwrap();
        }
    }
    // RELEASE comes when it comes.
    let few = (0..200).any(|_| {
        thread::sleep(Duration::from_millis(10));
        kept(&scratch) <= 2 * KEPT
    });
    assert!(few, "{} are open", kept(&scratch));
    assert_eq!(scratch.check_digests().len(), 1000);
}

#[test]
fn what_was_let_go_is_found_by_each_of_its_names_and_follows_its_directories() {
    if !can_let_go() {
        return;
    }
    let scratch = scratch(|store| {
        fs::create_dir_all(store.join("a/b")).unwrap();
        fs::write(store.join("a/b/file"), "bytes").unwrap();
        symlink("nowhere", store.join("a/b/link")).unwrap();
    });
    fs::hard_link(scratch.path("a/b/file"), scratch.path("other")).unwrap();
    let [file, link, directory] =
        ["a/b/file", "a/b/link", "a/b"].map(|name| Known::new(&scratch.path(name)));
    crowd_out(&scratch);
    fs::rename(scratch.path("a"), scratch.path("moved")).unwrap();
    assert_eq!(file.read().unwrap(), "bytes");
    assert_eq!(link.text(), "nowhere");
    assert_eq!(Known::below(&directory.0, "file").read().unwrap(), "bytes");
    crowd_out(&scratch);
    fs::remove_file(scratch.path("other")).unwrap();
    crowd_out(&scratch);
    assert_eq!((file.read().unwrap(), file.stat().unwrap().stx_nlink), ("bytes".to_owned(), 1));
    // Of two names one was renamed below.
    fs::hard_link(scratch.path("moved/b/file"), scratch.path("again")).unwrap();
    crowd_out(&scratch);
    fs::rename(scratch.stored("again"), scratch.stored("elsewhere")).unwrap();
    assert_eq!(file.read().unwrap(), "bytes");
}

#[test]
fn what_no_name_leads_to_is_never_let_go() {
    if !can_let_go() {
        return;
    }
    let scratch = scratch(|store| {
        fs::create_dir(store.join("directory")).unwrap();
        fs::create_dir(store.join("replaced")).unwrap();
        fs::create_dir(store.join("over")).unwrap();
        fs::write(store.join("file"), "bytes").unwrap();
        symlink("nowhere", store.join("link")).unwrap();
    });
    let names = ["directory", "replaced", "file", "link"];
    let known = names.map(|name| Known::new(&scratch.path(name)));
    crowd_out(&scratch);
    fs::remove_dir(scratch.path("directory")).unwrap();
    fs::rename(scratch.path("over"), scratch.path("replaced")).unwrap();
    fs::remove_file(scratch.path("file")).unwrap();
    fs::remove_file(scratch.path("link")).unwrap();
    crowd_out(&scratch);
    for (known, name) in known.iter().zip(names) {
        assert_eq!(known.stat().map(|stat| stat.stx_nlink), Ok(0), "{name}");
    }
    assert_eq!(known[3].text(), "nowhere");
}

#[test]
fn what_is_open_is_never_let_go() {
    if !can_let_go() {
        return;
    }
    let scratch = scratch(|store| {
        fs::write(store.join("file"), "bytes").unwrap();
        fs::create_dir(store.join("directory")).unwrap();
    });
    let file = File::options().read(true).write(true).open(scratch.path("file")).unwrap();
    let directory = File::open(scratch.path("directory")).unwrap();
    let known = ["file", "directory"].map(|name| Known::new(&scratch.path(name)));
    fs::remove_file(scratch.stored("file")).unwrap();
    fs::remove_dir(scratch.stored("directory")).unwrap();
    crowd_out(&scratch);
    assert_eq!(known.each_ref().map(|known| known.stat().unwrap().stx_nlink), [0, 0]);
    file.write_all_at(b"more.", 0).unwrap();
    assert_eq!(known[0].read().unwrap(), "more.");
    drop((file, directory));
}

#[test]
fn what_cannot_be_told_from_another_file_is_never_let_go() {
    if !can_mount() {
        return;
    }
    let layers = tempfile::tempdir().unwrap();
    let scratch = Scratch::keeping(KEPT, |store| {
        fill(store);
        lay_over(store, layers.path());
        fs::write(store.join("file"), "old").unwrap();
    });
    let store = Known::new(&scratch.stored(""));
    // Whoever has it open goes on seeing it.
    unmount(scratch.stored(""), UnmountFlags::DETACH).unwrap();
    let file = Known::new(&scratch.path("file"));
    crowd_out(&scratch);
    let [new, replaced] = ["new", "file"].map(|name| store.path().join(name));
    fs::write(&new, "new").unwrap();
    fs::rename(new, replaced).unwrap();
    assert_eq!(file.read().unwrap(), "old");
}

/// Mounts an overlay over a directory, which keeps no time of birth that stays.
fn lay_over(store: &Path, layers: &Path) {
    let [upper, work] = ["upper", "work"].map(|name| {
        fs::create_dir(layers.join(name)).unwrap();
        layers.join(name)
    });
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        store.display(),
        upper.display(),
        work.display()
    );
    let options = CString::new(options).unwrap();
    mount("overlay", store, "overlay", MountFlags::empty(), options.as_c_str()).unwrap();
}

#[test]
fn what_was_let_go_and_replaced_below_is_stale_and_never_another_file() {
    if !can_let_go() {
        return;
    }
    let scratch = scratch(|store| {
        for name in ["replaced", "gone", "linked", "directory/in"] {
            fs::create_dir_all(store.join(name).parent().unwrap()).unwrap();
            fs::write(store.join(name), "old").unwrap();
        }
    });
    let names = ["replaced", "gone", "linked", "directory/in"];
    let known = names.map(|name| Known::new(&scratch.path(name)));
    assert!(known.iter().all(|known| known.read().unwrap() == "old"));
    scratch.quiesce();
    crowd_out(&scratch);
    fs::write(scratch.stored("new"), "new").unwrap();
    fs::rename(scratch.stored("new"), scratch.stored("replaced")).unwrap();
    fs::remove_file(scratch.stored("gone")).unwrap();
    fs::rename(scratch.stored("linked"), scratch.stored("aside")).unwrap();
    symlink("aside", scratch.stored("linked")).unwrap();
    fs::rename(scratch.stored("directory"), scratch.stored("moved")).unwrap();
    fs::create_dir(scratch.stored("directory")).unwrap();
    fs::write(scratch.stored("directory/in"), "new").unwrap();
    for (known, name) in known.iter().zip(names) {
        assert_eq!(known.stat().map(|_| ()), Err(Errno::STALE), "{name}");
        assert_eq!(known.read(), Err(Errno::STALE), "{name}");
        assert_eq!(
            File::options().write(true).open(known.path()).unwrap_err().raw_os_error(),
            Some(Errno::STALE.raw_os_error()),
            "{name}"
        );
    }
    for name in ["replaced", "directory/in"] {
        assert_eq!(fs::read_to_string(scratch.path(name)).unwrap(), "new");
        scratch.quiesce();
        assert_eq!(scratch.facts.materials()[name], Some(digests_of(&scratch.stored(name))));
    }
    // By a name that it has, each is found again.
    assert_eq!(fs::read_to_string(scratch.path("aside")).unwrap(), "old");
    assert_eq!(fs::read_to_string(scratch.path("moved/in")).unwrap(), "old");
    assert_eq!([&known[2], &known[3]].map(|known| known.read().unwrap()), ["old", "old"]);
}

#[test]
fn a_number_that_is_used_again_below_means_one_file() {
    if !can_let_go() {
        return;
    }
    let first = |index| format!("first-{index}");
    let scratch = scratch(|store| {
        (0..COUNT).for_each(|index| fs::write(store.join(first(index)), "first").unwrap());
    });
    let known = (0..COUNT).map(|index| Known::new(&scratch.path(&first(index))));
    let known: HashMap<_, _> = known.map(|known| (known.stat().unwrap().stx_ino, known)).collect();
    crowd_out(&scratch);
    (0..COUNT).for_each(|index| fs::remove_file(scratch.stored(&first(index))).unwrap());
    let numbers = (0..COUNT).map(|index| {
        let name = format!("second-{index}");
        fs::write(scratch.stored(&name), "second").unwrap();
        (scratch.stored(&name).metadata().unwrap().ino(), name)
    });
    let reused: Vec<_> = numbers.filter(|(number, _)| known.contains_key(number)).collect();
    if reused.is_empty() {
        println!("skipped: this file system does not use inode numbers again");
        return;
    }
    for (number, name) in &reused {
        let (first, second) = (&known[number], Known::new(&scratch.path(name)));
        assert_ne!(second.stat().unwrap().stx_ino, *number, "the kernel takes them for one file");
        assert_eq!((second.read(), first.read()), (Ok("second".to_owned()), Err(Errno::STALE)));
        fs::write(scratch.path(name), "third").unwrap();
        assert_eq!((second.read(), first.read()), (Ok("third".to_owned()), Err(Errno::STALE)));
    }
    drop(known);
    assert_eq!(scratch.check_digests().len(), reused.len());
}

#[test]
fn what_was_let_go_far_down_is_found() {
    if !can_let_go() {
        return;
    }
    let scratch = scratch(|_| {});
    let name = "d".repeat(250);
    let mut directory = Known::new(&scratch.path(""));
    for _ in 0..20 {
        rustix::fs::mkdirat(&directory.0, &name, Mode::RWXU).unwrap();
        directory = Known::below(&directory.0, &name);
    }
    let flags = OFlags::CREATE | OFlags::WRONLY;
    let file = rustix::fs::openat(&directory.0, "file", flags, Mode::RUSR).unwrap();
    File::from(file).write_all_at(b"bytes", 0).unwrap();
    let file = Known::below(&directory.0, "file");
    crowd_out(&scratch);
    assert_eq!(file.read().unwrap(), "bytes");
}

#[test]
fn what_was_let_go_is_found_while_directories_above_are_renamed() {
    if !can_let_go() {
        return;
    }
    let scratch = scratch(|store| {
        fs::create_dir_all(store.join("a/b")).unwrap();
        for index in 0..50 {
            fs::write(store.join(format!("a/b/{index}")), index.to_string()).unwrap();
        }
    });
    let known: Vec<_> =
        (0..50).map(|index| Known::new(&scratch.path(&format!("a/b/{index}")))).collect();
    let done = AtomicBool::new(false);
    thread::scope(|threads| {
        threads.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                fs::rename(scratch.path("a"), scratch.path("z")).unwrap();
                fs::rename(scratch.path("z"), scratch.path("a")).unwrap();
            }
        });
        let readers: Vec<_> = (0..3).map(|_| threads.spawn(|| read_all(&known))).collect();
        let read: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
        done.store(true, Ordering::Relaxed);
        assert_eq!(read, [Ok(()), Ok(()), Ok(())]);
    });
}

fn read_all(known: &[Known]) -> Result<(), Errno> {
    for _ in 0..20 {
        for (index, known) in known.iter().enumerate() {
            known.stat()?;
            assert_eq!(known.read()?, index.to_string());
        }
    }
    Ok(())
}
