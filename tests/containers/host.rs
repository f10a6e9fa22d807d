//! A mount of the host in containers without privileges.

use std::{
    fs,
    os::unix::fs::{MetadataExt, chown},
    path::Path,
    process::Command,
};

use crate::{
    lab::{Finish, Lab, Running, USER, eventually},
    models::{DATA, check_gate, gated, load, script, told},
    needs,
    podman::{Container, MAPPED},
};

#[test]
fn a_training_script_is_recorded_with_its_host_process_its_user_and_its_container() {
    let Some(lab) = Lab::with_containers() else { return };
    lab.directory_of_user("store");
    lab.write("store/data.csv", DATA);
    let tree = lab.directory("tree");
    lab.attestfs(["mount", "--stage", "train", "--key", "keys/attestfs.key", "store", "tree"])
        .succeed();
    let mut container = Container::new(&lab)
        .volume(&tree, "/tree")
        .read_only(script("train.py"), "/train.py")
        .start(["python3", "/train.py", "/tree"]);
    let (pid, id) = (container.pid(), container.id());
    drop(container.process.child().stdin.take());
    assert_eq!(container.process.code(), Some(0));
    lab.attestfs(["umount", "tree"]).succeed();

    let facts = lab.facts("state");
    let read = told(&facts, "opened", "data.csv");
    let written = told(&facts, "written", "model.tmp/weights.bin");
    assert_eq!((read.len(), written.len()), (1, 1), "{facts:#?}");
    for by in [&read[0]["by"], &written[0]["by"]] {
        assert_eq!(by["pid"], pid, "{by}");
        assert_eq!(by["uid"], USER, "{by}");
        assert!(by["executable"].as_str().unwrap().starts_with("/usr/bin/python3"), "{by}");
        assert!(by["cgroup"].as_str().unwrap().contains(&id), "{by} is not in {id}");
    }
    for artifact in ["store/model", "store/checkpoints/step-3"] {
        lab.attestfs(["verify", "--key", "keys/attestfs.pub", artifact]).succeed();
    }
    assert_eq!(fs::metadata(lab.path("store/model/weights.bin")).unwrap().uid(), USER);
}

#[test]
fn an_unattested_model_is_refused_in_a_container_and_an_attested_one_loads() {
    let Some(lab) = Lab::with_containers() else { return };
    let (models, policy) = (gated(&lab), lab.policy());
    lab.attestfs(["mount", "--read-only", "--policy"])
        .arg(policy)
        .args(["store", "models"])
        .succeed();
    check_gate(&load(Container::new(&lab).volume(&models, "/models"), "/models"));
}

#[test]
fn root_of_a_container_is_refused_too() {
    let Some(lab) = Lab::with_containers() else { return };
    let (models, policy) = (gated(&lab), lab.policy());
    lab.attestfs(["mount", "--policy"]).arg(policy).args(["store", "models"]).succeed();
    check_gate(&load(Container::new(&lab).privileged().volume(&models, "/models"), "/models"));
}

#[test]
fn a_mount_that_is_made_again_is_seen_by_a_container_that_already_runs() {
    let Some(lab) = Lab::with_containers() else { return };
    gated(&lab);
    let policy = lab.policy();
    lab.directory("mounts/gated");
    let mount = || {
        let mut mount = lab.attestfs(["mount", "--read-only", "--policy"]);
        mount.arg(&policy).args(["store", "mounts/gated"]).succeed();
    };
    // Above the mount, as `node-workload.yaml` has it.
    let container =
        Container::new(&lab).volume(lab.path("mounts"), "/models").start(["sleep", "60"]);
    let read = || container.execute(["cat", "/models/gated/good/weights.bin"]).finish();
    assert_eq!(read().code, Some(1), "nothing is mounted yet");
    mount();
    assert_eq!(read().stdout, "good");
    lab.attestfs(["umount", "mounts/gated"]).succeed();
    assert_eq!(read().code, Some(1), "nothing is mounted any more");
    mount();
    assert_eq!(read().stdout, "good");
}

#[test]
fn a_container_that_runs_sees_the_mount_of_a_server_that_follows_a_killed_one() {
    let Some(lab) = Lab::with_containers() else { return };
    gated(&lab);
    let policy = lab.policy();
    lab.directory("mounts/gated");
    let mut mount = lab.attestfs(["mount", "--foreground", "--read-only", "--policy"]);
    mount.arg(&policy).args(["store", "mounts/gated"]);
    let container =
        Container::new(&lab).volume(lab.path("mounts"), "/models").start(["sleep", "60"]);
    let read = || container.execute(["cat", "/models/gated/good/weights.bin"]).finish();
    let killed = Running::start(&mut mount);
    eventually("the first one serves", || read().stdout == "good");
    drop(killed);
    let dead = read();
    assert!(dead.stderr.contains("endpoint is not connected"), "{dead:?}");
    let _next = Running::start(&mut mount);
    eventually("the next one serves", || read().stdout == "good");
}

