//! Files behave as on the backing store.

use std::{
    fs::{self, File, FileTimes, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, UNIX_EPOCH},
};

use attestfs_fs::{Inputs, Limits};
use rustix::{
    fs::{CWD, FallocateFlags, Mode, OFlags, RenameFlags, XattrFlags},
    io::Errno,
};

use crate::common::{Scratch, can_mount, digests_of};

#[test]
fn what_is_written_is_read_back_and_lies_in_the_store() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    fs::write(scratch.path("a"), b"hello").unwrap();
    assert_eq!(fs::read(scratch.path("a")).unwrap(), b"hello");
    assert_eq!(fs::read(scratch.stored("a")).unwrap(), b"hello");
}

#[test]
fn an_unlinked_file_lives_while_it_is_open() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.path("gone");
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    file.write_all(b"before").unwrap();
    fs::remove_file(&path).unwrap();
    scratch.run.quiesce(&attestfs_fs::Scope::Run, Duration::ZERO);
    file.write_all(b" after").unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "before after");
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    drop(file);
    assert!(scratch.check_digests().is_empty());
}

#[test]
fn rename_replaces_exchanges_and_refuses() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let (a, b) = (scratch.path("a"), scratch.path("b"));
    fs::write(&a, b"1").unwrap();
    fs::write(&b, b"2").unwrap();
    let refused = rustix::fs::renameat_with(CWD, &a, CWD, &b, RenameFlags::NOREPLACE);
    assert_eq!(refused, Err(Errno::EXIST));
    rustix::fs::renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE).unwrap();
    assert_eq!((fs::read(&a).unwrap(), fs::read(&b).unwrap()), (b"2".to_vec(), b"1".to_vec()));
    let sealed = scratch.check_digests();
    assert_eq!(sealed.keys().collect::<Vec<_>>(), ["a", "b"]);
    fs::rename(&a, &b).unwrap();
    assert_eq!(fs::read(&b).unwrap(), b"2");
    assert_eq!(scratch.check_digests().keys().collect::<Vec<_>>(), ["b"]);
}

#[test]
fn hard_links_are_one_file() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    fs::write(scratch.path("a"), b"x").unwrap();
    fs::hard_link(scratch.path("a"), scratch.path("b")).unwrap();
    let (a, b) = (scratch.path("a").metadata().unwrap(), scratch.path("b").metadata().unwrap());
    assert_eq!((a.ino(), a.nlink()), (b.ino(), 2));
    fs::remove_file(scratch.path("a")).unwrap();
    assert_eq!(fs::read(scratch.path("b")).unwrap(), b"x");
    assert_eq!(scratch.check_digests().keys().collect::<Vec<_>>(), ["b"]);
}

// `pathconf` does not say how many: the C library answers by the type of the filesystem, and knows ours not.
#[test]
fn a_file_has_as_many_links_as_the_store_gives_it() {
    if !can_mount() {
        return;
    }
    let prepare = |store: &Path| {
        fs::write(store.join("file"), b"x").unwrap();
        let link = |number: &u32| fs::hard_link(store.join("file"), store.join(number.to_string()));
        (1..LINKS_OF_EXT4).take_while(|number| link(number).is_ok()).for_each(drop);
    };
    let scratch = Scratch::with(prepare, Inputs::Opened, Limits::default(), |backing| backing);
    let link = |directory: PathBuf| {
        let linked = fs::hard_link(directory.join("file"), directory.join("one more"));
        linked.map_err(|error| error.raw_os_error())
    };
    let through = link(scratch.path(""));
    if through.is_ok() {
        fs::remove_file(scratch.stored("one more")).unwrap();
    }
    assert_eq!(through, link(scratch.stored("")));
}

#[test]
fn symbolic_links_are_data() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    fs::write(scratch.path("target"), b"t").unwrap();
    symlink("target", scratch.path("link")).unwrap();
    assert_eq!(fs::read_link(scratch.path("link")).unwrap().to_str(), Some("target"));
    assert_eq!(fs::read(scratch.path("link")).unwrap(), b"t");
    symlink("/etc/passwd", scratch.path("out")).unwrap();
    assert_eq!(fs::read_link(scratch.stored("out")).unwrap().to_str(), Some("/etc/passwd"));
}

#[test]
fn a_directory_of_many_entries_is_listed_whole_while_it_changes() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let directory = scratch.path("many");
    fs::create_dir(&directory).unwrap();
    for index in 0..3000 {
        File::create(directory.join(format!("file-{index:05}"))).unwrap();
    }
    let mut listing = fs::read_dir(&directory).unwrap();
    let first = listing.next().unwrap().unwrap().file_name();
    fs::write(directory.join("late"), b"").unwrap();
    let mut names: Vec<_> = listing.map(|entry| entry.unwrap().file_name()).collect();
    names.push(first);
    names.retain(|name| name != "late");
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 3000);
    fs::remove_dir_all(&directory).unwrap();
    assert!(!directory.exists());
}

