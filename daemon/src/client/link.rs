//! The connections of live runs and mounts: they outlive daemons.

use std::{
    fmt,
    fs::File,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Weak,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

use attestfs_attestation::{KeyHint, RunDescription};
use attestfs_digest::Digests;
use attestfs_fs::{Identity, KnownDigests};
use parking_lot::Mutex;

use super::{Client, ClientError, PushHandler, connect_or_start, done};
use crate::{
    config::StateDir,
    control::{
        Code, CommitOrder, CommitReport, Condition, Failure, MountDescription, Push, Pushed,
        Request,
    },
    lineage::{RunEnd, RunId},
};

/// How often a request is sent again when the daemon dies under it.
const ATTEMPTS_MAX: usize = 5;

/// How often it is looked whether the daemon is lost, and then a new one started: a process of a
/// run that orders a checkpoint cannot.
const KEEPER_PAUSE: Duration = Duration::from_secs(2);

/// How long it is waited at most when no daemon can be started.
const KEEPER_PAUSE_MAX: Duration = Duration::from_secs(64);

/// What a run needs to be known to the daemon.
pub struct RunLinkParts {
    /// Where the daemon is.
    pub state: StateDir,
    /// What the run says of itself.
    pub description: RunDescription,
    /// The private key that signs for it; without one the default key does.
    pub key: Option<File>,
    /// Descriptors of those of its trees that the daemon may not find by their paths, by these
    /// paths as in the description.
    pub roots: Vec<(String, OwnedFd)>,
    /// Brings the writers below an absolute path to rest and says what is to be committed.
    pub checkpoint: CheckpointHandler,
}

/// What a mount needs to be known to the daemon.
pub struct MountLinkParts {
    /// Where the daemon is.
    pub state: StateDir,
    /// What the mount says of itself.
    pub description: MountDescription,
    /// Answers what the daemon asks of it.
    pub pushes: PushHandler,
}

/// Answers a checkpoint that somebody asked the daemon for. Called on a thread of its own.
pub type CheckpointHandler = Box<dyn Fn(&str) -> Result<CommitOrder, Failure> + Send + Sync>;

/// The connection of a live run to whichever daemon is there. When the daemon dies, the run goes on
/// with its journal, and starts another one.
pub struct RunLink {
    run: RunId,
    link: Link,
}

/// The connection of a live mount, likewise.
pub struct MountLink {
    mount: String,
    _link: Link,
}

impl fmt::Debug for RunLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunLink").field("run", &self.run).finish_non_exhaustive()
    }
}

impl fmt::Debug for MountLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MountLink").field("mount", &self.mount).finish_non_exhaustive()
    }
}

impl fmt::Debug for RunLinkParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunLinkParts")
            .field("state", &self.state)
            .field("run", &self.description.id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for MountLinkParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MountLinkParts")
            .field("state", &self.state)
            .field("mount", &self.description)
            .finish_non_exhaustive()
    }
}

impl RunLink {
    /// Tells the daemon that a run begins. Its journal must exist, locked, by then: that is how the
    /// daemon tells a live run from a dead one.
    ///
    /// # Errors
    /// The daemon cannot be started, or refuses the key.
    pub fn begin(parts: RunLinkParts) -> Result<Self, ClientError> {
        let RunLinkParts { state, description, key, roots, checkpoint } = parts;
        let run = RunId(description.id.clone());
        let begin =
            move |signer| Request::RunBegin { description: Box::new(description.clone()), signer };
        let link = Link::begin(|this| Parts {
            state,
            key,
            roots,
            begin: Box::new(begin),
            pushes: answer_with(this, checkpoint),
            current: Mutex::new(None),
        })?;
        Ok(Self { run, link })
    }

    /// Has attestations made, once, however many daemons that takes. The key given at the begin
    /// signs.
    ///
    /// # Errors
    /// The daemon refuses, or cannot be kept alive.
    pub fn commit(&self, order: CommitOrder) -> Result<CommitReport, ClientError> {
        self.link.parts.commit(&order)
    }

    /// The run is over and leaves nothing to attest.
    ///
    /// # Errors
    /// As [`RunLink::commit`].
    pub fn end(&self, journal_length: u64, end: RunEnd) -> Result<(), ClientError> {
        let request = Request::RunEnd { run: self.run.clone(), journal_length, end };
        self.link.parts.retry(|attached| done(attached.client.call(request.clone())?))
    }

    /// The connection that serves the run now, for questions.
    ///
    /// # Errors
    /// The daemon cannot be started.
    pub fn client(&self) -> Result<Client, ClientError> {
        Ok(self.link.parts.attached()?.client)
    }
}

impl KnownDigests for RunLink {
    /// Asks the daemon that is there; one that is away knows nothing.
    fn known(&self, identities: &[Identity]) -> Vec<Option<Digests>> {
        let nothing = || vec![None; identities.len()];
        let Some(attached) = self.link.parts.current.lock().clone() else {
            return nothing();
        };
        attached.client.digests(identities).unwrap_or_else(|error| {
            tracing::debug!(%error, "the store could not be asked for digests");
            nothing()
        })
    }
}

