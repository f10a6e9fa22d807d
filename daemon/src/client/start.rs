//! Starting the store daemon when it is absent.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use super::{Client, ClientError, PushHandler};
use crate::config::StateDir;

/// How often a daemon that was started is asked whether it listens, and how long between.
const ATTEMPTS_MAX: u32 = 1200;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(25);

/// A log that has grown beyond this is begun anew when a daemon starts.
const LOG_BYTES_MAX: u64 = 8 << 20;

/// How much of the log's end is looked at for its last line.
const LOG_TAIL_BYTES: u64 = 4096;

/// Connects to the daemon of `state`; starts it when there is none, and waits until it answers.
///
/// # Errors
/// [`ClientError::State`], [`ClientError::NotStarted`], [`ClientError::Version`].
pub fn connect_or_start(
    state: &StateDir,
    pushes: Option<PushHandler>,
) -> Result<Client, ClientError> {
    let connect = || match &pushes {
        Some(pushes) => Client::connect_with(state, pushes.clone()),
        None => Client::connect(state),
    };
    match connect() {
        Err(ClientError::Absent { .. } | ClientError::Lost) => {}
        result => return result,
    }
    state.prepare()?;
    let mut daemon =
        start(state).map_err(|error| ClientError::NotStarted { reason: error.to_string() })?;
    let client = wait_for(state, &mut daemon, connect);
    // Whoever started the daemon must not leave it a zombie when it ends first.
    thread::spawn(move || daemon.wait());
    client
}

/// Asks until the daemon answers, or has failed. One that ended well has left the place to another
/// one that was started at the same time.
fn wait_for(
    state: &StateDir,
    daemon: &mut Child,
    connect: impl Fn() -> Result<Client, ClientError>,
) -> Result<Client, ClientError> {
    for _ in 0..ATTEMPTS_MAX {
        match connect() {
            Err(ClientError::Absent { .. } | ClientError::Lost) => {}
            result => return result,
        }
        if let Ok(Some(status)) = daemon.try_wait()
            && !status.success()
        {
            return Err(not_started(state, &format!("it ended with {status}")));
        }
        thread::sleep(ATTEMPT_PAUSE);
    }
    Err(not_started(state, "it does not answer"))
}

/// Starts this program as daemon, in a session of its own, writing to the log.
fn start(state: &StateDir) -> io::Result<Child> {
    let log = log(state)?;
    Command::new(std::env::current_exe()?)
        .args(["daemon", "--foreground", "--own-session", "--state"])
        .arg(state.root())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

fn log(state: &StateDir) -> io::Result<File> {
    let path = state.daemon_log();
    let too_long = fs::metadata(&path).is_ok_and(|log| log.len() > LOG_BYTES_MAX);
    if too_long {
        File::options().write(true).open(&path)?.set_len(0)?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn not_started(state: &StateDir, what: &str) -> ClientError {
    let log = state.daemon_log();
    let last = last_line(&log).unwrap_or_default();
    ClientError::NotStarted {
        reason: match last.as_str() {
            "" => format!("{what}; its log {} is empty", log.display()),
            last => format!("{what}; its log {} ends with: {last}", log.display()),
        },
    }
}

fn last_line(log: &std::path::Path) -> io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
    let mut tail = Vec::new();
    file.take(LOG_TAIL_BYTES).read_to_end(&mut tail)?;
    let tail = String::from_utf8_lossy(&tail);
    Ok(tail.trim_end().lines().last().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    #[test]
    fn a_daemon_that_fails_is_reported_with_the_last_line_of_its_log() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::resolve(Some(directory.path()), &Environment::default()).unwrap();
        let empty = not_started(&state, "it ended").to_string();
        assert!(empty.contains("is empty"), "{empty}");
        fs::write(state.daemon_log(), "first\nthe store is locked\n\n").unwrap();
        let told = not_started(&state, "it ended").to_string();
        assert!(told.ends_with("ends with: the store is locked"), "{told}");
    }
}
