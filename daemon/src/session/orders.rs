//! What is to be committed: the run brought to rest, its journal made durable, and the roots named.

use std::{
    ops::ControlFlow,
    path::Path,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use attestfs_attestation::{CommitKind, Inputs, KeyHint, LeftOut, Outcome};
use attestfs_fs::{MaterialProgress, Run, Scope, TreePath, Unsealed};
use jiff::Timestamp;
use rustix::fs::FileType;
use uuid::Uuid;

use super::{console::Console, trees::Trees};
use crate::{
    clock::{Clock, SystemClock},
    control::{ArtifactOrder, Code, CommitOrder, Failure},
    journal::{Journal, RecordError},
    lineage::{CommitId, RunId},
};

/// Why the file is left out into which this process writes how the commit went.
const OWN_ERROR: &str = "still open: the standard error of attestfs run";

/// What a run is to record and to leave.
#[derive(Debug)]
pub(crate) struct Assignment {
    pub(crate) trees: Trees,
    pub(crate) declared_inputs: Vec<TreePath>,
    pub(crate) outputs: Vec<TreePath>,
    /// Which materials get a digest.
    pub(crate) inputs: Inputs,
    /// Whether `model.sig` may cover files that no run wrote.
    pub(crate) adopt: bool,
    /// Whether a checkpoint is made whenever a complete model appears below an output.
    pub(crate) checkpoint_rule: bool,
    /// How long a commit waits for writers.
    pub(crate) patience: Duration,
    /// The file that this process writes to when it speaks to the user, when it lies below a tree.
    pub(crate) own_error: Option<TreePath>,
    pub(crate) console: Console,
}

/// Writes the orders of one run.
#[derive(Debug)]
pub(crate) struct Orders {
    pub(crate) assignment: Assignment,
    pub(crate) run_id: String,
    pub(crate) journal: Arc<Journal>,
    /// Set once the run has begun.
    pub(super) run: OnceLock<Weak<Run>>,
}

/// Looks at the progress of hashing; says when to stop waiting for it.
pub(crate) type Watch<'a> = &'a mut dyn FnMut(MaterialProgress) -> ControlFlow<()>;

impl Orders {
    /// A checkpoint of what lies at an absolute path without symbolic links.
    ///
    /// # Errors
    /// The path is not one of this run's, does not exist, or the journal failed.
    pub(crate) fn checkpoint(&self, path: &Path) -> Result<CommitOrder, Failure> {
        let refused = |what| Failure::new(Code::Artifact, format!("{} {what}", path.display()));
        let place = self.assignment.trees.place(path);
        let place = place.ok_or_else(|| refused("is not below a directory of this run"))?;
        let artifact = self.artifact(&place, true).ok_or_else(|| refused("does not exist"))?;
        let left_out = self.rest(&Scope::Below(place), &mut |_| ControlFlow::Continue(()));
        let journal_length = self.journal.sync()?;
        Ok(self.order(CommitKind::Checkpoint, vec![artifact], &left_out, journal_length, now()))
    }

    /// The end of the stage: each `--out` that exists, or each tree.
    ///
    /// # Errors
    /// The journal failed: what is known of the run is not complete.
    pub(crate) fn stage_end(
        &self,
        outcome: Outcome,
        finished: Timestamp,
        watch: Watch<'_>,
    ) -> Result<CommitOrder, RecordError> {
        let left_out = self.rest(&Scope::Run, watch);
        let journal_length = self.journal.sync()?;
        let artifacts = self.stage_artifacts();
        let kind = CommitKind::StageEnd(self.outcome(outcome, &left_out));
        Ok(self.order(kind, artifacts, &left_out, journal_length, finished))
    }

    /// Who closes a file without looking, or not at all, has not heard that what he wrote could not be stored. Of a run
    /// that leaves such a file behind nobody can say that it was a success.
    fn outcome(&self, outcome: Outcome, left_out: &[attestfs_fs::LeftOut]) -> Outcome {
        let lost = |file: &&attestfs_fs::LeftOut| matches!(file.unsealed, Unsealed::NotStored(_));
        match left_out.iter().find(lost) {
            Some(file) if outcome == Outcome::Success => {
                let (path, reason) = (self.assignment.trees.absolute(&file.path), &file.unsealed);
                self.assignment.console.say(format_args!("{path}: {reason}: this is no success"));
                Outcome::Unknown
            }
            _ => outcome,
        }
    }

    /// Where outputs are.
    pub(crate) fn scopes(&self) -> Vec<Scope> {
        match self.assignment.outputs.as_slice() {
            [] => vec![Scope::Run],
            outputs => outputs.iter().cloned().map(Scope::Below).collect(),
        }
    }

    /// `--out`s that the command did not make.
    pub(crate) fn missing_outputs(&self) -> Vec<String> {
        let outputs = self.assignment.outputs.iter();
        outputs
            .filter(|output| self.artifact(output, true).is_none())
            .map(|output| self.assignment.trees.absolute(output))
            .collect()
    }

    fn rest(&self, scope: &Scope, watch: Watch<'_>) -> Vec<attestfs_fs::LeftOut> {
        let Some(run) = self.run.get().and_then(Weak::upgrade) else {
            return Vec::new();
        };
        let left_out = run.quiesce(scope, self.assignment.patience);
        // An impatient user leaves materials without digest; the store says so of each.
        let _waited = run.wait_for_materials(watch);
        left_out
    }

    fn stage_artifacts(&self) -> Vec<ArtifactOrder> {
        if self.assignment.outputs.is_empty() {
            let whole = self.assignment.trees.whole();
            return whole.filter_map(|tree| self.artifact(&tree, false)).collect();
        }
        self.assignment.outputs.iter().filter_map(|output| self.artifact(output, true)).collect()
    }

    /// The artifact root of a path: the directory itself, or the one that the file lies in. None
    /// when nothing is there.
    fn artifact(&self, place: &TreePath, sign_directory: bool) -> Option<ArtifactOrder> {
        let kind = self.assignment.trees.kind(place)?;
        if kind == FileType::Directory {
            return Some(ArtifactOrder {
                tree: place.tree,
                path: place.path.clone(),
                only: None,
                left_out: Vec::new(),
                model_signature: sign_directory,
            });
        }
        let (directory, name) = place.path.rsplit_once('/').unwrap_or(("", &place.path));
        Some(ArtifactOrder {
            tree: place.tree,
            path: directory.to_owned(),
            only: Some(vec![name.to_owned()]),
            left_out: Vec::new(),
            model_signature: false,
        })
    }

    fn order(
        &self,
        kind: CommitKind,
        mut artifacts: Vec<ArtifactOrder>,
        left_out: &[attestfs_fs::LeftOut],
        journal_length: u64,
        finished: Timestamp,
    ) -> CommitOrder {
        let unsettled = left_out.iter().map(|one| (&one.path, one.unsealed.to_string()));
        let own_error = self.assignment.own_error.as_ref().map(|path| (path, OWN_ERROR.to_owned()));
        for (path, reason) in unsettled.chain(own_error) {
            // Outputs may lie in each other: each that covers the file names it.
            for artifact in artifacts.iter_mut().filter(|it| root(it).covers(path)) {
                let below = path.path.strip_prefix(artifact.path.as_str()).unwrap_or_default();
                let name = below.trim_start_matches('/').to_owned();
                artifact.left_out.push(LeftOut { name, reason: reason.clone() });
            }
        }
        CommitOrder {
            id: CommitId(Uuid::now_v7().to_string()),
            run: RunId(self.run_id.clone()),
            kind,
            finished,
            journal_length,
            artifacts,
            adopt: self.assignment.adopt,
            lock: None,
            // The link fills in whose key it presented.
            signer: None::<KeyHint>,
        }
    }
}

fn root(artifact: &ArtifactOrder) -> TreePath {
    TreePath { tree: artifact.tree, path: artifact.path.clone() }
}

fn now() -> Timestamp {
    SystemClock.now()
}
