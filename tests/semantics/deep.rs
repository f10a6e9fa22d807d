//! Files below more directories than the path of any system call can name.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may fail")]

use std::{
    fs::{self, File},
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use attestfs_fs::{Fact, Inputs, Limits, TreePath, Unknown, Unsealed};
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, linkat, mkdirat, openat, unlinkat},
    path::Arg,
};

use crate::common::{Scratch, can_mount};

/// Directories one below the other: how many, and how long their names are.
const CHAINS: [(usize, usize); 2] = [(200, 250), (2500, 1)];

/// Makes a chain of directories below `root`, and answers with the last.
fn make_chain(root: &Path, (depth, length): (usize, usize)) -> OwnedFd {
    let name = "d".repeat(length);
    (0..depth).fold(open_directory(CWD, root), |above, _| {
        mkdirat(&above, &name, Mode::RWXU).unwrap();
        open_directory(&above, &name)
    })
}

/// Goes down the chain of directories that is there.
fn descend(root: &Path, (depth, length): (usize, usize)) -> OwnedFd {
    let name = "d".repeat(length);
    (0..depth).fold(open_directory(CWD, root), |above, _| open_directory(&above, &name))
}

fn open_directory(above: impl AsFd, name: impl Arg) -> OwnedFd {
    openat(above, name, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn open(directory: &OwnedFd, name: &str) -> File {
    openat(directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap().into()
}

fn write(directory: &OwnedFd, name: &str) {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(directory, name, flags, Mode::RUSR | Mode::WUSR).unwrap();
    File::from(file).write_all(b"deep").unwrap();
}

fn check_lengths(facts: &[Fact]) {
    for fact in facts {
        let line = serde_json::to_string(fact).unwrap();
        assert!(line.len() < 64 << 10, "{} bytes: {}", line.len(), &line[..100]);
    }
}

/// What the last fact about an output says: why it is left out, and by which name.
fn last_left_out(scratch: &Scratch) -> Option<(Unsealed, Option<TreePath>)> {
    match scratch.facts.all().pop() {
        Some(Fact::Unsealed { unsealed, path, .. }) => Some((unsealed, path)),
        _ => None,
    }
}

#[test]
fn a_file_whose_path_is_too_long_is_left_out_and_others_are_not() {
    if !can_mount() {
        return;
    }
    for chain in CHAINS {
        let scratch = Scratch::new();
        write(&make_chain(&scratch.path(""), chain), "file");
        scratch.quiesce();
        let (unsealed, path) = last_left_out(&scratch).unwrap();
        assert_eq!(unsealed, Unsealed::PathTooLong);
        let path = path.unwrap().path;
        assert!(path == "?" || path.starts_with("ddd") && path.ends_with("/…/file"), "{path}");
        write(&make_chain(&scratch.path(""), (1, 3)), "file");
        scratch.quiesce();
        assert_eq!(scratch.facts.sealed().into_keys().collect::<Vec<_>>(), ["ddd/file"]);
        check_lengths(&scratch.facts.all());
    }
}

#[test]
fn a_file_is_told_by_those_of_its_names_that_are_not_too_long() {
    if !can_mount() {
        return;
    }
    for chain in CHAINS {
        let scratch = Scratch::new();
        let deep = make_chain(&scratch.path(""), chain);
        let names = || scratch.facts.sealed().into_keys().collect::<Vec<_>>();
        write(&deep, "file");
        scratch.quiesce();
        assert!(names().is_empty());
        linkat(&deep, "file", CWD, scratch.path("link"), AtFlags::empty()).unwrap();
        scratch.quiesce();
        assert_eq!(names(), ["link"]);
        linkat(CWD, scratch.path("link"), &deep, "again", AtFlags::empty()).unwrap();
        scratch.quiesce();
        assert_eq!(names(), ["link"]);
        fs::remove_file(scratch.path("link")).unwrap();
        scratch.quiesce();
        assert_eq!(last_left_out(&scratch).unwrap().0, Unsealed::PathTooLong);
        unlinkat(&deep, "file", AtFlags::empty()).unwrap();
        unlinkat(&deep, "again", AtFlags::empty()).unwrap();
        assert!(matches!(scratch.facts.all().pop(), Some(Fact::Gone { .. })));
        check_lengths(&scratch.facts.all());
    }
}

#[test]
fn a_material_whose_path_is_too_long_has_no_digest_and_says_why() {
    if !can_mount() {
        return;
    }
    for chain in CHAINS {
        let prepare = |store: &Path| write(&make_chain(store, chain), "file");
        let scratch = Scratch::with(prepare, Inputs::Opened, Limits::default(), |backing| backing);
        let deep = descend(&scratch.path(""), chain);
        assert_eq!(io::read_to_string(open(&deep, "file")).unwrap(), "deep");
        scratch.quiesce();
        let facts = scratch.facts.all();
        let [Fact::Opened { .. }, Fact::NotHashed { unknown, .. }] = &facts[..] else {
            panic!("{} facts", facts.len());
        };
        assert_eq!(*unknown, Unknown::PathTooLong);
        check_lengths(&facts);
    }
}

#[test]
fn a_material_that_is_opened_by_a_path_that_is_too_long_as_well_loses_its_digest() {
    if !can_mount() {
        return;
    }
    let prepare = |store: &Path| fs::write(store.join("file"), "short").unwrap();
    let scratch = Scratch::with(prepare, Inputs::Opened, Limits::default(), |backing| backing);
    fs::read(scratch.path("file")).unwrap();
    scratch.quiesce();
    let deep = make_chain(&scratch.path(""), CHAINS[0]);
    linkat(CWD, scratch.path("file"), &deep, "link", AtFlags::empty()).unwrap();
    drop(open(&deep, "link"));
    scratch.quiesce();
    let facts = scratch.facts.all();
    let last = &facts[facts.len() - 2..];
    let told = matches!(last, [
        Fact::OpenedAs { path, .. },
        Fact::NotHashed { unknown: Unknown::PathTooLong, .. },
    ] if path.path.ends_with("/…/link"));
    assert!(told, "{} facts", facts.len());
    check_lengths(&facts);
}
