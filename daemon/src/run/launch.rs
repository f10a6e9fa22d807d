//! Starting the process inside, and serving what it mounts.

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, net::UnixStream},
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use attestfs_fs::{
    Capture, Directory, Gate, Mount, MountOptions, SoleUser, TreePath, kept_descriptors,
    raise_readahead, request_threads,
};

use super::{
    failure::RunError,
    inherited::Inherited,
    inside::{FromInside, HIDDEN_COMMAND, InsideError, ToInside},
};
use crate::{
    config::{self, StateDir},
    control::{self, FrameReader},
    metrics,
    session::{Assignment, Session, Tree, Trees},
};

/// The command, running on the mounted trees.
#[derive(Debug)]
pub(super) struct Launched {
    pub(super) child: Child,
    pub(super) mounts: Vec<Mount>,
    /// Open on each mounted root, so that the kernel keeps the mounts when the command's namespace
    /// is gone.
    pub(super) roots: Vec<OwnedFd>,
}

/// What a command is started with.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) stage: String,
    /// The command and its arguments.
    pub(super) command: Vec<OsString>,
    pub(super) working_directory: PathBuf,
    pub(super) state: StateDir,
    pub(super) gate: Arc<Gate>,
    pub(super) passthrough: bool,
    pub(super) capture: Capture,
}

/// The other end of the conversation with the process inside.
struct Inside {
    child: Child,
    socket: UnixStream,
    reader: FrameReader,
}

/// Mounts the trees of a run, serves them as parts of it and starts the command, which finds what it
/// inherits from the user.
///
/// # Errors
/// Whatever keeps the command from starting; nothing is left mounted then.
pub(super) fn launch(
    start: &Start,
    session: &Session,
    inherited: Inherited,
) -> Result<Launched, RunError> {
    let mut inside = Inside::start(start, session)?;
    match inside.converse(start, session, inherited) {
        Ok((mounts, roots)) => Ok(Launched { child: inside.child, mounts, roots }),
        Err(error) => {
            drop(inside.socket);
            // It ends by itself when nobody talks to it; its code tells nothing new.
            inside.child.wait().map_err(RunError::system("the process that mounts"))?;
            Err(error)
        }
    }
}

impl Inside {
    fn start(start: &Start, session: &Session) -> Result<Self, RunError> {
        let failed = RunError::system("starting the process that mounts");
        let (socket, child) = Self::spawn(start, session).map_err(failed)?;
        Ok(Self { child, socket, reader: FrameReader::default() })
    }

    fn spawn(start: &Start, session: &Session) -> io::Result<(UnixStream, Child)> {
        let (ours, theirs) = UnixStream::pair()?;
        let child = Command::new("/proc/self/exe")
            .arg(HIDDEN_COMMAND)
            .envs(config::unless_set(GIT_LOOKS_ABOVE))
            .env("ATTESTFS_STATE", start.state.root())
            .env("ATTESTFS_RUN", &session.orders.run_id)
            .env_remove(metrics::VARIABLE)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()?;
        Ok((ours, child))
    }

    fn converse(
        &mut self,
        start: &Start,
        session: &Session,
        inherited: Inherited,
    ) -> Result<(Vec<Mount>, Vec<OwnedFd>), RunError> {
        let Assignment { trees, .. } = session.assignment();
        self.begin(start, trees, inherited)?;
        let mut mounts = Vec::new();
        for (place, tree) in trees.whole().zip(trees.iter()) {
            let device = self.descriptor(start)?;
            mounts.push(serve(start, session, place, tree, device)?);
        }
        self.say(&ToInside::Serving, None)?;
        let mut roots = Vec::with_capacity(mounts.len());
        for _ in &mounts {
            let root = self.descriptor(start)?;
            raise_readahead(&root);
            roots.push(root);
        }
        self.wait_for_exec(start)?;
        Ok((mounts, roots))
    }

