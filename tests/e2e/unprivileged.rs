//! The same run by a user who is nobody, in a user namespace.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
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
