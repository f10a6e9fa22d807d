//! Where logs go: to stderr, filtered by `ATTESTFS_LOG`, in the form of `ATTESTFS_LOG_FORMAT`.

use std::io;

use tracing_subscriber::EnvFilter;

use crate::config::Environment;

/// Begins to write logs. A process that serves, whose stderr is a file that nobody watches, says more.
pub(super) fn begin(environment: &Environment, serves: bool) {
    let default = if serves { "info" } else { "warn" };
    let filter = environment.log.as_deref().unwrap_or(default);
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_unreadable| EnvFilter::new(default));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // On a full disk a line is lost. To say so on the same disk would end the thread that has it.
    let logs = logs.log_internal_errors(false);
    // Refused when a test has begun before us: then it knows better where logs go.
    match environment.log_format.as_deref() {
        Some("json") => logs.json().flatten_event(true).try_init().unwrap_or_default(),
        _ => logs.with_target(serves).with_ansi(false).try_init().unwrap_or_default(),
    }
}