#[test]
fn modes_owners_and_times_are_kept() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.path("a");
    fs::write(&path, b"x").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(&path, Some(1234), Some(4321)).unwrap();
    let time = UNIX_EPOCH + Duration::new(1_000_000_000, 5);
    File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    let stat = scratch.stored("a").metadata().unwrap();
    assert_eq!(stat.mode() & 0o7777, 0o640);
    assert_eq!((stat.uid(), stat.gid()), (1234, 4321));
    assert_eq!(stat.modified().unwrap(), time);
    assert_eq!(path.metadata().unwrap().modified().unwrap(), time);
    scratch.check_digests();
}

#[test]
fn extended_attributes_of_the_user_are_kept_and_ours_are_not_listed() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.path("a");
    fs::write(&path, b"x").unwrap();
    rustix::fs::setxattr(&path, "user.note", b"mine", XattrFlags::empty()).unwrap();
    let mut value = [0; 128];
    let length = rustix::fs::getxattr(&path, "user.note", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"mine");
    let length = rustix::fs::listxattr(&path, &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"user.note\0");
    let refused = rustix::fs::setxattr(&path, "user.attestfs.state", b"x", XattrFlags::empty());
    assert_eq!(refused, Err(Errno::PERM));
    assert_eq!(rustix::fs::removexattr(&path, "user.attestfs.state"), Err(Errno::PERM));
    scratch.check_digests();
    let length = rustix::fs::getxattr(&path, "user.attestfs.state", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"sealed");
    let length = rustix::fs::getxattr(&path, "user.attestfs.sha256", &mut value[..]).unwrap();
    assert_eq!(
        std::str::from_utf8(&value[..length]).unwrap(),
        "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    );
}

#[test]
fn a_file_keeps_its_inode_number_after_the_kernel_forgot_it() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    fs::write(scratch.path("a"), b"x").unwrap();
    let before = scratch.path("a").metadata().unwrap().ino();
    fs::write("/proc/sys/vm/drop_caches", b"2").unwrap();
    assert_eq!(scratch.path("a").metadata().unwrap().ino(), before);
    assert_eq!(scratch.stored("a").metadata().unwrap().ino(), before);
}

#[test]
fn holes_stay_holes() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(scratch.path("sparse"))
        .unwrap();
    file.write_at(b"end", 10 << 20).unwrap();
    let data = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(0)).unwrap();
    assert!(data > 0, "the hole was filled");
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 4096).unwrap();
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    file.write_at(&[7; 8192], 0).unwrap();
    rustix::fs::fallocate(&file, punch, 0, 4096).unwrap();
    rustix::fs::fallocate(&file, FallocateFlags::ZERO_RANGE, 4096, 100).unwrap();
    let mut bytes = [1; 8192];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes[..4196].iter().all(|byte| *byte == 0));
    assert!(bytes[4196..].iter().all(|byte| *byte == 7));
    drop(file);
    scratch.check_digests();
}

#[test]
fn o_append_and_o_direct_write_where_they_should() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    fs::write(scratch.path("log"), b"one\n").unwrap();
    let mut log = File::options().append(true).open(scratch.path("log")).unwrap();
    log.write_all(b"two\n").unwrap();
    log.write_all(b"three\n").unwrap();
    assert_eq!(fs::read(scratch.path("log")).unwrap(), b"one\ntwo\nthree\n");
    drop(log);
    assert_eq!(fs::read(scratch.stored("log")).unwrap(), b"one\ntwo\nthree\n");
    let direct = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(OFlags::DIRECT.bits().cast_signed())
        .open(scratch.path("direct"))
        .unwrap();
    direct.write_all_at(&vec![9; 1 << 20], 0).unwrap();
    drop(direct);
    assert_eq!(scratch.check_digests().len(), 2);
}

#[test]
fn a_write_takes_the_set_user_id_bit_away() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.path("suid");
    fs::write(&path, b"x").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4777)).unwrap();
    fs::set_permissions(scratch.path(".."), fs::Permissions::from_mode(0o755)).unwrap();
    let written = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c"])
        .arg(format!("printf y >> '{}'", path.display()))
        .status()
        .unwrap();
    assert!(written.success());
    assert_eq!(scratch.stored("suid").metadata().unwrap().mode() & 0o7777, 0o777);
    assert_eq!(fs::read(&path).unwrap(), b"xy");
}

