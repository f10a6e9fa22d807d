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
fn the_directory_is_made_when_its_parent_is_there() {
    let tool = Tool::new();
    tool.run(["keygen", "--out", "keys"]).is(0);
    assert!(tool.path("keys/attestfs.key").is_file() && tool.path("keys/attestfs.pub").is_file());
    tool.run(["keygen", "--out", "missing/keys"]).is(3).says("missing/keys: No such file");
    assert!(!tool.path("missing").exists());
    tool.run(["keygen", "--out", "keys/attestfs.pub"]).is(3).says("Not a directory");
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