#[test]
fn a_server_that_does_not_see_the_processes_of_the_node_names_none() {
    let Some(lab) = Lab::with_containers() else { return };
    lab.write("store/data.csv", DATA);
    lab.directory("mounts/tree");
    let serve = ["attestfs", "mount", "--foreground", "--stage", "look", "--state", "/state"];
    // Privileged, and in a process namespace of its own: in Kubernetes, without `hostPID`.
    let server = Container::new(&lab)
        .privileged()
        .with_attestfs()
        .volume(lab.path("state"), "/state")
        .volume(lab.path("store"), "/store")
        .bind(&lab.path("mounts"), "/mounts", "rshared")
        .start(serve.into_iter().chain(["/store", "/mounts/tree"]));
    let tree = lab.path("mounts/tree");
    eventually("it is mounted", || lab.mounts().contains(&tree));
    Container::new(&lab).volume(&tree, "/tree").run(["cat", "/tree/data.csv"]).succeed();
    drop(server);
    let facts = lab.facts("state");
    let by = &told(&facts, "opened", "data.csv")[0]["by"];
    assert!(by["pid"].is_null() && by["executable"].is_null() && by["cgroup"].is_null(), "{by}");
    assert_eq!(by["uid"], USER);
}

#[test]
fn a_user_of_a_user_namespace_is_recorded_as_the_host_knows_it() {
    let Some(lab) = Lab::with_containers() else { return };
    let store = lab.directory("store");
    chown(&store, Some(MAPPED + USER), Some(MAPPED + USER)).unwrap();
    lab.write("store/data.csv", DATA);
    let tree = lab.directory("tree");
    lab.attestfs(["mount", "--stage", "train", "--key", "keys/attestfs.key", "store", "tree"])
        .succeed();
    train_with_mapped_users(&lab, &tree);
    let facts = lab.facts("state");
    for by in [
        &told(&facts, "opened", "data.csv")[0]["by"],
        &told(&facts, "written", "model.tmp/weights.bin")[0]["by"],
    ] {
        assert_eq!(by["uid"], MAPPED + USER, "{by}");
        assert!(by["pid"].as_u64().unwrap() > 1, "{by}");
    }
    let weights = fs::metadata(lab.path("store/model/weights.bin")).unwrap();
    assert_eq!(weights.uid(), MAPPED + USER);
}

#[test]
fn a_container_with_mapped_user_ids_owns_what_its_user_owns_in_the_store() {
    if !needs::mapped_users_on_fuse() {
        return;
    }
    let Some((lab, python)) = Lab::with_containers().zip(needs::python()) else { return };
    lab.directory_of_user("store");
    lab.write("store/data.csv", DATA);
    let (tree, mapped) = (lab.directory("tree"), lab.directory("mapped"));
    lab.attestfs(["mount", "--idmap", "--stage", "train", "--key", "keys/attestfs.key"])
        .args(["store", "tree"])
        .succeed();
    // As the container runtime does it for a pod with `hostUsers: false`.
    let mut map = Command::new(python);
    map.arg(script("idmap.py")).args([&tree, &mapped]).arg(MAPPED.to_string()).succeed();
    train_with_mapped_users(&lab, &mapped);
    let facts = lab.facts("state");
    let read = &told(&facts, "opened", "data.csv")[0]["by"];
    assert!(read["uid"].is_null(), "the kernel does not tell it: {read}");
    assert!(read["pid"].as_u64().unwrap() > 1, "{read}");
    let written = &told(&facts, "written", "model.tmp/weights.bin")[0]["by"];
    assert_eq!(written["uid"], USER, "{written}");
    assert_eq!(fs::metadata(lab.path("store/model/weights.bin")).unwrap().uid(), USER);
}

/// Runs `train.py` as [`USER`] of a user namespace, ends the stage on `tree`, and holds what it
/// left against what is attested.
fn train_with_mapped_users(lab: &Lab, volume: &Path) {
    Container::new(lab)
        .in_user_namespace()
        .volume(volume, "/tree")
        .read_only(script("train.py"), "/train.py")
        .run(["python3", "/train.py", "/tree"])
        .succeed();
    lab.attestfs(["umount", "tree"]).succeed();
    lab.attestfs(["verify", "--key", "keys/attestfs.pub", "store/model"]).succeed();
}
