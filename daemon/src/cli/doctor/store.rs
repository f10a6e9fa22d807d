//! The state directory, its key and its daemon.

use std::{fs, io, path::Path};

use super::Finding;
use crate::{
    client::{Client, ClientError},
    config::{Environment, StateDir, StateError},
    signer::{KeyFileError, key_from_path, public_key_from_path},
};

pub(super) fn findings(option: Option<&Path>, environment: &Environment) -> Vec<Finding> {
    match StateDir::resolve(option, environment) {
        Ok(state) => vec![directory(&state), key(&state), daemon(&state)],
        Err(error) => vec![unusable(&error)],
    }
}

fn unusable(error: &StateError) -> Finding {
    Finding::missing("state", error.to_string(), "name a directory with --state or ATTESTFS_STATE")
}

fn directory(state: &StateDir) -> Finding {
    let path = state.root().display();
    match fs::metadata(state.root()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Finding::ok("state", format!("{path}: made at the first run"))
        }
        _ => match state.check() {
            Ok(()) => Finding::ok("state", path.to_string()),
            Err(error) => unusable(&error),
        },
    }
}

fn key(state: &StateDir) -> Finding {
    let path = state.key();
    match key_from_path(&path) {
        Ok(key) => {
            let hint = key.verifying_key().hint();
            let public = state.public_key();
            let is_beside = public_key_from_path(&public).is_ok_and(|key| key.hint() == hint);
            let beside =
                if is_beside { "" } else { " (its public half is written again at the next run)" };
            Finding::ok("key", format!("{hint}, public half in {}{beside}", public.display()))
        }
        Err(KeyFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Finding::ok("key", format!("{}: made at the first run", path.display()))
        }
        Err(error) => Finding::missing(
            "key",
            error.to_string(),
            "as it says; or sign with another key: attestfs run --key F",
        ),
    }
}

fn daemon(state: &StateDir) -> Finding {
    match Client::connect(state).and_then(|daemon| daemon.status()) {
        Ok(status) => {
            let runs = status.live_runs.len();
            let pending = status.pending.len();
            let detail = format!(
                "{}, process {}; runs: {runs}, commits that wait: {pending}",
                status.program, status.pid
            );
            Finding::ok("store daemon", detail)
        }
        Err(ClientError::Absent { .. }) => {
            Finding::ok("store daemon", "not running: started when it is needed")
        }
        Err(error) => Finding::missing(
            "store daemon",
            error.to_string(),
            format!("see {}", state.daemon_log().display()),
        ),
    }
}
