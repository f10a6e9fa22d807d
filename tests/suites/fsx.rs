//! Any order of operations on one file, each read held against what must be there, and in the end the digests.

use std::{fs, path::Path, process::Command};

use crate::{
    lab::{Finish, Lab, eventually},
    mounted::{Mounted, attribute},
    needs,
    setting::number,
};

#[test]
fn whatever_is_done_to_a_file_its_bytes_and_digests_are_right() {
    if !needs::programs(&["fsx", "b3sum", "sha256sum"]) {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    for (name, configuration) in CONFIGURATIONS {
        fs::write(lab.path(name), configuration).unwrap();
    }
    let mounted = Mounted::new(&lab, "tree", "mnt", &["--stage", "fsx", "--out", "."]);
    let first = number("ATTESTFS_SUITES_SEED").unwrap_or(1);
    for seed in first..first + number("ATTESTFS_SUITES_SEEDS").unwrap_or(SEEDS) {
        for (configuration, _) in CONFIGURATIONS {
            let name = format!("{seed}-{configuration}");
            exercise(&lab, &mounted.path.join(&name), configuration, seed);
            check_digests(&lab, &mounted.path.join(&name), &lab.path("tree").join(&name));
        }
    }
    mounted.umount(&[]).succeed();
    lab.verify("tree").succeed();
}

/// Does things to a new file until all are done, or one has left other bytes than it must.
fn exercise(lab: &Lab, file: &Path, configuration: &str, seed: u64) {
    let operations = number("ATTESTFS_SUITES_OPERATIONS").unwrap_or(OPERATIONS);
    let mut fsx = lab.configured("fsx");
    fsx.args(["-f", configuration, "-S", &seed.to_string(), "-N", &operations.to_string()]);
    // What the file should have been is told in the lab, not beside the file.
    fsx.arg("-P").arg(lab.path(".")).arg(file).succeed();
}

/// Holds what the mount tells of a file, and the file that is stored, against other programs.
fn check_digests(lab: &Lab, mounted: &Path, stored: &Path) {
    eventually("it is sealed", || {
        attribute(mounted, "user.attestfs.state").as_deref() == Some("sealed")
    });
    for (algorithm, program) in [("sha256", "sha256sum"), ("blake3", "b3sum")] {
        let printed = Command::new(program).arg(stored).succeed();
        let told = attribute(mounted, &format!("user.attestfs.{algorithm}")).unwrap();
        assert!(printed.starts_with(&told), "{told} is not what {program} says: {printed}");
        let mut digest = lab.attestfs(["digest", "--algorithm", algorithm]);
        assert_eq!(digest.arg(stored).succeed(), printed);
    }
}

/// Together some ten seconds on two processors, and not much more when they have other work, too.
const OPERATIONS: u64 = 2_000;
const SEEDS: u64 = 2;

/// The suite never ends a mapping by which it reads, and each makes whatever shortens the file slower: hence few of
/// them. Nor does it wait for each mapping by which it wrote to be synced: pages may be left when something else is
/// done to the file. No operation is empty, for no store allocates nothing.
const CONFIGURATIONS: [(&str, &str); 2] = [("small.toml", SMALL), ("large.toml", LARGE)];

/// Files of up to 256 KiB, and what is done to them by pieces of up to 64 KiB.
const SMALL: &str = "
flen = 262144
nomsyncafterwrite = true
[opsize]
min = 1
max = 65536
[weights]
close_open = 4
copy_file_range = 5
fsync = 0.5
invalidate = 1
mapread = 2
mapwrite = 10
posix_fadvise = 2
posix_fallocate = 2
punch_hole = 5
read = 10
sendfile = 5
truncate = 5
write = 10
";

/// More than one chunk group at a time, and writes that are answered before they are stored.
const LARGE: &str = "
flen = 4194304
nomsyncafterwrite = true
[opsize]
min = 1
max = 1048576
[weights]
close_open = 4
copy_file_range = 5
fsync = 0.5
invalidate = 1
mapread = 2
mapwrite = 5
posix_fadvise = 2
posix_fallocate = 2
punch_hole = 5
read = 5
sendfile = 5
truncate = 5
write = 15
";
