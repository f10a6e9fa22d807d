//! The life of the store daemon: one per state directory, started when it is needed, gone when it
//! is not.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::{fs::OpenOptionsExt, net::UnixListener},
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use tokio::{
    net::{self, UnixStream},
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::sleep,
};

use crate::{
    client::Client,
    clock::Clock,
    commit::{Attester, CommitError},
    config::{Environment, StateDir, StateError, StopAt},
    control::{
        self, Code, Failure, Watched,
        server::{attend, turn_away},
        service::Service,
    },
    lineage::{LineageError, LineageStore},
    metrics::{self, Address, MetricsError, Page},
    notify,
    publication::Files,
};

/// Connections at a time: runs, commands, exporters of one user on one host.
const CONNECTIONS_MAX: usize = 512;

/// How often, and how long apart, a second daemon looks whether the first one answers, or is gone:
/// longer than [`GRACE`].
const RIVAL_ATTEMPTS_MAX: u32 = 600;
const RIVAL_PAUSE: Duration = Duration::from_millis(50);

/// How long work goes on after the daemon was told to end. Nothing is lost beyond that: what was
/// frozen is resumed.
const GRACE: Duration = Duration::from_secs(20);

/// How long to wait before accepting again when the system is out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long those have to be told why who asked for what the store failed at.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What a daemon is made of; `wiring` knows the concrete types.
#[derive(Debug)]
pub struct Seams {
    /// The memory.
    pub store: Arc<dyn LineageStore>,
    /// Where publications are written.
    pub files: Arc<dyn Files>,
    /// Who speaks for the platform.
    pub attester: Arc<dyn Attester>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// In a debug build, where to die.
    pub stop_at: Option<StopAt>,
}

/// Why there is no daemon, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The state directory is unusable.
    #[error(transparent)]
    State(#[from] StateError),
    /// Another process holds the state and does not answer.
    #[error("another attestfs daemon holds {} and does not answer: end it, or give another --state", state.display())]
    Deaf {
        /// The state directory.
        state: PathBuf,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Lineage(#[from] LineageError),
    /// What older programs published cannot be entered where this one looks for it.
    #[error("the publications of {}: {source}", state.display())]
    Publications {
        /// The state directory.
        state: PathBuf,
        /// Why not.
        source: CommitError,
    },
    /// Nobody can look at what it counts.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The lock, the socket, or the signals.
    #[error("the daemon of {}: {source}", state.display())]
    Io {
        /// The state directory.
        state: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Serves `state` until SIGTERM or SIGINT. Returns at once when another daemon serves it already.
/// With `own_session` somebody needed it and started it: then it leaves the session that it was
/// started in, so that it outlives it, and ends when nobody needs it any more. At `metrics` it shows
/// what it counts.
///
/// # Errors
/// Each variant of [`DaemonError`].
pub fn serve(
    state: &StateDir,
    environment: &Environment,
    own_session: bool,
    metrics: Option<&Address>,
    wire: impl FnOnce(&StateDir) -> Result<Seams, DaemonError>,
) -> Result<(), DaemonError> {
    let idle_end = if own_session {
        leave_session();
        environment.idle_end()
    } else {
        environment.idle_end.unwrap_or(Duration::MAX)
    };
    serve_until(state, idle_end, metrics, wire, signalled())
}

/// Serves `state` until nobody needs it, or until `told` is done.
pub(crate) fn serve_until(
    state: &StateDir,
    idle_end: Duration,
    metrics: Option<&Address>,
    wire: impl FnOnce(&StateDir) -> Result<Seams, DaemonError>,
    told: impl Future<Output = io::Result<()>>,
) -> Result<(), DaemonError> {
    state.prepare()?;
    let Some(_lock) = lock(state)? else {
        tracing::info!("another daemon serves this state already");
        return Ok(());
    };
    let service = Arc::new(Service::new(state.clone(), wire(state)?));
    service.prepare().map_err(|source| DaemonError::Publications {
        state: state.root().to_path_buf(),
        source,
    })?;
    let page = || Page::of_daemon(Box::new(Watched(Arc::downgrade(&service))));
    let _metrics = metrics.map(|address| metrics::begin(address, page())).transpose()?;
    let directory = File::open(state.root()).map_err(|source| io_error(state, source))?;
    let listener = control::listen(state).map_err(|source| io_error(state, source))?;
    let result = attend_all(listener, &service, idle_end, told);
    // Whoever comes now finds no socket, and starts a daemon that waits for our lock.
    control::unlisten(&directory).and(result).map_err(|source| io_error(state, source))
}

/// The lock that makes this the one daemon of its state; none when another one has it and answers.
fn lock(state: &StateDir) -> Result<Option<File>, DaemonError> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(state.daemon_lock())
        .map_err(|source| io_error(state, source))?;
    for _ in 0..RIVAL_ATTEMPTS_MAX {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(file)),
            Err(Errno::WOULDBLOCK) if Client::connect(state).is_ok() => return Ok(None),
            Err(Errno::WOULDBLOCK | Errno::INTR) => thread::sleep(RIVAL_PAUSE),
            Err(errno) => return Err(io_error(state, errno.into())),
        }
    }
    Err(DaemonError::Deaf { state: state.root().to_path_buf() })
}

fn leave_session() {
    // Refused to the leader of a process group: then it was started from a shell that cares for it.
    if let Err(error) = rustix::process::setsid() {
        tracing::debug!(%error, "the daemon stays in the session it was started in");
    }
}

fn attend_all(
    listener: UnixListener,
    service: &Arc<Service>,
    idle_end: Duration,
    told: impl Future<Output = io::Result<()>>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(reception(listener, service, idle_end, told));
    runtime.shutdown_timeout(GRACE);
    result
}

/// Accepts connections until the daemon is idle or told to end, or its store has failed.
async fn reception(
    listener: UnixListener,
    service: &Arc<Service>,
    idle_end: Duration,
    told: impl Future<Output = io::Result<()>>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = net::UnixListener::from_std(listener)?;
    tokio::pin!(told);
    let mut tasks = JoinSet::new();
    tasks.spawn(tidy(Arc::clone(service)));
    tracing::info!("the daemon listens");
    notify::ready();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => receive(&mut tasks, service, stream),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            () = sleep(idle_end), if tasks.is_empty() => {
                tracing::info!("the daemon is idle and ends");
                return Ok(());
            }
            () = service.store_failed() => {
                tracing::error!("the store takes nothing more: the next daemon opens it anew");
                sleep(LAST_WORDS).await;
                return Err(io::Error::other("the lineage database failed"));
            }
            result = &mut told => {
                tracing::info!("the daemon is told to end");
                notify::stopping();
                return result;
            }
        }
    }
}

/// Until SIGTERM or SIGINT.
async fn signalled() -> io::Result<()> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

fn receive(tasks: &mut JoinSet<()>, service: &Arc<Service>, stream: UnixStream) {
    if tasks.len() < CONNECTIONS_MAX {
        tasks.spawn(attend(Arc::clone(service), stream));
        return;
    }
    let message = format!("{CONNECTIONS_MAX} clients are connected already");
    let failure = Failure::new(Code::TooLarge, message).with_next_step("try again");
    tasks.spawn(turn_away(stream, failure));
}

async fn tidy(service: Arc<Service>) {
    let tidied = tokio::task::spawn_blocking(move || service.tidy()).await;
    if let Err(panic) = tidied {
        tracing::error!(%panic, "internal error");
    }
}

fn io_error(state: &StateDir, source: io::Error) -> DaemonError {
    DaemonError::Io { state: state.root().to_path_buf(), source }
}
