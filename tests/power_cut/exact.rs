//! Cuts at the moment that matters.

use std::{
    fs::{self, File},
    io::Write,
};

use crate::{
    disk::Kind,
    evidence::attestations,
    lab::{Finish, Running, eventually},
    mounted::{Mounted, attribute, mount},
    place::{Cut, Place},
    told::sha256_of,
};

#[test]
fn a_stage_that_was_opened_is_known_when_the_power_is_cut() {
    for kind in [Kind::Ext4, Kind::Xfs] {
        let Some(place) = Place::new(kind, Cut::State) else { return };
        place.lab.directory("mnt");
        mount(&place.lab, "store", "mnt", &[]).succeed();
        place.lab.attestfs(["stage", "open", "--stage", "train", "mnt"]).succeed();
        place.cut();
        place.come_back();
        place.lab.run("next").args(["--dir", "store", "--", "true"]).succeed();
        let stages = place.lab.attestfs(["stage", "list", "--json"]).succeed();
        assert!(stages.contains("\"train\""), "{kind:?}: {stages}");
    }
}

/// The times of the file reach the disk, its bytes do not, and the state is not cut at all.
#[test]
fn what_was_sealed_and_lost_with_the_power_is_said_of_nothing() {
    for kind in [Kind::Ext4, Kind::Xfs] {
        let mut is_lost = false;
        for _ in 0..ATTEMPTS_MAX {
            let Some(place) = Place::new(kind, Cut::Store) else { return };
            is_lost = loses_bytes(&place);
            let cat = ["--dir", "store", "--", "cat", "store/weights"];
            place.lab.run("reader").args(cat).succeed();
            check(&place, &sha256_of(&fs::read(place.lab.path("store/weights")).unwrap()));
            if is_lost {
                break;
            }
        }
        assert!(is_lost, "{kind:?}: whenever its times reach the disk, the bytes of a file do");
    }
}

/// Whether a file that was sealed has lost its bytes with the power, and its times not.
fn loses_bytes(place: &Place) -> bool {
    let stored = place.lab.path("store/weights");
    let modified = || fs::metadata(&stored).unwrap().modified().unwrap();
    fs::write(&stored, vec![b'1'; BYTES]).unwrap();
    place.sync_store();
    place.lab.directory("mnt");
    mount(&place.lab, "store", "mnt", &["--stage", "train"]).succeed();
    write_over(place);
    let sealed = modified();
    place.sync_directory();
    place.cut();
    place.come_back();
    modified() == sealed && fs::read(&stored).unwrap().starts_with(b"1")
}

/// As before, but the run comes to its end, and is told that the store cannot be synced.
#[test]
fn what_could_not_be_synced_at_the_end_of_a_run_is_said_of_nothing() {
    for kind in [Kind::Ext4, Kind::Xfs] {
        let Some(place) = Place::new(kind, Cut::Store) else { return };
        let stored = place.lab.path("store/weights");
        fs::write(&stored, vec![b'1'; BYTES]).unwrap();
        place.sync_store();
        let job = format!(
            "head -c {BYTES} /dev/zero | dd of=store/weights conv=notrunc status=none; \
             touch written; while ! [ -e stop ]; do sleep 0.1; done"
        );
        let mut run = place.lab.run("train");
        let mut run = Running::start(run.args(["--dir", "store", "--", "sh", "-c", &job]));
        eventually("it is written", || place.lab.path("written").exists());
        place.sync_directory();
        place.cut();
        fs::write(place.lab.path("stop"), "").unwrap();
        assert_ne!(run.code(), Some(0));
        place.come_back();
        let cat = ["--dir", "store", "--", "cat", "store/weights"];
        place.lab.run("reader").args(cat).succeed();
        check(&place, &sha256_of(&fs::read(&stored).unwrap()));
    }
}

/// In place, and until it is sealed.
fn write_over(place: &Place) {
    let path = place.lab.path("mnt/weights");
    File::options().write(true).open(&path).unwrap().write_all(&vec![b'2'; BYTES]).unwrap();
    eventually("it is sealed", || {
        attribute(&path, "user.attestfs.state").as_deref() == Some("sealed")
    });
}

/// Nobody says anything else of the one file.
fn check(place: &Place, sha256: &str) {
    let mounted = Mounted::new(&place.lab, "store", "mnt", &[]);
    let shown = attribute(&mounted.path.join("weights"), "user.attestfs.sha256");
    assert!(shown.is_none_or(|shown| shown == sha256));
    mounted.umount(&[]).succeed();
    mounted.wait_for_end();
    place.lab.end_daemon();
    let state = place.lab.state();
    let path = fs::canonicalize(place.lab.path("store/weights")).unwrap();
    for bundle in attestations(&state) {
        let said = bundle.subjects(&state).remove(&path);
        let read = bundle.materials().remove(&path).flatten();
        for said in said.into_iter().chain(read) {
            assert_eq!(said, sha256, "{}, {}", bundle.stage(), bundle.predicate_type());
        }
    }
}

/// The kernel may write any bytes down when it likes.
const ATTEMPTS_MAX: u32 = 5;

/// Less than what is answered before it is stored.
const BYTES: usize = 32 << 10;
