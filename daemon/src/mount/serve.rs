//! The process that serves a mount, from its first check until nobody has it mounted any more.

use std::{
    fs::File,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use attestfs_attestation::{Outcome, escaped};
use attestfs_fs::{
    Capture, Directory, Gate, Mount, MountOptions, kept_descriptors, request_threads,
};
use parking_lot::{Condvar, Mutex};
use rustix::{
    fs::Mode,
    process::{Resource, Rlimit, getrlimit, setrlimit, umask},
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ},
    iterator::Signals,
};
use uuid::Uuid;

use super::{
    attach::{tune, unmount},
    device,
    entry::Entry,
    failure::ServeError,
    mounts::Mounted,
    options::{Options, Places},
    plan::{Backing, Plan},
    stage::{self, Room, Stages, idle_run},
    umount::refused,
};
use crate::{
    client::{MountLink, MountLinkParts, PushHandler},
    clock::{Clock, SystemClock},
    config::{Environment, StateDir, StateError},
    control::{Code, CommitReport, Condition, Failure, MountDescription, Push, Pushed, StageOrder},
    metrics::{self, Address, Page, Server},
    notify,
    run::is_ignored,
    session::TreeLock,
};

/// How long it may take until the last RELEASE has come after a mount was taken away.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// How often it is looked whether somebody still writes.
const PAUSE: Duration = Duration::from_millis(50);

/// A mount that is served.
#[derive(Debug)]
pub(super) struct Served {
    stages: Arc<Stages>,
    order: Arc<Order>,
    /// None when somebody else has mounted it.
    mounted: Option<Mounted>,
    _link: MountLink,
    _lock: Option<TreeLock>,
    // After the lock: whoever sees no entry may serve the tree.
    _entry: Entry,
    _metrics: Option<Server>,
}

/// What has been asked of the mount by `attestfs umount`.
#[derive(Debug, Default)]
struct Order {
    end: Mutex<End>,
    changed: Condvar,
}

/// How the mount comes to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    /// Nobody has asked for it.
    #[default]
    Open,
    /// By `attestfs umount --lazy`: its work is complete when the last user has left.
    Left,
    /// By `attestfs umount`, which is at work.
    InHand,
    /// By `attestfs umount`, which is done.
    Done,
}

/// Why a process that serves is to end.
#[derive(Clone, Copy, Debug)]
enum Cause {
    Signal(i32),
    /// The mount has ended.
    Mount,
}

/// Where this process is told that it is to end.
#[derive(Debug)]
pub(super) struct Causes {
    sender: Sender<Cause>,
    receiver: Receiver<Cause>,
}

/// Makes this process fit to serve. It holds descriptors of each open file and of many that the kernel
/// knows, so it takes as many as it may; it masks no modes, because they come to it masked.
pub(super) fn prepare_process() {
    let limit = getrlimit(Resource::Nofile);
    // Where even this is refused, the old limit bounds the mount.
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap_or_default();
    umask(Mode::empty());
}

/// The signals by which this process is told to end. From here on they do not end it by themselves.
/// Those that the user had ignored stay ignored.
///
/// # Errors
/// The handlers cannot be set.
pub(super) fn catch_signals() -> Result<Causes, ServeError> {
    // SIGXFSZ is caught and ends nothing: a write that the limit of file sizes forbids then fails.
    let ends = [SIGTERM, SIGINT, SIGHUP].into_iter().filter(|&signal| !is_ignored(signal));
    let signals = Signals::new(ends.chain([SIGXFSZ]));
    let mut signals = signals.map_err(ServeError::system("setting signal handlers"))?;
    let (sender, receiver) = mpsc::channel();
    let told = sender.clone();
    thread::spawn(move || {
        let ends = signals.forever().filter(|signal| *signal != SIGXFSZ);
        // The receiver goes with the process.
        ends.for_each(|signal| told.send(Cause::Signal(signal)).unwrap_or_default());
    });
    Ok(Causes { sender, receiver })
}

impl Causes {
    /// Waits for the first.
    fn wait(&self) -> Cause {
        self.receiver.recv().expect("we keep a sender")
    }

    /// The next one, unless this time passes before.
    fn wait_no_longer_than(&self, patience: Duration) -> Option<Cause> {
        self.receiver.recv_timeout(patience).ok()
    }

    /// From now on the end of the mount is one.
    fn watch(&self, stages: &Arc<Stages>) {
        let (stages, sender) = (Arc::clone(stages), self.sender.clone());
        thread::spawn(move || {
            // How it ended is asked by whoever sees it through.
            stages.mount().join().unwrap_or_default();
            sender.send(Cause::Mount).unwrap_or_default();
        });
    }
}

impl Order {
    fn set(&self, end: End) {
        *self.end.lock() = end;
        self.changed.notify_all();
    }

