//! A mount that one process makes, with the rights that this needs, and another one serves, without
//! them: the descriptors go over a Unix socket.
//!
//! ```text
//!   attestfs mount --receive SOCKET        attestfs mount --hand-over SOCKET BACKING MOUNTPOINT
//!    | listens on SOCKET                    |
//!    | <------------- connection ---------- |
//!    |                                      |  opens BACKING, mounts: from here on, whoever looks
//!    |                                      |  at MOUNTPOINT waits
//!    | <-- offer + FUSE device, backing --- |
//!    |  serves                              |
//!    | --- taken, or why not -------------> |
//!    |                                      |  leaves; takes the mount away if it was not taken
//! ```
//!
//! The receiver is in another mount namespace and cannot unmount. Each side asks the kernel who the
//! other one is: a mount is taken from root and from the receiver's own user, and given to whom
//! [`HandOver`] names.

use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            fs::{FileTypeExt, MetadataExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use attestfs_fs::Attachment;
use rustix::{fs::Mode, process::umask};
use serde::{Deserialize, Serialize};

use super::{
    attach::{attach, mount_point, tune, unmount},
    device,
    failure::ServeError,
    peer::Peer,
    plan::{Backing, system_path},
};
use crate::{
    config::effective_user,
    control::{self, FrameError, FrameReader},
};

/// Of these messages.
const VERSION: u32 = 1;

/// How often the sender looks for a receiver, and how long between: a minute in all.
const CONNECT_ATTEMPTS_MAX: u32 = 240;
const CONNECT_PAUSE: Duration = Duration::from_millis(250);

/// How long either side waits for the other one's message.
const PATIENCE: Duration = Duration::from_mins(1);

/// The first message. The FUSE device and the backing directory come along, in this order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Offer {
    version: u32,
    /// What the sender calls the backing directory, escaped.
    origin: String,
    read_only: bool,
}

/// The second one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Taken,
    Refused(String),
}

/// What the sender was asked for.
#[derive(Clone, Debug)]
pub(crate) struct HandOver {
    /// Over which socket.
    pub(crate) socket: PathBuf,
    pub(crate) backing: PathBuf,
    pub(crate) mount_point: PathBuf,
    pub(crate) read_only: bool,
    pub(crate) no_exec: bool,
    /// Only to this user. Otherwise to root, to the user of this process, and to whom the directory of
    /// the socket belongs.
    pub(crate) receiver: Option<u32>,
}

impl HandOver {
    /// Mounts, and has another process serve the mount. Gives the mount point.
    ///
    /// # Errors
    /// Nobody takes it, or it cannot be mounted. Nothing is left mounted then.
    pub(crate) fn carry_out(&self) -> Result<PathBuf, ServeError> {
        let socket = connect(&self.socket)?;
        self.refuse_strangers(&socket)?;
        let target = mount_point(&self.mount_point)?;
        let backing = Backing::open(&self.backing, None)?;
        backing.refuse_within(&target)?;
        let attachment = Attachment {
            source: backing.origin().into(),
            read_only: self.read_only,
            no_exec: self.no_exec,
        };
        let (device, mount) = attach(&target, &attachment)?;
        let offer = Offer { version: VERSION, origin: backing.name(), read_only: self.read_only };
        let answer = offer_to(&socket, &offer, &device, &backing.open_again()?);
        // Whoever took it holds the device now; if nobody did, nobody shall wait for an answer.
        drop(device);
        let refusal = match answer {
            Ok(Answer::Taken) => {
                tune(&target);
                return Ok(target);
            }
            Ok(Answer::Refused(reason)) => format!("refuses the mount: {reason}"),
            Err(error) => format!("does not answer: {error}; see the log of the receiver"),
        };
        if let Err(error) = unmount(&mount, true) {
            tracing::warn!(%error, path = %target.display(), "a mount that nobody serves stays");
        }
        Err(ServeError::HandOver { socket: self.socket.clone(), what: refusal })
    }

    /// Whoever gets the mount gets a descriptor of the backing directory, and decides what others see
    /// there. The kernel says who listens, as of the moment when he began to.
    fn refuse_strangers(&self, socket: &UnixStream) -> Result<(), ServeError> {
        let failed = |error: io::Error| ServeError::HandOver {
            socket: self.socket.clone(),
            what: format!("cannot be looked at: {error}"),
        };
        let user = Peer::of(socket).map_err(failed)?.user;
        let may_receive = if let Some(receiver) = self.receiver {
            user == receiver
        } else {
            let absolute = std::path::absolute(&self.socket).map_err(failed)?;
            let directory = absolute.parent().unwrap_or(&absolute);
            let owner = fs::metadata(directory).map_err(failed)?.uid();
            [0, effective_user(), owner].contains(&user)
        };
        if may_receive {
            return Ok(());
        }
        Err(ServeError::Receiver { socket: self.socket.clone(), user })
    }
}

