//! Programs that keep a filesystem busy and hold what it answers against what they did.

use crate::{
    lab::{Finish, Lab},
    mounted::Mounted,
    needs,
    setting::number,
};

#[test]
fn whichever_way_a_program_writes_it_reads_back_what_it_wrote() {
    let Some(lab) = under_load("fio", |lab, directory| {
        for (engine, direct) in ENGINES {
            for order in ["write", "randwrite"] {
                write_and_verify(lab, directory, engine, direct, order);
            }
        }
    }) else {
        return;
    };
    lab.verify("tree").succeed();
}

#[test]
fn clients_of_a_file_server_find_what_they_left() {
    let Some(lab) = under_load("dbench", |lab, directory| {
        let seconds = number("ATTESTFS_SUITES_SECONDS").unwrap_or(SECONDS).to_string();
        let mut dbench = lab.configured("dbench");
        dbench.args(["--directory", directory, "--timelimit", &seconds, "--skip-cleanup"]);
        dbench.arg(CLIENTS).succeed();
    }) else {
        return;
    };
    lab.verify("tree").succeed();
}

/// Has a program work in a mount that is a stage, until the stage has ended; none without that program.
fn under_load(program: &str, work: impl FnOnce(&Lab, &str)) -> Option<Lab> {
    if !needs::programs(&[program]) {
        return None;
    }
    let lab = Lab::new()?;
    let mounted = Mounted::new(&lab, "tree", "mnt", &["--stage", program, "--out", "."]);
    work(&lab, mounted.path.to_str().unwrap());
    mounted.umount(&[]).succeed();
    drop(mounted);
    Some(lab)
}

/// Writes one file, in pieces of 4 KiB to 1 MiB, each of which bears its own digest, and reads them.
fn write_and_verify(lab: &Lab, directory: &str, engine: &str, direct: u8, order: &str) {
    let mebibytes = number("ATTESTFS_SUITES_MEBIBYTES").unwrap_or(MEBIBYTES);
    let mut fio = lab.configured("fio");
    fio.arg(format!("--name={engine}-{direct}-{order}")).arg(format!("--directory={directory}"));
    fio.arg(format!("--ioengine={engine}")).arg(format!("--direct={direct}"));
    fio.arg(format!("--rw={order}")).arg(format!("--size={mebibytes}M"));
    fio.args(["--bssplit=4k/40:64k/30:1m/30", "--iodepth=8", "--end_fsync=1"]);
    fio.args(["--verify=sha256", "--verify_fatal=1", "--verify_state_save=0"]).succeed();
}

/// Together less than half a minute on two processors.
const MEBIBYTES: u64 = 16;
const SECONDS: u64 = 5;

/// How many of them `dbench` is.
const CLIENTS: &str = "8";

/// How `fio` writes and reads, and whether with `O_DIRECT`, of which a mapping knows nothing.
const ENGINES: [(&str, u8); 7] = [
    ("psync", 0),
    ("psync", 1),
    ("libaio", 0),
    ("libaio", 1),
    ("io_uring", 0),
    ("io_uring", 1),
    ("mmap", 0),
];
