//! A run from its first check to its last attestation.

use std::{
    os::{fd::OwnedFd, unix::process::ExitStatusExt},
    process::{Child, ExitCode, ExitStatus},
    thread,
    time::Duration,
};

use attestfs_attestation::{CommitKind, Outcome};
use attestfs_fs::Mount;
use rustix::io::Errno;

use super::{
    failure::RunError,
    inherited::Inherited,
    launch::{Launched, Start, launch},
    plan::{Options, Plan},
    reuse,
    signals::{Caught, Forwarding},
};
use crate::{
    clock::{Clock, SystemClock},
    config::{Environment, StateDir},
    control::CommitOrder,
    lock::{DataLock, JournalPart},
    metrics::{self, Page},
    session::{
        self, Assignment, Console, Hashing, Orders, Refusals, Session, SessionParts, TreeLock,
        Verdict, refuse_left_behind,
    },
};

/// Runs the command of `options` behind the filesystem. Answers with the command's exit code (128 +
/// signal when one killed it), or 125, 126, 127 and 3 as the contract says.
pub(crate) fn command(options: Options, environment: &Environment) -> ExitCode {
    let console = Console::new(options.json);
    carry_out(options, environment, &console).map_or_else(
        |error| {
            console.error(&error, error.next_step(), error.exit_code());
            ExitCode::from(error.exit_code())
        },
        ExitCode::from,
    )
}

fn carry_out(
    options: Options,
    environment: &Environment,
    console: &Console,
) -> Result<u8, RunError> {
    let plan = Plan::new(options, environment, console.clone())?;
    let locks = plan.assignment.trees.iter().map(TreeLock::take);
    let _locks: Vec<TreeLock> = locks.collect::<Result<_, _>>()?;
    plan.assignment.trees.iter().try_for_each(refuse_left_behind)?;
    if plan.reuse && reuse::is_done(&plan) {
        return Ok(0);
    }
    let metrics = plan.metrics.as_ref();
    let _metrics = metrics.map(|address| metrics::begin(address, Page::of_mounts())).transpose()?;
    warn_of_missing_inputs(&plan.assignment);
    let (running, start) = Running::begin(plan)?;
    match running.launch(start) {
        Ok((launched, signals)) => running.see_through(launched, signals),
        Err(error) => {
            running.session.give_up();
            Err(error)
        }
    }
}

/// A run that the store knows of, and whose command is to be started here.
struct Running {
    session: Session,
    state: StateDir,
    lock: Option<DataLock>,
}

impl Running {
    fn begin(plan: Plan) -> Result<(Self, Start), RunError> {
        let description = plan.description();
        let Plan { stage, command, working_directory, state, gate, passthrough, capture, .. } =
            plan;
        let Plan { key, lock, assignment, .. } = plan;
        let refusals = Refusals::Shown(assignment.console.clone());
        let kept = state.clone();
        let start = {
            let state = state.clone();
            Start { stage, command, working_directory, state, gate, passthrough, capture }
        };
        let lends_trees = false;
        let parts = SessionParts { assignment, description, state, key, refusals, lends_trees };
        Ok((Self { session: Session::begin(parts)?, state: kept, lock }, start))
    }

    /// Starts the command. From here on this process is one that serves: signals are not for it, and
    /// it makes no file but those that the command asks for.
    fn launch(&self, start: Start) -> Result<(Launched, Forwarding), RunError> {
        let signals = Caught::start().map_err(RunError::system("setting signal handlers"))?;
        let inherited = Inherited::replace();
        let launched = launch(&start, &self.session, inherited)?;
        let signals = signals.forward_to(launched.child.id());
        Ok((launched, signals))
    }

    /// Waits for the command. Where it writes its errors, nobody writes in between.
    fn wait(&self, child: &mut Child) -> Result<ExitStatus, RunError> {
        let Assignment { own_error, console, .. } = self.session.assignment();
        let _silence = own_error.as_ref().map(|_| console.silence());
        child.wait().map_err(RunError::system("waiting for the command"))
    }