fn offer_to(
    socket: &UnixStream,
    offer: &Offer,
    device: &OwnedFd,
    backing: &OwnedFd,
) -> Result<Answer, FrameError> {
    let frame = control::encode(offer)?;
    let sent = control::send_with(socket, &frame, &[device.as_fd(), backing.as_fd()]);
    socket.set_read_timeout(Some(PATIENCE))?;
    // A receiver that takes nothing from this user says so before it reads, and leaves.
    FrameReader::default().next_message(socket).or_else(|error| {
        sent?;
        Err(error)
    })
}

/// Waits for a receiver, so that nothing is mounted before there is one.
fn connect(path: &Path) -> Result<UnixStream, ServeError> {
    let failed = |what| ServeError::HandOver { socket: path.to_owned(), what };
    for _ in 0..CONNECT_ATTEMPTS_MAX {
        // Not through a link: others may write where the socket lies.
        let is_socket = fs::symlink_metadata(path).map(|found| found.file_type().is_socket());
        match is_socket.and_then(|it| it.then(|| UnixStream::connect(path)).transpose()) {
            Ok(Some(socket)) => return Ok(socket),
            Ok(None) => return Err(failed("is no socket".to_owned())),
            Err(error) if is_absence(&error) => thread::sleep(CONNECT_PAUSE),
            Err(error) => return Err(failed(format!("cannot be connected to: {error}"))),
        }
    }
    let what = "has no receiver: start `attestfs mount --receive` there".to_owned();
    Err(failed(what))
}

/// What a sender has handed over.
#[derive(Debug)]
pub(super) struct HandedOver {
    pub(super) origin: PathBuf,
    pub(super) read_only: bool,
    /// Whether process ids in requests, which are those of the sender, mean the same here.
    pub(super) sees_callers: bool,
    device: Option<OwnedFd>,
    backing: Option<OwnedFd>,
    socket: UnixStream,
}

impl HandedOver {
    /// The backing directory, once.
    ///
    /// # Errors
    /// It was taken before.
    pub(super) fn take_backing(&mut self) -> Result<OwnedFd, ServeError> {
        self.backing.take().ok_or(ServeError::NoPlaces)
    }

    /// The FUSE device, once.
    ///
    /// # Errors
    /// It was taken before.
    pub(super) fn take_device(&mut self) -> Result<OwnedFd, ServeError> {
        self.device.take().ok_or(ServeError::NoPlaces)
    }

    /// Tells the sender that the mount is served.
    pub(super) fn taken(&self) {
        answer(&self.socket, &Answer::Taken);
    }
}

/// Waits on `path` for a mount to serve.
///
/// # Errors
/// The socket cannot be made, or what comes over it is no mount of somebody who may offer one.
pub(super) fn receive(path: &Path) -> Result<HandedOver, ServeError> {
    let failed = |what| ServeError::HandOver { socket: path.to_owned(), what };
    let listener = listen(path).map_err(|error| failed(format!("cannot be made: {error}")))?;
    let accepted = accept(&listener);
    // One mount is served by one process: the next sender is to find nobody.
    fs::remove_file(path).unwrap_or_default();
    let (socket, peer) = accepted.map_err(|error| failed(format!("failed: {error}")))?;
    let cloned = socket.try_clone().map_err(|error| failed(error.to_string()))?;
    let taken = take(cloned, &peer);
    taken.map_err(|reason| {
        answer(&socket, &Answer::Refused(reason.clone()));
        failed(format!("brought no mount: {reason}"))
    })
}

/// Waits for somebody who may offer a mount. Others are told that they may not, and go.
fn accept(listener: &UnixListener) -> io::Result<(UnixStream, Peer)> {
    loop {
        let (socket, _) = listener.accept()?;
        let (peer, own) = (Peer::of(&socket)?, effective_user());
        if peer.user == 0 || peer.user == own {
            return Ok((socket, peer));
        }
        let reason = format!("user {} may not offer one to user {own}", peer.user);
        tracing::warn!(reason, "a mount was not taken");
        answer(&socket, &Answer::Refused(reason));
    }
}

fn take(socket: UnixStream, peer: &Peer) -> Result<HandedOver, String> {
    let said = |error: io::Error| error.to_string();
    socket.set_read_timeout(Some(PATIENCE)).map_err(said)?;
    let mut reader = FrameReader::of_pairs();
    let offer: Offer = reader.next_message(&socket).map_err(|error| error.to_string())?;
    if offer.version != VERSION {
        return Err(format!("the sender speaks version {}, this program {VERSION}", offer.version));
    }
    let origin = system_path(&offer.origin);
    if !origin.is_absolute() {
        return Err(format!("'{}' is no absolute path", offer.origin));
    }
    let pair = reader.pair().ok_or("two descriptors have to come with the offer")?;
    let [device, backing] = pair;
    if !device::is_fuse(&device) {
        return Err(format!(
            "the first descriptor is no /dev/fuse, but {}",
            device::shown(&device)
        ));
    }
    let stat = rustix::fs::fstat(&backing).map_err(|errno| errno.to_string())?;
    if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
        let shown = device::shown(&backing);
        return Err(format!("the second descriptor is no directory, but {shown}"));
    }
    Ok(HandedOver {
        origin,
        read_only: offer.read_only,
        sees_callers: peer.shares_process_ids(),
        device: Some(device),
        backing: Some(backing),
        socket,
    })
}

