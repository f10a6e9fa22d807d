use std::{fs, os::unix::fs::PermissionsExt};

use crate::tool::Tool;

#[test]
fn nothing_is_overwritten() {
    for taken in ["attestfs.key", "attestfs.pub"] {
        let tool = Tool::new();
        tool.write(taken, "precious");
        tool.run(["keygen"]).is(1).says(taken);
        assert_eq!(fs::read_to_string(tool.path(taken)).unwrap(), "precious");
        assert_eq!(fs::read_dir(tool.path("")).unwrap().count(), 1);
    }
}

#[test]
fn half_a_pair_is_not_left_behind() {
    let tool = Tool::new();
    std::os::unix::fs::symlink("nowhere", tool.path("attestfs.pub")).unwrap();
    tool.run(["keygen"]).is(1).says("attestfs.pub");
    assert!(!tool.path("attestfs.key").exists());
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    Tool::new().run(["keygen", "--out", "missing"]).is(3).says("missing: no such directory");
}

#[test]
fn the_private_key_is_private_and_the_pair_fits() {
    let tool = Tool::new();
    let made = tool.run(["keygen", "--json"]).is(0).json();
    let mode = fs::metadata(tool.path("attestfs.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let public = fs::read(tool.path("attestfs.pub")).unwrap();
    let hint = attestfs_digest::Sha256::of(&public).to_string();
    assert_eq!(made["hint"], hint);
    let derived = tool.other("openssl", ["pkey", "-in", "attestfs.key", "-pubout"]).is(0);
    assert_eq!(derived.stdout, public);
}
