//! A record that cannot be written.

use std::fs;

use crate::{
    disk::Disk,
    guarded::{is_refused, policy},
    lab::{Ended, Finish, Lab},
    mounted::Mounted,
};

/// A lab whose state lies on a small disk of its own, with files that nobody vouches for.
struct Crammed {
    lab: Lab,
    disk: Option<Disk>,
}

impl Crammed {
    fn new() -> Option<Self> {
        let lab = Lab::new()?;
        let disk = Disk::in_memory(&lab.state(), 16 << 20);
        policy(&lab, "rehash");
        lab.directory("tree");
        for number in 0..FILES {
            fs::write(lab.path(&format!("tree/{number}.bin")), "nobody's").unwrap();
        }
        Some(Self { lab, disk: Some(disk) })
    }

    /// Leaves no room on the disk.
    fn fill(&self) {
        let fill = "head -c 64M /dev/zero > state/fill";
        assert_ne!(self.lab.configured("sh").args(["-c", fill]).finish().code, Some(0));
    }
}

impl Drop for Crammed {
    fn drop(&mut self) {
        self.lab.end_daemon();
        self.disk = None;
    }
}

/// So many refusals do not fit into what is left of a page of the journal.
const FILES: usize = 100;

/// A gated run of this script, which reads all files, and says what it could read.
fn run(lab: &Lab, script: &str) -> Ended {
    let mut run = lab.run("load");
    run.args(["--policy", "policy.toml", "--dir", "tree", "--", "sh", "-c", script]).finish()
}

// Stands on the order of `Gate::refuse` (fs/src/gate/gate.rs), whose answer does not depend on the
// record, and on `Journal::sync` (daemon/src/journal.rs), by which no run succeeds whose record failed.
#[test]
fn a_refusal_that_cannot_be_recorded_on_a_full_disk_is_a_refusal_and_the_run_is_no_success() {
    let Some(crammed) = Crammed::new() else { return };
    let lab = &crammed.lab;
    // Also when there is room again before anybody looks.
    for end in ["rm state/fill", "true"] {
        let script = format!("head -c 64M /dev/zero > state/fill; cat tree/*.bin; {end}");
        let ended = run(lab, &script);
        assert_eq!(ended.stdout, "", "{ended:?}");
        assert_eq!(ended.stderr.matches("Permission denied").count(), FILES, "{ended:?}");
        assert_eq!(ended.code, Some(125), "{ended:?}");
        assert!(ended.stderr.contains("No space left on device"), "{ended:?}");
    }
    fs::remove_file(lab.path("state/fill")).unwrap();
    let again = run(lab, "cat tree/1.bin; true");
    assert_eq!(again.code, Some(0), "the disk was what was wrong: {again:?}");
}

// Stands on the same.
#[test]
fn a_full_disk_does_not_open_the_gate_of_a_mount() {
    let Some(crammed) = Crammed::new() else { return };
    let options = ["--read-only", "--policy", "policy.toml"];
    let mounted = Mounted::new(&crammed.lab, "tree", "mnt", &options);
    crammed.fill();
    for number in 0..FILES {
        let path = mounted.path.join(format!("{number}.bin"));
        assert!(is_refused(&path), "{:?}", fs::read_to_string(&path));
    }
}

// Stands on `Journal::create`: nothing is run that nobody records.
#[test]
fn nothing_is_run_where_nothing_can_be_recorded() {
    let Some(crammed) = Crammed::new() else { return };
    crammed.fill();
    let refused = run(&crammed.lab, "touch ran");
    assert_eq!(refused.code, Some(125), "{refused:?}");
    assert!(!crammed.lab.path("ran").exists());
}
