//! `.attestfs` at the root of a mount.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may fail")]

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::unix::fs::{DirEntryExt, MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    thread,
    time::Duration,
};

use attestfs_attestation::{Bundle, CommitKind, Outcome, SigningKey};
use attestfs_digest::Sha256;
use attestfs_fs::MountError;
use rustix::{fs::XattrFlags, io::Errno};

use crate::common::{Scratch, Store, can_mount};

/// A mount with files, some of which were published before.
struct Library {
    scratch: Scratch,
    store: Store,
    key: SigningKey,
}

impl Library {
    fn with(files: &[&str]) -> Self {
        let store = Store::default();
        let prepare = |root: &Path| {
            for file in files {
                fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
                fs::write(root.join(file), file).unwrap();
            }
        };
        let scratch = Scratch::beside(&store, None, prepare);
        // Others have to come by.
        fs::set_permissions(scratch.path(".."), fs::Permissions::from_mode(0o755)).unwrap();
        Self { scratch, store, key: SigningKey::generate().unwrap() }
    }

    fn publish(&self, root: &str, names: &[&str]) -> Sha256 {
        self.store.publish(&self.key, "train", &self.scratch.stored(root), names)
    }

    fn path(&self, attestation: Sha256) -> PathBuf {
        self.scratch.path(".attestfs/attestations").join(format!("{attestation}.sigstore.json"))
    }

    /// Whether somebody can read the bundle, and finds it listed.
    fn is_shown_to(&self, who: &str, attestation: Sha256) -> bool {
        let path = self.path(attestation);
        let run = |program: &str, path: &Path| {
            let mut command = Command::new("setpriv");
            command.args(who.split(' ')).arg(program).arg(path).output().unwrap()
        };
        let read = run("cat", &path);
        let listed = run("ls", path.parent().unwrap());
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_listed = String::from_utf8(listed.stdout).unwrap().contains(name);
        assert_eq!(read.status.success(), is_listed, "{who}");
        is_listed
    }
}

const ROOT: &str = "--reuid=0 --regid=0 --clear-groups";
const STRANGER: &str = "--reuid=65534 --regid=65534 --clear-groups";

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

const READ_ONLY: Option<i32> = Some(Errno::ROFS.raw_os_error());