    /// What it was in the end: when `attestfs umount` is at work, this waits until it is done.
    fn outcome(&self) -> End {
        let mut end = self.end.lock();
        self.changed.wait_while(&mut end, |end| *end == End::InHand);
        *end
    }
}

impl Served {
    /// Mounts, serves, and tells the daemon. When this returns, the mount answers.
    ///
    /// # Errors
    /// Whatever is in the way. Nothing is left mounted then.
    pub(super) fn begin(options: &Options, environment: &Environment) -> Result<Self, ServeError> {
        let plan = Plan::new(options, environment)?;
        let metrics = metrics::wanted(options.metrics.clone(), environment)?;
        let begin = |address: Address| metrics::begin(&address, Page::of_mounts());
        let metrics = metrics.map(begin).transpose()?;
        if let Some(Places { backing, mount_point }) = &options.places {
            device::close_inherited(backing);
            device::close_inherited(mount_point);
        }
        let description = describe(&plan);
        let sees_callers = plan.device.sees_callers();
        let (device, mounted, handed) = plan.device.open(plan.mount_point.as_deref())?;
        let parts = Parts {
            backing: plan.backing,
            read_only: plan.read_only,
            sees_callers,
            mapped_users: options.idmap,
            state: plan.state,
            key: plan.key,
            gate: plan.gate,
            passthrough: plan.passthrough,
            capture: plan.capture,
            lock: plan.lock,
            description,
            mounted: mounted.clone(),
            metrics,
        };
        let served = parts.serve(device, stage::order(options));
        match (&served, &mounted, &handed) {
            (Ok(_), _, Some(handed)) => handed.taken(),
            (Err(_), Some(mounted), _) => take_away(mounted),
            _ => {}
        }
        served
    }

    /// Serves until nobody has it mounted any more, or until a signal. A stage that is open then is
    /// attested with an unknown outcome: nobody has said that it was complete.
    ///
    /// # Errors
    /// The mount broke off, or the stage could not be attested.
    pub(super) fn see_through(self, causes: &Causes) -> Result<(), ServeError> {
        causes.watch(&self.stages);
        if let Cause::Signal(signal) = causes.wait() {
            tracing::info!(signal, "the mount is told to end");
            notify::stopping();
            self.stages.hurry();
            self.take_away();
        }
        let left = self.order.outcome() == End::Left;
        self.stages.wait_for_end();
        let ended = self.stages.mount().end_within(Duration::ZERO).unwrap_or(Ok(()));
        let complete = left && ended.is_ok() && self.stages.is_stage();
        let outcome = if complete { Outcome::Success } else { Outcome::Unknown };
        if self.stages.is_open() {
            self.stages.end(outcome).map_err(ServeError::Stage)?;
        }
        self.wait_for_writers_past(causes);
        Ok(ended?)
    }

    /// With `--capture reread`: who writes past this process would go on when it has ended, and nobody would know of it. So it
    /// is waited for those who do, unless somebody wants an end once more.
    fn wait_for_writers_past(&self, causes: &Causes) {
        let writer = || self.stages.mount().writers_past().into_iter().next();
        let Some((by, file)) = writer() else { return };
        let path = file.path;
        tracing::warn!(%by, path, "somebody still writes to what was mounted: waiting until it is closed");
        while writer().is_some() {
            if let Some(Cause::Signal(signal)) = causes.wait_no_longer_than(PAUSE) {
                tracing::warn!(signal, "not waited for: nobody sees what is written from now on");
                return;
            }
        }
    }

    fn take_away(&self) {
        let Some(mounted) = &self.mounted else { return };
        if unmount(mounted, false).is_err() {
            take_away(mounted);
        }
        wait_for_end(&self.stages);
    }
}

/// What a mount is served with.
#[expect(clippy::struct_excessive_bools, reason = "a mount may be each of them without the others")]
struct Parts {
    backing: Backing,
    read_only: bool,
    sees_callers: bool,
    mapped_users: bool,
    state: StateDir,
    key: Option<File>,
    gate: Arc<Gate>,
    passthrough: bool,
    capture: Capture,
    lock: Option<TreeLock>,
    description: MountDescription,
    mounted: Option<Mounted>,
    metrics: Option<Server>,
}

