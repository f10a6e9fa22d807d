//! Starting the process inside, and serving what it mounts.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, net::UnixStream},
    },
    process::{Child, Command, Stdio},
    sync::Arc,
};

use attestfs_fs::{Directory, Mount, MountOptions, Run, raise_readahead};

use super::{
    failure::RunError,
    inherited::Inherited,
    inside::{self, FromInside, HIDDEN_COMMAND, InsideError, ToInside},
    plan::Plan,
};
use crate::{
    config,
    control::{self, FrameReader},
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

/// The other end of the conversation with the process inside.
struct Inside {
    child: Child,
    socket: UnixStream,
    reader: FrameReader,
}

/// Mounts the trees of `plan`, serves them as parts of `run` and starts the command, which finds
/// what it inherits from the user.
///
/// # Errors
/// Whatever keeps the command from starting; nothing is left mounted then.
pub(super) fn launch(
    plan: &Plan,
    run: &Arc<Run>,
    run_id: &str,
    inherited: Inherited,
) -> Result<Launched, RunError> {
    let mut inside = Inside::start(plan, run_id)?;
    match inside.converse(plan, run, run_id, inherited) {
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
    fn start(plan: &Plan, run_id: &str) -> Result<Self, RunError> {
        let failed = RunError::system("starting the process that mounts");
        let (socket, child) = Self::spawn(plan, run_id).map_err(failed)?;
        Ok(Self { child, socket, reader: FrameReader::default() })
    }

    fn spawn(plan: &Plan, run_id: &str) -> io::Result<(UnixStream, Child)> {
        let (ours, theirs) = UnixStream::pair()?;
        let child = Command::new("/proc/self/exe")
            .arg(HIDDEN_COMMAND)
            .envs(config::unless_set(GIT_LOOKS_ABOVE))
            .env("ATTESTFS_STATE", plan.state.root())
            .env("ATTESTFS_RUN", run_id)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()?;
        Ok((ours, child))
    }

    fn converse(
        &mut self,
        plan: &Plan,
        run: &Arc<Run>,
        run_id: &str,
        inherited: Inherited,
    ) -> Result<(Vec<Mount>, Vec<OwnedFd>), RunError> {
        self.begin(plan, inherited)?;
        let mut mounts = Vec::with_capacity(plan.trees.len());
        for (index, tree) in plan.trees.iter().enumerate() {
            let device = self.descriptor(plan)?;
            let root = tree.open_again().map_err(RunError::system("a tree"))?;
            let options = MountOptions {
                target: tree.path.clone(),
                tree: u16::try_from(index).unwrap_or(u16::MAX),
                stage: plan.options.stage.clone(),
                run_id: run_id.to_owned(),
                threads: THREADS,
            };
            let backing = Arc::new(Directory::new(root));
            mounts.push(Mount::serve(Arc::clone(run), backing, device, options)?);
        }
        self.say(&ToInside::Serving, None)?;
        let mut roots = Vec::with_capacity(plan.trees.len());
        for _ in &plan.trees {
            let root = self.descriptor(plan)?;
            raise_readahead(&root);
            roots.push(root);
        }
        self.wait_for_exec(plan)?;
        Ok((mounts, roots))
    }

    fn begin(&mut self, plan: &Plan, inherited: Inherited) -> Result<(), RunError> {
        let bytes = |path: &std::path::Path| path.as_os_str().as_bytes().to_vec();
        let message = ToInside::Begin {
            trees: plan.trees.iter().map(|tree| bytes(&tree.path)).collect(),
            working_directory: bytes(&plan.working_directory),
            command: plan.options.command.iter().map(|word| word.as_bytes().to_vec()).collect(),
            inherited,
            user_namespace: !rustix::process::geteuid().is_root(),
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
    fn descriptor(&mut self, plan: &Plan) -> Result<OwnedFd, RunError> {
        match inside::next(&self.socket, &mut self.reader) {
            Ok(FromInside::Attached | FromInside::Root) => {
                self.reader.descriptor().ok_or(RunError::InsideEnded)
            }
            Ok(FromInside::Failed(error)) => Err(explain(error, plan)),
            Err(_) => Err(RunError::InsideEnded),
        }
    }

    /// The socket closes when the command takes over.
    fn wait_for_exec(&mut self, plan: &Plan) -> Result<(), RunError> {
        match inside::next(&self.socket, &mut self.reader) {
            Ok(FromInside::Failed(error)) => Err(explain(error, plan)),
            Ok(FromInside::Attached | FromInside::Root) => Err(RunError::InsideEnded),
            Err(_) => Ok(()),
        }
    }
}

/// A tree is a filesystem of its own now, and git looks for its repository above it only when told.
const GIT_LOOKS_ABOVE: (&str, &str) = ("GIT_DISCOVERY_ACROSS_FILESYSTEM", "1");

/// Threads that answer requests for one tree. More than cores, because some of them wait for disks.
const THREADS: usize = 8;

fn explain(error: InsideError, plan: &Plan) -> RunError {
    let command = || plan.options.command.first().map(|word| word.to_string_lossy().into_owned());
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
