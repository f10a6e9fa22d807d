//! What whoever runs the tests sets in their environment.

use std::env;

/// A number that a variable gives.
///
/// # Panics
/// When it is none.
#[expect(clippy::disallowed_methods, reason = "tests are configured by their environment")]
pub(crate) fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}
