//! Where logs go: to stderr, filtered by `ATTESTFS_LOG`, in the form of `ATTESTFS_LOG_FORMAT`.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tracing_subscriber::EnvFilter;

use crate::{
    clock::{Clock, SystemClock},
    config::Environment,
    voice::Voice,
};

/// How long a process that has nothing else left to do waits for a reader of its log.
const PATIENCE: Duration = Duration::from_secs(2);

/// The log of this process. Whoever writes to it waits for nobody who reads it.
#[derive(Debug)]
pub(super) struct Log(Arc<Voice>);

/// Begins to write logs. A process that serves, whose stderr is a file that nobody watches, says more.
pub(super) fn begin(environment: &Environment, serves: bool) -> Log {
    let default = if serves { "info" } else { "warn" };
    let filter = environment.log.as_deref().unwrap_or(default);
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_unreadable| EnvFilter::new(default));
    let is_json = environment.log_format.as_deref() == Some("json");
    let voice = Arc::new(Voice::start(if is_json { left_out_as_json } else { left_out }));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Arc::clone(&voice));
    // On a full disk a line is lost. To say so on the same disk would end the thread that has it.
    let logs = logs.log_internal_errors(false);
    // Refused when a test has begun before us: then it knows better where logs go.
    if is_json {
        logs.json().flatten_event(true).try_init().unwrap_or_default();
    } else {
        logs.with_target(serves).with_ansi(false).try_init().unwrap_or_default();
    }
    Log(voice)
}

impl Log {
    /// Waits until all of it is written, though not for ever. Whether it is.
    pub(super) fn finish(&self) -> bool {
        self.0.finish(PATIENCE)
    }
}

fn left_out(lines: u64) -> String {
    format!("{}  WARN {}", SystemClock.now(), left_out_message(lines))
}

fn left_out_as_json(lines: u64) -> String {
    let message = left_out_message(lines);
    let now = SystemClock.now();
    json!({ "timestamp": now, "level": "WARN", "message": message, "leftOut": lines }).to_string()
}

fn left_out_message(lines: u64) -> String {
    format!("{lines} lines of this log are left out here: nobody read it")
}