    fn begin(
        &mut self,
        start: &Start,
        trees: &Trees,
        inherited: Inherited,
    ) -> Result<(), RunError> {
        let bytes = |path: &std::path::Path| path.as_os_str().as_bytes().to_vec();
        let message = ToInside::Begin {
            trees: trees.iter().map(|tree| bytes(&tree.path)).collect(),
            working_directory: bytes(&start.working_directory),
            command: start.command.iter().map(|word| word.as_bytes().to_vec()).collect(),
            inherited,
            user_namespace: needs_user_namespace(),
        };
        let stdin = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)
            .or_else(|_closed| File::open("/dev/null").map(OwnedFd::from))
            .map_err(RunError::system("standard input"))?;
        self.say(&message, Some(&stdin))
    }

    fn say(&mut self, message: &ToInside, descriptor: Option<&OwnedFd>) -> Result<(), RunError> {
        let frame = control::encode(message)?;
        control::send(&self.socket, &frame, descriptor.map(AsFd::as_fd))
            .map_err(|_gone| RunError::InsideEnded)
    }

    /// The descriptor that the next message brings.
    fn descriptor(&mut self, start: &Start) -> Result<OwnedFd, RunError> {
        match self.reader.next_message(&self.socket) {
            Ok(FromInside::Attached | FromInside::Root) => {
                self.reader.descriptor().ok_or(RunError::InsideEnded)
            }
            Ok(FromInside::Failed(error)) => Err(explain(error, start)),
            Err(_) => Err(RunError::InsideEnded),
        }
    }

    /// The socket closes when the command takes over.
    fn wait_for_exec(&mut self, start: &Start) -> Result<(), RunError> {
        match self.reader.next_message(&self.socket) {
            Ok(FromInside::Failed(error)) => Err(explain(error, start)),
            Ok(FromInside::Attached | FromInside::Root) => Err(RunError::InsideEnded),
            Err(_) => Ok(()),
        }
    }
}

fn serve(
    start: &Start,
    session: &Session,
    place: TreePath,
    tree: &Tree,
    device: OwnedFd,
) -> Result<Mount, RunError> {
    let root = tree.open_again().map_err(RunError::system("a tree"))?;
    let options = MountOptions {
        target: Some(tree.path.clone()),
        origin: tree.path.clone(),
        read_only: false,
        sees_callers: true,
        mapped_users: false,
        sole_user: sole_user().map_err(RunError::system("the groups of the user"))?,
        tree: place.tree,
        stage: start.stage.clone(),
        run_id: session.orders.run_id.clone(),
        passthrough: start.passthrough,
        capture: start.capture,
        replaceable: session.assignment().outputs.clone(),
        threads: request_threads(),
        descriptors: kept_descriptors(session.assignment().trees.iter().count()),
    };
    let (run, gate) = (Arc::clone(&session.run), Arc::clone(&start.gate));
    Ok(Mount::serve(run, gate, Arc::new(Directory::new(root)), device, options)?)
}

/// Only root may mount without.
fn needs_user_namespace() -> bool {
    !rustix::process::geteuid().is_root()
}

/// Whom the process inside maps in its user namespace, if it needs one.
fn sole_user() -> io::Result<Option<SoleUser>> {
    needs_user_namespace().then(SoleUser::of_this_process).transpose()
}

/// A tree is a filesystem of its own now, and git looks for its repository above it only when told.
const GIT_LOOKS_ABOVE: (&str, &str) = ("GIT_DISCOVERY_ACROSS_FILESYSTEM", "1");

fn explain(error: InsideError, start: &Start) -> RunError {
    let command = || start.command.first().map(|word| word.to_string_lossy().into_owned());
    match error {
        InsideError::Namespace(reason) => RunError::NoNamespace(reason),
        InsideError::Mount(reason) | InsideError::Enter(reason) => RunError::Inside(reason),
        InsideError::NotFound(reason) => {
            RunError::NotFound { command: command().unwrap_or_default(), reason }
        }
        InsideError::NotExecutable(reason) => {
            RunError::NotExecutable { command: command().unwrap_or_default(), reason }
        }
    }
}
