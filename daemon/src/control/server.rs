//! The daemon's end of the control socket: one task per connection, and work that waits for a disk
//! on threads of its own.

use std::{io, os::fd::AsFd, os::fd::OwnedFd, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncWriteExt, Interest},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Code, Failure, FrameError, FrameReader, FromClient, FromDaemon, Hello, Reply, Request, VERSION,
    encode, passing::pass_on, service::Service, visitor::Visitor,
};
use crate::config::effective_user;

/// How long a client may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take to read one reply.
const WRITE_TIMEOUT: Duration = Duration::from_mins(1);

/// Requests of one connection that are at work at a time.
const REQUESTS_MAX: usize = 16;

/// Replies of one connection that wait to be written.
const REPLIES_MAX: usize = 32;

/// How long apart the journal of a lost connection is looked at: shortly after, because the kernel
/// takes a dead process' descriptors away one after the other, and then as often as does no harm.
const LOST_PAUSE_MIN: Duration = Duration::from_millis(20);
const LOST_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Speaks with one client until it leaves, and then settles the runs it spoke for.
pub(crate) async fn attend(service: Arc<Service>, stream: UnixStream) {
    let refusal = refuse_peer(&stream);
    let (from, to) = stream.into_split();
    let (replies, written) = mpsc::channel(REPLIES_MAX);
    let writer = tokio::spawn(write_all(to, written));
    let visitor = Arc::new(Visitor::new(replies));
    let mut requests = JoinSet::new();
    let conversation = Conversation {
        service: Arc::clone(&service),
        visitor: Arc::clone(&visitor),
        from,
        reader: FrameReader::default(),
        at_work: Arc::new(Semaphore::new(REQUESTS_MAX)),
    };
    let end = match refusal {
        Some(failure) => Err(failure),
        None => conversation.converse(&mut requests).await,
    };
    if let Err(failure) = end {
        tracing::debug!(%failure, "a connection is ended");
        let answer = Err(failure).into();
        visitor.reply(FromDaemon::Reply { id: 0, answer }).await;
    }
    visitor.left();
    service.mounts().remove_of(&visitor);
    // What was asked for is carried out even if nobody waits for it: an end of a stage, above all.
    while requests.join_next().await.is_some() {}
    settle(&service, &visitor).await;
    drop(visitor);
    if let Err(error) = writer.await {
        tracing::error!(%error, "the writer of a connection failed");
    }
}

/// Tells a client that there is no room for it.
pub(crate) async fn turn_away(stream: UnixStream, failure: Failure) {
    let (_from, to) = stream.into_split();
    let (replies, written) = mpsc::channel(1);
    let writer = tokio::spawn(write_all(to, written));
    let answer = Err(failure).into();
    Visitor::new(replies).reply(FromDaemon::Reply { id: 0, answer }).await;
    if let Err(error) = writer.await {
        tracing::error!(%error, "the writer of a connection failed");
    }
}

struct Conversation {
    service: Arc<Service>,
    visitor: Arc<Visitor>,
    from: OwnedReadHalf,
    reader: FrameReader,
    at_work: Arc<Semaphore>,
}

impl Conversation {
    /// Until the client leaves, or says something that cannot be understood.
    async fn converse(mut self, requests: &mut JoinSet<()>) -> Result<(), Failure> {
        let hello = timeout(HELLO_TIMEOUT, self.next::<Hello>()).await;
        let silent = |_| Failure::new(Code::Timeout, "no hello came");
        let Some(hello) = hello.map_err(silent)?? else {
            return Ok(());
        };
        check_version(&hello)?;
        while let Some(message) = self.next().await? {
            match message {
                FromClient::Answer { id, answer } => self.visitor.answered(id, answer),
                FromClient::Call { id, request } => self.call(id, *request, requests).await,
            }
            while requests.try_join_next().is_some() {}
        }
        Ok(())
    }

    /// Carries out one request on a task of its own, as soon as there is room for it.
    async fn call(&mut self, id: u64, request: Request, requests: &mut JoinSet<()>) {
        let takes_descriptor = matches!(request, Request::PresentKey | Request::PresentTree { .. });
        let takes_key = matches!(request, Request::PresentKey);
        let descriptor = takes_descriptor.then(|| self.reader.descriptor()).flatten();
        let (service, visitor) = (Arc::clone(&self.service), Arc::clone(&self.visitor));
        let permit = Arc::clone(&self.at_work).acquire_owned().await;
        requests.spawn(async move {
            let answer = answer(&service, &visitor, request, descriptor).await.into();
            visitor.reply(FromDaemon::Reply { id, answer }).await;
            service.look_at_store();
            drop(permit);
            if takes_key {
                block(&service, Service::resume).await;
            }
        });
    }

    /// The next message; none when the client has left.
    async fn next<T: serde::de::DeserializeOwned>(&mut self) -> Result<Option<T>, Failure> {
        loop {
            if let Some(message) = self.reader.message()? {
                return Ok(Some(message));
            }
            if receive(&self.from, &mut self.reader).await? == 0 {
                return Ok(None);
            }
        }
    }
}

