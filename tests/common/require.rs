//! What a test needs of the machine. Where it is missing the test says so in one line and is
//! skipped; in CI, which installs everything, a missing piece is a failure.

#![expect(clippy::disallowed_methods, reason = "tests are configured by their environment")]
#![expect(clippy::print_stdout, reason = "a test that is skipped says so")]

/// Whether `available`. Otherwise says what is missing, and fails in CI.
pub(crate) fn require(available: bool, what: &str) -> bool {
    if !available {
        assert!(std::env::var_os("CI").is_none(), "this test needs {what}, which CI has to have");
        println!("skipped: this needs {what}");
    }
    available
}
