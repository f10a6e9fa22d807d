//! A digest is of what the store holds.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may fail")]

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::fs::FileExt,
    process::Command,
};

use attestfs_fs::{Fact, Inputs, Limits, Unsealed};
use proptest::prelude::*;
use rustix::fs::FallocateFlags;

use crate::common::{Scratch, can_mount};

#[test]
fn sequential_scattered_and_patched_files_have_the_digest_of_their_bytes() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let file = File::create(scratch.path("patched")).unwrap();
    for piece in 0..40_u8 {
        file.write_all_at(&[piece; 10_240], u64::from(piece) * 10_240).unwrap();
    }
    file.write_all_at(b"header", 0).unwrap();
    drop(file);
    let file = File::create(scratch.path("declared length")).unwrap();
    file.set_len(300_000).unwrap();
    file.write_all_at(&vec![3; 100_000], 0).unwrap();
    drop(file);
    assert_eq!(scratch.check_digests().len(), 2);
}

#[test]
fn shared_mappings_are_hashed_when_the_last_of_them_is_gone() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let script = "import mmap,os,sys\n\
        fd=os.open(sys.argv[1],os.O_RDWR|os.O_CREAT); os.ftruncate(fd,300000)\n\
        m=mmap.mmap(fd,300000); os.close(fd)\n\
        m[0:5]=b'hello'; m.flush(); m[200000:200005]=b'world'; m.close()\n";
    let status =
        Command::new("python3").arg("-c").arg(script).arg(scratch.path("mapped")).status().unwrap();
    assert!(status.success());
    assert_eq!(scratch.check_digests().len(), 1);
    assert_eq!(&fs::read(scratch.stored("mapped")).unwrap()[200_000..200_005], b"world");
}

#[test]
fn a_copy_inside_the_store_has_its_digest() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    fs::write(scratch.path("from"), vec![5; 500_000]).unwrap();
    fs::copy(scratch.path("from"), scratch.path("to")).unwrap();
    let sealed = scratch.check_digests();
    assert_eq!(sealed["from"], sealed["to"]);
}

#[test]
fn one_request_copies_no_more_than_64_mib() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.path("from");
    let from = File::options().read(true).write(true).create_new(true).open(path).unwrap();
    from.set_len((64 << 20) + 1).unwrap();
    let to = File::create(scratch.path("to")).unwrap();
    let copy = || rustix::fs::copy_file_range(&from, None, &to, None, (64 << 20) + 1);
    assert_eq!([copy(), copy(), copy()], [Ok(64 << 20), Ok(1), Ok(0)]);
    drop((from, to));
    let sealed = scratch.check_digests();
    assert_eq!(sealed["from"], sealed["to"]);
}

#[test]
fn a_huge_hole_is_unsealed_and_never_a_hang() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    File::create(scratch.path("sparse")).unwrap().set_len(1 << 42).unwrap();
    let left_out = scratch.quiesce();
    assert_eq!(left_out.len(), 1);
    assert_eq!(left_out[0].unsealed, Unsealed::Sparse);
}

#[test]
fn a_file_that_is_still_open_is_left_out_and_named() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let file = File::create(scratch.path("open")).unwrap();
    fs::write(scratch.path("closed"), b"x").unwrap();
    let patience = std::time::Duration::from_millis(200);
    let left_out = scratch.run.quiesce(&attestfs_fs::Scope::Run, patience);
    assert_eq!(left_out.len(), 1);
    assert_eq!((left_out[0].path.path.as_str(), &left_out[0].unsealed), ("open", &Unsealed::Open));
    drop(file);
    assert_eq!(scratch.check_digests().len(), 2);
}

