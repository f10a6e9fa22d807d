//! What is opened again and again is not judged each time. It is refused all the same as soon as it would be.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may fail")]

use std::{
    fs,
    io::ErrorKind,
    os::{fd::AsRawFd, unix::fs::symlink},
    path::{Path, PathBuf},
    process::Command,
};

use rustix::fs::{Mode, OFlags, open};

use crate::{
    common::{Store, can_mount},
    gate::Lab,
};

const WEIGHTS: &str = "a/b/w.pt";

/// A mount where the file that is attested by `a/claims.jsonl` was opened so often that nobody looks at that any more.
fn opened_often() -> Lab {
    let lab = Lab::guarding("rehash", &[(WEIGHTS, b"weights")]);
    let above = lab.scratch.stored("a");
    let claims = Store::claims(&lab.key, &above, &["b/w.pt"]);
    // As others have it, who may write to it there.
    fs::write(lab.scratch.stored("theirs"), claims).unwrap();
    fs::hard_link(lab.scratch.stored("theirs"), above.join("claims.jsonl")).unwrap();
    for _ in 0..4 {
        assert_eq!(lab.read(WEIGHTS).unwrap(), b"weights");
    }
    lab
}

/// Whether it is refused after a change in the backing directory, and admitted again after another one.
fn assert_followed(change: impl FnOnce(&Path), change_back: impl FnOnce(&Path)) {
    let lab = opened_often();
    let root = lab.scratch.stored("");
    change(&root);
    for _ in 0..2 {
        // Whoever takes a second is told that there is no such path any more, where that is so.
        let refusal = lab.read(WEIGHTS).unwrap_err().kind();
        assert!([ErrorKind::PermissionDenied, ErrorKind::NotFound].contains(&refusal), "{refusal}");
    }
    change_back(&root);
    for _ in 0..4 {
        assert_eq!(lab.read(WEIGHTS).unwrap(), b"weights");
    }
}

#[test]
fn what_was_opened_often_is_refused_as_soon_as_nobody_vouches_for_it() {
    if !can_mount() {
        return;
    }
    let claims = |root: &Path| root.join("a/claims.jsonl");
    let aside = |root: &Path| root.join("aside");
    assert_followed(
        |root| fs::remove_file(claims(root)).unwrap(),
        |root| fs::hard_link(root.join("theirs"), claims(root)).unwrap(),
    );
    assert_followed(
        |root| fs::rename(claims(root), aside(root)).unwrap(),
        |root| fs::rename(aside(root), claims(root)).unwrap(),
    );
    assert_followed(
        |root| {
            fs::rename(claims(root), aside(root)).unwrap();
            symlink("../aside", claims(root)).unwrap();
        },
        |root| fs::rename(aside(root), claims(root)).unwrap(),
    );
    assert_followed(
        // In place, by another name.
        |root| {
            fs::copy(claims(root), aside(root)).unwrap();
            fs::write(root.join("theirs"), "").unwrap();
        },
        |root| _ = fs::copy(aside(root), root.join("theirs")).unwrap(),
    );
}

#[test]
fn what_was_opened_often_is_refused_when_a_directory_above_takes_the_place_of_another() {
    if !can_mount() {
        return;
    }
    let [a, aside] = ["a", "aside"].map(|name| move |root: &Path| -> PathBuf { root.join(name) });
    assert_followed(
        |root| {
            fs::rename(a(root), aside(root)).unwrap();
            fs::create_dir(a(root)).unwrap();
            fs::rename(aside(root).join("b"), a(root).join("b")).unwrap();
        },
        |root| fs::rename(aside(root).join("claims.jsonl"), a(root).join("claims.jsonl")).unwrap(),
    );
    let mount = |words: &[&str], path: PathBuf| {
        assert!(Command::new(words[0]).args(&words[1..]).arg(path).status().unwrap().success());
    };
    assert_followed(
        |root| {
            fs::create_dir(aside(root)).unwrap();
            mount(&["mount", "--bind", aside(root).to_str().unwrap()], a(root));
        },
        |root| mount(&["umount"], a(root)),
    );
}

#[test]
fn what_was_opened_often_is_refused_whatever_the_kernel_had_to_tell_before() {
    if !can_mount() {
        return;
    }
    let lab = Lab::guarding("rehash", &[(WEIGHTS, b"weights"), ("a/b/v.pt", b"others")]);
    let (root, above) = (lab.scratch.stored(""), lab.scratch.stored("a"));
    let claims = Store::claims(&lab.key, &above, &["b/w.pt", "b/v.pt"]);
    fs::write(above.join("claims.jsonl"), claims).unwrap();
    let reached = open(lab.scratch.path("a/b/v.pt"), OFlags::PATH, Mode::empty()).unwrap();
    // By no name, so that nobody looks one up on the way.
    let read = || fs::read(format!("/proc/self/fd/{}", reached.as_raw_fd()));
    for _ in 0..4 {
        assert_eq!(lab.read(WEIGHTS).unwrap(), b"weights");
    }
    assert_eq!(read().unwrap(), b"others");
    // More than is read of it: what was watched is to be watched anew.
    for number in 0..2000 {
        fs::write(root.join(number.to_string()), "").unwrap();
    }
    for _ in 0..4 {
        assert_eq!(read().unwrap(), b"others");
    }
    fs::rename(&above, root.join("aside")).unwrap();
    assert_eq!(read().unwrap_err().kind(), ErrorKind::PermissionDenied);
}
