//! A run from its first check to its last attestation.

use std::{
    ffi::OsString,
    os::unix::{ffi::OsStringExt, process::ExitStatusExt},
    path::Path,
    process::{Child, ExitCode, ExitStatus},
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use attestfs_attestation::{Inputs, Outcome, unescaped};
use attestfs_digest::Digests;
use attestfs_fs::{Identity, KnownDigests, Limits, Mount, Run};
use uuid::Uuid;

use super::{
    checkpoint::Checkpoints,
    console::{Console, Hashing},
    describe::describe,
    failure::RunError,
    finish::{self, Verdict},
    inherited::Inherited,
    launch::{Launched, launch},
    orders::Orders,
    plan::{Options, Plan},
    recorder::RunRecorder,
    signals::{Caught, Forwarding},
    tree::TreeLock,
};
use crate::{
    client::{RunLink, RunLinkParts},
    clock::{Clock, SystemClock},
    config::Environment,
    journal::Journal,
    lineage::RunEnd,
};

/// Runs the command of `options` behind the filesystem. Answers with the command's exit code (128 +
/// signal when one killed it), or 125, 126, 127 and 3 as the contract says.
pub(crate) fn command(options: Options, environment: &Environment) -> ExitCode {
    let console = Console::new(options.json);
    carry_out(options, environment).map_or_else(
        |error| {
            console.error(&error);
            ExitCode::from(error.exit_code())
        },
        ExitCode::from,
    )
}

fn carry_out(options: Options, environment: &Environment) -> Result<u8, RunError> {
    let plan = Plan::new(options, environment)?;
    let _locks: Vec<TreeLock> =
        plan.trees.iter().map(|tree| TreeLock::take(&tree.path)).collect::<Result<_, _>>()?;
    warn_of_missing_inputs(&plan);
    let session = Session::begin(plan)?;
    match session.launch() {
        Ok((launched, signals)) => session.see_through(launched, signals),
        Err(error) => {
            session.give_up();
            Err(error)
        }
    }
}

/// A run that the store knows of.
struct Session {
    orders: Arc<Orders>,
    link: Arc<RunLink>,
    run: Arc<Run>,
    checkpoints: Option<Checkpoints>,
}

impl Session {
    fn begin(mut plan: Plan) -> Result<Self, RunError> {
        let run_id = Uuid::now_v7().to_string();
        let description = describe(&plan, &run_id, SystemClock.now());
        let journal = Arc::new(Journal::create(&plan.state.run(&run_id))?);
        let (state, key) = (plan.state.clone(), plan.key.take());
        let (outputs, by_rule) = (plan.outputs.clone(), plan.options.checkpoint_rule);
        let inputs = inputs(&plan);
        let orders =
            Arc::new(Orders { plan, run_id, journal: Arc::clone(&journal), run: OnceLock::new() });
        let asked = Arc::clone(&orders);
        let link = Arc::new(RunLink::begin(RunLinkParts {
            state,
            description,
            key,
            checkpoint: Box::new(move |path| {
                asked.checkpoint(Path::new(&OsString::from_vec(unescaped(path))))
            }),
        })?);
        let checkpoints = by_rule.then(|| Checkpoints::start(&orders, &link));
        let watcher = checkpoints.as_ref().map(|checkpoints| checkpoints.watcher(outputs));
        let recorder = Box::new(RunRecorder { journal, watcher });
        let known = Box::new(LinkedDigests(Arc::clone(&link)));
        let run = Run::start(recorder, known, inputs, Limits::default());
        orders.run.set(Arc::downgrade(&run)).unwrap_or_default();
        Ok(Self { orders, link, run, checkpoints })
    }

    /// Starts the command. From here on this process is one that serves: signals are not for it, and
    /// it makes no file but those that the command asks for.
    fn launch(&self) -> Result<(Launched, Forwarding), RunError> {
        let signals = Caught::start().map_err(RunError::system("setting signal handlers"))?;
        let inherited = Inherited::replace();
        let Orders { plan, run_id, .. } = &*self.orders;
        let launched = launch(plan, &self.run, run_id, inherited)?;
        let signals = signals.forward_to(launched.child.id());
        Ok((launched, signals))
    }

    /// There was no command: nothing to attest.
    fn give_up(&self) {
        let outcome = Outcome::Failed { exit_code: None, signal: None };
        let end = RunEnd { outcome, finished: SystemClock.now() };
        if let Err(error) = self.link.end(self.orders.journal.length(), end) {
            tracing::warn!(%error, "the daemon will find out by itself that the run ended");
        }
    }

    /// Waits for the command. Where it writes its errors, nobody writes in between.
    fn wait(&self, child: &mut Child) -> Result<ExitStatus, RunError> {
        let plan = &self.orders.plan;
        let _silence = plan.own_error.as_ref().map(|_| plan.console.silence());
        child.wait().map_err(RunError::system("waiting for the command"))
    }

    fn see_through(self, launched: Launched, signals: Forwarding) -> Result<u8, RunError> {
        let Launched { mut child, mounts, roots } = launched;
        let status = self.wait(&mut child)?;
        signals.command_ended();
        let finished = SystemClock.now();
        let hashing = Hashing::new();
        let watch = &mut |progress| hashing.show(progress, signals.wants_end());
        let order = self.orders.stage_end(outcome(status), finished, watch);
        drop(hashing);
        // What is put to rest now, no request changes any more but those of processes that the
        // command left behind.
        drop(roots);
        if let Some(checkpoints) = self.checkpoints {
            checkpoints.finish();
        }
        let verdict = match order {
            Ok(order) => finish::commit(&self.link, order, &self.orders),
            Err(error) => finish::unrecorded(&self.link, &error, &self.orders, finished),
        };
        end(mounts, &self.orders.plan.console);
        Ok(if verdict == Verdict::Failed && status.success() { 125 } else { exit_code(status) })
    }
}

fn warn_of_missing_inputs(plan: &Plan) {
    for input in plan.declared_inputs.iter().filter(|input| !plan.path_of(input).exists()) {
        let input = plan.absolute(input);
        plan.console.say(format_args!(
            "--in {input}: there is nothing (a relative --in is relative to the first --dir)"
        ));
    }
}

/// The command's namespace is gone when its last process is, and with it the mounts. Whoever is left
/// loses them now, and is not to wonder why.
fn end(mounts: Vec<Mount>, console: &Console) {
    let all_ended = || mounts.iter().all(Mount::has_ended);
    let ended = (0..END_ATTEMPTS).any(|_| {
        all_ended() || {
            thread::sleep(END_PAUSE);
            all_ended()
        }
    });
    if !ended {
        console.say(
            "processes that the command left behind lose the files below --dir now: \
             let the command wait for them",
        );
    }
    for mount in mounts.into_iter().filter(Mount::has_ended) {
        if let Err(error) = mount.join() {
            tracing::warn!(%error, "a mount did not end well");
        }
    }
}

/// How long a namespace may take to go: 200 ms in all.
const END_ATTEMPTS: u32 = 40;
const END_PAUSE: Duration = Duration::from_millis(5);

fn inputs(plan: &Plan) -> attestfs_fs::Inputs {
    match plan.options.inputs {
        Inputs::Opened => attestfs_fs::Inputs::Opened,
        Inputs::Declared => attestfs_fs::Inputs::Declared(plan.declared_inputs.clone()),
        Inputs::None => attestfs_fs::Inputs::None,
    }
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

/// The digests that the store knows, by way of the run's connection.
#[derive(Debug)]
struct LinkedDigests(Arc<RunLink>);

impl KnownDigests for LinkedDigests {
    fn known(&self, identities: &[Identity]) -> Vec<Option<Digests>> {
        self.0.known(identities)
    }
}