#[test]
fn a_file_that_is_still_open_is_told_by_each_of_its_names() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let file = File::create(scratch.path("open")).unwrap();
    fs::hard_link(scratch.path("open"), scratch.path("link")).unwrap();
    scratch.run.quiesce(&attestfs_fs::Scope::Run, std::time::Duration::from_millis(200));
    let last = scratch.facts.all().pop();
    let Some(Fact::Unsealed { path: Some(path), also, .. }) = last else {
        panic!("{last:?}");
    };
    let names: Vec<_> = [path].into_iter().chain(also).map(|name| name.path).collect();
    assert_eq!(names, ["link", "open"]);
    drop(file);
}

#[test]
fn the_names_of_a_file_that_has_very_many_are_told_once_when_the_run_comes_to_rest() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    fs::write(scratch.path("0"), b"x").unwrap();
    for link in 1..500 {
        fs::hard_link(scratch.path("0"), scratch.path(&link.to_string())).unwrap();
    }
    scratch.quiesce();
    let facts = scratch.facts.all().into_iter();
    let told: Vec<_> = facts
        .filter_map(|fact| match fact {
            Fact::Sealed { also, .. } => Some(also.len() + 1),
            _ => None,
        })
        .collect();
    assert_eq!(told.last(), Some(&500));
    assert!(told.iter().sum::<usize>() < 5000, "{told:?}");
}

/// A recorder need not take down facts of any length.
#[test]
fn of_a_file_that_has_very_many_names_no_fact_tells_too_many_at_a_time() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let name = |number: usize| format!("{number:0>200}");
    fs::write(scratch.path("file"), b"x").unwrap();
    for number in 0..1000 {
        fs::hard_link(scratch.path("file"), scratch.path(&name(number))).unwrap();
    }
    scratch.quiesce();
    let told: BTreeSet<_> = scratch.facts.sealed().into_keys().collect();
    let linked = (0..1000).map(name).chain(["file".to_owned()]).collect();
    assert_eq!(told, linked);
    let bytes = |fact: &Fact| serde_json::to_vec(fact).unwrap().len();
    assert!(scratch.facts.all().iter().map(bytes).max().unwrap() < 64 << 10);
}

#[test]
fn a_sealed_file_that_is_touched_below_keeps_its_digest_and_a_changed_one_loses_it() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    fs::write(scratch.path("touched"), b"same").unwrap();
    fs::write(scratch.path("changed"), b"one").unwrap();
    scratch.check_digests();
    File::options()
        .write(true)
        .open(scratch.stored("touched"))
        .unwrap()
        .set_modified(std::time::UNIX_EPOCH)
        .unwrap();
    fs::write(scratch.stored("changed"), b"two").unwrap();
    fs::read(scratch.path("touched")).unwrap();
    fs::read(scratch.path("changed")).unwrap();
    let left_out = scratch.quiesce();
    assert_eq!(left_out.len(), 1);
    assert_eq!(left_out[0].path.path, "changed");
    assert_eq!(left_out[0].unsealed, Unsealed::ChangedBelow);
    assert_eq!(scratch.facts.sealed().keys().collect::<Vec<_>>(), ["touched"]);
}

#[test]
fn what_others_change_below_while_a_writer_is_open_is_in_the_digest() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let appended = File::create(scratch.path("appended")).unwrap();
    let replaced = File::create(scratch.path("replaced")).unwrap();
    appended.write_all_at(&[1; 100], 0).unwrap();
    replaced.write_all_at(&[1; 100], 0).unwrap();
    let below = |name: &str| File::options().write(true).open(scratch.stored(name)).unwrap();
    below("appended").write_all_at(b"foreign", 100).unwrap();
    below("replaced").write_all_at(b"foreign", 10).unwrap();
    replaced.write_all_at(&[2; 100], 100).unwrap();
    drop((appended, replaced));
    assert_eq!(scratch.check_digests().len(), 2);
}

#[test]
fn a_change_that_failed_makes_no_version_and_no_wrong_digest() {
    if !can_mount() {
        return;
    }
    let prepare = |store: &std::path::Path| fs::write(store.join("material"), b"found").unwrap();
    let scratch = Scratch::with(prepare, Inputs::Opened, Limits::default(), |backing| backing);
    let file = File::options().read(true).write(true).open(scratch.path("material")).unwrap();
    let too_long = 1 << 62;
    assert!(rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, too_long).is_err());
    drop(file);
    assert!(scratch.check_digests().is_empty());
    assert!(scratch.facts.materials()["material"].is_some());
}

