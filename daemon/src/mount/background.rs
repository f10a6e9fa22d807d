//! A mount that outlives the command that asked for it: served by a second process of this program,
//! in a session of its own, which answers on its standard input.

use std::{
    ffi::OsString,
    fs::File,
    io::Read,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::{Deserialize, Serialize};

use super::{failure::ServeError, options::Options, plan::Plan};
use crate::{
    client::{last_line, log, program},
    config::{Environment, StateDir},
    control::{self, FrameError},
    notify,
};

/// The longest answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// What the process in the background says, once.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Answer {
    /// It serves, as this process.
    Serving(u32),
    /// It does not.
    Failed { message: String, next_step: Option<String>, usage: bool },
}

/// Starts the process that serves, and comes back when the mount answers, with the process.
///
/// # Errors
/// As if it were served here.
pub(super) fn start(options: Options, environment: &Environment) -> Result<u32, ServeError> {
    let options = options.absolute().map_err(ServeError::system("the working directory"))?;
    let state = match &options.receive {
        // Looking at what comes would be taking it.
        Some(_) => StateDir::resolve(options.state.as_deref(), environment)?,
        None => Plan::new(&options, environment)?.state,
    };
    state.prepare()?;
    let log_path = log_path(&state, &options);
    let failed = ServeError::system("starting the process in the background");
    let (mut answer, child) = spawn(&options, &log_path).map_err(failed)?;
    let mut text = Vec::new();
    let read = (&mut answer).take(ANSWER_BYTES_MAX).read_to_end(&mut text);
    match read.ok().and_then(|_| serde_json::from_slice(&text).ok()) {
        Some(Answer::Serving(pid)) => Ok(pid),
        Some(Answer::Failed { message, next_step, usage }) => {
            Err(ServeError::Told { message, next_step, usage })
        }
        None => {
            drop(child);
            let last = last_line(&log_path).unwrap_or_default();
            let reason = match last.as_str() {
                "" => format!("ended, and its log {} is empty", log_path.display()),
                last => format!("ended; its log {} ends with: {last}", log_path.display()),
            };
            Err(ServeError::Background { reason })
        }
    }
}

fn spawn(options: &Options, log_path: &Path) -> std::io::Result<(UnixStream, std::process::Child)> {
    let (ours, theirs) = UnixStream::pair()?;
    let log = log(log_path)?;
    let child = Command::new(program()?)
        .args(["mount", "--foreground", "--answer"])
        .args(options.words())
        .current_dir("/")
        .env_remove(notify::SOCKET)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    Ok((ours, child))
}

/// The conversation with whoever started this process, on standard input.
#[derive(Debug)]
pub(super) struct Asker(UnixStream);

impl Asker {
    /// Takes standard input over, and leaves the session in which this process was started.
    ///
    /// # Errors
    /// There is no standard input.
    pub(super) fn take() -> Result<Self, ServeError> {
        let failed = || ServeError::system("standard input");
        let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin().as_fd(), 3)
            .map_err(|errno| failed()(errno.into()))?;
        let nothing = File::open("/dev/null").map_err(ServeError::system("/dev/null"))?;
        rustix::stdio::dup2_stdin(nothing).map_err(|errno| failed()(errno.into()))?;
        if let Err(error) = rustix::process::setsid() {
            tracing::debug!(%error, "the mount stays in the session it was started in");
        }
        Ok(Self(UnixStream::from(socket)))
    }

    /// Answers. Whoever asked may be gone.
    pub(super) fn answer(self, answer: &Answer) {
        let sent = serde_json::to_vec(answer)
            .map_err(FrameError::Malformed)
            .and_then(|text| Ok(control::send(&self.0, &text, None)?));
        if let Err(error) = sent {
            tracing::debug!(%error, "whoever started this mount does not listen");
        }
    }
}

/// Named after the place that is seen, so that people find it and it does not multiply.
fn log_path(state: &StateDir, options: &Options) -> PathBuf {
    let seen = options.places.as_ref().map(|places| &places.mount_point);
    let seen = seen.or(options.receive.as_ref()).map(|path| path.as_os_str().to_owned());
    let words: OsString = seen.unwrap_or_default();
    let name: String = words
        .to_string_lossy()
        .trim_matches('/')
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' })
        .collect();
    // The end of a long path says more than its beginning.
    let name = &name[name.len().saturating_sub(NAME_BYTES_MAX)..];
    state.mounts().join(format!("{}.log", if name.is_empty() { "root" } else { name }))
}

/// Of the name of a log: a directory entry has 255 bytes.
const NAME_BYTES_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::Places;

    fn name(mount_point: &str) -> String {
        let state = StateDir::resolve(Some(Path::new("/s")), &Environment::default()).unwrap();
        let places = Places { mount_point: mount_point.into(), ..Places::default() };
        let options = Options { places: Some(places), ..Options::default() };
        let path = log_path(&state, &options);
        path.file_name().unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn a_log_is_named_after_the_mount_point() {
        assert_eq!(name("/mnt/model data"), "mnt-model-data.log");
        assert_eq!(name("/"), "root.log");
        assert_eq!(name("/\u{e9}"), "-.log");
        assert_eq!(name(&format!("/{}/end", "x".repeat(300))).len(), 204);
    }
}
