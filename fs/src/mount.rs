//! Mounting a tree and serving it.

use std::{
    ffi::CString,
    fs, io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    mount::MountFlags,
};

use crate::{backing::Backing, error::Error, fuse, run::Run, vfs::Vfs};

/// What a mount is, besides the run it belongs to.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// Where it is mounted, for messages.
    pub target: PathBuf,
    /// Index of the tree in the run's list of trees.
    pub tree: u16,
    /// Shown as `user.attestfs.stage` of what the run wrote.
    pub stage: String,
    /// Shown as `user.attestfs.run` of what the run wrote.
    pub run_id: String,
    /// Threads that answer requests.
    pub threads: usize,
}

/// Why a tree could not be mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// There is no FUSE here.
    #[error(
        "/dev/fuse cannot be opened: {0}; load the fuse module, or give the container the device"
    )]
    Device(Errno),
    /// mount(2) said no.
    #[error("mounting on {} failed: {errno}", target.display())]
    Mount {
        /// The mount point.
        target: PathBuf,
        /// What mount(2) said.
        errno: Errno,
    },
    /// The directory has a `.attestfs` of its own, a name that the mount needs for itself.
    #[error("{} holds a file named .attestfs, a name that the mount needs: move it away", .0.display())]
    ReservedName(PathBuf),
    /// The backing store cannot be read.
    #[error("the directory cannot be served: {0}")]
    Backing(Error),
    /// The kernel and we could not agree.
    #[error("the handshake with the kernel failed: {0}")]
    Handshake(io::Error),
    /// The session broke.
    #[error("the session ended with an error: {0}")]
    Session(io::Error),
}

/// Mounts an empty FUSE filesystem on `target`, in the mount namespace of the calling thread, and
/// gives the descriptor through which it is to be served: by [`Mount::serve`], in this process or
/// in another one that it is sent to. Until then, whoever looks below `target` waits.
///
/// # Errors
/// [`MountError::Device`] and [`MountError::Mount`].
pub fn attach(target: &Path) -> Result<OwnedFd, MountError> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let device = rustix::fs::open(DEVICE, flags, Mode::empty()).map_err(MountError::Device)?;
    let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
    let options = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions,allow_other",
        device.as_raw_fd(),
        user.as_raw(),
        group.as_raw(),
    );
    let options = CString::new(options).expect("digits and words hold no NUL");
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount(c"attestfs", target, c"fuse.attestfs", flags, options.as_c_str())
        .map_err(|errno| MountError::Mount { target: target.to_owned(), errno })?;
    Ok(device)
}

/// A mounted tree, served by threads of this process until nobody has it mounted any more.
#[derive(Debug)]
pub struct Mount {
    session: JoinHandle<io::Result<()>>,
}

impl Mount {
    /// Serves `backing` through `device` as a part of `run`. The backing store may lie under the
    /// mount itself: it was opened before.
    ///
    /// # Errors
    /// All variants but those of [`attach`].
    pub fn serve(
        run: Arc<Run>,
        backing: Arc<dyn Backing>,
        device: OwnedFd,
        options: MountOptions,
    ) -> Result<Self, MountError> {
        refuse_reserved_name(backing.as_ref(), &options.target)?;
        let threads = options.threads;
        let vfs = Vfs::new(backing, run, options).map_err(MountError::Backing)?;
        let service = fuse::session(vfs, device, threads).map_err(MountError::Handshake)?;
        let session = thread::spawn(move || service.run());
        Ok(Self { session })
    }

    /// Whether the filesystem was unmounted everywhere, or its connection broke.
    pub fn has_ended(&self) -> bool {
        self.session.is_finished()
    }

    /// Waits until the filesystem is unmounted everywhere.
    ///
    /// # Errors
    /// [`MountError::Session`] when the connection broke otherwise.
    pub fn join(self) -> Result<(), MountError> {
        let ended = self.session.join();
        let ended = ended.unwrap_or_else(|_| Err(io::Error::other("it panicked")));
        ended.map_err(MountError::Session)
    }
}

/// Has the kernel read ahead as much as streaming wants; on a new mount it is 128 KiB. `root` is
/// open on the mounted filesystem. Only root of the host may change that: others live with it.
pub fn raise_readahead(root: impl AsFd) {
    let Ok(stat) = rustix::fs::fstat(root) else {
        return;
    };
    let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
    let knob = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    if let Err(error) = fs::write(&knob, READAHEAD_KIB) {
        tracing::debug!(%error, knob, "readahead stays as it is");
    }
}

const DEVICE: &str = "/dev/fuse";

const READAHEAD_KIB: &str = "4096";

fn refuse_reserved_name(backing: &dyn Backing, target: &Path) -> Result<(), MountError> {
    let found = backing.root().and_then(|root| backing.lookup(&root, ".attestfs".as_ref()));
    match found {
        Err(Errno::NOENT) => Ok(()),
        Ok(_) => Err(MountError::ReservedName(target.to_owned())),
        Err(errno) => Err(MountError::Backing(errno.into())),
    }
}
