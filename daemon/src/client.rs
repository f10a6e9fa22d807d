//! The other end of the control socket: how commands speak with the store daemon, and start it when
//! it is absent.

mod link;
mod start;

use std::{
    collections::HashMap,
    fmt, io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Sender},
    },
    thread,
    time::Duration,
};

use attestfs_attestation::KeyHint;
use attestfs_digest::Digests;
use attestfs_fs::Identity;
use parking_lot::Mutex;

pub(crate) use self::start::{last_line, log, program};
pub use self::{
    link::{CheckpointHandler, MountLink, MountLinkParts, RunLink, RunLinkParts},
    start::{connect_or_start, connect_within_run, sees_mounts_of_a_run},
};
use crate::{
    config::{StateDir, StateError},
    control::{
        self, Answer, Code, CommitOrder, CommitReport, Failure, FrameError, FrameReader,
        FromClient, FromDaemon, Hello, Push, Pushed, Reply, Request, StageOrder, StatusReport,
        VERSION,
    },
    lineage::RunId,
};

/// How long the daemon may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// How often, and how long apart, it is looked whether the daemon's last question is answered: a
/// second in all.
const ANSWER_ATTEMPTS_MAX: u32 = 100;
const ANSWER_PAUSE: Duration = Duration::from_millis(10);

/// Answers what the daemon asks of a live run or mount. Called on a thread of its own, so it may call back.
pub type PushHandler = Arc<dyn Fn(Push) -> Result<Pushed, Failure> + Send + Sync>;

/// A connection to the store daemon. Cheap to clone; usable from several threads.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    /// Held while one frame is written.
    writer: Mutex<UnixStream>,
    /// What the daemon has asked and was not answered yet.
    unanswered: AtomicUsize,
    calls: Mutex<Calls>,
}

/// Calls that wait for their reply.
#[derive(Default)]
struct Calls {
    last: u64,
    waiting: HashMap<u64, Sender<Answer<Reply>>>,
    ended: bool,
    /// Why the daemon has ended the connection, when it said so.
    refusal: Option<Failure>,
}

/// Why the daemon did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The state directory is unusable.
    #[error(transparent)]
    State(#[from] StateError),
    /// Nobody listens there.
    #[error("no attestfs daemon serves {}", state.display())]
    Absent {
        /// The state directory.
        state: std::path::PathBuf,
    },
    /// It was started and does not answer.
    #[error("the attestfs daemon of {} did not start: {reason}", state.display())]
    NotStarted {
        /// The state directory.
        state: std::path::PathBuf,
        /// The last line of its log, or what else is known.
        reason: String,
        /// What helps, where that is known.
        cure: Option<&'static str>,
    },
    /// Nobody listens there, and this is a process of a run.
    #[error(
        "no attestfs daemon serves {}, and inside a run none is started, because it would see the \
         mounts of the run and not what lies below them: start it outside with 'attestfs daemon \
         --state {}'",
        state.display(), state.display()
    )]
    WithinRun {
        /// The state directory.
        state: std::path::PathBuf,
    },
    /// It cannot be connected to.
    #[error("the control socket {}: {source}", socket.display())]
    Unreachable {
        /// The control socket.
        socket: std::path::PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody listens there who does not greet.
    #[error(
        "what listens on {} says nothing: it is no attestfs daemon, or one that hangs; end it",
        socket.display()
    )]
    Silent {
        /// The control socket.
        socket: std::path::PathBuf,
    },
    /// The daemon is of another version.
    #[error(
        "the attestfs daemon ({program}) speaks version {theirs} of the control protocol, this \
         attestfs version {VERSION}: stop the old daemon, it is started again when needed"
    )]
    Version {
        /// What runs there.
        program: String,
        /// Its version of the protocol.
        theirs: u32,
    },
    /// The connection ended before the reply. Whether the request was carried out is not known.
    #[error("the connection to the attestfs daemon was lost")]
    Lost,
    /// What came is no frame, or the request does not fit one.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The daemon said no.
    #[error("{0}{advice}", advice = Advice(.0))]
    Refused(Failure),
    /// A reply to something else.
    #[error("the attestfs daemon answered something else than it was asked")]
    Unexpected,
}

