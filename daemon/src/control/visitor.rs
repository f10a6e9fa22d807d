//! Who is connected, and for which runs they speak.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use attestfs_attestation::{KeyHint, RunDescription};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::{Answer, Code, Failure, FromDaemon, LiveRun as Described, Push, Pushed, keys::Lease};
use crate::{commit::TreeLease, lineage::RunId};

/// The most keys that one connection may present.
const LEASES_MAX: usize = 8;

/// The most trees that one connection may present.
const TREES_MAX: usize = 64;

/// One connection, as those see it who answer its requests.
#[derive(Debug)]
pub(super) struct Visitor {
    replies: mpsc::Sender<FromDaemon>,
    last_push: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Answer<Pushed>>>>,
    leases: Mutex<Vec<Lease>>,
    trees: Mutex<Vec<TreeLease>>,
}

impl Visitor {
    pub(super) fn new(replies: mpsc::Sender<FromDaemon>) -> Self {
        Self {
            replies,
            last_push: AtomicU64::new(0),
            waiting: Mutex::default(),
            leases: Mutex::default(),
            trees: Mutex::default(),
        }
    }

    /// Sends a reply. A visitor that has left does not hear it.
    pub(super) async fn reply(&self, reply: FromDaemon) {
        if self.replies.send(reply).await.is_err() {
            tracing::debug!("a reply came after its client had left");
        }
    }

    /// Asks the visitor, and waits for the answer as long as the visitor stays.
    pub(super) async fn ask(&self, push: Push) -> Result<Pushed, Failure> {
        let id = self.last_push.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, answer) = oneshot::channel();
        self.waiting.lock().insert(id, sender);
        self.reply(FromDaemon::Push { id, push }).await;
        let gone =
            |_| Failure::new(Code::UnknownRun, "whoever was asked ended before it could answer");
        answer.await.map_err(gone)?.into()
    }

    /// The visitor has answered a push.
    pub(super) fn answered(&self, id: u64, answer: Answer<Pushed>) {
        let waiting = self.waiting.lock().remove(&id);
        let heard = waiting.is_some_and(|waiting| waiting.send(answer).is_ok());
        if !heard {
            tracing::debug!(id, "an answer that nobody waits for");
        }
    }

    /// The visitor has left: whoever waits for its answer learns it.
    pub(super) fn left(&self) {
        self.waiting.lock().clear();
    }

    /// Keeps a key as long as the visitor stays.
    pub(super) fn keep(&self, lease: Lease) -> Result<(), Failure> {
        let mut leases = self.leases.lock();
        if leases.len() == LEASES_MAX {
            let message = format!("a connection may present {LEASES_MAX} keys");
            return Err(Failure::new(Code::TooLarge, message));
        }
        leases.push(lease);
        Ok(())
    }

    /// Keeps a tree as long as the visitor stays.
    pub(super) fn keep_tree(&self, lease: TreeLease) -> Result<(), Failure> {
        let mut trees = self.trees.lock();
        if trees.len() == TREES_MAX {
            let message = format!("a connection may present {TREES_MAX} trees");
            return Err(Failure::new(Code::TooLarge, message));
        }
        trees.push(lease);
        Ok(())
    }

    /// Whether the visitor has presented this key.
    pub(super) fn lends(&self, hint: KeyHint) -> bool {
        self.leases.lock().iter().any(|lease| lease.hint() == hint)
    }
}

/// The runs that a connection speaks for.
#[derive(Debug, Default)]
pub(super) struct LiveRuns(Mutex<BTreeMap<RunId, LiveRun>>);

#[derive(Debug)]
struct LiveRun {
    visitor: Arc<Visitor>,
    stage: String,
    trees: Vec<String>,
    signer: Option<KeyHint>,
    /// Since when at most nothing was taken in of its journal.
    caught_up: Timestamp,
}

impl LiveRun {
    fn describe(&self, id: &RunId) -> Described {
        Described {
            run: id.clone(),
            stage: self.stage.clone(),
            trees: self.trees.clone(),
            behind_since: Some(self.caught_up),
            bytes_behind: 0,
            condition: None,
        }
    }
}

impl LiveRuns {
    /// From now on `visitor` speaks for this run.
    pub(super) fn insert(
        &self,
        description: &RunDescription,
        visitor: &Arc<Visitor>,
        signer: Option<KeyHint>,
    ) {
        let run = LiveRun {
            visitor: Arc::clone(visitor),
            stage: description.stage.clone(),
            trees: description.trees.clone(),
            signer,
            caught_up: description.started,
        };
        self.0.lock().insert(RunId(description.id.clone()), run);
    }