#[test]
fn any_other_change_of_the_content_takes_it_away() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    fs::set_permissions(scratch.path(".."), fs::Permissions::from_mode(0o755)).unwrap();
    let changes = [
        "os.open(path, os.O_RDONLY | os.O_TRUNC)",
        "os.open(path, os.O_WRONLY | os.O_TRUNC)",
        "os.open(path, os.O_RDWR | os.O_TRUNC)",
        "os.truncate(path, 1)",
        "os.ftruncate(os.open(path, os.O_WRONLY), 1)",
        "os.posix_fallocate(os.open(path, os.O_WRONLY), 0, 9)",
        "os.copy_file_range(os.open(path, os.O_RDONLY), os.open(path, os.O_WRONLY), 1, 0, 1)",
    ];
    for (number, change) in changes.iter().enumerate() {
        let name = format!("suid{number}");
        let path = scratch.path(&name);
        fs::write(&path, b"xy").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o6777)).unwrap();
        let script = format!(
            "import os, sys; path = sys.argv[1]\n\
             os.setgroups([]); os.setgid(65534); os.setuid(65534)\n{change}"
        );
        let changed = Command::new("python3").args(["-c", &script]).arg(&path).status().unwrap();
        assert!(changed.success(), "{change}");
        assert_eq!(scratch.stored(&name).metadata().unwrap().mode() & 0o7777, 0o777, "{change}");
    }
    assert_eq!(scratch.check_digests().len(), changes.len());
}

#[test]
fn a_file_that_was_opened_again_and_removed_is_no_output() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    fs::write(scratch.path("a"), vec![1; 13_000]).unwrap();
    scratch.quiesce();
    drop(File::options().read(true).write(true).open(scratch.path("a")).unwrap());
    fs::remove_file(scratch.path("a")).unwrap();
    assert!(scratch.check_digests().is_empty());
}

#[test]
fn truncation_by_a_reader_truncates() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.path("a");
    fs::write(&path, b"hello").unwrap();
    let flags = OFlags::RDONLY | OFlags::TRUNC;
    drop(rustix::fs::open(&path, flags, Mode::empty()).unwrap());
    assert_eq!(path.metadata().unwrap().len(), 0);
    assert_eq!(scratch.check_digests()["a"], digests_of(&scratch.stored("a")));
}

#[test]
fn a_set_id_bit_survives_the_change_of_owner_at_creation() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    fs::set_permissions(scratch.path(""), fs::Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(scratch.path(".."), fs::Permissions::from_mode(0o755)).unwrap();
    let made = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "perl", "-MFcntl", "-e"])
        .arg("sysopen(my $file, $ARGV[0], O_CREAT | O_WRONLY, 04755) or die")
        .arg(scratch.path("tool"))
        .status()
        .unwrap();
    assert!(made.success());
    let stat = scratch.stored("tool").metadata().unwrap();
    assert_eq!((stat.uid(), stat.mode() & 0o7777), (65534, 0o4755));
}

#[test]
fn a_read_only_mount_changes_nothing_however_the_kernel_mounted_it() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::read_only(|store| {
        fs::create_dir(store.join("d")).unwrap();
        fs::write(store.join("a"), b"x").unwrap();
        fs::write(store.join("b"), b"y").unwrap();
    });
    let at = |name: &str| scratch.path(name);
    let modes = fs::Permissions::from_mode(0o600);
    let now = FileTimes::new().set_modified(UNIX_EPOCH);
    let attempts: [(&str, io::Result<()>); 14] = [
        ("write", File::options().write(true).open(at("a")).map(drop)),
        ("append", File::options().append(true).open(at("a")).map(drop)),
        ("truncate", File::create(at("a")).map(drop)),
        ("create", File::create(at("new")).map(drop)),
        ("mkdir", fs::create_dir(at("new"))),
        ("rmdir", fs::remove_dir(at("d"))),
        ("symlink", symlink("a", at("new"))),
        ("link", fs::hard_link(at("a"), at("new"))),
        ("unlink", fs::remove_file(at("a"))),
        ("rename", fs::rename(at("a"), at("b"))),
        ("chmod", fs::set_permissions(at("a"), modes)),
        ("chown", std::os::unix::fs::chown(at("a"), Some(1), None)),
        ("utimens", File::open(at("a")).unwrap().set_times(now)),
        (
            "setxattr",
            rustix::fs::setxattr(at("a"), "user.x", b"", XattrFlags::empty()).map_err(Into::into),
        ),
    ];
    for (attempt, result) in attempts {
        let errno = result.err().and_then(|error| error.raw_os_error());
        assert_eq!(errno, Some(Errno::ROFS.raw_os_error()), "{attempt}");
    }
    assert_eq!(fs::read(at("a")).unwrap(), b"x");
    assert_eq!(fs::read(at("b")).unwrap(), b"y");
    assert_eq!(fs::read_dir(at("")).unwrap().count(), 3);
}

/// A request that is fetched while the kernel takes the connection away is answered as if somebody had broken it off.
#[test]
fn an_unmount_while_requests_are_under_way_is_an_end_like_others() {
    if !can_mount() {
        return;
    }
    for _ in 0..100 {
        let scratch = Scratch::new();
        let files: Vec<_> = (0..32)
            .map(|number| File::create(scratch.path(&number.to_string())).unwrap())
            .collect();
        let closing = thread::spawn(move || drop(files));
        // Panics when the mount broke off.
        drop(scratch);
        closing.join().unwrap();
    }
}

/// Most others have no limit that anybody comes to.
const LINKS_OF_EXT4: u32 = 65_000;
