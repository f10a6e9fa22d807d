//! A sidecar without privileges, which is handed what the node has mounted.

use std::{
    ffi::CString,
    fs,
    os::unix::{fs::chown, net::UnixListener},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use rustix::mount::{MountFlags, mount};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    lab::{ATTESTFS, Finish, Lab, Running, USER, eventually},
    models::{DATA, check_gate, gated, load, script, told},
    podman::{Container, MAPPED, RunningContainer},
};

/// A sidecar that waits for a mount.
fn sidecar<'a>(lab: &'a Lab, container: Container<'a>, options: &[&str]) -> RunningContainer<'a> {
    lab.directory_of_user("socket");
    lab.directory_of_user("sidecar");
    let serve = ["attestfs", "mount", "--foreground", "--receive", "/socket/hand-over.sock"];
    let arguments = serve.into_iter().chain(["--state", "/state/attestfs"]);
    let container = container
        .with_attestfs()
        .volume(lab.path("socket"), "/socket")
        .volume(lab.path("sidecar"), "/state")
        .start(arguments.chain(options.iter().copied()));
    eventually("the sidecar listens", || lab.path("socket/hand-over.sock").exists());
    container
}

#[test]
fn a_sidecar_serves_what_the_node_mounted_to_a_container_that_already_runs() {
    let Some(lab) = Lab::with_containers() else { return };
    gated(&lab);
    lab.policy();
    lab.directory("mounts/models");
    let workload =
        Container::new(&lab).volume(lab.path("mounts"), "/models").start(["sleep", "60"]);
    let read = |path: &str| workload.execute(["cat", &format!("/models/models/{path}")]).finish();
    assert_eq!(read("good/weights.bin").code, Some(1), "nothing is mounted yet");

    let container = Container::new(&lab)
        .read_only(lab.path("policy.toml"), "/policy/policy.toml")
        .read_only(lab.path("trainer.pub"), "/policy/trainer.pub");
    let sidecar = sidecar(&lab, container, &["--read-only", "--policy", "/policy/policy.toml"]);
    let hand_over = ["mount", "--hand-over", "socket/hand-over.sock", "--read-only"];
    lab.attestfs(hand_over).args(["store", "mounts/models"]).succeed();

    assert_eq!(read("good/weights.bin").stdout, "good");
    let refused = read("found/weights.bin");
    assert!(refused.stderr.contains("Permission denied"), "{refused:?}");
    check_gate(&load(Container::new(&lab).volume(lab.path("mounts"), "/all"), "/all/models"));

    // It may not unmount. When it ends, the mount is dead, and the node takes it away.
    drop(sidecar);
    let dead = read("good/weights.bin");
    assert!(dead.stderr.contains("endpoint is not connected"), "{dead:?}");
}

#[test]
fn nothing_is_mounted_before_there_is_a_sidecar() {
    let Some(lab) = Lab::new() else { return };
    lab.write("store/file", "content");
    let tree = lab.directory("tree");
    // What a sidecar left that was killed.
    drop(UnixListener::bind(lab.path("hand-over.sock")).unwrap());
    let hand_over = ["mount", "--hand-over", "hand-over.sock", "store", "tree"];
    let mut sender = Running::start(&mut lab.attestfs(hand_over));
    thread::sleep(Duration::from_secs(1));
    assert!(!lab.mounts().contains(&tree), "whoever looks there would wait");
    let receive = ["mount", "--foreground", "--receive", "hand-over.sock"];
    let _sidecar = Running::start(&mut lab.attestfs(receive));
    assert_eq!(sender.code(), Some(0));
    assert_eq!(fs::read_to_string(tree.join("file")).unwrap(), "content");
}

#[test]
fn a_sidecar_in_a_user_namespace_refuses_the_mount_and_none_is_left() {
    let Some(lab) = Lab::with_containers() else { return };
    lab.write("store/file", "content");
    let tree = lab.directory("tree");
    for name in ["socket", "sidecar"] {
        chown(lab.directory(name), Some(MAPPED + USER), Some(MAPPED + USER)).unwrap();
    }
    let _sidecar = Container::new(&lab)
        .in_user_namespace()
        .read_only(ATTESTFS, "/attestfs")
        .volume(lab.path("socket"), "/socket")
        .volume(lab.path("sidecar"), "/state")
        .start(
            ["/attestfs", "mount", "--foreground", "--receive", "/socket/hand-over.sock"]
                .into_iter()
                .chain(["--state", "/state/attestfs"]),
        );
    eventually("the sidecar listens", || lab.path("socket/hand-over.sock").exists());
    let hand_over = ["mount", "--hand-over", "socket/hand-over.sock", "store", "tree"];
    let ended = lab.attestfs(hand_over).finish();
    assert_eq!(ended.code, Some(3), "{ended:?}");
    // Root of the node is no user of that namespace: it could be anybody.
    assert!(ended.stderr.contains("user 65534 may not offer one"), "{ended:?}");
    assert!(!lab.mounts().contains(&tree));
}

