//! `attestfs`: see `attestfs --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    attestfs_daemon::main()
}