/// The answers of the run behind `link` to what the daemon asks.
fn answer_with(link: Weak<Parts>, checkpoint: CheckpointHandler) -> PushHandler {
    Arc::new(move |push| {
        let gone = || Failure::new(Code::UnknownRun, "the run is ending");
        let path = match push {
            Push::Checkpoint { path, .. } => path,
            Push::Condition => return Ok(Pushed::Condition(Condition::of_this_process())),
            _ => return Err(Failure::new(Code::UnknownMount, "this is a run, and no mount")),
        };
        let parts = link.upgrade().ok_or_else(gone)?;
        let report = parts.commit(&checkpoint(&path)?)?;
        Ok(Pushed::Committed(report))
    })
}

impl MountLink {
    /// Tells the daemon that a mount is served.
    ///
    /// # Errors
    /// The daemon cannot be started.
    pub fn begin(parts: MountLinkParts) -> Result<Self, ClientError> {
        let MountLinkParts { state, description, pushes } = parts;
        let mount = description.id.clone();
        let begin = move |_| Request::MountBegin { mount: Box::new(description.clone()) };
        let link = Link::begin(|_| Parts {
            state,
            key: None,
            roots: Vec::new(),
            begin: Box::new(begin),
            pushes,
            current: Mutex::new(None),
        })?;
        Ok(Self { mount, _link: link })
    }
}

/// A connection that is made anew when it is lost.
struct Link {
    parts: Arc<Parts>,
    /// Dropped with the link, which ends the keeper.
    _keeper: Sender<()>,
}

struct Parts {
    state: StateDir,
    key: Option<File>,
    roots: Vec<(String, OwnedFd)>,
    /// What each new connection begins with, signed for by a presented key.
    begin: Box<dyn Fn(Option<KeyHint>) -> Request + Send + Sync>,
    pushes: PushHandler,
    /// None between daemons.
    current: Mutex<Option<Attached>>,
}

/// A connection on which the run or mount has begun.
#[derive(Clone)]
struct Attached {
    client: Client,
    /// Of the presented key.
    signer: Option<KeyHint>,
}

impl Link {
    fn begin(parts: impl FnOnce(Weak<Parts>) -> Parts) -> Result<Self, ClientError> {
        let parts = Arc::new_cyclic(|link| parts(Weak::clone(link)));
        parts.attached()?;
        let (keeper, ended) = mpsc::channel::<()>();
        let kept = Arc::downgrade(&parts);
        thread::spawn(move || {
            let mut pause = KEEPER_PAUSE;
            while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let doubled = KEEPER_PAUSE_MAX.min(pause * 2);
                pause = if keep(&kept) { KEEPER_PAUSE } else { doubled };
            }
        });
        Ok(Self { parts, _keeper: keeper })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(attached) = self.parts.current.lock().take() {
            attached.client.close_when_answered();
        }
    }
}

impl Parts {
    fn commit(&self, order: &CommitOrder) -> Result<CommitReport, ClientError> {
        self.retry(|attached| {
            attached.client.commit(&CommitOrder { signer: attached.signer, ..order.clone() })
        })
    }

    /// Carries out `request`, again on a new connection when the one it was made on is lost.
    fn retry<T>(
        &self,
        request: impl Fn(&Attached) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        for _ in 1..ATTEMPTS_MAX {
            match self.attached().and_then(|attached| request(&attached)) {
                Err(ClientError::Lost) => self.forget(),
                result => return result,
            }
        }
        request(&self.attached()?)
    }

    /// The connection on which the run has begun; a new one, and a new daemon, when there is none.
    fn attached(&self) -> Result<Attached, ClientError> {
        let mut current = self.current.lock();
        if let Some(attached) = current.as_ref().filter(|it| !it.client.has_ended()) {
            return Ok(attached.clone());
        }
        let pushes = Arc::clone(&self.pushes);
        let attached = self.attach(connect_or_start(&self.state, Some(pushes))?)?;
        Ok(current.insert(attached).clone())
    }

    fn attach(&self, client: Client) -> Result<Attached, ClientError> {
        let signer = self.key.as_ref().map(|key| client.present_key(key.as_fd())).transpose()?;
        for (tree, root) in &self.roots {
            client.present_tree(tree, root.as_fd())?;
        }
        done(client.call((self.begin)(signer))?)?;
        Ok(Attached { client, signer })
    }

    fn forget(&self) {
        *self.current.lock() = None;
    }
}

/// Sees to it that there is a daemon, and says whether there is.
fn keep(parts: &Weak<Parts>) -> bool {
    let kept = parts.upgrade().map(|parts| parts.attached());
    if let Some(Err(error)) = &kept {
        tracing::debug!(%error, "there is no daemon at the moment");
    }
    matches!(kept, Some(Ok(_)))
}
