//! Changing what was published.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    os::unix::fs::FileExt,
    path::Path,
    process::{Command, Stdio},
};

use rustix::io::Errno;

use crate::{
    guarded::{is_refused, policy},
    lab::{Finish, Lab, eventually},
    mounted::{Mounted, attribute, mount, unmount_all_at},
    needs,
    scene::{assert_holds, with_model},
};

fn errno<T>(result: io::Result<T>) -> Option<Errno> {
    result.err().and_then(|error| Errno::from_io_error(&error))
}

/// All ways to change a file by its name.
fn changes(path: &Path) -> [Option<Errno>; 4] {
    let open = |options: &mut fs::OpenOptions| errno(options.open(path));
    [
        open(File::options().write(true)),
        open(File::options().append(true)),
        open(File::options().read(true).write(true)),
        open(File::options().write(true).truncate(true)),
    ]
}

// Stands on `Permit::check` (fs/src/gate/permit.rs), asked by `Vfs::begin_open`.
#[test]
fn published_content_is_not_written_through_the_mount() {
    let Some(lab) = with_model() else { return };
    let mounted = Mounted::new(&lab, "tree", "mnt", &[]);
    let weights = mounted.path.join("model/weights.bin");
    assert_eq!(changes(&weights), [Some(Errno::PERM); 4]);
    // By another name it is the same file.
    fs::hard_link(&weights, mounted.path.join("other")).unwrap();
    assert_eq!(changes(&mounted.path.join("other")), [Some(Errno::PERM); 4]);
    fs::rename(&weights, mounted.path.join("renamed")).unwrap();
    assert_eq!(changes(&mounted.path.join("renamed")), [Some(Errno::PERM); 4]);
    let mut perl = lab.configured("perl");
    let truncated = perl.args(["-e", "truncate($ARGV[0], 3) or exit($! + 0)"]);
    assert_eq!(truncated.arg(mounted.path.join("renamed")).finish().code, Some(1), "EPERM");
    assert_holds(&lab.path("tree/renamed"), "weights");
}

// Stands on the same and on `TreeLock::take` (daemon/src/session/lock.rs).
#[test]
fn published_content_is_not_written_through_a_second_mount() {
    let Some(lab) = with_model() else { return };
    let first = Mounted::new(&lab, "tree", "first", &["--read-only"]);
    let second = Mounted::new(&lab, "tree", "second", &[]);
    assert_eq!(changes(&first.path.join("model/weights.bin")), [Some(Errno::ROFS); 4]);
    assert_eq!(changes(&second.path.join("model/weights.bin")), [Some(Errno::PERM); 4]);
    // Nor by one more writable mount, or one of what is mounted already.
    lab.directory("third");
    for backing in ["tree", "first"] {
        let refused = mount(&lab, backing, "third", &[]).finish();
        unmount_all_at(&lab.path("third"));
        assert_eq!(refused.code, Some(3), "{refused:?}");
    }
    drop(second);
    // A run whose outputs lie elsewhere.
    let mut run = lab.run("other");
    run.args(["--dir", "tree", "--out", "other", "--"]);
    let script = "mkdir tree/other; echo x > tree/other/x; echo evil > tree/model/weights.bin";
    let ended = run.args(["sh", "-c", script]).finish();
    assert!(ended.stderr.contains("Operation not permitted"), "{ended:?}");
    assert_holds(&lab.path("tree/model/weights.bin"), "weights");
}

// Stands on `Run::wait_for_rest` (fs/src/run/quiesce.rs): what somebody has open for writing is left out.
// What was published all the same `Permit::check_again` (fs/src/gate/permit.rs) keeps from change.
#[test]
fn published_content_is_not_written_through_a_descriptor_that_was_opened_before() {
    let Some(lab) = Lab::new() else { return };
    let mounted = Mounted::new(&lab, "tree", "mnt", &[]);
    let path = mounted.path.join("model/weights.bin");
    fs::create_dir(mounted.path.join("model")).unwrap();
    fs::write(&path, "draft").unwrap();
    let mut before = File::options().append(true).open(&path).unwrap();
    let stage = |words: &[&str]| lab.attestfs(["stage"].iter().chain(words)).succeed();
    stage(&["open", "mnt", "--stage", "train", "--out", "model"]);
    fs::write(&path, "weights").unwrap();
    assert_left_out(&lab);
    assert_ne!(lab.verify("tree/model").finish().code, Some(0));
    // What it writes is nothing that anybody vouched for.
    before.write_all(b"evil").unwrap();
    drop(before);
    assert_ne!(lab.verify("tree/model").finish().code, Some(0));
}

/// Ends the stage of `mnt`, which does not vouch for what somebody may still write to.
fn assert_left_out(lab: &Lab) {
    let closed = lab.attestfs(["stage", "close", "mnt"]).finish();
    assert!(format!("{closed:?}").contains("still open for writing"), "{closed:?}");
}

