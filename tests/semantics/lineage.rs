//! What a run read and wrote is told as it happened.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may fail")]

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::CString,
    fs::{self, File},
    io::Write,
    path::Path,
};

use attestfs_fs::{Fact, Inputs, Limits, RunVersion, TreePath, Unknown};
use rustix::mount::{MountFlags, UnmountFlags};

use crate::common::{Scratch, can_mount, digests_of};

fn scratch_with(files: &[(&str, &[u8])], inputs: Inputs) -> Scratch {
    let prepare = |store: &Path| {
        for (name, bytes) in files {
            fs::write(store.join(name), bytes).unwrap();
        }
    };
    Scratch::with(prepare, inputs, Limits::default(), |backing| backing)
}

#[test]
fn a_file_that_was_there_is_a_material_with_its_digest() {
    if !can_mount() {
        return;
    }
    let scratch = scratch_with(&[("raw", b"data"), ("unread", b"x")], Inputs::Opened);
    fs::read(scratch.path("raw")).unwrap();
    fs::read(scratch.path("raw")).unwrap();
    scratch.quiesce();
    let materials = scratch.facts.materials();
    assert_eq!(materials.keys().collect::<Vec<_>>(), ["raw"]);
    assert_eq!(materials["raw"], Some(digests_of(&scratch.stored("raw"))));
}

/// The names of each material, in the order in which they were told.
fn names(scratch: &Scratch) -> Vec<Vec<String>> {
    let mut names: BTreeMap<RunVersion, Vec<String>> = BTreeMap::new();
    for fact in scratch.facts.all() {
        if let Fact::Opened { version, path, .. } | Fact::OpenedAs { version, path } = fact {
            names.entry(version).or_default().push(path.path);
        }
    }
    scratch.facts.check_order();
    names.into_values().collect()
}

#[test]
fn a_material_is_told_by_each_name_by_which_it_may_have_been_opened() {
    if !can_mount() {
        return;
    }
    let scratch = scratch_with(&[("a", b"data"), ("alone", b"x")], Inputs::Opened);
    for link in ["b", "c", "unseen"] {
        fs::hard_link(scratch.stored("a"), scratch.stored(link)).unwrap();
    }
    let read = |name: &str| drop(fs::read(scratch.path(name)).unwrap());
    read("a");
    assert_eq!(names(&scratch), [["a"]]);
    read("b");
    read("a");
    assert_eq!(names(&scratch), [["a", "b"]]);
    scratch.quiesce();
    fs::metadata(scratch.path("c")).unwrap();
    assert_eq!(names(&scratch), [["a", "b"]], "nobody opened it since");
    // The kernel still knows the name and need not look it up.
    read("b");
    read("c");
    assert_eq!(names(&scratch), [["a", "b", "c"]]);
    read("alone");
    fs::rename(scratch.path("alone"), scratch.path("moved")).unwrap();
    read("moved");
    assert_eq!(names(&scratch)[1], ["alone"], "a file of one link has one name");
}

#[test]
fn what_the_run_wrote_itself_is_no_material() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    fs::write(scratch.path("a"), b"1").unwrap();
    fs::read(scratch.path("a")).unwrap();
    let mut file = File::options().append(true).open(scratch.path("a")).unwrap();
    file.write_all(b"2").unwrap();
    drop(file);
    fs::read(scratch.path("a")).unwrap();
    scratch.check_digests();
    assert!(scratch.facts.materials().is_empty());
}

#[test]
fn the_content_before_an_append_is_a_material_and_after_a_truncation_is_none() {
    if !can_mount() {
        return;
    }
    let scratch = scratch_with(&[("kept", b"old"), ("lost", b"old")], Inputs::Opened);
    let mut kept = File::options().append(true).open(scratch.path("kept")).unwrap();
    scratch.quiesce();
    kept.write_all(b"new").unwrap();
    drop(kept);
    fs::write(scratch.path("lost"), b"new").unwrap();
    let sealed = scratch.check_digests();
    assert_eq!(sealed.len(), 2);
    let materials = scratch.facts.materials();
    assert_eq!(materials.keys().collect::<Vec<_>>(), ["kept"]);
    assert!(materials["kept"].is_some());
}

