//! Starting the store daemon when it is absent.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use super::{Client, ClientError, PushHandler};
use crate::{
    config::StateDir,
    cure::cure,
    metrics,
    mount::mounts::{self, Mounted},
    notify,
};

/// How often a daemon that was started is asked whether it listens, and how long between.
const ATTEMPTS_MAX: u32 = 1200;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(25);

/// A log that has grown beyond this is begun anew when a daemon starts.
const LOG_BYTES_MAX: u64 = 8 << 20;

/// How much of the log's end is looked at for its last line.
const LOG_TAIL_BYTES: u64 = 4096;

/// How often, inside a run, it is looked for the daemon that the run starts.
const RUN_ATTEMPTS_MAX: u32 = 800;

/// Connects to the daemon of `state`; starts it when there is none, and waits until it answers.
/// Among the mounts of a run none is started, as in [`connect_within_run`].
///
/// # Errors
/// [`ClientError::State`], [`ClientError::NotStarted`], [`ClientError::Version`],
/// [`ClientError::WithinRun`].
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
    if sees_mounts_of_a_run() {
        return wait_for_run(state, connect);
    }
    state.prepare()?;
    let mut daemon =
        start(state).map_err(|error| unable(state, error.to_string(), cure(&error)))?;
    let client = wait_for(state, &mut daemon, connect);
    // Whoever started the daemon must not leave it a zombie when it ends first.
    thread::spawn(move || daemon.wait());
    client
}

/// Connects to the daemon of `state`, from a process of a run. A daemon that was started here would
/// look at the mounts of the run and not at what lies below them, so the run starts it.
///
/// # Errors
/// [`ClientError::WithinRun`] when it does not within seconds; [`ClientError::Version`].
pub fn connect_within_run(state: &StateDir) -> Result<Client, ClientError> {
    wait_for_run(state, || Client::connect(state))
}

fn wait_for_run(
    state: &StateDir,
    connect: impl Fn() -> Result<Client, ClientError>,
) -> Result<Client, ClientError> {
    for _ in 0..RUN_ATTEMPTS_MAX {
        match connect() {
            Err(ClientError::Absent { .. } | ClientError::Lost) => {}
            result => return result,
        }
        thread::sleep(ATTEMPT_PAUSE);
    }
    Err(ClientError::WithinRun { state: state.root().to_path_buf() })
}

/// Whether this process lives in the mount namespace of a run, or of one that it belongs to.
pub fn sees_mounts_of_a_run() -> bool {
    mounts::all().iter().any(Mounted::is_of_a_run)
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
    let path = state.daemon_log();
    let log = log(&path).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("its log {} cannot be opened: {error}", path.display()),
        )
    })?;
    Command::new(program()?)
        .args(["daemon", "--foreground", "--own-session", "--state"])
        .arg(state.root())
        .current_dir("/")
        .env_remove(notify::SOCKET)
        .env_remove(metrics::VARIABLE)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

/// This program by its path, so that its name is shown; by its inode when an upgrade has put another
/// one there, or none, since this process began.
pub(crate) fn program() -> io::Result<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    let path = std::env::current_exe()?;
    let same = match (fs::metadata(&path), fs::metadata(&running)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    };
    Ok(if same { path } else { running })
}

pub(crate) fn log(path: &Path) -> io::Result<File> {
    let too_long = fs::metadata(path).is_ok_and(|log| log.len() > LOG_BYTES_MAX);
    if too_long {
        File::options().write(true).open(path)?.set_len(0)?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn not_started(state: &StateDir, what: &str) -> ClientError {
    let log = state.daemon_log();
    let last = last_line(&log).unwrap_or_default();
    let reason = match last.as_str() {
        "" => format!("{what}; its log {} is empty", log.display()),
        last => format!("{what}; its log {} ends with: {last}", log.display()),
    };
    unable(state, reason, None)
}

fn unable(state: &StateDir, reason: String, cure: Option<&'static str>) -> ClientError {
    ClientError::NotStarted { state: state.root().to_path_buf(), reason, cure }
}

pub(crate) fn last_line(log: &Path) -> io::Result<String> {
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