// Stands on `Run::wait_for_rest` (fs/src/run/quiesce.rs), as below.
#[test]
fn a_descriptor_of_a_stage_that_has_ended_does_not_change_what_another_published() {
    let Some(lab) = Lab::new() else { return };
    policy(&lab, "rehash");
    let mounted = Mounted::new(&lab, "tree", "mnt", &["--policy", "policy.toml"]);
    let stage = |words: &[&str]| lab.attestfs(["stage"].iter().chain(words)).succeed();
    fs::create_dir(mounted.path.join("shared")).unwrap();
    let file = mounted.path.join("shared/weights.bin");
    stage(&["open", "mnt", "--stage", "first", "--out", "shared"]);
    fs::write(&file, "first").unwrap();
    let held = File::options().write(true).open(&file).unwrap();
    assert_left_out(&lab);
    stage(&["open", "mnt", "--stage", "second", "--out", "shared"]);
    fs::write(&file, "second").unwrap();
    assert_left_out(&lab);
    held.write_all_at(b"evil", 0).unwrap();
    assert!(is_refused(&file));
    drop(held);
    assert!(is_refused(&file));
}

/// Maps a file that it makes, and stores into the mapping when it is told to.
const MAPPING: &str = "import mmap, sys
with open(sys.argv[1], 'wb') as f:
    f.write(b'A' * 8192)
with open(sys.argv[1], 'rb+') as f:
    pages = mmap.mmap(f.fileno(), 8192)
print('mapped', flush=True)
sys.stdin.readline()
pages[4096:4100] = b'EVIL'
print('stored', flush=True)
sys.stdin.readline()
";

// Stands on `Run::wait_for_rest` (fs/src/run/quiesce.rs): what somebody has open for writing is left out.
#[test]
fn a_mapping_from_before_the_publication_shows_nobody_what_it_stores() {
    let Some(lab) = Lab::new() else { return };
    if !needs::programs(&["python3"]) {
        return;
    }
    policy(&lab, "rehash");
    let mounted = Mounted::new(&lab, "tree", "mnt", &["--policy", "policy.toml"]);
    fs::create_dir(mounted.path.join("shared")).unwrap();
    let file = mounted.path.join("shared/weights.bin");
    let open = |stage| {
        lab.attestfs(["stage", "open", "mnt", "--stage", stage, "--out", "shared"]).succeed()
    };
    open("first");
    let mut python = Command::new("python3");
    let python = python.args(["-c", MAPPING]).arg(&file);
    let mut python = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(python.stdout.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), "mapped");
    assert_left_out(&lab);
    open("second");
    fs::write(&file, vec![b'B'; 8192]).unwrap();
    // Nobody can say what becomes of it: it is not published, nor read.
    assert_left_out(&lab);
    assert!(is_refused(&file));
    let mut tell = python.stdin.take().unwrap();
    tell.write_all(b"\n").unwrap();
    assert_eq!(said.next().unwrap().unwrap(), "stored");
    let read = fs::read(&file);
    assert!(!read.is_ok_and(|bytes| bytes.windows(4).any(|it| it == b"EVIL")));
    drop(tell);
    python.wait().unwrap();
    assert!(is_refused(&file));
}

/// Maps a file, and stores into the mapping when it is told to.
const STORING: &str = "import mmap, sys
with open(sys.argv[1], 'rb+') as f:
    pages = mmap.mmap(f.fileno(), 0)
print('mapped', flush=True)
sys.stdin.readline()
pages[:4] = b'EVIL'
print('stored', flush=True)
sys.stdin.readline()
";

// Stands on `Guard::hold` (fs/src/gate/guard.rs) and `WriteHandle::new` (fs/src/write.rs).
#[test]
fn what_a_mapping_of_a_model_that_came_along_stores_reaches_no_other_reader() {
    if !needs::programs(&["python3"]) {
        return;
    }
    for level in ["stat", "rehash"] {
        let Some(lab) = with_model() else { return };
        policy(&lab, level);
        let state = lab.directory("elsewhere");
        let options = ["--policy", "policy.toml", "--state", state.to_str().unwrap()];
        let mounted = Mounted::new(&lab, "tree", "mnt", &options);
        let weights = mounted.path.join("model/weights.bin");
        let reader = File::open(&weights).unwrap();
        let mut writer = File::options();
        writer.read(true).write(true);
        let busy = Some(Errno::TXTBSY);
        assert_eq!(errno(writer.open(&weights)), busy, "{level}");
        drop(reader);
        eventually("nobody reads it", || writer.open(&weights).is_ok());
        eventually("nobody writes it", || fs::read(&weights).is_ok());
        let mut python = Command::new("python3");
        let python = python.args(["-c", STORING]).arg(&weights);
        let mut python = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(python.stdout.take().unwrap()).lines();
        assert_eq!(said.next().unwrap().unwrap(), "mapped");
        assert_eq!(errno(fs::read(&weights)), busy, "{level}");
        assert!(verdict(&weights).contains("open for writing"));
        python.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        assert_eq!(said.next().unwrap().unwrap(), "stored");
        assert_eq!(errno(fs::read(&weights)), busy, "{level}");
        drop(python.stdin.take());
        python.wait().unwrap();
        eventually("its stores are judged", || is_refused(&weights));
    }
}

fn verdict(path: &Path) -> String {
    attribute(path, "user.attestfs.verdict").unwrap()
}
