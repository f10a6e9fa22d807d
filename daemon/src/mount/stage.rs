//! The stage of a mount: one run at a time, opened and ended by those who ask the daemon for it, or
//! as long as the mount is.

use std::{
    fmt,
    fs::File,
    mem,
    ops::ControlFlow,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use attestfs_attestation::{Inputs, Outcome, escaped};
use attestfs_fs::{Fact, Mount, Recorder, Run, TreePath};
use parking_lot::Mutex;
use uuid::Uuid;

use super::{
    options::Options,
    plan::{Backing, system_path},
};
use crate::{
    clock::{Clock, SystemClock},
    config::StateDir,
    control::{ArtifactReport, Code, CommitReport, Failure, ModelSignature, StageOrder},
    lineage::{RunEnd, RunId},
    session::{Assignment, Console, Description, Refusals, Session, SessionParts},
    text::is_name,
};

/// How long the commit of a stage waits for files that are still open for writing.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked whether a stage is still being committed.
const PAUSE: Duration = Duration::from_millis(100);

/// Opens and ends stages on one mount.
#[derive(Debug)]
pub(super) struct Stages {
    mount: Mount,
    room: Room,
    current: Mutex<Current>,
    /// Whether the end of a stage may leave inputs without digest.
    hurried: AtomicBool,
}

/// What each stage begins with.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) backing: Backing,
    pub(super) mount_point: Option<PathBuf>,
    pub(super) read_only: bool,
    pub(super) state: StateDir,
    pub(super) key: Option<File>,
}

#[derive(Debug)]
enum Current {
    None,
    /// The daemon is asked for it; its name.
    Beginning(String),
    Open(Open),
    /// It is being committed; its name.
    Ending(String),
}

/// A stage that is open.
struct Open {
    stage: String,
    session: Session,
    /// Whether the mount is this stage, so that both end together.
    is_mount: bool,
}

impl Stages {
    pub(super) fn new(mount: Mount, room: Room) -> Self {
        Self { mount, room, current: Mutex::new(Current::None), hurried: AtomicBool::new(false) }
    }

    pub(super) fn mount(&self) -> &Mount {
        &self.mount
    }

    /// Opens a stage. From now on the mount's requests are those of its run.
    ///
    /// # Errors
    /// Another one is open, the order names nothing that can be recorded, or there is no daemon.
    pub(super) fn open(&self, order: StageOrder, is_mount: bool) -> Result<RunId, Failure> {
        if self.room.read_only {
            let message = "this mount is read-only: no stage can write there";
            return Err(
                Failure::new(Code::Stage, message).with_next_step("mount it without --read-only")
            );
        }
        let stage = order.stage.clone();
        let mut turn = self.begin(&stage)?;
        let session = self.room.begin(order)?;
        let run = session.orders.run_id.clone();
        let outputs = session.assignment().outputs.clone();
        self.mount.begin_run(Arc::clone(&session.run), stage.clone(), run.clone(), outputs);
        tracing::info!(stage, run, "a stage is open");
        turn.next = Current::Open(Open { stage, session, is_mount });
        Ok(RunId(run))
    }

    /// Ends the stage that is open, and has it attested.
    ///
    /// # Errors
    /// None is open, or it could not be attested. It is over all the same.
    pub(super) fn end(&self, outcome: Outcome) -> Result<CommitReport, Failure> {
        let (open, _turn) = self.take()?;
        self.mount.begin_run(idle_run(), String::new(), String::new(), Vec::new());
        let stage = open.stage.clone();
        let report = open.end(outcome, &self.hurried);
        match &report {
            Ok(_) => tracing::info!(stage, "a stage has ended"),
            Err(error) => tracing::error!(stage, %error, "a stage has ended, and is not attested"),
        }
        report
    }

    /// The stage that somebody opened and nobody has ended.
    pub(super) fn opened(&self) -> Option<String> {
        match &*self.current.lock() {
            Current::Open(open) if !open.is_mount => Some(open.stage.clone()),
            Current::Beginning(stage) | Current::Ending(stage) => Some(stage.clone()),
            Current::Open(_) | Current::None => None,
        }
    }

