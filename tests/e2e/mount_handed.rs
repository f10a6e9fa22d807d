//! Mounts that one process makes and another one serves.

use std::{
    fs::{self, File},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::{
    evidence::only_attestation,
    lab::{ATTESTFS, Finish, Lab, Running, eventually},
    mounted::{is_mounted, is_running, unmount_all_at},
    needs,
};

/// A directory that nothing of attestfs stays mounted on.
struct MountPoint(PathBuf);

impl MountPoint {
    fn new(lab: &Lab) -> Self {
        Self(fs::canonicalize(lab.directory("mnt")).unwrap())
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for MountPoint {
    fn drop(&mut self) {
        unmount_all_at(&self.0);
    }
}

fn receive(lab: &Lab, options: &[&str]) -> Running {
    let mut receiver = lab.attestfs(["mount", "--foreground", "--receive", "socket"]);
    receiver.args(["--key", "keys/attestfs.key"]).args(options).stderr(Stdio::null());
    Running::start(&mut receiver)
}

fn hand_over(lab: &Lab, options: &[&str]) -> Command {
    let mut sender = lab.attestfs(["mount", "--hand-over", "socket"]);
    sender.args(options).args(["tree", "mnt"]);
    sender
}

#[test]
fn a_mount_is_made_by_one_process_and_served_by_another() {
    let Some(lab) = Lab::new() else { return };
    let mnt = MountPoint::new(&lab);
    fs::write(lab.directory("tree").join("raw"), "raw data").unwrap();
    let mut receiver = receive(&lab, &[]);
    hand_over(&lab, &[]).succeed();
    assert!(!lab.path("socket").exists(), "one mount is served by one process");
    assert_eq!(fs::read_to_string(mnt.join("raw")).unwrap(), "raw data");
    let tree = fs::canonicalize(lab.path("tree")).unwrap();
    // The receiver does not know where it is mounted: the directory behind names it.
    lab.attestfs(["stage", "open", "tree", "--stage", "train", "--out", "model"]).succeed();
    fs::create_dir(mnt.join("model")).unwrap();
    fs::copy(mnt.join("raw"), mnt.join("model/weights")).unwrap();
    lab.attestfs(["stage", "close", "tree"]).succeed();
    let attestation = only_attestation(&lab.state());
    assert!(attestation.subjects(&lab.state()).contains_key(&tree.join("model/weights")));
    assert!(attestation.materials().contains_key(&tree.join("raw")));
    let refused = lab.attestfs(["umount"]).arg(&tree).finish();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    drop(mnt);
    assert_eq!(receiver.code(), Some(0));
}

#[test]
fn a_receiver_in_the_background_comes_back_when_it_serves() {
    let Some(lab) = Lab::new() else { return };
    let mnt = MountPoint::new(&lab);
    fs::write(lab.directory("tree").join("raw"), "raw data").unwrap();
    let mut receiver = lab.attestfs(["mount", "--json", "--receive", "socket"]);
    let receiver = receiver.stdout(Stdio::piped()).spawn().unwrap();
    hand_over(&lab, &[]).succeed();
    let printed = receiver.wait_with_output().unwrap();
    assert!(printed.status.success());
    let served: Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!(served["mountPoint"], Value::Null);
    assert_eq!(fs::read_to_string(mnt.join("raw")).unwrap(), "raw data");
    drop(mnt);
    let pid = u32::try_from(served["pid"].as_u64().unwrap()).unwrap();
    eventually("it has ended", || !is_running(pid));
}

#[test]
fn a_receiver_that_is_told_to_end_finishes_and_leaves_the_mount_to_who_made_it() {
    let Some(lab) = Lab::new() else { return };
    let mnt = MountPoint::new(&lab);
    lab.directory("tree");
    let mut receiver = receive(&lab, &["--stage", "train"]);
    hand_over(&lab, &[]).succeed();
    fs::write(mnt.join("file"), "content").unwrap();
    kill_process(receiver.pid(), Signal::TERM).unwrap();
    assert_eq!(receiver.code(), Some(0));
    assert_eq!(only_attestation(&lab.state()).subjects(&lab.state()).len(), 1);
    assert!(is_mounted(&mnt.0));
    lab.attestfs(["umount"]).arg(&mnt.0).succeed();
    assert!(!is_mounted(&mnt.0));
}

#[test]
fn a_mount_that_is_handed_over_read_only_stays_so() {
    let Some(lab) = Lab::new() else { return };
    let mnt = MountPoint::new(&lab);
    lab.directory("tree");
    let _receiver = receive(&lab, &[]);
    hand_over(&lab, &["--read-only"]).succeed();
    assert!(fs::write(mnt.join("file"), "content").is_err());
    let refused = lab.attestfs(["stage", "open", "tree", "--stage", "train"]).finish();
    assert!(refused.stderr.contains("read-only"), "{refused:?}");
}

#[test]
fn nothing_stays_mounted_when_the_receiver_refuses() {
    let Some(lab) = Lab::new() else { return };
    let mnt = MountPoint::new(&lab);
    lab.directory("tree/.attestfs");
    let mut receiver = receive(&lab, &[]);
    let failed = hand_over(&lab, &[]).finish();
    assert_eq!(failed.code, Some(3), "{failed:?}");
    assert!(!is_mounted(&mnt.0));
    assert_eq!(receiver.code(), Some(3));
}

#[test]
fn what_listens_and_is_no_receiver_gets_no_mount() {
    let Some(lab) = Lab::new() else { return };
    let mnt = MountPoint::new(&lab);
    lab.directory("tree");
    File::create(lab.path("socket")).unwrap();
    let failed = hand_over(&lab, &[]).finish();
    assert_eq!(failed.code, Some(3), "{failed:?}");
    assert!(failed.stderr.contains("is no socket"), "{failed:?}");
    assert!(!is_mounted(&mnt.0));
}

#[test]
fn no_stranger_is_given_a_mount_but_by_his_user_id() {
    if !needs::programs(&["python3"]) {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let mnt = MountPoint::new(&lab);
    lab.directory("tree");
    // As the kubelet makes volumes: of root, and open to all.
    let open = fs::Permissions::from_mode(0o777);
    fs::set_permissions(lab.directory("volume"), open).unwrap();
    let mut stranger = lab.configured("python3");
    let _stranger = Running::start(stranger.args(["-c", STRANGER]));
    eventually("he listens", || lab.path("volume/ready").exists());
    let offer = |options: &[&str]| {
        let mut sender = lab.attestfs(["mount", "--json", "--hand-over", "volume/socket"]);
        let failed = sender.args(options).args(["tree", "mnt"]).finish();
        assert_eq!(failed.code, Some(3), "{failed:?}");
        assert!(!is_mounted(&mnt.0));
        let told: Value = serde_json::from_str(&failed.stdout).unwrap();
        told["error"].clone()
    };
    let refused = offer(&[]);
    assert!(refused["message"].as_str().unwrap().contains("user 65534 listens"), "{refused}");
    assert!(refused["nextStep"].as_str().unwrap().contains("--receiver-user 65534"), "{refused}");
    let another = offer(&["--receiver-user", "65533"]);
    assert!(another["message"].as_str().unwrap().contains("user 65534 listens"), "{another}");
    // He is offered it now, and takes nothing.
    let named = offer(&["--receiver-user", "65534"]);
    assert!(named["message"].as_str().unwrap().contains("does not answer"), "{named}");
}

/// Listens as a user to whom nothing of the laboratory belongs, and hangs up on everybody.
const STRANGER: &str = r#"
import os, socket
os.chdir("volume")
os.setgid(65534)
os.setuid(65534)
listener = socket.socket(socket.AF_UNIX)
listener.bind("socket")
listener.listen()
open("ready", "w").close()
while True:
    listener.accept()[0].close()
"#;

#[test]
fn a_receiver_refuses_what_is_no_mount_and_says_what_it_is() {
    let Some(lab) = Lab::new() else { return };
    let receiver = lab.attestfs(["mount", "--foreground", "--receive", "socket"]);
    let mut receiver = { receiver }.stderr(Stdio::piped()).spawn().unwrap();
    eventually("it listens", || is_socket(&lab.path("socket")));
    drop(UnixStream::connect(lab.path("socket")).unwrap());
    let ended = receiver.wait().unwrap();
    assert_eq!(ended.code(), Some(3));
}

#[test]
fn a_descriptor_by_its_number_is_served_and_anything_else_is_refused_with_its_name() {
    if !needs::programs(&["python3"]) {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let mnt = MountPoint::new(&lab);
    fs::write(lab.directory("tree").join("raw"), "raw data").unwrap();
    let mut mounter = lab.configured("python3");
    mounter.args(["-c", MOUNTER, ATTESTFS, "tree"]).arg(&mnt.0);
    let mut mounter = Running::start(&mut mounter);
    eventually("it is served", || lab.path("served").exists());
    assert_eq!(fs::read_to_string(mnt.join("raw")).unwrap(), "raw data");
    fs::write(mnt.join("new"), "new").unwrap();
    assert_eq!(fs::read_to_string(lab.path("tree/new")).unwrap(), "new");
    drop(mnt);
    eventually("it has ended", || mounter.has_ended());

    let mut shell = lab.configured("sh");
    let script = "exec 5< /dev/null; exec \"$@\" mount tree /dev/fd/5";
    let refused = shell.args(["-c", script, "sh", ATTESTFS]).finish();
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(refused.stderr.contains("is no /dev/fuse, but /dev/null"), "{refused:?}");
    let closed = lab.attestfs(["mount", "tree", "/dev/fd/77"]).finish();
    assert_eq!(closed.code, Some(3), "{closed:?}");
    assert!(closed.stderr.contains("descriptor 77"), "{closed:?}");
}

/// Opens the backing directory and the device, mounts with mount(2), has attestfs serve both by their
/// numbers, and waits until the process that serves has gone.
const MOUNTER: &str = r#"
import ctypes, os, subprocess, sys
program, backing, target = sys.argv[1:]
root = os.open(backing, os.O_PATH | os.O_DIRECTORY)
device = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={device},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other"
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b"/somewhere", target.encode(), b"fuse.attestfs", 6, options.encode()):
    sys.exit(os.strerror(ctypes.get_errno()))
subprocess.run([program, "mount", f"/dev/fd/{root}", f"/dev/fd/{device}"],
               pass_fds=(root, device), check=True)
os.close(root)
os.close(device)
open("served", "w").close()
while os.path.ismount(target):
    __import__("time").sleep(0.02)
"#;

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}