async fn answer(
    service: &Arc<Service>,
    visitor: &Arc<Visitor>,
    request: Request,
    descriptor: Option<OwnedFd>,
) -> Result<Reply, Failure> {
    let request = match pass_on(service, request).await {
        Ok(answer) => return answer,
        Err(own) => own,
    };
    let (service, visitor) = (Arc::clone(service), Arc::clone(visitor));
    tokio::task::spawn_blocking(move || service.answer(&visitor, request, descriptor))
        .await
        .unwrap_or_else(|panic| Err(Failure::new(Code::Store, format!("internal error: {panic}"))))
}

/// Ends the runs that a connection spoke for when it was lost, once their processes are gone. One
/// whose process lives comes back on another connection, or dies later.
async fn settle(service: &Arc<Service>, visitor: &Arc<Visitor>) {
    for (run, signer) in service.runs().take_of(visitor) {
        let mut pause = LOST_PAUSE_MIN;
        loop {
            let run = run.clone();
            let settled = block(service, move |service| service.bury_if_lost(&run, signer));
            if settled.await.unwrap_or(true) {
                break;
            }
            sleep(pause).await;
            pause = LOST_PAUSE_MAX.min(pause * 2);
        }
    }
}

/// Runs `work` where it may wait.
pub(super) async fn block<T: Send + 'static>(
    service: &Arc<Service>,
    work: impl FnOnce(&Service) -> T + Send + 'static,
) -> Option<T> {
    let service = Arc::clone(service);
    let result = tokio::task::spawn_blocking(move || work(&service)).await;
    result.inspect_err(|panic| tracing::error!(%panic, "internal error")).ok()
}

fn refuse_peer(stream: &UnixStream) -> Option<Failure> {
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == effective_user() || peer.uid() == 0 => None,
        Ok(peer) => {
            let message = format!("this is the daemon of user {}", effective_user());
            let next_step = format!("user {} has a state directory of its own", peer.uid());
            Some(Failure::new(Code::Forbidden, message).with_next_step(next_step))
        }
        Err(error) => Some(Failure::new(Code::Forbidden, error)),
    }
}

fn check_version(hello: &Hello) -> Result<(), Failure> {
    if hello.version == VERSION {
        return Ok(());
    }
    let message = format!(
        "{} speaks version {} of the control protocol, this daemon ({}) version {VERSION}",
        hello.program,
        hello.version,
        Hello::ours().program
    );
    Err(Failure::new(Code::Version, message)
        .with_next_step("stop the daemon: the next command starts its own"))
}

impl From<FrameError> for Failure {
    fn from(error: FrameError) -> Self {
        let code = match error {
            FrameError::TooLarge { .. } | FrameError::Descriptors => Code::TooLarge,
            FrameError::Malformed(_) | FrameError::Torn | FrameError::Io(_) => Code::Malformed,
        };
        Self::new(code, error)
    }
}

async fn receive(from: &OwnedReadHalf, reader: &mut FrameReader) -> Result<usize, FrameError> {
    let stream: &UnixStream = from.as_ref();
    loop {
        stream.readable().await?;
        let mut received = Ok(0);
        let tried = stream.try_io(Interest::READABLE, || {
            match reader.receive(stream.as_fd()) {
                Err(FrameError::Io(error)) => return Err(error),
                other => received = other,
            }
            Ok(())
        });
        match tried {
            Ok(()) => return received,
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Says hello, and then writes replies as they come, until nobody can send one any more.
async fn write_all(mut to: OwnedWriteHalf, mut replies: mpsc::Receiver<FromDaemon>) {
    if let Err(error) = write(&mut to, encode(&Hello::ours())).await {
        tracing::debug!(%error, "a client left before it was greeted");
        return;
    }
    while let Some(reply) = replies.recv().await {
        if let Err(error) = write(&mut to, frame_of(&reply)).await {
            tracing::debug!(%error, "a client left before its reply");
            return;
        }
    }
}

/// The frame of a reply; of one that fits no frame, the frame that says so.
fn frame_of(reply: &FromDaemon) -> Result<Vec<u8>, FrameError> {
    let encoded = encode(reply);
    let (Err(FrameError::TooLarge { .. }), FromDaemon::Reply { id, .. }) = (&encoded, reply) else {
        return encoded;
    };
    let failure = Failure::new(Code::TooLarge, "the answer is too large for one message")
        .with_next_step("ask for less: a smaller limit, depth or directory");
    let answer = Err(failure).into();
    encode(&FromDaemon::Reply { id: *id, answer })
}

async fn write(
    to: &mut OwnedWriteHalf,
    frame: Result<Vec<u8>, FrameError>,
) -> Result<(), FrameError> {
    let frame = frame?;
    timeout(WRITE_TIMEOUT, to.write_all(&frame))
        .await
        .map_err(|_late| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok(())
}
