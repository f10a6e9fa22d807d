//! The same run by a user who is nobody, in a user namespace.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    evidence::{check_digests, only_attestation},
    lab::{ATTESTFS, Finish, Lab},
    needs,
};

const NOBODY: u32 = 65534;

#[test]
fn a_user_without_rights_runs_in_a_user_namespace() {
    if !needs::programs(&["setpriv", "unshare"]) {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    if !user_namespaces_are_allowed() {
        println!("skipped: this kernel lets no user without rights make a user namespace");
        return;
    }
    let program = lab.path("attestfs");
    fs::copy(ATTESTFS, &program).unwrap();
    lab.directory("tree");
    for path in ["", "tree", "state", "keys", "keys/attestfs.key", "keys/attestfs.pub"] {
        chown(lab.path(path), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    fs::set_permissions(lab.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let mut run = lab.configured("unshare");
    run.args(["--mount", "sh", "-ec", WITH_DEVICES, "sh"]).args(as_nobody()).arg(&program);
    run.args(["run", "--stage", "train", "--key", "keys/attestfs.key"]);
    run.args(["--dir", "tree", "--out", "model", "--", "sh", "-ec"]);
    run.arg("test $(id -u) = 65534 && mkdir tree/model && seq 1000 > tree/model/weights");
    run.succeed();
    check_digests(&only_attestation(&lab.state()).subjects(&lab.state()));
    lab.configured("setpriv")
        .args(&as_nobody()[1..])
        .arg(&program)
        .args(["verify", "--key", "keys/attestfs.pub", "tree/model"])
        .succeed();
}

#[test]
fn what_a_group_shares_is_read_and_written_in_a_run_exactly_as_directly() {
    if !needs::programs(&["setpriv", "unshare"]) {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    if !user_namespaces_are_allowed() {
        println!("skipped: this kernel lets no user without rights make a user namespace");
        return;
    }
    let program = lab.path("attestfs");
    fs::copy(ATTESTFS, &program).unwrap();
    for path in ["", "state", "keys", "keys/attestfs.key"] {
        chown(lab.path(path), Some(MEMBER), Some(MEMBER)).unwrap();
    }
    fs::set_permissions(lab.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let (seen, direct) = (shared_tree(&lab, "seen"), shared_tree(&lab, "direct"));

    let script = script();
    let mut directly = lab.configured("setpriv");
    directly.args(&as_member()[1..]).args(["sh", "-c", &script]).current_dir(&direct);
    let mut run = lab.configured("unshare");
    run.args(["--mount", "sh", "-ec", WITH_DEVICES, "sh"]).args(as_member()).arg(&program);
    run.args(["run", "--stage", "share", "--key", "../keys/attestfs.key", "--dir", "."]);
    run.args(["--out", "shared/new", "--", "sh", "-c", &script]).current_dir(&seen);

    let expected: Vec<String> =
        DEEDS.iter().map(|(deed, works)| format!("{deed}: {works}")).collect();
    assert_eq!(directly.succeed().lines().collect::<Vec<_>>(), expected, "directly");
    assert_eq!(run.succeed().lines().collect::<Vec<_>>(), expected, "in the run");
    for made in ["shared/new", "shared/made", "theirs/new", "theirs/log"] {
        assert_eq!(owner(&seen.join(made)), owner(&direct.join(made)), "{made}");
        assert_eq!(owner(&seen.join(made)).1, TEAM, "{made}");
    }
    let log = fs::read_to_string(seen.join("theirs/log")).unwrap();
    assert_eq!(log, "theirs\nmine\n");
    check_digests(&only_attestation(&lab.state()).subjects(&lab.state()));
}

/// What a member of the group tries, and whether it works: as the kernel has it without attestfs.
const DEEDS: [(&str, bool); 22] = [
    ("echo mine > shared/new", true),
    ("mkdir shared/made", true),
    ("mv shared/before shared/after", true),
    ("echo mine > theirs/new", true),
    ("echo mine >> theirs/log", true),
    ("truncate --size 0 theirs/emptied", true),
    ("rm -f theirs/old", true),
    ("cat theirs/report", true),
    ("cat everybody/not_the_group", false),
    ("cat everybody/all_but_another_group", true),
    ("echo mine >> theirs/report", false),
    ("test -w everybody/not_the_group", false),
    ("chmod 666 theirs/log", false),
    ("chgrp 1234 theirs/log", false),
    ("cat secret", false),
    ("test -r everybody/not_the_group", false),
    ("echo mine >> secret", false),
    ("ls closed", false),
    ("echo mine > closed/new", false),
    ("echo mine > everybody/new", true),
    ("rm -f everybody/not_the_group", false),
    // As links and fifos are told from one's own where the kernel guards against those of others.
    ("test -O everybody/bait", false),
];

/// Tells of each deed whether it worked.
fn script() -> String {
    let tell = |deed: &str| {
        format!("if ({deed}) >/dev/null 2>&1; then w=true; else w=false; fi; echo '{deed}': $w\n")
    };
    DEEDS.iter().map(|(deed, _)| tell(deed)).collect()
}

/// A tree of the member's own, with what others share in it and what they do not.
fn shared_tree(lab: &Lab, name: &str) -> PathBuf {
    let tree = lab.directory(name);
    chown(&tree, Some(MEMBER), Some(MEMBER)).unwrap();
    let entries = [
        ("shared/", MEMBER, TEAM, 0o2775),
        ("shared/before", OTHER, TEAM, 0o664),
        ("theirs/", OTHER, TEAM, 0o2775),
        ("theirs/log", OTHER, TEAM, 0o664),
        ("theirs/emptied", OTHER, TEAM, 0o664),
        ("theirs/old", OTHER, TEAM, 0o644),
        ("theirs/report", OTHER, TEAM, 0o640),
        ("everybody/", 0, 0, 0o1777),
        ("everybody/not_the_group", OTHER, TEAM, 0o604),
        ("everybody/bait", OTHER, OTHER, 0o666),
        ("everybody/all_but_another_group", OTHER, OTHER, 0o604),
        ("secret", OTHER, OTHER, 0o600),
        ("closed/", OTHER, OTHER, 0o700),
    ];
    for (entry, user, group, mode) in entries {
        let path = tree.join(entry);
        match entry.strip_suffix('/') {
            Some(_) => fs::create_dir(&path).unwrap(),
            None => fs::write(&path, "theirs\n").unwrap(),
        }
        chown(&path, Some(user), Some(group)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    tree
}

fn owner(path: &Path) -> (u32, u32) {
    let metadata = fs::metadata(path).unwrap();
    (metadata.uid(), metadata.gid())
}

const MEMBER: u32 = 1234;

/// Of which the member is one.
const TEAM: u32 = 5000;

/// A user and a group that have nothing to do with the member.
const OTHER: u32 = 4321;

fn as_member() -> [&'static str; 4] {
    ["setpriv", "--reuid=1234", "--regid=1234", "--groups=5000"]
}

/// Devices that everybody may open, as distributions have them and containers do not.
const WITH_DEVICES: &str = "mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 \
    && mknod -m 666 /dev/fuse c 10 229 && exec \"$@\"";

fn as_nobody() -> [&'static str; 4] {
    ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
}

fn user_namespaces_are_allowed() -> bool {
    let [setpriv, options @ ..] = as_nobody();
    let mut command = Command::new(setpriv);
    command.args(options).args(["unshare", "--user", "--mount", "true"]);
    command.finish().code == Some(0)
}