impl ClientError {
    /// What to do about it, where the sentence does not say so.
    pub(crate) fn next_step(&self) -> Option<String> {
        match self {
            Self::Refused(failure) => failure.next_step.clone(),
            Self::State(error) => error.next_step(),
            Self::NotStarted { cure: Some(cure), .. } => Some((*cure).to_owned()),
            Self::NotStarted { state, .. } => {
                Some(format!("see why: attestfs daemon --foreground --state {}", state.display()))
            }
            Self::Unreachable { .. } => {
                Some("name a state directory of your own with --state, or ask its user".to_owned())
            }
            _ => None,
        }
    }
}

impl From<ClientError> for Failure {
    /// What another process is told when this one could not get its answer.
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(failure) => failure,
            other => Self::new(Code::Ending, other),
        }
    }
}

/// The next step of a failure, as the end of a sentence.
struct Advice<'a>(&'a Failure);

impl fmt::Display for Advice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.next_step {
            Some(next_step) => write!(f, " ({next_step})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to the daemon of `state`, if there is one, for calls only.
    ///
    /// # Errors
    /// [`ClientError::Absent`] when there is none; [`ClientError::Version`].
    pub fn connect(state: &StateDir) -> Result<Self, ClientError> {
        Self::connect_with(state, Arc::new(refuse_pushes))
    }

    /// Connects to the daemon of `state`, if there is one, and answers what it asks.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect_with(state: &StateDir, pushes: PushHandler) -> Result<Self, ClientError> {
        let stream = match control::connect(state) {
            Err(error) if is_absence(&error) => {
                let state = state.root().to_path_buf();
                return Err(ClientError::Absent { state });
            }
            result => result.map_err(|source| {
                let socket = state.socket();
                ClientError::Unreachable { socket, source }
            })?,
        };
        let reader = greet(&stream).map_err(|error| match error {
            ClientError::Frame(FrameError::Io(error)) if is_timeout(&error) => {
                let socket = state.socket();
                ClientError::Silent { socket }
            }
            other => other,
        })?;
        let client = Self {
            shared: Arc::new(Shared {
                writer: Mutex::new(stream.try_clone().map_err(FrameError::Io)?),
                unanswered: AtomicUsize::new(0),
                calls: Mutex::default(),
            }),
        };
        let listener = client.clone();
        thread::spawn(move || listener.listen(&stream, reader, &pushes));
        Ok(client)
    }

    /// Asks, and waits for the reply as long as the connection lives.
    ///
    /// # Errors
    /// [`ClientError::Refused`], [`ClientError::Lost`], [`ClientError::Frame`].
    pub fn call(&self, request: Request) -> Result<Reply, ClientError> {
        self.call_with(request, None)
    }

    /// How the daemon is.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn status(&self) -> Result<StatusReport, ClientError> {
        match self.call(Request::Status)? {
            Reply::Status(report) => Ok(report),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Lends the daemon the private key that `key` is open on, until this connection ends, and
    /// returns the hint by which orders name it.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when it is no usable key.
    pub fn present_key(&self, key: BorrowedFd<'_>) -> Result<KeyHint, ClientError> {
        match self.call_with(Request::PresentKey, Some(key))? {
            Reply::Key { hint } => Ok(hint),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Digests of exactly these contents, where the store knows them.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn digests(&self, identities: &[Identity]) -> Result<Vec<Option<Digests>>, ClientError> {
        let mut digests = Vec::with_capacity(identities.len());
        for piece in identities.chunks(Request::IDENTITIES_MAX) {
            let identities = piece.to_vec();
            match self.call(Request::Digests { identities })? {
                Reply::Digests(found) if found.len() == piece.len() => digests.extend(found),
                _ => return Err(ClientError::Unexpected),
            }
        }
        Ok(digests)
    }

    /// Has attestations made.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn commit(&self, order: &CommitOrder) -> Result<CommitReport, ClientError> {
        let order = Box::new(order.clone());
        report(self.call(Request::Commit { order })?)
    }

    /// Has the live run at `path` make a checkpoint of it.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn checkpoint(&self, path: &str) -> Result<CommitReport, ClientError> {
        let path = path.to_owned();
        report(self.call(Request::Checkpoint { path })?)
    }

    /// Lends the daemon the directory that `root` is open on, until this connection ends: where the
    /// tree of this absolute, escaped path lies.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn present_tree(&self, tree: &str, root: BorrowedFd<'_>) -> Result<(), ClientError> {
        let request = Request::PresentTree { tree: tree.to_owned() };
        done(self.call_with(request, Some(root))?)
    }

