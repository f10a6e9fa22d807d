//! The store behind a guarded mount fails at its n-th call: the gate stays shut.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    sync::Arc,
};

use attestfs_attestation::Policy;
use attestfs_fs::{Gate, GateParts, Inputs, Limits, TreePath};

use crate::{
    common::{Noon, Scratch, Store, can_mount},
    fault::{Fault, Faults},
};

/// What nobody vouches for.
const NOBODYS: &[u8] = b"nobody's";

/// To read what is guarded, which is what ends in `.bin`.
type Attempt = fn(&Path) -> io::Result<Vec<u8>>;

const ATTEMPTS: [(&str, Attempt); 5] = [
    ("open it", |root| fs::read(root.join("guarded.bin"))),
    ("rename what was read", |root| {
        assert_eq!(fs::read(root.join("plain"))?, NOBODYS);
        fs::rename(root.join("plain"), root.join("renamed.bin"))?;
        fs::read(root.join("renamed.bin"))
    }),
    ("rename its directory", |root| {
        assert_eq!(fs::read(root.join("plain"))?, NOBODYS);
        fs::rename(root.join("directory"), root.join("moved"))?;
        fs::read(root.join("moved/below.bin"))
    }),
    ("link what was read", |root| {
        assert_eq!(fs::read(root.join("plain"))?, NOBODYS);
        fs::hard_link(root.join("plain"), root.join("linked.bin"))?;
        fs::read(root.join("linked.bin"))
    }),
    ("append to it", |root| {
        let mut file = File::options().append(true).open(root.join("guarded.bin"))?;
        file.write_all(b", and more")?;
        drop(file);
        fs::read(root.join("guarded.bin"))
    }),
];

/// Where content that nobody vouches for may end up under a guarded name.
const GUARDED: [&str; 5] =
    ["guarded.bin", "renamed.bin", "directory/below.bin", "moved/below.bin", "linked.bin"];

#[test]
fn whatever_call_of_the_store_fails_nothing_guarded_is_read() {
    if !can_mount() {
        return;
    }
    let mut rounds = 0_u64;
    for (what, attempt) in ATTEMPTS {
        for fault in Fault::all() {
            for nth in 1.. {
                let calls = try_with(what, attempt, fault, nth);
                if calls.is_empty() {
                    break;
                }
                rounds += 1;
            }
        }
    }
    println!("{rounds} rounds");
}

/// Answers with the calls that failed.
fn try_with(what: &str, attempt: Attempt, fault: Fault, nth: u64) -> Vec<&'static str> {
    let faults = Faults::default();
    let wrap = |store| faults.in_front_of(store);
    let scratch = Scratch::behind(gate, prepare, Inputs::Opened, Limits::default(), wrap);
    let root = scratch.path("");
    faults.arm(fault, nth);
    let tried = attempt(&root);
    let struck = faults.mend();
    assert!(tried.is_err(), "{what}, {fault}, call {nth} {struck:?}: {tried:?}");
    // Nor when nothing fails any more.
    for name in GUARDED {
        let read = fs::read(root.join(name));
        assert!(read.is_err(), "{what}, {fault}, call {nth} {struck:?}: {name} {read:?}");
    }
    struck
}

fn prepare(root: &Path) {
    fs::create_dir(root.join("directory")).unwrap();
    for name in ["guarded.bin", "plain", "directory/below.bin"] {
        fs::write(root.join(name), NOBODYS).unwrap();
    }
}

/// Guards all that ends in `.bin`.
fn gate(_store: &Path) -> (Arc<Gate>, Vec<TreePath>) {
    let policy = "version = 1\n[[rule]]\npaths = [\"**/*.bin\"]\nrefuse = \"nobody reads it\"\n";
    let policy = Policy::parse(policy, &mut |_file| Ok(Vec::new())).unwrap();
    let (source, clock) = (Box::new(Store::default()), Box::new(Noon));
    (Gate::new(GateParts { policy: Some(policy), lock: None, source, clock }), Vec::new())
}