    fn see_through(self, launched: Launched, signals: Forwarding) -> Result<u8, RunError> {
        let Launched { mut child, mounts, roots } = launched;
        let status = self.wait(&mut child)?;
        signals.command_ended();
        let finished = SystemClock.now();
        let hashing = Hashing::new();
        let watch = &mut |progress| hashing.show(progress, signals.wants_end());
        let Session { orders, link, run: _run, checkpoints } = self.session;
        let broken = roots.iter().any(is_broken);
        let outcome = if broken { Outcome::Unknown } else { outcome(status) };
        let order = orders.stage_end(outcome, finished, watch);
        drop(hashing);
        // What is put to rest now, no request changes any more but those of processes that the
        // command left behind.
        drop(roots);
        if let Some(checkpoints) = checkpoints {
            checkpoints.finish();
        }
        let verdict = match order {
            Ok(order) => {
                let is_as_it_ended = order.kind == CommitKind::StageEnd(outcome);
                let (order, locked) = conclude(self.lock.as_ref(), order, &orders, &self.state);
                let verdict = session::commit(&link, order, &orders).and(locked);
                if is_as_it_ended { verdict } else { Verdict::Failed }
            }
            Err(error) => session::unrecorded(&link, &error, &orders, finished),
        };
        let verdict = verdict.and(end(&mounts, &orders.assignment, &signals));
        Ok(if verdict == Verdict::Failed && status.success() { 125 } else { exit_code(status) })
    }
}

/// Writes the lock of a success, or compares it, before the statements are made that speak of it.
fn conclude(
    lock: Option<&DataLock>,
    order: CommitOrder,
    orders: &Orders,
    state: &StateDir,
) -> (CommitOrder, Verdict) {
    let success = CommitKind::StageEnd(Outcome::Success);
    let Some(lock) = lock.filter(|_| order.kind == success) else {
        return (order, Verdict::Attested);
    };
    let Assignment { trees, console, .. } = &orders.assignment;
    let run_directory = &state.run(&orders.run_id);
    let journal = JournalPart { run_directory, length: order.journal_length };
    match lock.conclude(journal, trees.iter().count(), console) {
        Ok(lock) => (CommitOrder { lock, ..order }, Verdict::Attested),
        Err(error) => {
            console.say(&error);
            (order, Verdict::Failed)
        }
    }
}

fn warn_of_missing_inputs(assignment: &Assignment) {
    let Assignment { trees, declared_inputs, console, .. } = assignment;
    for input in declared_inputs.iter().filter(|input| trees.kind(input).is_none()) {
        let input = trees.absolute(input);
        console.say(format_args!(
            "--in {input}: there is nothing (a relative --in is relative to the first --dir)"
        ));
    }
}

/// The command's namespace is gone when its last process is, and with it the mounts. Whoever is left
/// loses them now, and is not to wonder why. What a mount that broke off lost is not known, so that
/// the run has failed.
fn end(mounts: &[Mount], assignment: &Assignment, signals: &Forwarding) -> Verdict {
    let console = &assignment.console;
    let ends = || mounts.iter().map(|mount| mount.end_within(END_PATIENCE)).collect::<Vec<_>>();
    let mut ended = ends();
    let waited = wait_for_writers_past(mounts, assignment, signals);
    if waited == Waited::InVain {
        return Verdict::Failed;
    }
    if waited == Waited::UntilClosed {
        ended = ends();
    }
    if ended.iter().any(Option::is_none) {
        console.say(
            "processes that the command left behind lose the files below --dir now: \
             let the command wait for them",
        );
    }
    let broken: Vec<_> = ended.into_iter().flatten().filter_map(Result::err).collect();
    for error in &broken {
        console.say(error);
    }
    if broken.is_empty() { Verdict::Attested } else { Verdict::Failed }
}

/// How it was waited for those who write past this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waited {
    /// There was nobody.
    ForNobody,
    UntilClosed,
    /// The user wanted an end before.
    InVain,
}

/// With `--capture reread`: who writes past this process would go on when it has ended, and nobody would know of it. So it
/// is waited for those who do.
fn wait_for_writers_past(
    mounts: &[Mount],
    Assignment { trees, console, .. }: &Assignment,
    signals: &Forwarding,
) -> Waited {
    let writer = || mounts.iter().flat_map(Mount::writers_past).next();
    let Some((by, file)) = writer() else { return Waited::ForNobody };
    let file = trees.absolute(&file);
    console.say(format_args!(
        "{by}, which the command left behind, still writes {file}: waiting until it has closed it"
    ));
    while writer().is_some() {
        if signals.wants_end() {
            console.say("not waited for: nobody sees what it writes from now on");
            return Waited::InVain;
        }
        thread::sleep(PAUSE);
    }
    Waited::UntilClosed
}

/// How often it is looked whether somebody still writes.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a namespace may take to go.
const END_PATIENCE: Duration = Duration::from_millis(200);

/// Whether nobody answers any more for what is mounted there still.
fn is_broken(root: &OwnedFd) -> bool {
    rustix::fs::fstatfs(root).is_err_and(|errno| errno == Errno::NOTCONN)
}

fn outcome(status: ExitStatus) -> Outcome {
    if status.success() {
        return Outcome::Success;
    }
    Outcome::Failed { exit_code: status.code(), signal: status.signal() }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    u8::try_from(code & 0xff).unwrap_or(u8::MAX)
}
