//! A write that is lost while all else goes on: the kernel tells each descriptor of it once, and new ones only until
//! somebody has heard it.

use std::{
    fs::{self, File},
    io::Write,
};

use rustix::{
    fs::{FallocateFlags, fallocate, syncfs},
    process::{Pid, Signal, kill_process},
};

use crate::{
    disk::{Disk, Kind},
    evidence::attestations,
    lab::{Finish, Lab, eventually},
    memory,
    mounted::{Mounted, attribute},
    place,
};

#[test]
fn what_was_lost_is_known_to_a_daemon_that_was_not_the_first_to_hear_it() {
    if !place::has_programs() {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let below = lab.directory("below");
    let _below = memory::Disk::in_memory(&below, 64 << 20);
    if !place::has_devices(&lab) {
        return;
    }
    let binds = [("store", lab.directory("store"))];
    let disk = Disk::new(Kind::Ext4WithoutJournal, below.join("disk"), &binds);
    let stored = lab.path("store/weights");
    fallocate(File::create(&stored).unwrap(), FallocateFlags::empty(), 0, BYTES as u64).unwrap();
    disk.sync();
    // What is written from now on to blocks that nobody has written to finds no place.
    fill(&mut File::create(below.join("rest")).unwrap());
    let mounted = Mounted::new(&lab, "store", "mnt", &["--stage", "train"]);
    let path = mounted.path.join("weights");
    File::options().write(true).open(&path).unwrap().write_all(&vec![b'2'; BYTES]).unwrap();
    eventually("it is sealed", || {
        attribute(&path, "user.attestfs.state").as_deref() == Some("sealed")
    });
    let told = [(); 2].map(|()| syncfs(File::open(&stored).unwrap()));
    assert!(matches!(told, [Err(_), Ok(())]), "{told:?}");
    let server = Pid::from_raw(mounted.pid().cast_signed()).unwrap();
    kill_process(server, Signal::KILL).unwrap();
    eventually("the run is known to be lost", || {
        let stages = lab.attestfs(["stage", "list", "--json"]).succeed();
        stages.contains("\"unknown\"")
    });
    lab.end_daemon();
    for bundle in attestations(&lab.state()) {
        let said = bundle.subjects(&lab.state());
        assert!(!said.contains_key(&fs::canonicalize(&stored).unwrap()), "{said:?}");
    }
}

fn fill(file: &mut File) {
    while file.write_all(&[1; 4096]).is_ok() {}
}

/// Less than what is answered before it is stored.
const BYTES: usize = 32 << 10;
