//! Where logs go: to stderr, filtered by `ATTESTFS_LOG`.

use std::io;

use tracing_subscriber::EnvFilter;

use crate::config::Environment;

/// Begins to write logs. The daemon, whose stderr is a file that nobody watches, says more.
pub(super) fn begin(environment: &Environment, is_daemon: bool) {
    let default = if is_daemon { "info" } else { "warn" };
    let filter = environment.log.as_deref().unwrap_or(default);
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_unreadable| EnvFilter::new(default));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(is_daemon)
        .with_ansi(false);
    // Refused when a test has begun before us: then it knows better where logs go.
    logs.try_init().unwrap_or_default();
}