    /// Opens a stage on the mount at an absolute path.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn open_stage(&self, path: &str, stage: StageOrder) -> Result<RunId, ClientError> {
        let (path, stage) = (path.to_owned(), Box::new(stage));
        match self.call(Request::StageOpen { path, stage })? {
            Reply::StageOpened { run } => Ok(run),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Ends the stage of the mount at an absolute path, as a success.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn close_stage(&self, path: &str) -> Result<CommitReport, ClientError> {
        report(self.call(Request::StageClose { path: path.to_owned() })?)
    }

    /// Ends the stage of the mount at an absolute path, as a failure.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn abort_stage(&self, path: &str) -> Result<CommitReport, ClientError> {
        report(self.call(Request::StageAbort { path: path.to_owned() })?)
    }

    /// Has the mount at an absolute path unmounted.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn unmount(&self, path: &str, lazy: bool) -> Result<Option<CommitReport>, ClientError> {
        match self.call(Request::Unmount { path: path.to_owned(), lazy })? {
            Reply::Unmounted { report } => Ok(report),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Whether the connection is gone, so that every further call fails.
    pub fn has_ended(&self) -> bool {
        self.shared.calls.lock().ended
    }

    fn call_with(
        &self,
        request: Request,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<Reply, ClientError> {
        let (sender, reply) = mpsc::channel();
        let id = self.enroll(sender)?;
        let call = FromClient::Call { id, request: Box::new(request) };
        if let Err(error) = self.send(&call, descriptor) {
            self.shared.calls.lock().waiting.remove(&id);
            return Err(error);
        }
        let answer = reply.recv().map_err(|_ended| self.end())?;
        Result::from(answer).map_err(ClientError::Refused)
    }

    fn enroll(&self, sender: Sender<Answer<Reply>>) -> Result<u64, ClientError> {
        let mut calls = self.shared.calls.lock();
        if calls.ended {
            drop(calls);
            return Err(self.end());
        }
        calls.last += 1;
        let id = calls.last;
        calls.waiting.insert(id, sender);
        Ok(id)
    }

    /// Why there is no reply on a connection that has ended.
    fn end(&self) -> ClientError {
        match self.shared.calls.lock().refusal.clone() {
            Some(failure) => ClientError::Refused(failure),
            None => ClientError::Lost,
        }
    }

    fn send(
        &self,
        message: &FromClient,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), ClientError> {
        let frame = control::encode(message)?;
        let stream = self.shared.writer.lock();
        control::send(&stream, &frame, descriptor).map_err(|_gone| ClientError::Lost)
    }

    /// Reads until the connection ends; then every waiting call learns that it is lost.
    fn listen(&self, stream: &UnixStream, mut reader: FrameReader, pushes: &PushHandler) {
        if let Err(error) = self.receive_all(stream, &mut reader, pushes) {
            tracing::debug!(%error, "the connection to the daemon ended");
        }
        let mut calls = self.shared.calls.lock();
        calls.ended = true;
        calls.waiting.clear();
    }

    fn receive_all(
        &self,
        stream: &UnixStream,
        reader: &mut FrameReader,
        pushes: &PushHandler,
    ) -> Result<(), FrameError> {
        loop {
            while let Some(message) = reader.message()? {
                self.receive(message, pushes);
            }
            if reader.receive(stream.as_fd())? == 0 {
                return Ok(());
            }
        }
    }

    fn receive(&self, message: FromDaemon, pushes: &PushHandler) {
        match message {
            FromDaemon::Reply { id: 0, answer: Answer::Refused(failure) } => {
                self.shared.calls.lock().refusal = Some(failure);
            }
            FromDaemon::Reply { id, answer } => {
                let waiting = self.shared.calls.lock().waiting.remove(&id);
                // A caller that no longer waits is none of our business.
                if let Some(caller) = waiting {
                    caller.send(answer).unwrap_or_default();
                }
            }
            FromDaemon::Push { id, push } => {
                let (client, pushes) = (self.clone(), Arc::clone(pushes));
                self.shared.unanswered.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    client.answer(id, pushes(push));
                    client.shared.unanswered.fetch_sub(1, Ordering::SeqCst);
                });
            }
        }
    }

