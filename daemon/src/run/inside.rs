//! The process that enters a new mount namespace, mounts the trees there and becomes the command.
//!
//! ```text
//!   run                                inside
//!    | --- Begin: trees, command ------> |
//!    |                                   |  unshare, mount each tree
//!    | <-- Attached + FUSE descriptor -- |  once for each tree
//!    |  serve                            |
//!    | --- Serving --------------------> |
//!    |                                   |  working directory, descriptors 0 to 2
//!    | <-- Root + O_PATH descriptor ---- |  once for each tree
//!    |                                   |  umask and limits as the user set them
//!    | <-- end of stream --------------- |  exec
//! ```
//!
//! The root descriptors keep the mounts alive in the serving process when the namespace is gone, so
//! that the kernel still tells it of every RELEASE.

use std::{
    ffi::OsString,
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{ffi::OsStringExt, net::UnixStream, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use attestfs_fs::Attachment;
use nix::sched::CloneFlags;
use rustix::{
    fs::{Mode, OFlags},
    mount::MountPropagationFlags,
};
use serde::{Deserialize, Serialize};

use super::{descriptors, inherited::Inherited};
use crate::control::{self, FrameError, FrameReader};

/// The first argument by which this program knows that it is to be `inside`. No user types it.
pub(crate) const HIDDEN_COMMAND: &str = "__inside";

/// What `run` tells the process inside.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToInside {
    /// The first message; the real standard input comes along.
    Begin {
        /// Absolute paths.
        trees: Vec<Vec<u8>>,
        working_directory: Vec<u8>,
        command: Vec<Vec<u8>>,
        /// What the command is to find as the user set it.
        inherited: Inherited,
        /// Whether a user namespace is needed to be allowed to mount.
        user_namespace: bool,
    },
    /// All trees are served.
    Serving,
}

/// What the process inside tells.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromInside {
    /// A tree is mounted; its FUSE descriptor comes along.
    Attached,
    /// A descriptor of the mounted root comes along.
    Root,
    /// It cannot go on.
    Failed(InsideError),
}

/// Why there is no command.
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
pub(super) enum InsideError {
    #[error("{0}")]
    Namespace(String),
    #[error("{0}")]
    Mount(String),
    #[error("{0}")]
    Enter(String),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    NotExecutable(String),
}

/// Runs as the process inside. The socket to `run` is its standard input; the real one comes with
/// the first message. Returns only when the command could not be executed.
pub(crate) fn main() -> ExitCode {
    let Ok(socket) = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3) else {
        return ExitCode::from(125);
    };
    let socket = UnixStream::from(socket);
    if let Err(error) = enter(&socket) {
        let message = FromInside::Failed(error);
        if let Ok(frame) = control::encode(&message) {
            control::send(&socket, &frame, None).unwrap_or_default();
        }
    }
    ExitCode::from(125)
}

/// Does what every run begins with: a mount namespace, and a mount on `target` in it. The calling
/// process is of no other use afterwards. `doctor` asks this way, so that its answer is that of
/// `run`.
///
/// # Errors
/// What keeps this machine from it.
pub(crate) fn rehearse(target: &Path) -> Result<(), String> {
    private_namespace(!rustix::process::geteuid().is_root()).map_err(|error| error.to_string())?;
    attestfs_fs::attach(target, &Attachment::of_a_run())
        .map(drop)
        .map_err(|error| error.to_string())
}

fn enter(socket: &UnixStream) -> Result<(), InsideError> {
    let failed = |error: FrameError| InsideError::Enter(error.to_string());
    let mut reader = FrameReader::default();
    let ToInside::Begin { trees, working_directory, command, inherited, user_namespace } =
        reader.next_message(socket).map_err(failed)?
    else {
        return Err(InsideError::Enter("the first message is no beginning".to_owned()));
    };
    let stdin = reader.descriptor();
    let stdin = stdin.ok_or_else(|| InsideError::Enter("standard input is missing".to_owned()))?;
    rustix::stdio::dup2_stdin(stdin)
        .map_err(|errno| InsideError::Enter(format!("standard input: {errno}")))?;
    let trees: Vec<PathBuf> =
        trees.into_iter().map(|tree| PathBuf::from(OsString::from_vec(tree))).collect();
    private_namespace(user_namespace)?;
    for tree in &trees {
        let device = attestfs_fs::attach(tree, &Attachment::of_a_run())
            .map_err(|error| InsideError::Mount(error.to_string()))?;
        tell(socket, &FromInside::Attached, device.as_fd()).map_err(failed)?;
    }
    let ToInside::Serving = reader.next_message(socket).map_err(failed)? else {
        return Err(InsideError::Enter("the second message is no go-ahead".to_owned()));
    };
    let working_directory = PathBuf::from(OsString::from_vec(working_directory));
    std::env::set_current_dir(&working_directory)
        .map_err(|error| InsideError::Enter(format!("{}: {error}", working_directory.display())))?;
    descriptors::reopen_standard(|path| trees.iter().any(|tree| path.starts_with(tree)))?;
    for tree in &trees {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(tree, flags, Mode::empty())
            .map_err(|errno| InsideError::Mount(format!("{}: {errno}", tree.display())))?;
        tell(socket, &FromInside::Root, root.as_fd()).map_err(failed)?;
    }
    inherited
        .restore()
        .map_err(|error| InsideError::Enter(format!("the limit of open files: {error}")))?;
    Err(execute(command))
}

/// A mount namespace of our own. Mounts that appear on the host go on appearing here; ours do not
/// appear there.
fn private_namespace(user_namespace: bool) -> Result<(), InsideError> {
    let refused = |what: &str, error: io::Error| InsideError::Namespace(format!("{what}: {error}"));
    let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
    let mut flags = CloneFlags::CLONE_NEWNS;
    if user_namespace {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    nix::sched::unshare(flags).map_err(|errno| refused("unshare", errno.into()))?;
    if user_namespace {
        let write =
            |file: &str, text: String| fs::write(file, text).map_err(|error| refused(file, error));
        write("/proc/self/setgroups", "deny".to_owned())?;
        write("/proc/self/uid_map", format!("{0} {0} 1", user.as_raw()))?;
        write("/proc/self/gid_map", format!("{0} {0} 1", group.as_raw()))?;
    }
    let propagation = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", propagation)
        .map_err(|errno| refused("making mounts private", errno.into()))
}

/// Becomes the command; comes back only with the reason why not.
fn execute(command: Vec<Vec<u8>>) -> InsideError {
    let mut arguments = command.into_iter().map(OsString::from_vec);
    let Some(program) = arguments.next() else {
        return InsideError::NotFound("no command".to_owned());
    };
    let error = Command::new(&program).args(arguments).exec();
    match error.kind() {
        io::ErrorKind::NotFound => InsideError::NotFound("command not found".to_owned()),
        _ => InsideError::NotExecutable(error.to_string()),
    }
}

fn tell(
    socket: &UnixStream,
    message: &FromInside,
    descriptor: BorrowedFd<'_>,
) -> Result<(), FrameError> {
    let frame = control::encode(message)?;
    Ok(control::send(socket, &frame, Some(descriptor))?)
}
