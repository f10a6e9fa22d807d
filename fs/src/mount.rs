//! Mounting a tree and serving it.

use std::{
    ffi::{CString, OsString},
    fs, io,
    num::NonZero,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    mount::MountFlags,
    process::{Resource, getrlimit},
};

use crate::{
    backing::{Backing, ReadOnly},
    error::Error,
    fact::{Process, TreePath},
    fuse,
    gate::Gate,
    run::Run,
    vfs::{TOP_NAME, Tenure, Vfs},
};

/// What a mount is, besides the run it belongs to.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "a mount may be each of them without the others")]
pub struct MountOptions {
    /// Where it is mounted, for those who follow absolute links: below this path such a link leads to
    /// the mount's own tree. None where that is not known, or another path for them: then it leads
    /// out.
    pub target: Option<PathBuf>,
    /// The absolute path of the backing tree: what statements call it.
    pub origin: PathBuf,
    /// Whether it refuses all changes, however the kernel was told to mount it.
    pub read_only: bool,
    /// Whether it was mounted in the process namespace of this process. The process ids in requests
    /// are those of the namespace in which mount(2) ran: elsewhere they mean other processes, or
    /// none, and whoever opens a file stays unknown but for its user.
    pub sees_callers: bool,
    /// Whether it may be mounted again with mapped user ids, as containers with a user namespace of
    /// their own want it. The price: the user is known only of those who create something.
    pub mapped_users: bool,
    /// The one user that the mount's user namespace maps, when there is such a namespace. What others
    /// own is shown as this user's where this user may write to it or remove it: nobody may write to
    /// what belongs to ids that are not mapped, nor remove it. Only for a mount that a process of this user serves: it has the user's rights.
    pub sole_user: Option<SoleUser>,
    /// Index of the tree in the run's list of trees.
    pub tree: u16,
    /// Shown as `user.attestfs.stage` of what the run wrote.
    pub stage: String,
    /// Shown as `user.attestfs.run` of what the run wrote.
    pub run_id: String,
    /// Whether the kernel may read files of the store by itself, past this process, where nobody has to see each
    /// read. Takes a kernel of 6.9 or later, and `CAP_SYS_ADMIN` in the host's user namespace; without, it is as if
    /// not wanted.
    pub passthrough: bool,
    /// How the run comes to know what is written.
    pub capture: Capture,
    /// Below these the run may write to published content.
    pub replaceable: Vec<TreePath>,
    /// Threads that answer requests, as long as nothing hangs in the store. Others rest, to take the place of those that
    /// are held up.
    pub threads: usize,
    /// Files whose descriptors are kept open although nobody has them open. The others that the kernel knows are opened
    /// again when somebody asks for them.
    pub descriptors: usize,
}

/// How a run comes to know what is written through its mounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Capture {
    /// All writes come to this process, which hashes them as it stores them.
    #[default]
    Inline,
    /// What begins with a writer who never reads is written by the kernel itself, where
    /// [`MountOptions::passthrough`] is possible. It is read behind the writer, and once more when all writers have
    /// closed it: for machines with few processors and a store that reads fast.
    Reread,
}

/// A user as this process runs for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoleUser {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// All groups that it is a member of.
    pub(crate) groups: Vec<u32>,
}

impl SoleUser {
    /// The user that this process runs for.
    ///
    /// # Errors
    /// When the kernel does not tell the groups.
    pub fn of_this_process() -> io::Result<Self> {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let groups = rustix::process::getgroups()?;
        let groups = groups.into_iter().chain([gid]).map(rustix::fs::Gid::as_raw).collect();
        Ok(Self { uid: uid.as_raw(), gid: gid.as_raw(), groups })
    }
}

/// How many threads had best answer the requests of one mount on this machine: one more than it has processors,
/// from 3 to 16. One stores while another hashes. Where one is enough the others stand aside.
pub fn request_threads() -> usize {
    let processors = thread::available_parallelism().map_or(2, NonZero::get);
    (processors + 1).clamp(3, 16)
}

/// How many descriptors each of `mounts` in this process had best keep open: all together half of what this process may
/// have, for a file that somebody has open takes two; and never more than the store had better keep in memory.
pub fn kept_descriptors(mounts: usize) -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    let half =
        limit.map_or(DESCRIPTORS_MAX, |limit| usize::try_from(limit / 2).unwrap_or(usize::MAX));
    half.min(DESCRIPTORS_MAX) / mounts.max(1)
}

/// Each holds an inode of the store in memory, some 1.5 KiB; to open one again costs less than any request.
const DESCRIPTORS_MAX: usize = 65_536;

/// Why a tree could not be mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// There is no FUSE here.
    #[error("/dev/fuse cannot be opened: {0}")]
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
    /// The policy has rules of level verity.
    #[error(
        "the policy wants fs-verity, which the filesystem of {} does not have: choose level per-read or rehash, or a filesystem made with it (ext4, f2fs, btrfs)", .0.display()
    )]
    NoVerity(PathBuf),
    /// The kernel and we could not agree.
    #[error("the handshake with the kernel failed: {0}")]
    Handshake(io::Error),
    /// It ended, and nobody had unmounted it.
    #[error("the mount of {} broke off: {reason}", place.display())]
    Broken {
        /// The mount point where that is known, else the directory that was served.
        place: PathBuf,
        /// What the kernel said, or what broke in this process.
        reason: Arc<io::Error>,
    },
}

/// How a mount looks to those who see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// What lists of mounts name as its source.
    pub source: OsString,
    /// Whether the kernel refuses all changes.
    pub read_only: bool,
    /// Whether the kernel refuses to execute what lies there.
    pub no_exec: bool,
}