    fn answer(&self, id: u64, result: Result<Pushed, Failure>) {
        let answer = result.into();
        if let Err(error) = self.send(&FromClient::Answer { id, answer }, None) {
            tracing::warn!(%error, "the daemon could not be answered");
        }
    }
}

impl Shared {
    fn close(&self) {
        // Fails only when the other side is gone already, which is what we want.
        self.writer.lock().shutdown(std::net::Shutdown::Both).unwrap_or_default();
    }
}

impl Client {
    /// Ends the connection. Calls that wait learn that it is lost.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Ends the connection, but lets what the daemon has asked be answered before.
    pub(crate) fn close_when_answered(&self) {
        for _ in 0..ANSWER_ATTEMPTS_MAX {
            if self.shared.unanswered.load(Ordering::SeqCst) == 0 {
                break;
            }
            thread::sleep(ANSWER_PAUSE);
        }
        self.close();
    }
}

fn refuse_pushes(_: Push) -> Result<Pushed, Failure> {
    Err(Failure::new(Code::UnknownRun, "this process serves no run and no mount"))
}

fn report(reply: Reply) -> Result<CommitReport, ClientError> {
    match reply {
        Reply::Commit(report) => Ok(report),
        _ => Err(ClientError::Unexpected),
    }
}

fn done(reply: Reply) -> Result<(), ClientError> {
    match reply {
        Reply::Done => Ok(()),
        _ => Err(ClientError::Unexpected),
    }
}

/// Says hello and reads the daemon's. A daemon of another version may say so in its own way, but
/// it does say hello.
fn greet(stream: &UnixStream) -> Result<FrameReader, ClientError> {
    let hello = control::encode(&Hello::ours())?;
    control::send(stream, &hello, None).map_err(|_gone| ClientError::Lost)?;
    stream.set_read_timeout(Some(HELLO_TIMEOUT)).map_err(FrameError::Io)?;
    let mut reader = FrameReader::default();
    let theirs = first_message(stream, &mut reader)?;
    stream.set_read_timeout(None).map_err(FrameError::Io)?;
    if theirs.version != VERSION {
        return Err(ClientError::Version { program: theirs.program, theirs: theirs.version });
    }
    Ok(reader)
}

fn first_message(stream: &UnixStream, reader: &mut FrameReader) -> Result<Hello, ClientError> {
    loop {
        if let Some(hello) = reader.message()? {
            return Ok(hello);
        }
        match reader.receive(stream.as_fd()) {
            Ok(0) | Err(FrameError::Torn) => return Err(ClientError::Lost),
            Err(FrameError::Io(error)) if is_loss(&error) => return Err(ClientError::Lost),
            received => received?,
        };
    }
}

/// Whether the daemon died before it could greet.
fn is_loss(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}
