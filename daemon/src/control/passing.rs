//! What the daemon passes on to whoever serves a run or a mount.

use std::{sync::Arc, time::Duration};

use attestfs_attestation::Outcome;
use tokio::time::{sleep, timeout};

use super::{
    Code, Condition, Failure, Push, Pushed, Reply, Request,
    mounts::LiveMount,
    server::block,
    service::{Service, no_live_run},
    visitor::Visitor,
};
use crate::lineage::RunId;

/// How long a run may take to bring its writers to rest and have a commit made. Hashing what was
/// written last is part of it.
const COMMIT_TIMEOUT: Duration = Duration::from_mins(30);

/// How long a mount may take to begin a run.
const OPEN_TIMEOUT: Duration = Duration::from_mins(1);

/// How long a process may take to say how it is.
const CONDITION_TIMEOUT: Duration = Duration::from_secs(2);

/// How often it is looked for a run or mount that has lost its daemon, and how long between.
const RETURN_ATTEMPTS_MAX: u32 = 200;
const RETURN_PAUSE: Duration = Duration::from_millis(50);

/// Has the request carried out by another process, if it is one of that kind; gives it back if not.
pub(super) async fn pass_on(
    service: &Arc<Service>,
    request: Request,
) -> Result<Result<Reply, Failure>, Request> {
    Ok(match request {
        Request::Overview => overview(service).await,
        Request::Checkpoint { path } => checkpoint(service, path).await,
        Request::StageOpen { path, stage } => {
            let push = |mount| Push::StageOpen { mount, stage };
            ask_mount(service, &path, OPEN_TIMEOUT, push).await
        }
        Request::StageClose { path } => end_stage(service, &path, Outcome::Success).await,
        Request::StageAbort { path } => {
            let aborted = Outcome::Failed { exit_code: None, signal: None };
            end_stage(service, &path, aborted).await
        }
        Request::Unmount { path, lazy } => {
            let push = |mount| Push::Unmount { mount, lazy };
            ask_mount(service, &path, COMMIT_TIMEOUT, push).await
        }
        other => return Err(other),
    })
}

/// The daemon's own view, with what all that it names say of themselves.
async fn overview(service: &Arc<Service>) -> Result<Reply, Failure> {
    let broke_off = || Failure::new(Code::Store, "internal error");
    let mut overview = block(service, Service::overview).await.ok_or_else(broke_off)??;
    let runs = overview.runs.iter().map(|run| service.runs().visitor(&run.run));
    let mounts = overview.mounts.iter();
    let mounts = mounts.map(|mount| service.mounts().visitor(&mount.summary.mount.id));
    let asked: Vec<_> =
        runs.chain(mounts).map(|visitor| tokio::spawn(condition(visitor))).collect();
    let conditions = overview.runs.iter_mut().map(|run| &mut run.condition);
    let conditions = conditions.chain(overview.mounts.iter_mut().map(|mount| &mut mount.condition));
    for (condition, asked) in conditions.zip(asked) {
        *condition = asked.await.unwrap_or_default();
    }
    Ok(Reply::Overview(Box::new(overview)))
}

async fn condition(visitor: Option<Arc<Visitor>>) -> Option<Condition> {
    match timeout(CONDITION_TIMEOUT, visitor?.ask(Push::Condition)).await {
        Ok(Ok(Pushed::Condition(condition))) => Some(condition),
        _ => None,
    }
}

async fn end_stage(service: &Arc<Service>, path: &str, outcome: Outcome) -> Result<Reply, Failure> {
    ask_mount(service, path, COMMIT_TIMEOUT, |mount| Push::StageEnd { mount, outcome }).await
}

/// Has the run that observes `path` make a checkpoint. It answers when that is published.
async fn checkpoint(service: &Arc<Service>, path: String) -> Result<Reply, Failure> {
    // Through a mount, a path may lead to what the run knows by another one.
    let mount = service.mounts().at(&path);
    let origin = mount.and_then(|mount| mount.description.origin_of(&path));
    let path = origin.unwrap_or(path);
    let observer = observer(service, &path).await;
    let (run, visitor) = observer.ok_or_else(|| no_live_run(&path))?;
    ask(&visitor, Push::Checkpoint { run, path }, COMMIT_TIMEOUT).await
}

async fn ask_mount(
    service: &Arc<Service>,
    path: &str,
    patience: Duration,
    push: impl FnOnce(String) -> Push,
) -> Result<Reply, Failure> {
    let mount = mount(service, path).await.ok_or_else(|| no_live_mount(path))?;
    ask(&mount.visitor, push(mount.description.id), patience).await
}

async fn ask(visitor: &Visitor, push: Push, patience: Duration) -> Result<Reply, Failure> {
    let late = |_| Failure::new(Code::Timeout, "whoever serves it did not answer in time");
    Ok(timeout(patience, visitor.ask(push)).await.map_err(late)??.into())
}

/// The run that observes `path`. One that lives may not have come back yet to a daemon that is new.
async fn observer(service: &Arc<Service>, path: &str) -> Option<(RunId, Arc<Visitor>)> {
    let find = |service: &Service| service.runs().at(path);
    awaited(service, path, find, Service::awaits_run_at).await
}

/// The mount at `path`, likewise.
async fn mount(service: &Arc<Service>, path: &str) -> Option<LiveMount> {
    let find = |service: &Service| service.mounts().at(path);
    awaited(service, path, find, Service::awaits_mount_at).await
}

async fn awaited<T>(
    service: &Arc<Service>,
    path: &str,
    find: impl Fn(&Service) -> Option<T>,
    is_awaited: fn(&Service, &str) -> bool,
) -> Option<T> {
    for _ in 0..RETURN_ATTEMPTS_MAX {
        // Asked first, so that one which comes back in between is found.
        let wanted = path.to_owned();
        let awaited = block(service, move |service| is_awaited(service, &wanted)).await;
        let found = find(service);
        if found.is_some() || awaited != Some(true) {
            return found;
        }
        sleep(RETURN_PAUSE).await;
    }
    None
}

fn no_live_mount(path: &str) -> Failure {
    Failure::new(Code::UnknownMount, format!("no mount is served at {path}")).with_next_step(
        "mount it with 'attestfs mount', or name the state directory of the mount with --state",
    )
}

impl From<Pushed> for Reply {
    fn from(pushed: Pushed) -> Self {
        match pushed {
            Pushed::Committed(report) => Self::Commit(report),
            Pushed::Opened { run } => Self::StageOpened { run },
            Pushed::Unmounted { report } => Self::Unmounted { report },
            // Part of a greater answer.
            Pushed::Condition(_) => Self::Done,
        }
    }
}