    /// Whether a stage is open that ends with the mount.
    pub(super) fn is_stage(&self) -> bool {
        matches!(&*self.current.lock(), Current::Open(open) if open.is_mount)
    }

    /// From now on the end of a stage does not wait until its inputs are hashed.
    pub(super) fn hurry(&self) {
        self.hurried.store(true, Ordering::SeqCst);
    }

    /// Waits until no stage is being begun or committed.
    pub(super) fn wait_for_end(&self) {
        while matches!(&*self.current.lock(), Current::Beginning(_) | Current::Ending(_)) {
            thread::sleep(PAUSE);
        }
    }

    /// Whether any stage is open.
    pub(super) fn is_open(&self) -> bool {
        matches!(&*self.current.lock(), Current::Open(_))
    }

    /// The stage that is open, which is ending from now on.
    fn take(&self) -> Result<(Open, Turn<'_>), Failure> {
        let mut current = self.current.lock();
        match mem::replace(&mut *current, Current::None) {
            Current::Open(open) => {
                *current = Current::Ending(open.stage.clone());
                Ok((open, Turn::of(&self.current)))
            }
            other => {
                let failure = other.none_open();
                *current = other;
                Err(failure)
            }
        }
    }

    /// The mount is free for this stage, and from now on for no other.
    fn begin(&self, stage: &str) -> Result<Turn<'_>, Failure> {
        let mut current = self.current.lock();
        let message = match &*current {
            Current::None => {
                *current = Current::Beginning(stage.to_owned());
                return Ok(Turn::of(&self.current));
            }
            Current::Beginning(stage) => format!("stage '{stage}' is being opened here"),
            Current::Open(Open { stage, session, .. }) => {
                format!("stage '{stage}' is open here, run {}", session.orders.run_id)
            }
            Current::Ending(stage) => format!("stage '{stage}' is being attested here"),
        };
        Err(Failure::new(Code::Stage, message)
            .with_next_step("close it with 'attestfs stage close', or abort it"))
    }
}

/// The mount is busy with a stage, which is not open yet or no longer. Whatever becomes of the work, it
/// is free for another one when this is gone.
struct Turn<'a> {
    current: &'a Mutex<Current>,
    /// What comes of the work.
    next: Current,
}

impl<'a> Turn<'a> {
    fn of(current: &'a Mutex<Current>) -> Self {
        Self { current, next: Current::None }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.current.lock() = mem::replace(&mut self.next, Current::None);
    }
}

impl Current {
    fn none_open(&self) -> Failure {
        match self {
            Self::Beginning(stage) => {
                Failure::new(Code::Stage, format!("stage '{stage}' is being opened"))
            }
            Self::Ending(stage) => {
                Failure::new(Code::Stage, format!("stage '{stage}' is ending already"))
            }
            _ => Failure::new(Code::Stage, "no stage is open here")
                .with_next_step("open one with 'attestfs stage open'"),
        }
    }
}

impl Room {
    fn begin(&self, order: StageOrder) -> Result<Session, Failure> {
        if !is_name(&order.stage) {
            let message = "a stage has a name, in visible characters";
            return Err(Failure::new(Code::Malformed, message));
        }
        let assignment = self.assignment(&order)?;
        let description = Description {
            id: Uuid::now_v7().to_string(),
            stage: order.stage,
            command: order.command.iter().map(|word| system_path(word).into()).collect(),
            starts_command: false,
            working_directory: self.backing.origin().to_owned(),
            labels: order.labels.into_iter().collect(),
            lock: None,
            started: SystemClock.now(),
        };
        let key = self.key.as_ref().map(File::try_clone).transpose();
        let parts = SessionParts {
            assignment,
            description,
            state: self.state.clone(),
            key: key.map_err(|error| Failure::new(Code::Key, error))?,
            refusals: Refusals::Logged,
            lends_trees: true,
        };
        Session::begin(parts).map_err(Failure::from)
    }