#[test]
fn an_empty_file_that_is_opened_for_writing_is_no_material() {
    if !can_mount() {
        return;
    }
    let scratch = scratch_with(&[("log", b""), ("marker", b"")], Inputs::Opened);
    let mut log = File::options().append(true).open(scratch.path("log")).unwrap();
    log.write_all(b"line").unwrap();
    drop(log);
    fs::read(scratch.path("marker")).unwrap();
    scratch.check_digests();
    assert_eq!(scratch.facts.materials().keys().collect::<Vec<_>>(), ["marker"]);
}

#[test]
fn a_material_that_changes_before_it_is_hashed_has_no_digest_and_says_why() {
    if !can_mount() {
        return;
    }
    let scratch = scratch_with(&[("raw", &vec![1; 64 << 20])], Inputs::Opened);
    let file = File::options().read(true).write(true).open(scratch.path("raw")).unwrap();
    (&file).write_all(b"changed").unwrap();
    drop(file);
    scratch.quiesce();
    assert_eq!(scratch.facts.materials()["raw"], None);
    let reason = scratch.facts.all().into_iter().find_map(|fact| match fact {
        Fact::NotHashed { unknown, .. } => Some(unknown),
        _ => None,
    });
    assert_eq!(reason, Some(Unknown::Changed));
}

#[test]
fn only_declared_inputs_are_hashed_when_asked() {
    if !can_mount() {
        return;
    }
    let declared = TreePath { tree: 0, path: "raw".to_owned() };
    let scratch = scratch_with(&[("raw", b"1"), ("other", b"2")], Inputs::Declared(vec![declared]));
    fs::read(scratch.path("raw")).unwrap();
    fs::read(scratch.path("other")).unwrap();
    scratch.quiesce();
    let materials = scratch.facts.materials();
    assert!(materials["raw"].is_some());
    assert!(materials["other"].is_none());
}

#[test]
fn a_renamed_directory_takes_its_files_along() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.path("ckpt.tmp/a")).unwrap();
    fs::write(scratch.path("ckpt.tmp/a/w"), b"weights").unwrap();
    let open = File::create(scratch.path("ckpt.tmp/late")).unwrap();
    fs::rename(scratch.path("ckpt.tmp"), scratch.path("ckpt")).unwrap();
    drop(open);
    let sealed = scratch.check_digests();
    assert_eq!(sealed.keys().collect::<Vec<_>>(), ["ckpt/a/w", "ckpt/late"]);
}

#[test]
fn a_rename_before_close_is_followed() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let mut file = File::create(scratch.path("model.tmp")).unwrap();
    file.write_all(b"half").unwrap();
    fs::rename(scratch.path("model.tmp"), scratch.path("model")).unwrap();
    file.write_all(b" and half").unwrap();
    drop(file);
    let sealed = scratch.check_digests();
    assert_eq!(sealed.keys().collect::<Vec<_>>(), ["model"]);
}

#[test]
fn on_an_overlay_a_file_stays_itself_when_it_is_copied_up() {
    if !can_mount() {
        return;
    }
    let overlay = |store: &Path| {
        let layers = store.parent().unwrap().join("layers");
        for layer in ["lower", "upper", "work"] {
            fs::create_dir_all(layers.join(layer)).unwrap();
        }
        fs::write(layers.join("lower/base"), b"base").unwrap();
        let options =
            format!("lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work", layers.display());
        let options = CString::new(options).unwrap();
        let flags = MountFlags::empty();
        rustix::mount::mount(c"overlay", store, c"overlay", flags, options.as_c_str()).unwrap();
    };
    let scratch = Scratch::with(overlay, Inputs::Opened, Limits::default(), |backing| backing);
    let mut base = File::options().append(true).open(scratch.path("base")).unwrap();
    scratch.quiesce();
    base.write_all(b" and more").unwrap();
    drop(base);
    let sealed = scratch.check_digests();
    rustix::mount::unmount(scratch.stored(""), UnmountFlags::DETACH).unwrap();
    assert_eq!(sealed.keys().collect::<Vec<_>>(), ["base"]);
    let keys = scratch.facts.all().into_iter().filter_map(|fact| match fact {
        Fact::Opened { identity, .. } | Fact::Sealed { identity, .. } => Some(identity.file),
        Fact::Written { file, .. } => Some(file),
        _ => None,
    });
    assert_eq!(keys.collect::<BTreeSet<_>>().len(), 1);
}
