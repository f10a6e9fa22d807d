use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, symlink},
        net::UnixListener,
    },
};

use crate::tool::Tool;

#[test]
fn a_key_that_others_can_read_does_not_sign() {
    let tool = Tool::with_model();
    for mode in [0o640, 0o604, 0o666] {
        let key = tool.path("keys/attestfs.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        let answer = tool.run(["sign", "model", "--key", "keys/attestfs.key"]).is(3);
        answer.says("is open to others").says(&format!("{mode:o}"));
    }
    assert!(!tool.path("model/model.sig").exists());
}

#[test]
fn what_is_no_private_key_does_not_sign() {
    let tool = Tool::with_model();
    let sign = |key: &str| tool.run(["sign", "model", "--key", key]).is(3);
    sign("keys/missing").says("the key keys/missing: No such file");
    sign("keys/attestfs.pub").says("this is a public key");
    sign("keys").says("not a regular file");
}

#[test]
fn a_key_below_the_directory_does_not_sign_it() {
    let tool = Tool::with_model();
    fs::rename(tool.path("keys/attestfs.key"), tool.path("model/attestfs.key")).unwrap();
    let answer = tool.run(["sign", "model", "--key", "model/attestfs.key"]);
    answer.is(2).says("lies in the directory that is to be signed");
}

#[test]
fn what_no_signature_can_cover_is_refused_by_name_and_all_at_once() {
    let tool = Tool::with_model();
    symlink("config.json", tool.path("model/link")).unwrap();
    fs::create_dir(tool.path("model/hollow")).unwrap();
    let socket = UnixListener::bind(tool.path("model/socket")).unwrap();
    let answer = tool.run(["sign", "model", "--key", "keys/attestfs.key"]).is(1);
    answer
        .says("'link' is a symbolic link")
        .says("'hollow' is an empty")
        .says("'socket' is a pipe");
    drop(socket);
    assert!(!tool.path("model/model.sig").exists());
}

#[test]
fn whoever_signs_or_verifies_a_cache_whose_names_are_links_is_not_told_to_replace_them() {
    let tool = Tool::with_model();
    tool.write("cache/blobs/9f2c", "weights");
    fs::create_dir_all(tool.path("cache/snapshots/1")).unwrap();
    symlink("../../blobs/9f2c", tool.path("cache/snapshots/1/weights.bin")).unwrap();
    let key = ["--key", "keys/attestfs.key"];
    let sign = |words: &[&str]| tool.run(["sign"].iter().chain(words).chain(&key));
    let verify = |path: &str| tool.run(["verify", path, "--key", "keys/attestfs.pub"]);
    for refused in [sign(&["cache"]), sign(&["cache/snapshots/1"]), verify("cache/snapshots/1")] {
        assert!(!refused.stderr.contains("replace"), "{refused:?}");
        refused.is(1).says("weights.bin' is a symbolic link").says("a copy").says("cp -rL");
    }
    tool.other("cp", ["-rL", "cache/snapshots/1", "copy"]).is(0);
    sign(&["copy"]).is(0);
    verify("copy").is(0);
    sign(&["cache", "--ignore-paths", "cache/snapshots"]).is(0);
    verify("cache/snapshots/1/weights.bin").is(0);
}

#[test]
fn only_a_directory_that_holds_something_is_signed() {
    let tool = Tool::with_model();
    fs::create_dir(tool.path("nothing")).unwrap();
    let sign = |path: &str| tool.run(["sign", path, "--key", "keys/attestfs.key"]);
    sign("nothing").is(1).says("holds no file");
    sign("missing").is(3).says("missing: No such file");
    sign("model/config.json").is(2).says("a model signature covers a directory");
}

#[test]
fn what_is_ignored_may_change_and_must_lie_below() {
    let tool = Tool::with_model();
    tool.write("model/logs/today", "1");
    let sign = ["sign", "model", "--key", "keys/attestfs.key", "--ignore-paths"];
    let ignoring = |path| tool.run(sign.into_iter().chain([path]));
    ignoring("logs").is(2).says("not below the directory");
    ignoring("keys").is(2).says("not below the directory");
    ignoring("model/logs").is(0);
    tool.write("model/logs/today", "2");
    tool.run(["verify", "model", "--key", "keys/attestfs.pub"]).is(0);
    tool.write("model/other", "2");
    tool.run(["verify", "model", "--key", "keys/attestfs.pub"]).is(1).says("'other'");
}

#[test]
fn a_signature_may_lie_anywhere() {
    let tool = Tool::with_model();
    for signature in ["outside.sig", "model/own.sig"] {
        tool.run(["sign", "model", "--key", "keys/attestfs.key", "--signature", signature]).is(0);
        let verify = ["verify", "model", "--key", "keys/attestfs.pub", "--bundle", signature];
        tool.run(verify).is(0);
    }
    tool.run(["sign", "model", "--key", "keys/attestfs.key", "--signature", "no/where.sig"])
        .is(3)
        .says("no/where.sig: No such file");
}

#[test]
fn signing_again_replaces_the_signature() {
    let tool = Tool::with_signed_model();
    tool.write("model/more", "more");
    tool.run(["verify", "model", "--key", "keys/attestfs.pub"]).is(1);
    let signed = tool.run(["sign", "model", "--key", "keys/attestfs.key", "--json"]).is(0).json();
    assert_eq!(signed["files"], 4);
    tool.run(["verify", "model", "--key", "keys/attestfs.pub"]).is(0);
}

#[test]
fn only_a_signature_is_replaced_by_a_signature() {
    let tool = Tool::with_model();
    let key = ["sign", "model", "--key", "keys/attestfs.key"];
    tool.write("model/model.sig", "precious");
    tool.run(key).is(1).says("model.sig: not a signature");
    for theirs in ["notes.txt", "model/claims.jsonl", "model/config.json"] {
        tool.write(theirs, "precious");
        tool.run(key.into_iter().chain(["--signature", theirs])).is(1).says(theirs);
        assert_eq!(fs::read(tool.path(theirs)).unwrap(), b"precious");
    }
    assert_eq!(fs::read(tool.path("model/model.sig")).unwrap(), b"precious");
}

#[test]
fn a_pipe_in_place_of_a_key_or_signature_holds_nobody() {
    let tool = Tool::with_model();
    tool.other("mkfifo", ["pipe"]).is(0);
    tool.run(["sign", "model", "--key", "pipe"]).is(3).says("not a regular file");
    tool.run(["verify", "model", "--key", "pipe"]).is(3).says("not a regular file");
    let sign = ["sign", "model", "--key", "keys/attestfs.key", "--signature", "pipe"];
    tool.run(sign).is(1).says("pipe: not a signature");
}