#[test]
fn a_stage_in_a_sidecar_is_recorded_with_unknown_processes() {
    let Some(lab) = Lab::with_containers() else { return };
    lab.directory_of_user("store");
    lab.write("store/data.csv", DATA);
    train_in_sidecar(&lab);
    let facts = lab.facts("sidecar/attestfs");
    for by in [
        &told(&facts, "opened", "data.csv")[0]["by"],
        &told(&facts, "written", "model.tmp/weights.bin")[0]["by"],
    ] {
        // The numbers of the node's namespace mean other processes here, or none.
        assert!(
            by["pid"].is_null() && by["executable"].is_null() && by["cgroup"].is_null(),
            "{by}"
        );
        assert_eq!(by["uid"], USER, "{by}");
    }
}

#[test]
fn a_process_id_of_another_namespace_is_never_taken_for_a_process_of_this_one() {
    let Some(lab) = Lab::new() else { return };
    lab.write("store/data.csv", DATA);
    lab.directory("tree");
    let mut serve = lab.attestfs(["mount", "--foreground", "--stage", "look"]);
    serve.args(["--key", "keys/attestfs.key", "--receive", "hand-over.sock"]);
    let _server = Running::start(&mut serve);
    eventually("it listens", || lab.path("hand-over.sock").exists());
    // Mounted in a process namespace of its own, whose process 1 is process 1 of no other one.
    let script = "$0 mount --hand-over hand-over.sock store tree && read line < tree/data.csv";
    let mut inside = Command::new("unshare");
    inside.args(["--pid", "--fork", "--kill-child", "sh", "-ec", script, ATTESTFS]);
    inside.current_dir(lab.path("")).env("ATTESTFS_STATE", lab.path("state")).succeed();
    let facts = lab.facts("state");
    let by = &told(&facts, "opened", "data.csv")[0]["by"];
    assert!(by["pid"].is_null() && by["executable"].is_null(), "{by}");
    assert_eq!(by["uid"], 0);
}

#[test]
fn a_backing_on_overlayfs_is_served_and_its_digests_are_right() {
    let Some(lab) = Lab::with_containers() else { return };
    // As a layer of a container's image lies below what the container writes.
    lab.directory_of_user("image");
    lab.write("image/data.csv", DATA);
    lab.write("image/log.txt", "first\n");
    chown(lab.path("image/log.txt"), Some(USER), Some(USER)).unwrap();
    for name in ["upper", "work", "store"] {
        lab.directory_of_user(name);
    }
    let place = |name: &str| lab.path(name).display().to_string();
    let layers = format!(
        "lowerdir={},upperdir={},workdir={}",
        place("image"),
        place("upper"),
        place("work")
    );
    let layers = CString::new(layers).unwrap();
    mount("overlay", lab.path("store"), "overlay", MountFlags::empty(), layers.as_c_str()).unwrap();
    train_in_sidecar(&lab);

    let facts = lab.facts("sidecar/attestfs");
    // A layer below has other inodes; what is copied up when it is first written stays one file.
    let read = told(&facts, "opened", "data.csv");
    let of_read = |fact: &&Value| fact["fact"] == "hashed" && fact["version"] == read[0]["version"];
    let hashed = facts.iter().find(of_read).unwrap();
    assert_eq!(hashed["digests"]["sha256"], sha256(&lab.path("image/data.csv")));
    let sealed = told(&facts, "sealed", "log.txt");
    assert_eq!(sealed.len(), 1);
    assert_eq!(sealed[0]["digests"]["sha256"], sha256(&lab.path("store/log.txt")));
    assert_eq!(told(&facts, "opened", "log.txt").len(), 1, "it was there before");
    assert_eq!(fs::read_to_string(lab.path("store/log.txt")).unwrap(), "first\nsecond\n");
    assert_eq!(fs::read_to_string(lab.path("image/log.txt")).unwrap(), "first\n");
}

fn sha256(path: &Path) -> String {
    hex::encode(Sha256::digest(fs::read(path).unwrap()))
}

/// Runs `train.py` in a container on `tree`, which a sidecar serves, as one stage, and appends to
/// `log.txt`; then verifies the model.
fn train_in_sidecar(lab: &Lab) {
    let tree = lab.directory("tree");
    fs::copy(lab.path("keys/attestfs.key"), lab.directory_of_user("key").join("key")).unwrap();
    chown(lab.path("key/key"), Some(USER), Some(USER)).unwrap();
    let container = Container::new(lab).read_only(lab.path("key"), "/key");
    let sidecar = sidecar(lab, container, &["--key", "/key/key"]);
    lab.attestfs(["mount", "--hand-over", "socket/hand-over.sock", "store", "tree"]).succeed();
    // Whoever mounted it is gone and cannot end a stage; the sidecar knows the store by its path.
    let store = lab.path("store").display().to_string();
    let stage = |arguments: &[&str]| {
        let state = ["--state", "/state/attestfs"];
        sidecar.execute([&["attestfs", "stage"], arguments, &state].concat()).succeed()
    };
    stage(&["open", &store, "--stage", "train", "--out", "model"]);
    Container::new(lab)
        .volume(&tree, "/tree")
        .read_only(script("train.py"), "/train.py")
        .run(["sh", "-ec", "python3 /train.py /tree && echo second >> /tree/log.txt"])
        .succeed();
    stage(&["close", &store]);
    lab.attestfs(["verify", "--key", "keys/attestfs.pub", "store/model"]).succeed();
}
