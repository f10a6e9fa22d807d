use std::{
    ffi::OsString,
    fs::File,
    os::unix::ffi::OsStringExt,
    path::Path,
    sync::{Arc, OnceLock},
};

use attestfs_attestation::{Inputs, Outcome, unescaped};
use attestfs_digest::Digests;
use attestfs_fs::{Identity, KnownDigests, Limits, Run};

use super::{
    checkpoint::Checkpoints,
    describe::Description,
    failure::SessionError,
    normal,
    orders::{Assignment, Orders},
    recorder::{Refusals, RunRecorder},
    resolved,
};
use crate::{
    client::{RunLink, RunLinkParts},
    clock::{Clock, SystemClock},
    config::StateDir,
    journal::Journal,
    lineage::RunEnd,
};

/// A run that the store knows of.
pub(crate) struct Session {
    pub(crate) orders: Arc<Orders>,
    pub(crate) link: Arc<RunLink>,
    pub(crate) run: Arc<Run>,
    pub(crate) checkpoints: Option<Checkpoints>,
}

/// What a run begins with.
pub(crate) struct SessionParts {
    pub(crate) assignment: Assignment,
    pub(crate) description: Description,
    pub(crate) state: StateDir,
    /// The private key that signs; without one the default key of the state does.
    pub(crate) key: Option<File>,
    /// Where refusals of the gate are told.
    pub(crate) refusals: Refusals,
    /// Whether the daemon may not find the trees by their paths.
    pub(crate) lends_trees: bool,
}

impl Session {
    /// Makes the journal, tells the daemon, and begins to record.
    ///
    /// # Errors
    /// The journal cannot be made, or there is no daemon to be had.
    pub(crate) fn begin(parts: SessionParts) -> Result<Self, SessionError> {
        let SessionParts { assignment, description, state, key, refusals, lends_trees } = parts;
        let run_id = description.id.clone();
        let description = description.of(&assignment);
        let directory = state.run(&run_id);
        let journal = Journal::create(&directory, stores(&assignment)?)
            .map_err(|source| SessionError::Journal { directory, source })?;
        let journal = Arc::new(journal);
        let roots = if lends_trees { roots(&assignment)? } else { Vec::new() };
        let (outputs, by_rule) = (assignment.outputs.clone(), assignment.checkpoint_rule);
        let inputs = inputs(&assignment);
        let orders = Arc::new(Orders {
            assignment,
            run_id,
            journal: Arc::clone(&journal),
            run: OnceLock::new(),
        });
        let asked = Arc::clone(&orders);
        let checkpoint = move |path: &str| {
            let path = normal(Path::new(&OsString::from_vec(unescaped(path))));
            // Whoever lends its trees is served by itself there: it follows no links through them.
            asked.checkpoint(&if lends_trees { path } else { resolved(&path) })
        };
        let checkpoint = Box::new(checkpoint);
        let parts = RunLinkParts { state, description, key, roots, checkpoint };
        let link = Arc::new(RunLink::begin(parts)?);
        let checkpoints = by_rule.then(|| Checkpoints::start(&orders, &link));
        let watcher = checkpoints.as_ref().map(|checkpoints| checkpoints.watcher(outputs));
        let recorder = Box::new(RunRecorder { journal, watcher, refusals });
        let known = Box::new(LinkedDigests(Arc::clone(&link)));
        let run = Run::start(recorder, known, inputs, Limits::default());
        orders.run.set(Arc::downgrade(&run)).unwrap_or_default();
        Ok(Self { orders, link, run, checkpoints })
    }

    /// What it is to record and to leave.
    pub(crate) fn assignment(&self) -> &Assignment {
        &self.orders.assignment
    }

    /// There was nothing to record, and there is nothing to attest.
    pub(crate) fn give_up(&self) {
        let outcome = Outcome::Failed { exit_code: None, signal: None };
        let end = RunEnd { outcome, finished: SystemClock.now() };
        if let Err(error) = self.link.end(self.orders.journal.length(), end) {
            tracing::warn!(%error, "the daemon will find out by itself that the run ended");
        }
    }
}

/// The trees, to be synced.
fn stores(assignment: &Assignment) -> Result<Vec<File>, SessionError> {
    let trees = assignment.trees.iter();
    trees
        .map(|tree| {
            let failed = |source| SessionError::Directory { path: tree.path.clone(), source };
            tree.open_to_sync().map_err(failed)
        })
        .collect()
}

fn roots(assignment: &Assignment) -> Result<Vec<(String, std::os::fd::OwnedFd)>, SessionError> {
    let roots = assignment.trees.whole().zip(assignment.trees.iter());
    roots
        .map(|(place, tree)| {
            let failed = |source| SessionError::Directory { path: tree.path.clone(), source };
            Ok((assignment.trees.absolute(&place), tree.open_again().map_err(failed)?))
        })
        .collect()
}

fn inputs(assignment: &Assignment) -> attestfs_fs::Inputs {
    match assignment.inputs {
        Inputs::Opened => attestfs_fs::Inputs::Opened,
        Inputs::Declared => attestfs_fs::Inputs::Declared(assignment.declared_inputs.clone()),
        Inputs::None => attestfs_fs::Inputs::None,
    }
}

/// The digests that the store knows, by way of the run's connection.
#[derive(Debug)]
struct LinkedDigests(Arc<RunLink>);

impl KnownDigests for LinkedDigests {
    fn known(&self, identities: &[Identity]) -> Vec<Option<Digests>> {
        self.0.known(identities)
    }
}