impl Attachment {
    /// The source of mounts that only the command of a run sees.
    pub const OF_A_RUN: &str = "attestfs";

    /// Of a mount that only the command of a run sees.
    pub fn of_a_run() -> Self {
        Self { source: Self::OF_A_RUN.into(), read_only: false, no_exec: false }
    }
}

/// Mounts an empty FUSE filesystem on `target`, in the mount namespace of the calling thread, and
/// gives the descriptor through which it is to be served: by [`Mount::serve`], in this process or
/// in another one that it is sent to. Until then, whoever looks below `target` waits.
///
/// # Errors
/// [`MountError::Device`] and [`MountError::Mount`].
pub fn attach(target: &Path, attachment: &Attachment) -> Result<OwnedFd, MountError> {
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
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    flags.set(MountFlags::RDONLY, attachment.read_only);
    flags.set(MountFlags::NOEXEC, attachment.no_exec);
    rustix::mount::mount(&attachment.source, target, c"fuse.attestfs", flags, options.as_c_str())
        .map_err(|errno| MountError::Mount { target: target.to_owned(), errno })?;
    Ok(device)
}

/// A mounted tree, served by threads of this process until nobody has it mounted any more.
#[derive(Debug)]
pub struct Mount {
    vfs: Arc<Vfs>,
    place: PathBuf,
    end: Arc<End>,
}

/// How the session of a mount ended, once it has, for all who wait for that.
#[derive(Debug, Default)]
struct End {
    result: Mutex<Option<Result<(), Arc<io::Error>>>>,
    told: Condvar,
}

impl Mount {
    /// Serves `backing` through `device` as a part of `run`; `gate` decides what may be read. The
    /// backing store may lie under the mount itself: it was opened before.
    ///
    /// # Errors
    /// All variants but those of [`attach`].
    pub fn serve(
        run: Arc<Run>,
        gate: Arc<Gate>,
        backing: Arc<dyn Backing>,
        device: OwnedFd,
        options: MountOptions,
    ) -> Result<Self, MountError> {
        let place = options.target.as_ref().unwrap_or(&options.origin);
        refuse_reserved_name(backing.as_ref(), place)?;
        let root = backing.root().map_err(|errno| MountError::Backing(errno.into()))?;
        if !gate.is_possible_on(&root) {
            return Err(MountError::NoVerity(place.clone()));
        }
        let backing = if options.read_only { Arc::new(ReadOnly(backing)) } else { backing };
        let (threads, place) = (options.threads, place.clone());
        let vfs = Arc::new(Vfs::new(backing, run, gate, options).map_err(MountError::Backing)?);
        let service = fuse::session(Arc::clone(&vfs), device, threads);
        let service = service.map_err(MountError::Handshake)?;
        let session = thread::spawn(move || service.run());
        let end = Arc::<End>::default();
        thread::spawn({
            let end = Arc::clone(&end);
            move || end.tell(session)
        });
        Ok(Self { vfs, place, end })
    }

    /// Has the requests from now on belong to `run`, which may be [idle](Run::idle). What is open
    /// stays with the run that it was opened in: of that no write makes an output of `run` and no
    /// read a material, [`Run::quiesce`] of the earlier run waits for its writers, and what they do
    /// after that is told to its recorder all the same.
    ///
    /// `stage` and `run_id` are shown as xattrs of what `run` writes; published content below one of
    /// `replaceable` may be written to.
    pub fn begin_run(
        &self,
        run: Arc<Run>,
        stage: String,
        run_id: String,
        replaceable: Vec<TreePath>,
    ) {
        self.vfs.begin(Tenure { run, stage, run_id, replaceable: replaceable.into() });
    }

    /// Who may write to files of the store past this process, and goes on if it ends, with
    /// [`Capture::Reread`]: by whom each was opened, and where the file is or was.
    pub fn writers_past(&self) -> Vec<(Process, TreePath)> {
        self.vfs.writers_past()
    }

    /// Waits until the filesystem is unmounted everywhere.
    ///
    /// # Errors
    /// [`MountError::Broken`] when it ended otherwise: whoever uses it is told ENOTCONN from then on.
    pub fn join(&self) -> Result<(), MountError> {
        let mut result = self.end.result.lock();
        self.end.told.wait_while(&mut result, |result| result.is_none());
        self.ended(result.as_ref()).unwrap_or(Ok(()))
    }

    /// The same, but waits no longer than this. None when it has not ended by then.
    pub fn end_within(&self, patience: Duration) -> Option<Result<(), MountError>> {
        let mut result = self.end.result.lock();
        self.end.told.wait_while_for(&mut result, |result| result.is_none(), patience);
        self.ended(result.as_ref())
    }

    fn ended(&self, result: Option<&Result<(), Arc<io::Error>>>) -> Option<Result<(), MountError>> {
        let broken = |reason| MountError::Broken { place: self.place.clone(), reason };
        result.map(|result| result.clone().map_err(broken))
    }
}

impl End {
    /// Waits for the session, and tells everybody.
    fn tell(&self, session: JoinHandle<io::Result<()>>) {
        let panicked = |_| Err(io::Error::other("it panicked"));
        let ended = session.join().unwrap_or_else(panicked);
        *self.result.lock() = Some(ended.map_err(Arc::new));
        self.told.notify_all();
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
    let found = backing.root().and_then(|root| backing.lookup(&root, TOP_NAME.as_ref()));
    match found {
        Err(Errno::NOENT) => Ok(()),
        Ok(_) => Err(MountError::ReservedName(target.to_owned())),
        Err(errno) => Err(MountError::Backing(errno.into())),
    }
}