#[test]
fn bundles_are_found_by_name_and_the_root_does_not_list_them() {
    if !can_mount() {
        return;
    }
    let library = Library::with(&["model/w"]);
    let attestation = library.publish("model", &["w"]);
    let bundle = Bundle::parse(&fs::read(library.path(attestation)).unwrap()).unwrap();
    assert_eq!(bundle.sha256(), attestation);
    let size = library.path(attestation).metadata().unwrap().len();
    assert_eq!(size, bundle.to_json().len() as u64);
    let names = |path: &str| -> Vec<String> {
        let entries = fs::read_dir(library.scratch.path(path)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert_eq!(names(""), ["model"]);
    assert_eq!(names(".attestfs"), ["attestations"]);
    assert_eq!(names(".attestfs/attestations"), [format!("{attestation}.sigstore.json")]);
    for missing in [
        ".attestfs/x",
        "model/.attestfs",
        ".attestfs/attestations/x",
        ".attestfs/attestations/0.sigstore.json",
        &format!(".attestfs/attestations/{}.sigstore.json", Sha256([7; 32])),
    ] {
        let found = library.scratch.path(missing).symlink_metadata();
        assert_eq!(errno(found), Some(Errno::NOENT.raw_os_error()), "{missing}");
    }
}

#[test]
fn a_bundle_is_shown_to_whoever_may_read_a_file_that_it_is_about() {
    if !can_mount() {
        return;
    }
    let library = Library::with(&["model/a", "model/b"]);
    let attestation = library.publish("model", &["a", "b"]);
    let (model, a) = (library.scratch.path("model"), library.scratch.path("model/a"));
    let member = "--reuid=65534 --regid=65534 --groups=4242";
    allow(&library.scratch.path("model/b"), 0o600);
    for (directory, file, stranger, in_group) in [
        (0o755, 0o644, true, true),
        (0o711, 0o604, true, false),
        (0o755, 0o640, false, true),
        (0o755, 0o200, false, false),
        (0o744, 0o644, false, false),
        (0o710, 0o644, false, true),
    ] {
        for path in [&model, &a] {
            std::os::unix::fs::chown(path, None, Some(4242)).unwrap();
        }
        allow(&model, directory);
        allow(&a, file);
        let modes = format!("{directory:o} {file:o}");
        // The kernel must not answer one user from what it was told for another.
        assert!(library.is_shown_to(ROOT, attestation), "{modes}");
        assert_eq!(library.is_shown_to(STRANGER, attestation), stranger, "{modes}");
        assert_eq!(library.is_shown_to(member, attestation), in_group, "{modes}");
    }
}

#[test]
fn what_one_user_found_another_one_does_not() {
    if !can_mount() {
        return;
    }
    let library = Library::with(&["w"]);
    let attestation = library.publish("", &["w"]);
    allow(&library.scratch.path("w"), 0o600);
    let path = library.path(attestation);
    let as_stranger = |program: &str, path: &Path, stdin: File| {
        let mut command = Command::new("setpriv");
        command.args(STRANGER.split(' ')).arg(program).arg(path).stdin(stdin);
        command.output().unwrap().status.success()
    };
    // Not by a name that the kernel has just looked up, nor by a descriptor of somebody else.
    let length = path.metadata().unwrap().len();
    assert!(!as_stranger("stat", &path, File::open("/dev/null").unwrap()));
    let handed_over = Path::new("/proc/self/fd/0");
    assert!(!as_stranger("cat", handed_over, File::open(&path).unwrap()));
    allow(&library.scratch.path("w"), 0o604);
    assert!(as_stranger("stat", &path, File::open("/dev/null").unwrap()));
    assert!(as_stranger("cat", handed_over, File::open(&path).unwrap()));
    assert_eq!(path.metadata().unwrap().len(), length);
}

#[test]
fn a_bundle_is_shown_where_one_of_its_files_is() {
    if !can_mount() {
        return;
    }
    let library = Library::with(&["model/w", "other/w", "deep/er/w"]);
    let about_model = library.publish("model", &["w"]);
    let about_all = library.publish("", &["deep/er/w"]);
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("w"), "x").unwrap();
    let about_others = library.store.publish(&library.key, "train", elsewhere.path(), &["w"]);
    for (attestation, shown) in [(about_model, true), (about_all, true), (about_others, false)] {
        assert_eq!(library.is_shown_to(ROOT, attestation), shown);
    }
    // A name that leads elsewhere now is no file of the statement.
    fs::remove_file(library.scratch.path("model/w")).unwrap();
    assert!(!library.is_shown_to(ROOT, about_model));
    symlink("../other/w", library.scratch.path("model/w")).unwrap();
    assert!(!library.is_shown_to(ROOT, about_model));
    fs::rename(library.scratch.path("deep"), library.scratch.path("moved")).unwrap();
    assert!(!library.is_shown_to(ROOT, about_all));
}

#[test]
fn bundles_of_runs_that_failed_and_of_very_many_files_are_shown() {
    if !can_mount() {
        return;
    }
    let names: Vec<String> = (0..1001).map(|number| format!("{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let library = Library::with(&names);
    let in_manifest = library.publish("", &names);
    let failed = CommitKind::StageEnd(Outcome::Failed { exit_code: Some(1), signal: None });
    let root = library.scratch.stored("");
    let of_failed = library.store.publish_as(&library.key, "train", failed, &root, &["0"]);
    assert!(library.is_shown_to(STRANGER, in_manifest));
    assert!(library.is_shown_to(STRANGER, of_failed));
    for name in names {
        allow(&library.scratch.path(name), 0o600);
    }
    assert!(!library.is_shown_to(STRANGER, in_manifest));
    assert!(!library.is_shown_to(STRANGER, of_failed));
}

#[test]
fn a_bundle_that_was_opened_is_read_to_its_end() {
    if !can_mount() {
        return;
    }
    let library = Library::with(&["w"]);
    let attestation = library.publish("", &["w"]);
    let file = File::open(library.path(attestation)).unwrap();
    library.store.set_away(true);
    let text = io::read_to_string(file).unwrap();
    assert_eq!(Bundle::parse(text.as_bytes()).unwrap().sha256(), attestation);
}

#[test]
fn a_listing_that_takes_its_time_keeps_no_other_request_waiting() {
    if !can_mount() {
        return;
    }
    let library = Library::with(&["w", "other"]);
    library.publish("", &["w"]);
    let held = library.store.hold();
    thread::scope(|threads| {
        let list = || fs::read_dir(library.scratch.path(".attestfs/attestations")).unwrap().count();
        // More than there are threads for requests.
        let listings: Vec<_> = (0..8).map(|_| threads.spawn(list)).collect();
        thread::sleep(Duration::from_millis(200));
        let (tell, told) = mpsc::channel();
        let other = library.scratch.path("other");
        threads.spawn(move || tell.send(fs::read(other)));
        let read = told.recv_timeout(Duration::from_secs(10));
        drop(held);
        assert_eq!(read.unwrap().unwrap(), b"other");
        for listing in listings {
            assert_eq!(listing.join().unwrap(), 1);
        }
    });
}

#[test]
fn bundles_that_cannot_be_had_are_not_shown_and_a_listing_of_them_fails() {
    if !can_mount() {
        return;
    }
    let library = Library::with(&["w"]);
    let attestation = library.publish("", &["w"]);
    library.store.set_away(true);
    assert!(File::open(library.path(attestation)).is_err());
    let listed = fs::read_dir(library.scratch.path(".attestfs/attestations"));
    assert_eq!(errno(listed), Some(Errno::IO.raw_os_error()));
    library.store.set_away(false);
    assert!(library.is_shown_to(ROOT, attestation));
}

#[test]
fn nothing_in_it_can_be_changed_and_nothing_takes_its_place() {
    if !can_mount() {
        return;
    }
    let library = Library::with(&["w", "directory/x"]);
    let bundle = library.path(library.publish("", &["w"]));
    let at = |name: &str| library.scratch.path(name);
    let (top, attestations) = (at(".attestfs"), at(".attestfs/attestations"));
    for inside in [&top, &attestations] {
        assert_eq!(errno(File::create(inside.join("new"))), READ_ONLY);
        assert_eq!(errno(fs::create_dir(inside.join("new"))), READ_ONLY);
        assert_eq!(errno(symlink("x", inside.join("new"))), READ_ONLY);
        assert_eq!(errno(fs::hard_link(at("w"), inside.join("new"))), READ_ONLY);
        assert_eq!(errno(fs::rename(at("w"), inside.join("new"))), READ_ONLY);
        assert_eq!(
            errno(fs::set_permissions(inside, fs::Permissions::from_mode(0o777))),
            READ_ONLY
        );
        assert_eq!(errno(fs::remove_dir(inside)), READ_ONLY);
    }
    assert_eq!(errno(fs::rename(&top, at("moved"))), READ_ONLY);
    assert_eq!(errno(fs::rename(at("directory"), &top)), READ_ONLY);
    assert_eq!(errno(fs::rename(&attestations, at("moved"))), READ_ONLY);
    assert_eq!(errno(fs::rename(&bundle, at("moved"))), READ_ONLY);
    assert_eq!(errno(fs::hard_link(&bundle, at("linked"))), READ_ONLY);
    assert_eq!(errno(fs::remove_file(&bundle)), READ_ONLY);
    assert_eq!(errno(File::options().write(true).open(&bundle)), READ_ONLY);
    assert_eq!(errno(File::options().append(true).open(&bundle)), READ_ONLY);
    assert_eq!(errno(File::create(&bundle)), READ_ONLY);
    let set = rustix::fs::setxattr(&bundle, "user.note", b"x", XattrFlags::empty());
    assert_eq!(set, Err(Errno::ROFS));
    assert_eq!(rustix::fs::listxattr(&bundle, &mut [0; 16][..]), Ok(0));
    let none = rustix::fs::getxattr(&bundle, "user.attestfs.state", &mut [0; 16][..]);
    assert_eq!(none, Err(Errno::NODATA));
    assert!(bundle.exists());
    let mut stored: Vec<_> =
        fs::read_dir(library.scratch.stored("")).unwrap().map(|e| e.unwrap().file_name()).collect();
    stored.sort();
    assert_eq!(stored, ["directory", "w"]);
    assert_eq!(library.scratch.facts.all(), []);
}

#[test]
fn its_inode_numbers_are_nobody_elses_and_stay() {
    if !can_mount() {
        return;
    }
    let library = Library::with(&["a", "b"]);
    let paths = [
        library.scratch.path(""),
        library.scratch.path("a"),
        library.scratch.path("b"),
        library.scratch.path(".attestfs"),
        library.scratch.path(".attestfs/attestations"),
        library.path(library.publish("", &["a"])),
        library.path(library.publish("", &["b"])),
    ];
    let numbers = || -> Vec<u64> { paths.iter().map(|p| p.metadata().unwrap().ino()).collect() };
    let first = numbers();
    assert_eq!(BTreeSet::from_iter(&first).len(), paths.len());
    fs::write("/proc/sys/vm/drop_caches", b"2").unwrap();
    assert_eq!(numbers(), first);
    for entry in fs::read_dir(library.scratch.path(".attestfs/attestations")).unwrap() {
        assert!(first[5..].contains(&entry.unwrap().ino()));
    }
}

#[test]
fn a_real_one_in_the_store_is_an_error_at_start() {
    if !can_mount() {
        return;
    }
    for make in [|path: &Path| fs::create_dir(path), |path: &Path| fs::write(path, b"")] {
        let prepare = |root: &Path| make(&root.join(".attestfs")).unwrap();
        let refused = Scratch::try_beside(&Store::default(), None, prepare).err();
        assert!(matches!(refused, Some(MountError::ReservedName(_))), "{refused:?}");
    }
}

#[test]
fn a_file_of_its_name_that_appears_below_the_mount_stays_hidden() {
    if !can_mount() {
        return;
    }
    let library = Library::with(&["a"]);
    fs::create_dir(library.scratch.stored(".attestfs")).unwrap();
    fs::write(library.scratch.stored(".attestfs/planted"), b"x").unwrap();
    let listed = fs::read_dir(library.scratch.path("")).unwrap().count();
    assert_eq!(listed, 1);
    assert!(!library.scratch.path(".attestfs/planted").exists());
    assert!(library.scratch.path(".attestfs/attestations").is_dir());
}
