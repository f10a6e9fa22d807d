//! Very many files.

use std::{
    fs::{self, File},
    path::Path,
};

use attestfs_fs::Identity;
use rustix::mount::{MountFlags, mount_remount};

use crate::{
    lab::{ATTESTFS, Finish, Lab, eventually},
    mounted::Mounted,
    process::{Process, metrics},
    setting::number,
};

#[test]
fn a_directory_of_very_many_entries_is_listed_in_bounded_memory() {
    let Some(lab) = Lab::new() else { return };
    let count = count();
    let many = lab.directory("tree/many");
    (0..count).for_each(|number| drop(File::create(many.join(number.to_string())).unwrap()));
    let mounted = Mounted::new(&lab, "tree", "mnt", &["--metrics", "unix:metrics.sock"]);
    let server = Process(mounted.pid());
    for listing in ["ls -U", "ls -f | grep -v '^[.]*$'", "find . -type f"] {
        server.forget_peak();
        let before = server.peak();
        let mut shell = lab.configured("sh");
        shell.current_dir(mounted.path.join("many"));
        let listed = shell.args(["-ec", &format!("{listing} | wc -l")]).succeed();
        assert_eq!(listed.trim(), count.to_string(), "{listing}");
        let grown = server.peak() - before;
        println!("{listing}: {count} entries, the server grew by {} KiB", grown >> 10);
        assert!(grown <= LISTING_BYTES_MAX, "{listing}: {grown}");
    }
    let known = metrics(&lab.path("metrics.sock"))["attestfs_inodes"];
    assert!(known < KNOWN_OF_A_LISTING, "{known}");
}

/// A few requests, whatever they list.
const LISTING_BYTES_MAX: u64 = 16 << 20;

/// What the kernel asks for beside names in the first requests of a listing.
const KNOWN_OF_A_LISTING: f64 = 5000.0;

#[test]
fn very_many_files_are_known_with_few_descriptors_and_are_let_go_when_the_kernel_forgets_them() {
    let Some(lab) = Lab::new() else { return };
    let tree = lab.directory("tree");
    if Identity::of(File::open(&tree).unwrap()).unwrap().file.born_ns == 0 {
        println!("skipped: this file system keeps no time of birth, so that nothing is let go");
        return;
    }
    let count = count();
    fill(&tree, count);
    let mounted = mount_with_few_descriptors(&lab);
    let (server, socket) = (Process(mounted.pid()), lab.path("metrics.sock"));
    let known = || metrics(&socket)["attestfs_inodes"];
    let (memory, known_before) = (server.memory(), known());
    lab.configured("find").arg(&mounted.path).args(["-size", "+10M"]).succeed();
    let (grown, all) = (server.memory().saturating_sub(memory), known());
    println!("{all} files are known with {} descriptors", server.descriptors());
    println!("and {} bytes each", grown / count);
    assert!(all >= count as f64, "{all}");
    assert!(server.descriptors() <= LIMIT, "{}", server.descriptors());
    for file in (0..count).step_by(WRITTEN_EACH) {
        let path = mounted.path.join(name(file));
        assert_eq!(fs::read_to_string(path).unwrap(), file.to_string());
    }
    // Every name that the kernel keeps goes when a filesystem is mounted again with other options.
    mount_remount(&mounted.path, MountFlags::empty(), c"").unwrap();
    eventually("the kernel has forgotten the files", || known() <= known_before + 2.0);
}

/// The hard limit of open files.
const LIMIT: u64 = 512;

fn mount_with_few_descriptors(lab: &Lab) -> Mounted<'_> {
    let mut shell = lab.configured("sh");
    shell.args(["-ec", &format!("ulimit -n {LIMIT}; exec \"$@\""), "sh", ATTESTFS, "mount"]);
    shell.args(["--json", "--key", "keys/attestfs.key", "--metrics", "unix:metrics.sock"]);
    lab.directory("mnt");
    Mounted::by(lab, "mnt", shell.args(["tree", "mnt"]))
}

fn fill(tree: &Path, count: u64) {
    for file in 0..count {
        let path = tree.join(name(file));
        if file % PER_DIRECTORY == 0 {
            fs::create_dir(path.parent().unwrap()).unwrap();
        }
        let is_written = file % WRITTEN_EACH as u64 == 0;
        fs::write(path, if is_written { file.to_string() } else { String::new() }).unwrap();
    }
}

fn name(file: u64) -> String {
    format!("{}/{file}", file / PER_DIRECTORY)
}

const PER_DIRECTORY: u64 = 1000;

const WRITTEN_EACH: usize = 100;

fn count() -> u64 {
    number("ATTESTFS_ENDURANCE_FILES").unwrap_or(20_000)
}