/// Only its user and root may connect. What a receiver left that was killed is taken away.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let is_left = fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket())
        && UnixStream::connect(path).is_err_and(|error| is_absence(&error));
    if is_left {
        fs::remove_file(path)?;
    }
    // From the beginning: a process that serves masks no modes otherwise.
    let before = umask(Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    umask(before);
    listener
}

fn answer(socket: &UnixStream, answer: &Answer) {
    let sent = control::encode(answer).and_then(|frame| Ok(control::send(socket, &frame, None)?));
    if let Err(error) = sent {
        tracing::debug!(%error, "whoever handed the mount over does not listen");
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::PermissionsExt};

    use super::*;

    fn offer() -> Offer {
        Offer { version: VERSION, origin: "/data\\\\x".to_owned(), read_only: true }
    }

    fn received(offer: &Offer, descriptors: &[&dyn AsFd]) -> Result<HandedOver, String> {
        let (here, there) = UnixStream::pair().unwrap();
        let descriptors: Vec<_> = descriptors.iter().map(|it| it.as_fd()).collect();
        control::send_with(&here, &control::encode(offer).unwrap(), &descriptors).unwrap();
        let peer = Peer::of(&there).unwrap();
        take(there, &peer)
    }

    #[test]
    fn what_is_no_fuse_device_and_a_directory_is_refused_with_what_it_is() {
        let (directory, null) = (File::open("/").unwrap(), File::open("/dev/null").unwrap());
        let refused = |descriptors: &[&dyn AsFd]| received(&offer(), descriptors).unwrap_err();
        assert!(refused(&[]).contains("two descriptors"));
        assert!(refused(&[&null]).contains("two descriptors"));
        assert!(refused(&[&directory, &null]).contains("no /dev/fuse, but /"));
        assert!(refused(&[&null, &directory]).contains("no /dev/fuse, but /dev/null"));
        let Ok(fuse) = File::options().read(true).write(true).open("/dev/fuse") else { return };
        assert!(refused(&[&fuse, &null]).contains("no directory, but /dev/null"));
        let handed = received(&offer(), &[&fuse, &directory]).unwrap();
        assert_eq!((handed.origin.as_path(), handed.read_only), (Path::new("/data\\x"), true));
    }

    #[test]
    fn an_origin_that_is_no_absolute_path_is_refused() {
        let other = Offer { origin: "data".to_owned(), ..offer() };
        let directory = File::open("/").unwrap();
        assert!(received(&other, &[&directory, &directory]).unwrap_err().contains("absolute"));
    }

    #[test]
    fn a_sender_of_another_version_is_refused() {
        let other = Offer { version: VERSION + 1, ..offer() };
        let directory = File::open("/").unwrap();
        assert!(received(&other, &[&directory, &directory]).unwrap_err().contains("version"));
    }

    #[test]
    fn a_socket_that_a_killed_receiver_left_is_taken_away_and_nothing_else() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("socket");
        drop(listen(&path).unwrap());
        let listener = listen(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(listen(&path).is_err(), "somebody listens there");
        drop(listener);
        let file = base.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(listen(&file).is_err());
        assert!(file.exists());
    }

    #[test]
    fn only_who_was_named_gets_a_mount_and_otherwise_the_own_user() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("socket");
        let _listener = listen(&path).unwrap();
        let socket = connect(&path).unwrap();
        let offered = |receiver| {
            let (backing, mount_point) = (PathBuf::from("/"), PathBuf::from("/"));
            let (read_only, no_exec) = (true, true);
            let socket_path = path.clone();
            let hand_over = HandOver {
                socket: socket_path,
                backing,
                mount_point,
                read_only,
                no_exec,
                receiver,
            };
            hand_over.refuse_strangers(&socket)
        };
        let own = effective_user();
        assert!(offered(None).is_ok());
        assert!(offered(Some(own)).is_ok());
        let refused = offered(Some(own + 1)).unwrap_err();
        assert!(matches!(refused, ServeError::Receiver { user, .. } if user == own), "{refused}");
        assert_eq!(
            refused.next_step().unwrap(),
            format!("if that is the receiver: --receiver-user {own}")
        );
    }

    #[test]
    fn nobody_connects_through_a_link_or_to_a_file() {
        let base = tempfile::tempdir().unwrap();
        let (socket, link) = (base.path().join("socket"), base.path().join("link"));
        let _listener = listen(&socket).unwrap();
        std::os::unix::fs::symlink(&socket, &link).unwrap();
        assert!(connect(&link).unwrap_err().to_string().contains("is no socket"));
        assert!(connect(&socket).is_ok());
    }
}
