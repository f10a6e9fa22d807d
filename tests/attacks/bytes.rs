//! Bytes that change below the mount.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::{fs::FileExt, process::ExitStatusExt},
    process::{Command, Stdio},
};

use rustix::{io::Errno, process::Signal};

use crate::{
    disk::Disk,
    guarded::policy,
    lab::{Finish, Lab},
    mounted::{is_mounted, mount, unmount_all_at},
    needs,
    scene::{assert_holds, assert_refused, change_quietly, serve, train, with_model},
};

/// The unit of verification.
const GROUP: usize = 64 * 1024;

/// Whoever changes a byte puts the time of modification back.
fn a_changed_byte_is_refused(level: &str) {
    let Some(lab) = with_model() else { return };
    let mounted = serve(&lab, level);
    let weights = mounted.path.join("model/weights.bin");
    assert_holds(&weights, "weights");
    change_quietly(&lab.path("tree/model/weights.bin"), |file| {
        file.write_all_at(b"W", 0).unwrap();
    });
    assert_refused(&weights, "was changed");
}

// Stands on `ctime_ns` of `Identity` (fs/src/identity.rs), which nobody can put back.
#[test]
fn a_byte_changed_below_is_refused_at_level_stat() {
    a_changed_byte_is_refused("stat");
}

// The same.
#[test]
fn a_byte_changed_below_is_refused_at_level_rehash() {
    a_changed_byte_is_refused("rehash");
}

// Stands on `Reading::read_verified` (fs/src/read.rs).
#[test]
fn a_byte_changed_below_is_an_error_at_once_at_level_per_read() {
    let Some(lab) = Lab::new() else { return };
    train(&lab, "model", &[("weights.bin", &"w".repeat(40 * GROUP))]);
    let mounted = serve(&lab, "per-read");
    let weights = File::open(mounted.path.join("model/weights.bin")).unwrap();
    let mut bytes = vec![0; GROUP];
    weights.read_exact_at(&mut bytes, 0).unwrap();
    let place = 30 * GROUP as u64;
    change_quietly(&lab.path("tree/model/weights.bin"), |file| {
        file.write_all_at(b"W", place).unwrap();
    });
    let read = weights.read_exact_at(&mut bytes, place).unwrap_err();
    assert_eq!(read.raw_os_error(), Some(Errno::IO.raw_os_error()), "{read}");
}

/// Maps what it is given, looks at its beginning, and when the test says so at all of it.
const LOADER: &str = "
import mmap, sys
file = open(sys.argv[1], 'rb')
mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
assert mapped[0] == ord('w')
print('mapped', flush=True)
sys.stdin.readline()
sys.exit('read changed bytes' if b'W' in mapped[:] else 'read all')
";

// Stands on the same, where a page that cannot be verified cannot be had: SIGBUS.
#[test]
fn a_byte_changed_below_never_reaches_a_loader_that_has_mapped_the_file_at_level_per_read() {
    if !needs::programs(&["python3"]) {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    train(&lab, "model", &[("weights.bin", &"w".repeat(80 * GROUP))]);
    let mounted = serve(&lab, "per-read");
    let mut loader = lab.configured("python3");
    loader.args(["-c", LOADER]).arg(mounted.path.join("model/weights.bin"));
    let mut loader = loader.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(loader.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "mapped\n");
    change_quietly(&lab.path("tree/model/weights.bin"), |file| {
        file.write_all_at(b"W", 70 * GROUP as u64).unwrap();
    });
    drop(loader.stdin.take());
    let ended = loader.wait().unwrap();
    assert_eq!(ended.signal(), Some(Signal::BUS.as_raw()), "{ended:?}");
}

// Stands on `Gate::is_possible_on` (fs/src/gate/gate.rs), asked by `Mount::serve`.
#[test]
fn a_mount_at_level_verity_does_not_start_where_the_kernel_verifies_nothing() {
    let Some(lab) = Lab::new() else { return };
    let _memory = Disk::in_memory(&lab.directory("tree"), 1 << 20);
    fs::write(lab.path("tree/weights.bin"), "weights").unwrap();
    policy(&lab, "verity");
    lab.directory("mnt");
    let refused = mount(&lab, "tree", "mnt", &["--policy", "policy.toml"]).finish();
    let is_served = is_mounted(&lab.path("mnt"));
    unmount_all_at(&lab.path("mnt"));
    assert_eq!((refused.code, is_served), (Some(3), false), "{refused:?}");
    assert!(refused.stderr.contains("fs-verity"), "{refused:?}");
}

// Stands on `Guard::content` (fs/src/gate/guard.rs): at this level it believes no recorded digest.
#[test]
fn a_byte_changed_on_the_disk_itself_is_refused_at_level_rehash() {
    if !needs::programs(&["mkfs.ext4", "mount", "umount"]) {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let image = lab.path("image");
    File::create(&image).unwrap().set_len(16 << 20).unwrap();
    Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).succeed();
    let tree = lab.directory("tree");
    let attach = || {
        Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&tree).succeed();
        Disk::mounted(&tree)
    };
    let secret = "the weights as they were trained";
    let disk = attach();
    train(&lab, "model", &[("weights.bin", secret)]);
    drop(disk);
    let mut bytes = fs::read(&image).unwrap();
    let found = bytes.windows(secret.len()).position(|window| window == secret.as_bytes());
    bytes[found.unwrap()] = b'T';
    fs::write(&image, bytes).unwrap();
    let _disk = attach();
    let mounted = serve(&lab, "rehash");
    assert_refused(&mounted.path.join("model/weights.bin"), "was changed");
    drop(mounted);
    // What the level stat trusts: the disk.
    let mounted = serve(&lab, "stat");
    assert_holds(&mounted.path.join("model/weights.bin"), &secret.replacen('t', "T", 1));
}