    fn assignment(&self, order: &StageOrder) -> Result<Assignment, Failure> {
        let places = |paths: &[String]| -> Result<Vec<TreePath>, Failure> {
            paths.iter().map(|path| self.place(path)).collect()
        };
        Ok(Assignment {
            trees: self.backing.trees().map_err(|error| Failure::new(Code::State, error))?,
            declared_inputs: places(&order.inputs)?,
            outputs: places(&order.outputs)?,
            inputs: Inputs::Opened,
            adopt: order.adopt,
            checkpoint_rule: order.checkpoint_rule,
            patience: PATIENCE,
            own_error: None,
            console: Console::log(),
        })
    }

    fn place(&self, path: &str) -> Result<TreePath, Failure> {
        let outside = || {
            let origin = self.backing.origin();
            let seen = self.mount_point.as_deref().unwrap_or(origin).display();
            let message = format!("{path} is not below {}", origin.display());
            Failure::new(Code::Artifact, message)
                .with_next_step(format!("give it relative to {seen}, or absolute and below that"))
        };
        self.backing.place(&system_path(path), self.mount_point.as_deref()).ok_or_else(outside)
    }
}

impl Open {
    fn end(self, outcome: Outcome, hurried: &AtomicBool) -> Result<CommitReport, Failure> {
        let finished = SystemClock.now();
        let Session { orders, link, run, checkpoints } = self.session;
        let watch = &mut |_| {
            if hurried.load(Ordering::SeqCst) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        let order = orders.stage_end(outcome, finished, watch);
        if let Some(checkpoints) = checkpoints {
            checkpoints.finish();
        }
        let order = order.map_err(|error| {
            let end = RunEnd { outcome: Outcome::Unknown, finished };
            if let Err(error) = link.end(orders.journal.length(), end) {
                tracing::warn!(%error, "the daemon will find out by itself that the run ended");
            }
            Failure::from(error)
        })?;
        let missing = orders.missing_outputs();
        let mut report = link.commit(order)?;
        // Whoever is told that it is published may open it at once.
        let is_read_on = !self.is_mount && !hurried.load(Ordering::SeqCst);
        if is_read_on && report.artifacts.iter().any(|artifact| artifact.statement.is_some()) {
            run.wait_for_names(&orders.scopes());
        }
        report.artifacts.extend(missing.into_iter().map(nothing_at));
        Ok(report)
    }
}

/// What is told of an `--out` that nobody made.
fn nothing_at(root: String) -> ArtifactReport {
    ArtifactReport {
        root,
        statement: None,
        unattested: Some(CommitReport::NOTHING_THERE.to_owned()),
        predicate_type: None,
        subjects: 0,
        left_out: Vec::new(),
        model_signature: ModelSignature::NotAsked,
    }
}

/// What requests belong to while no stage is open.
pub(super) fn idle_run() -> Arc<Run> {
    Run::idle(Box::new(IdleRecorder))
}

/// Nobody's run has no journal: what matters of it is in the log.
#[derive(Debug)]
struct IdleRecorder;

impl Recorder for IdleRecorder {
    fn record(&self, fact: Fact) {
        Refusals::Logged.tell(&fact);
        if let Fact::Removed { path, by, .. } = &fact {
            tracing::info!(%path, pid = by.pid, uid = by.uid, "a published file was removed");
        }
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open")
            .field("stage", &self.stage)
            .field("run", &self.session.orders.run_id)
            .finish_non_exhaustive()
    }
}

/// Of the mount's own stage, from its command line.
pub(super) fn order(options: &Options) -> Option<StageOrder> {
    let spelt = |path: &PathBuf| escaped(path.as_os_str().as_encoded_bytes());
    Some(StageOrder {
        stage: options.stage.clone()?,
        inputs: options.inputs.iter().map(spelt).collect(),
        outputs: options.outputs.iter().map(spelt).collect(),
        labels: options.labels.iter().cloned().collect(),
        ..StageOrder::default()
    })
}
