//! Suites that others wrote for filesystems, run by the program as its users have it: `pjdfstest`, which asks for what
//! POSIX says; `fsx`, which reads back what any order of operations leaves in a file; and `fio` and `dbench`, which
//! keep a filesystem busy and check what they find.
//!
//! They run where temporary directories are: `TMPDIR` chooses another backing store. `ATTESTFS_SUITES_OPERATIONS`
//! says how many operations `fsx` makes with each seed (2000), `ATTESTFS_SUITES_SEEDS` how many seeds there are (2) and
//! `ATTESTFS_SUITES_SEED` which is the first (1). `ATTESTFS_SUITES_SECONDS` says how long `dbench` runs (5),
//! `ATTESTFS_SUITES_MEBIBYTES` how large the files of `fio` are (16). After a change of the data plane please let them run
//! longer, on each kind of store:
//!
//! ```text
//! TMPDIR=/mnt/xfs ATTESTFS_SUITES_OPERATIONS=200000 ATTESTFS_SUITES_SEEDS=5 cargo test --test suites
//! ```

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests, which may fail and say why"
)]

#[path = "../common/ended.rs"]
mod ended;
#[expect(dead_code, unused_imports, reason = "what only other test programs need")]
#[path = "../common/lab.rs"]
mod lab;
#[expect(dead_code, reason = "what only other test programs need")]
#[path = "../common/mounted.rs"]
mod mounted;
#[expect(dead_code, reason = "what only other test programs need")]
#[path = "../common/needs.rs"]
mod needs;
#[path = "../common/require.rs"]
mod require;
#[path = "../common/setting.rs"]
mod setting;

mod fsx;
mod load;
mod pjdfstest;
