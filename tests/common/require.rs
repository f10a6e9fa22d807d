//! What a test needs of the machine. Where it is missing the test says so in one line and is
//! skipped; in CI, which installs everything, a missing piece is a failure.

#![expect(clippy::disallowed_methods, reason = "tests are configured by their environment")]

use std::{
    env,
    io::{self, Write},
};

/// Whether `available`. Otherwise says what is missing, and fails in CI.
pub(crate) fn require(available: bool, what: &str) -> bool {
    if !available {
        assert!(env::var_os("CI").is_none(), "this test needs {what}, which CI has to have");
        // Not by `println`, whose text cargo shows of failed tests only.
        writeln!(io::stderr(), "skipped: this needs {what}").unwrap_or_default();
    }
    available
}