    /// The run is over.
    pub(super) fn remove(&self, run: &RunId) {
        self.0.lock().remove(run);
    }

    pub(super) fn contains(&self, run: &RunId) -> bool {
        self.0.lock().contains_key(run)
    }

    /// The store has taken in all that had happened by then.
    pub(super) fn caught_up(&self, run: &RunId, at: Timestamp) {
        if let Some(run) = self.0.lock().get_mut(run) {
            run.caught_up = at;
        }
    }

    /// Who speaks for this run.
    pub(super) fn visitor(&self, run: &RunId) -> Option<Arc<Visitor>> {
        self.0.lock().get(run).map(|run| Arc::clone(&run.visitor))
    }

    /// All of them. `behind` says how much the store has not taken in of a journal, in bytes.
    pub(super) fn described(&self, behind: impl Fn(&RunId) -> u64) -> Vec<Described> {
        let runs = self.0.lock();
        let mut described: Vec<_> = runs.iter().map(|(id, run)| run.describe(id)).collect();
        drop(runs);
        for run in &mut described {
            run.bytes_behind = behind(&run.run);
            run.behind_since = run.behind_since.filter(|_| run.bytes_behind > 0);
        }
        described
    }

    pub(super) fn names(&self) -> Vec<RunId> {
        self.0.lock().keys().cloned().collect()
    }

    /// Takes out the runs that this visitor spoke for, with the keys that are to sign for them.
    pub(super) fn take_of(&self, visitor: &Arc<Visitor>) -> Vec<(RunId, Option<KeyHint>)> {
        let mut runs = self.0.lock();
        let own = |run: &LiveRun| Arc::ptr_eq(&run.visitor, visitor);
        let taken = runs.extract_if(.., |_, run| own(run));
        taken.map(|(id, run)| (id, run.signer)).collect()
    }

    /// The run that has this very tree and no other: the stage of a mount.
    pub(super) fn on(&self, tree: &str) -> Option<RunId> {
        let runs = self.0.lock();
        let mut on = runs.iter().filter(|(_, run)| run.trees == [tree]);
        on.next_back().map(|(id, _)| id.clone())
    }

    /// The run that observes this absolute path: of several the one whose tree is nearest, and of
    /// these the newest, since run ids sort by time.
    pub(super) fn at(&self, path: &str) -> Option<(RunId, Arc<Visitor>)> {
        let runs = self.0.lock();
        let nearest = |run: &LiveRun| {
            let above = run.trees.iter().filter(|tree| Path::new(path).starts_with(tree));
            above.map(String::len).max()
        };
        runs.iter()
            .filter_map(|(id, run)| Some((nearest(run)?, id, run)))
            .max_by_key(|(length, id, _)| (*length, (*id).clone()))
            .map(|(_, id, run)| (id.clone(), Arc::clone(&run.visitor)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineage::testing::description;

    fn visitor() -> Arc<Visitor> {
        let (replies, _) = mpsc::channel(1);
        Arc::new(Visitor::new(replies))
    }

    fn run(id: &str, trees: &[&str]) -> RunDescription {
        let trees = trees.iter().map(ToString::to_string).collect();
        RunDescription { trees, ..description(id) }
    }

    #[test]
    fn the_run_with_the_nearest_tree_observes_a_path() {
        let runs = LiveRuns::default();
        let visitor = visitor();
        runs.insert(&run("1", &["/data", "/jobs"]), &visitor, None);
        runs.insert(&run("2", &["/jobs/model"]), &visitor, None);
        runs.insert(&run("3", &["/jobs/model"]), &visitor, None);
        let at = |path| runs.at(path).map(|(run, _)| run.0);
        assert_eq!(at("/jobs/model/step-1").as_deref(), Some("3"));
        assert_eq!(at("/jobs/model").as_deref(), Some("3"));
        assert_eq!(at("/jobs/models").as_deref(), Some("1"));
        assert_eq!(at("/data/x").as_deref(), Some("1"));
        assert_eq!(at("/database"), None);
        assert_eq!(at("work/model"), None);
    }

    #[test]
    fn a_run_that_moved_to_another_connection_is_not_lost_with_the_first() {
        let runs = LiveRuns::default();
        let (first, second) = (visitor(), visitor());
        runs.insert(&run("1", &["/a"]), &first, None);
        runs.insert(&run("2", &["/b"]), &first, None);
        runs.insert(&run("1", &["/a"]), &second, None);
        assert_eq!(runs.take_of(&first), [(RunId("2".to_owned()), None)]);
        assert_eq!(runs.names(), [RunId("1".to_owned())]);
    }
}
