//! The connection of a live run: it outlives daemons.

use std::{
    fmt,
    fs::File,
    os::fd::AsFd,
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

use super::{Client, ClientError, PushHandler, connect_or_start};
use crate::{
    config::StateDir,
    control::{Code, CommitOrder, CommitReport, Failure, Push, Reply, Request},
    lineage::{RunEnd, RunId},
};

/// How often a request is sent again when the daemon dies under it.
const ATTEMPTS_MAX: usize = 5;

/// How often a run looks whether it has lost its daemon, and then starts a new one: a process of the
/// run that orders a checkpoint cannot.
const KEEPER_PAUSE: Duration = Duration::from_secs(2);

/// How long it waits at most when no daemon can be started.
const KEEPER_PAUSE_MAX: Duration = Duration::from_secs(64);

/// What a run needs to be known to the daemon.
pub struct RunLinkParts {
    /// Where the daemon is.
    pub state: StateDir,
    /// What the run says of itself.
    pub description: RunDescription,
    /// The private key that signs for it; without one the default key does.
    pub key: Option<File>,
    /// Brings the writers below an absolute path to rest and says what is to be committed.
    pub checkpoint: CheckpointHandler,
}

/// Answers a checkpoint that somebody asked the daemon for. Called on a thread of its own.
pub type CheckpointHandler = Box<dyn Fn(&str) -> Result<CommitOrder, Failure> + Send + Sync>;

/// The connection of a live run to whichever daemon is there. When the daemon dies, the run goes on
/// with its journal, and starts another one.
pub struct RunLink {
    parts: Arc<Parts>,
    /// Dropped with the link, which ends the keeper.
    _keeper: Sender<()>,
}

struct Parts {
    given: RunLinkParts,
    pushes: PushHandler,
    /// None between daemons.
    current: Mutex<Option<Attached>>,
}

/// A connection on which the run has begun.
#[derive(Clone)]
struct Attached {
    client: Client,
    /// Of the presented key.
    signer: Option<KeyHint>,
}

impl fmt::Debug for RunLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunLink")
            .field("run", &self.parts.given.description.id)
            .finish_non_exhaustive()
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

impl RunLink {
    /// Tells the daemon that a run begins. Its journal must exist, locked, by then: that is how the
    /// daemon tells a live run from a dead one.
    ///
    /// # Errors
    /// The daemon cannot be started, or refuses the key.
    pub fn begin(parts: RunLinkParts) -> Result<Self, ClientError> {
        let parts = Arc::new_cyclic(|link| Parts {
            given: parts,
            pushes: answer_with(Weak::clone(link)),
            current: Mutex::new(None),
        });
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

    /// Has attestations made, once, however many daemons that takes. The key given at the begin
    /// signs.
    ///
    /// # Errors
    /// The daemon refuses, or cannot be kept alive.
    pub fn commit(&self, order: CommitOrder) -> Result<CommitReport, ClientError> {
        self.parts.commit(&order)
    }

    /// The run is over and leaves nothing to attest.
    ///
    /// # Errors
    /// As [`RunLink::commit`].
    pub fn end(&self, journal_length: u64, end: RunEnd) -> Result<(), ClientError> {
        let request = Request::RunEnd {
            run: RunId(self.parts.given.description.id.clone()),
            journal_length,
            end,
        };
        self.parts.retry(|attached| expect_done(attached.client.call(request.clone())?))
    }

    /// The connection that serves the run now, for questions.
    ///
    /// # Errors
    /// The daemon cannot be started.
    pub fn client(&self) -> Result<Client, ClientError> {
        Ok(self.parts.attached()?.client)
    }
}

impl Drop for RunLink {
    fn drop(&mut self) {
        if let Some(attached) = self.parts.current.lock().take() {
            attached.client.close();
        }
    }
}

impl KnownDigests for RunLink {
    /// Asks the daemon that is there; one that is away knows nothing.
    fn known(&self, identities: &[Identity]) -> Vec<Option<Digests>> {
        let nothing = || vec![None; identities.len()];
        let Some(attached) = self.parts.current.lock().clone() else {
            return nothing();
        };
        attached.client.digests(identities).unwrap_or_else(|error| {
            tracing::debug!(%error, "the store could not be asked for digests");
            nothing()
        })
    }
}

/// The answers of the run behind `link` to what the daemon asks.
fn answer_with(link: Weak<Parts>) -> PushHandler {
    Arc::new(move |Push::Checkpoint { path, .. }| {
        let gone = || Failure::new(Code::UnknownRun, "the run is ending");
        let parts = link.upgrade().ok_or_else(gone)?;
        let order = (parts.given.checkpoint)(&path)?;
        parts.commit(&order).map_err(Failure::from)
    })
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
        let attached = self.attach(connect_or_start(&self.given.state, Some(pushes))?)?;
        Ok(current.insert(attached).clone())
    }

    fn attach(&self, client: Client) -> Result<Attached, ClientError> {
        let key = self.given.key.as_ref();
        let signer = key.map(|key| client.present_key(key.as_fd())).transpose()?;
        let begin =
            Request::RunBegin { description: Box::new(self.given.description.clone()), signer };
        expect_done(client.call(begin)?)?;
        Ok(Attached { client, signer })
    }

    fn forget(&self) {
        *self.current.lock() = None;
    }
}

/// Sees to it that the run has a daemon, and says whether it has.
fn keep(parts: &Weak<Parts>) -> bool {
    let kept = parts.upgrade().map(|parts| parts.attached());
    if let Some(Err(error)) = &kept {
        tracing::debug!(%error, "the run has no daemon at the moment");
    }
    matches!(kept, Some(Ok(_)))
}

fn expect_done(reply: Reply) -> Result<(), ClientError> {
    match reply {
        Reply::Done => Ok(()),
        _ => Err(ClientError::Unexpected),
    }
}
