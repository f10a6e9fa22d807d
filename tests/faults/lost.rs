//! A disk that is full by the time that something is stored which the writer was told is written.

use std::fs;

use crate::{
    disk::Disk,
    evidence::{INCOMPLETE_RUN, PROVENANCE, attestations, only_attestation},
    lab::{Ended, Finish, Lab},
};

/// The second write is answered, and cannot be stored.
const LOSE: &str = "import os
with open('tree/config', 'w') as config: config.write('whole')
file = os.open('tree/model', os.O_WRONLY | os.O_CREAT)
os.write(file, bytes(1 << 19))
os.fsync(file)
rest = os.open('below/rest', os.O_WRONLY | os.O_CREAT)
try:
    while os.write(rest, bytes(1 << 12)): pass
except OSError: pass
assert os.write(file, bytes(1 << 19)) == 1 << 19
";

/// Whoever is told by the close does not look.
const LEAVE: &str = "os._exit(0)";

const WRITE_ANEW: &str = "try: os.fsync(file)
except OSError: pass
os.close(rest)
os.unlink('below/rest')
with open('tree/model', 'w') as model: model.write('whole')
";

#[test]
fn a_run_that_leaves_less_than_it_was_told_is_stored_is_no_success() {
    let Some(lab) = Lab::new() else { return };
    let _tree = Disk::in_memory(&lab.directory("tree"), 64 << 20);
    rustix::mount::mount_bind(lab.path("tree"), lab.directory("below")).unwrap();
    let _below = Disk::mounted(&lab.path("below"));
    let left = run(&lab, LEAVE);
    assert_eq!(left.code, Some(125), "{left:?}");
    assert!(left.stderr.contains("tree/model: a part of it could not be stored"), "{left:?}");
    assert_eq!(only_attestation(&lab.state()).predicate_type(), INCOMPLETE_RUN);
    fs::remove_file(lab.path("below/rest")).unwrap();
    let wrote_anew = run(&lab, WRITE_ANEW);
    assert_eq!(wrote_anew.code, Some(0), "{wrote_anew:?}");
    let kinds = attestations(&lab.state()).into_iter().map(|it| it.predicate_type().to_owned());
    assert_eq!(kinds.filter(|kind| kind == PROVENANCE).count(), 1);
}

fn run(lab: &Lab, then: &str) -> Ended {
    let script = format!("{LOSE}{then}");
    let mut run = lab.run("train");
    run.args(["--dir", "tree", "--", "python3", "-I", "-S", "-c", &script]).finish()
}