#[derive(Clone, Debug)]
enum Operation {
    Write { file: usize, offset: u64, length: usize, byte: u8 },
    Append { file: usize, length: usize, byte: u8 },
    Truncate { file: usize, length: u64 },
    Punch { file: usize, offset: u64, length: u64 },
    Copy { from: usize, to: usize, offset: u64 },
    Rename { from: usize, to: usize },
    Remove { file: usize },
    Rest,
}

fn operation() -> impl Strategy<Value = Operation> {
    let file = 0..4_usize;
    let offset = prop_oneof![Just(0), 0..200_000_u64, Just(65_536), Just(65_535)];
    prop_oneof![
        6 => (file.clone(), offset.clone(), 1..150_000_usize, any::<u8>())
            .prop_map(|(file, offset, length, byte)| Operation::Write { file, offset, length, byte }),
        6 => (file.clone(), 1..90_000_usize, any::<u8>())
            .prop_map(|(file, length, byte)| Operation::Append { file, length, byte }),
        2 => (file.clone(), offset.clone())
            .prop_map(|(file, length)| Operation::Truncate { file, length }),
        2 => (file.clone(), offset.clone(), 1..100_000_u64)
            .prop_map(|(file, offset, length)| Operation::Punch { file, offset, length }),
        1 => (file.clone(), file.clone(), offset)
            .prop_map(|(from, to, offset)| Operation::Copy { from, to, offset }),
        1 => (file.clone(), file.clone()).prop_map(|(from, to)| Operation::Rename { from, to }),
        1 => file.prop_map(|file| Operation::Remove { file }),
        1 => Just(Operation::Rest),
    ]
}

fn apply(scratch: &Scratch, operation: &Operation) {
    let path = |file: usize| scratch.path(&format!("file{file}"));
    let open = |file: usize| {
        File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path(file))
            .unwrap()
    };
    match *operation {
        Operation::Write { file, offset, length, byte } => {
            open(file).write_all_at(&vec![byte; length], offset).unwrap();
        }
        Operation::Append { file, length, byte } => {
            let file = open(file);
            let end = file.metadata().unwrap().len();
            file.write_all_at(&vec![byte; length], end).unwrap();
        }
        Operation::Truncate { file, length } => open(file).set_len(length).unwrap(),
        Operation::Punch { file, offset, length } => {
            let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(open(file), mode, offset, length).unwrap();
        }
        Operation::Copy { from, to, offset } if from != to => {
            let (from, to) = (open(from), open(to));
            let (mut source, mut target) = (0, offset);
            rustix::fs::copy_file_range(&from, Some(&mut source), &to, Some(&mut target), 70_000)
                .unwrap();
        }
        Operation::Copy { .. } => {}
        Operation::Rename { from, to } => {
            open(from);
            fs::rename(path(from), path(to)).unwrap();
        }
        Operation::Remove { file } => {
            open(file);
            fs::remove_file(path(file)).unwrap();
        }
        Operation::Rest => {
            scratch.check_digests();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn after_any_operations_the_digests_are_those_of_the_backing(
        operations in prop::collection::vec(operation(), 1..40)
    ) {
        if !can_mount() {
            return Ok(());
        }
        let scratch = Scratch::with(|_| {}, Inputs::Opened, Limits::default(), |backing| backing);
        for operation in &operations {
            apply(&scratch, operation);
        }
        let sealed = scratch.check_digests();
        let names = fs::read_dir(scratch.stored("")).unwrap();
        let names: Vec<String> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        // Each file of the store was written by the run, so each has a digest.
        let mut expected: Vec<&String> = names.iter().collect();
        expected.sort();
        prop_assert_eq!(sealed.keys().collect::<Vec<_>>(), expected);
    }
}
