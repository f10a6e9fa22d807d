//! What has a bound keeps it: however many files there are, and however long it runs.
//!
//! `ATTESTFS_ENDURANCE_FILES` says how many files a crowd has (20 000), and `ATTESTFS_SOAK_SECONDS` how long the mixed
//! load goes on (15; from 300 on nothing that is measured may grow). `ATTESTFS_SOAK_CURVE` names a file for what was
//! measured meanwhile, drawn as SVG. `TMPDIR` chooses the backing store. The sizes that are promised take a while:
//!
//! ```text
//! TMPDIR=/dev/shm ATTESTFS_ENDURANCE_FILES=1000000 cargo test --release --test endurance listed
//! ATTESTFS_ENDURANCE_FILES=200000 cargo test --release --test endurance known
//! ATTESTFS_SOAK_SECONDS=1200 ATTESTFS_SOAK_CURVE=soak.svg cargo test --release --test endurance load -- --nocapture
//! ```

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests, which may fail and say why"
)]
#![expect(clippy::cast_precision_loss, reason = "what is counted here lies far below 2^53")]

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

mod crowd;
mod curve;
mod load;
mod process;
mod watch;