impl Parts {
    fn serve(self, device: OwnedFd, stage: Option<StageOrder>) -> Result<Served, ServeError> {
        let target = self.mounted.as_ref().map(|mounted| mounted.target.clone());
        let options = self.options(target.as_deref());
        let backing = Arc::new(Directory::new(self.backing.open_again()?));
        let mount = Mount::serve(idle_run(), self.gate, backing, device, options)?;
        if let Some(target) = &target {
            tune(target);
        }
        let entry = Entry::make(&self.state, &self.description);
        let unusable = |source| StateError::Io { path: self.state.mounts(), source };
        let entry = entry.map_err(unusable)?;
        let room = Room {
            backing: self.backing,
            mount_point: target,
            read_only: self.read_only,
            state: self.state.clone(),
            key: self.key,
        };
        let stages = Arc::new(Stages::new(mount, room));
        let asked = Arc::<Order>::default();
        let link = MountLink::begin(MountLinkParts {
            state: self.state,
            description: self.description,
            pushes: answers(&stages, &asked, self.mounted.clone()),
        })?;
        if let Some(order) = stage {
            stages.open(order, true).map_err(ServeError::Stage)?;
        }
        Ok(Served {
            stages,
            order: asked,
            mounted: self.mounted,
            _link: link,
            _entry: entry,
            _lock: self.lock,
            _metrics: self.metrics,
        })
    }

    fn options(&self, target: Option<&Path>) -> MountOptions {
        let origin = self.backing.origin();
        MountOptions {
            target: target.map(Path::to_owned),
            origin: origin.to_owned(),
            read_only: self.read_only,
            sees_callers: self.sees_callers,
            mapped_users: self.mapped_users,
            sole_user: None,
            tree: 0,
            stage: String::new(),
            run_id: String::new(),
            passthrough: self.passthrough,
            capture: self.capture,
            replaceable: Vec::new(),
            threads: request_threads(),
            descriptors: kept_descriptors(1),
        }
    }
}

fn describe(plan: &Plan) -> MountDescription {
    let name = |path: &PathBuf| escaped(path.as_os_str().as_encoded_bytes());
    MountDescription {
        id: Uuid::now_v7().to_string(),
        mount_point: plan.mount_point.as_ref().map(name),
        origin: plan.backing.name(),
        read_only: plan.read_only,
        policy: plan.policy.clone(),
        pid: std::process::id(),
        started: SystemClock.now(),
    }
}

/// Takes a mount away whoever uses it.
fn take_away(mounted: &Mounted) {
    let path = mounted.target.display();
    match unmount(mounted, true) {
        Ok(()) => tracing::info!(%path, "unmounted; those who use it lose it"),
        Err(error) => tracing::debug!(%error, %path, "not unmounted"),
    }
}

/// Waits until the last RELEASE has come, no longer than is polite.
fn wait_for_end(stages: &Stages) {
    if stages.mount().end_within(END_PATIENCE).is_none() {
        tracing::debug!("somebody still uses what was mounted");
    }
}

fn answers(stages: &Arc<Stages>, order: &Arc<Order>, mounted: Option<Mounted>) -> PushHandler {
    let (stages, order) = (Arc::clone(stages), Arc::clone(order));
    Arc::new(move |push| match push {
        Push::StageOpen { stage, .. } => {
            stages.open(*stage, false).map(|run| Pushed::Opened { run })
        }
        Push::StageEnd { .. } if stages.is_stage() => Err(ends_with_mount()),
        Push::StageEnd { outcome, .. } => stages.end(outcome).map(Pushed::Committed),
        Push::Unmount { lazy, .. } => {
            let mounted = mounted.as_ref().ok_or_else(made_elsewhere)?;
            let report = end_mount(&stages, &order, mounted, lazy)?;
            Ok(Pushed::Unmounted { report })
        }
        Push::Condition => Ok(Pushed::Condition(Condition::of_this_process())),
        Push::Checkpoint { .. } => {
            Err(Failure::new(Code::UnknownRun, "this is a mount, and no run"))
        }
    })
}

fn ends_with_mount() -> Failure {
    Failure::new(Code::Stage, "the mount is this stage: both end together")
        .with_next_step("'attestfs umount' ends it as a success")
}

fn made_elsewhere() -> Failure {
    Failure::new(Code::Busy, "this mount was made by another process")
        .with_next_step("unmount it where it was made, with umount")
}

/// Takes the mount away and, when it is a stage, has that attested as a success.
fn end_mount(
    stages: &Stages,
    order: &Order,
    mounted: &Mounted,
    lazily: bool,
) -> Result<Option<CommitReport>, Failure> {
    if let Some(stage) = stages.opened() {
        let path = mounted.target.display();
        return Err(Failure::new(Code::Stage, format!("stage '{stage}' is open there"))
            .with_next_step(format!("attestfs stage close {path}, or abort instead of close")));
    }
    order.set(if lazily { End::Left } else { End::InHand });
    if let Err(errno) = unmount(mounted, lazily) {
        order.set(End::Open);
        return Err(refused(mounted, errno));
    }
    if lazily {
        return Ok(None);
    }
    wait_for_end(stages);
    let report = stages.is_stage().then(|| stages.end(Outcome::Success)).transpose();
    order.set(End::Done);
    report
}
