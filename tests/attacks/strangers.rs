//! Whoever comes to our sockets, and what is handed to us as something else.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    process::Stdio,
};

use crate::{
    disk::Disk,
    lab::{ATTESTFS, Finish, Lab, Running, eventually},
    needs,
};

/// Says hello to the daemon, asks how it is, and prints what comes back.
const VISITOR: &str = r#"
import json, socket, struct, sys
visitor = socket.socket(socket.AF_UNIX)
visitor.settimeout(20)
visitor.connect(sys.argv[1])
hello, call = {"version": 2, "program": "visitor"}, {"id": 1, "request": {"request": "status"}}
for message in [hello, {"call": call}]:
    frame = json.dumps(message).encode()
    visitor.sendall(struct.pack(">I", len(frame)) + frame)
for _ in range(2):
    header = visitor.recv(4, socket.MSG_WAITALL)
    length = struct.unpack(">I", header)[0] if header else 0
    print(visitor.recv(length, socket.MSG_WAITALL).decode())
"#;

// Stands on `refuse_peer` (daemon/src/control/server.rs): the kernel says who it is.
#[test]
fn a_foreign_user_at_the_control_socket_is_told_nothing() {
    if !needs::programs(&["setpriv", "unshare"]) {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let mut daemon = lab.attestfs(["daemon", "--foreground"]);
    let _daemon = Running::start(daemon.env("ATTESTFS_IDLE_SECONDS", "60").stderr(Stdio::null()));
    eventually("the daemon listens", || lab.daemon().is_some());
    // As if somebody had opened the state directory to all.
    for path in ["", "state", "state/control.sock"] {
        fs::set_permissions(lab.path(path), fs::Permissions::from_mode(0o777)).unwrap();
    }
    let foreign = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    // Whoever is root in a namespace of his own is somebody else here.
    let as_root = ["unshare", "--user", "--map-root-user"];
    let visits: [(&[&str], bool); 3] =
        [(&["env"], true), (&foreign, false), (&[&foreign[..], &as_root[..]].concat(), false)];
    for (who, is_answered) in visits {
        let mut visitor = lab.configured(who[0]);
        visitor.args(&who[1..]).args(["/usr/bin/python3", "-c", VISITOR]);
        let ended = visitor.arg(lab.state().join("control.sock")).finish();
        assert_eq!(ended.stdout.contains(r#""done""#), is_answered, "{who:?}: {ended:?}");
        assert_eq!(ended.stdout.contains("forbidden"), !is_answered, "{who:?}: {ended:?}");
    }
}

// Stands on `is_fuse` (daemon/src/mount/device.rs).
#[test]
fn a_descriptor_that_is_not_the_fuse_device_is_not_served() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    File::create(lab.path("file")).unwrap();
    for (open, shown) in [
        ("5<> /dev/null", "/dev/null"),
        ("5<> file", "file"),
        ("5< tree", "tree"),
        ("5<> /dev/tty0 || exec 5<> /dev/zero", "/dev/"),
    ] {
        let mut shell = lab.configured("sh");
        let script = format!("exec {open}; exec \"$@\" mount tree /dev/fd/5");
        let refused = shell.args(["-c", &script, "sh", ATTESTFS]).finish();
        assert_eq!(refused.code, Some(3), "{open}: {refused:?}");
        assert!(refused.stderr.contains("is no /dev/fuse"), "{open}: {refused:?}");
        assert!(refused.stderr.contains(shown), "{open}: {refused:?}");
    }
}

/// Mounts a filesystem that never answers, calls itself as we are called, keeps its root open, and
/// locks what nobody else wants.
const MUTE: &str = r#"
import ctypes, fcntl, os, sys, time
device = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b"mute", sys.argv[1].encode(), b"fuse", 6, options.encode()):
    sys.exit(os.strerror(ctypes.get_errno()))
libc.prctl(15, b"attestfs")
root = os.open(sys.argv[1], os.O_PATH)
fcntl.flock(os.open(sys.argv[2], os.O_RDONLY), fcntl.LOCK_EX)
os.rmdir(sys.argv[2])
time.sleep(60)
"#;

// Stands on `name_at` (daemon/src/session/lock.rs), which asks no server.
#[test]
fn a_filesystem_that_never_answers_keeps_no_run_waiting() {
    if !needs::programs(&["python3", "timeout"]) {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    let (hung, locked) = (lab.directory("hung"), lab.directory("locked"));
    let mut mute = lab.configured("python3");
    let mute = Running::start(mute.args(["-c", MUTE]).args([&hung, &locked]));
    eventually("it locks", || !locked.exists());
    let _hung = Disk::mounted(&hung);
    let mut run = lab.configured("timeout");
    run.args(["20", ATTESTFS, "run", "--stage", "idle", "--key", "keys/attestfs.key"]);
    let ended = run.args(["--dir", "tree", "--", "true"]).finish();
    // Whoever still waits is let go.
    drop(mute);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}
