//! `run --reuse`: a run that would do again what an earlier one has done and published.
//!
//! Nothing here is guessed. The earlier run must have said of itself what this one would say; what
//! the lock names must have the locked content; and what was published must still be there, as a
//! verification would want it.

mod unchanged;

use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::Path};

use attestfs_attestation::{
    Bundle, CommitKind, KeyHint, Listing, Lock, Outcome, Provenance, RunDescription, Unavailable,
    unescaped,
};
use attestfs_digest::Sha256;
use attestfs_fs::TreePath;
use serde::Serialize;

use crate::{
    artifact::ContentError,
    client::{Client, ClientError},
    control::{AttestationFilter, Reply, Request},
    lineage::{Attestation, Run, RunId},
    publication::Shelf,
    redact::REDACTED,
    session::Trees,
    signer::KeyFileError,
};

/// So many runs are looked back, the newest first.
const RUNS_MAX: usize = 1000;

/// The most statements of one run.
const STATEMENTS_MAX: usize = 1000;

/// What is about to be run, and where an earlier run of it would have left its outputs.
#[derive(Debug)]
pub(crate) struct Repetition<'a> {
    /// What the run would say of itself. Its id and times do not matter.
    pub(crate) description: &'a RunDescription,
    /// What it may read.
    pub(crate) lock: &'a Lock,
    pub(crate) trees: &'a Trees,
    /// Who would sign.
    pub(crate) signer: KeyHint,
    pub(crate) shelf: &'a Shelf,
    pub(crate) client: &'a Client,
}

/// An earlier run whose outputs are there, unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Reused {
    pub(crate) run: RunId,
    /// How many files were published and are unchanged.
    pub(crate) outputs: usize,
    /// The statements that name them.
    pub(crate) attestations: Vec<Sha256>,
}

/// Why the command has to run. Each is one line for the user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotReused {
    #[error("nothing says which data may be read: give --lock and --locked")]
    NoLock,
    #[error("no run of stage '{stage}' with these directories has succeeded here")]
    NoRun { stage: String },
    #[error("{what} is not what it was in run {run}")]
    Differs { run: RunId, what: &'static str },
    #[error("the command or a label holds a secret, which no statement records")]
    Secret,
    #[error("the program could not be read, so nobody knows whether it changed")]
    Program,
    #[error("run {run} published nothing")]
    NothingPublished { run: RunId },
    #[error("run {run} did not publish {output}")]
    NotPublished { run: RunId, output: String },
    #[error("run {run} left {output} without a model.sig")]
    NotSigned { run: RunId, output: String },
    #[error("run {run} was signed with another key")]
    Signer { run: RunId },
    #[error("{path} is not what was {then}")]
    Changed { path: String, then: &'static str },
    #[error("{path} is gone")]
    Gone { path: String },
    #[error("{path} was added since, or is no file any more")]
    Added { path: String },
    #[error("a file is gone that {path} lists")]
    Missing { path: String },
    #[error("{path}: {source}")]
    Unreadable { path: String, source: ContentError },
    #[error("the attestation {statement} cannot be read")]
    Statement { statement: Sha256 },
    #[error(transparent)]
    Store(#[from] Unavailable),
    #[error(transparent)]
    Key(#[from] KeyFileError),
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// A file and the content that it must have.
type Expected = (TreePath, Sha256);

impl Repetition<'_> {
    /// Looks for the run whose outputs can be taken as they are.
    ///
    /// # Errors
    /// The first reason why the command has to run.
    pub(crate) fn find(&self) -> Result<Reused, NotReused> {
        self.refuse_unknown()?;
        let run = self.earlier_run()?;
        let statements = self.statements(&run)?;
        let outputs = self.outputs(&run, &statements)?;
        self.refuse_changes(&statements, &outputs)?;
        let attestations = statements.into_iter().map(|it| it.statement).collect();
        Ok(Reused { run, outputs: outputs.len(), attestations })
    }

    /// What nobody wrote down cannot be compared.
    fn refuse_unknown(&self) -> Result<(), NotReused> {
        let RunDescription { command, labels, executable, .. } = self.description;
        if command.iter().chain(labels.values()).any(|word| word.contains(REDACTED)) {
            return Err(NotReused::Secret);
        }
        let program = executable.as_ref().and_then(|program| program.sha256);
        program.map(|_| ()).ok_or(NotReused::Program)
    }

    /// The newest run that was the same. When there is none, the one that was most like it says
    /// what is different.
    fn earlier_run(&self) -> Result<RunId, NotReused> {
        let runs = self.runs()?.filter(|run| self.is_of_this_place(run));
        let compared = runs.map(|run| (differences(self.description, &run.description), run.id()));
        let nearest = compared.min_by_key(|(differences, _)| differences.len());
        let stage = self.description.stage.clone();
        let (differences, run) = nearest.ok_or(NotReused::NoRun { stage })?;
        match differences.first() {
            None => Ok(run),
            Some(what) => Err(NotReused::Differs { run, what }),
        }
    }

    fn runs(&self) -> Result<impl Iterator<Item = Run>, NotReused> {
        match self.client.call(Request::Stages { limit: RUNS_MAX })? {
            Reply::Stages(runs) => Ok(runs.into_iter().map(|summary| summary.run)),
            _ => Err(ClientError::Unexpected.into()),
        }
    }

    fn is_of_this_place(&self, run: &Run) -> bool {
        let (this, that) = (self.description, &run.description);
        run.end.as_ref().is_some_and(|end| end.outcome == Outcome::Success)
            && this.stage == that.stage
            && this.trees == that.trees
            && this.declared_outputs == that.declared_outputs
    }

    /// What the run published when it was over.
    fn statements(&self, run: &RunId) -> Result<Vec<Attestation>, NotReused> {
        let filter = AttestationFilter::Run(run.clone());
        let request = Request::Attestations { filter, limit: STATEMENTS_MAX };
        let Reply::Attestations(mut statements) = self.client.call(request)? else {
            return Err(ClientError::Unexpected.into());
        };
        statements.retain(|it| it.kind == CommitKind::StageEnd(Outcome::Success));
        if statements.is_empty() {
            return Err(NotReused::NothingPublished { run: run.clone() });
        }
        let signer = self.signer.to_string();
        if statements.iter().any(|statement| statement.signer != signer) {
            return Err(NotReused::Signer { run: run.clone() });
        }
        Ok(statements)
    }

    /// Everything that the statements name; each `--out` is among it, or above some of it.
    fn outputs(&self, run: &RunId, statements: &[Attestation]) -> Result<Vec<Expected>, NotReused> {
        let mut outputs = Vec::new();
        for statement in statements {
            outputs.append(&mut self.subjects(statement.statement)?);
        }
        let places = self.description.declared_outputs.iter();
        for output in places {
            let place = self.place(output);
            let published = |place: &TreePath| outputs.iter().any(|(it, _)| place.covers(it));
            if !place.as_ref().is_some_and(published) {
                return Err(NotReused::NotPublished { run: run.clone(), output: output.clone() });
            }
        }
        Ok(outputs)
    }

    fn subjects(&self, name: Sha256) -> Result<Vec<Expected>, NotReused> {
        let subjects = self.read_subjects(name);
        subjects.ok_or(NotReused::Statement { statement: name })
    }

    /// None when the bundle, or a manifest, is not on the shelf or not what it should be.
    fn read_subjects(&self, name: Sha256) -> Option<Vec<Expected>> {
        let bundle = Bundle::parse(&self.shelf.bundle(name).ok()??).ok()?;
        let payload = bundle.payload();
        let statement = payload.statement::<Provenance>().ok()?;
        let root = &statement.predicate.build_definition.internal_parameters.artifact_root;
        let root = self.place(root).filter(|_| payload.sha256() == name)?;
        let mut subjects = Vec::new();
        for subject in &statement.subject {
            let sha256 = subject.digest.sha256()?;
            if subject.annotation("manifest").is_none() {
                subjects.push((below(&root, subject.name.as_ref()?), sha256));
                continue;
            }
            let listing = Listing::parse(&self.shelf.manifest(sha256).ok()??).ok()?;
            subjects.extend(listing.files().map(|(name, sha256)| (below(&root, name), sha256)));
        }
        Some(subjects)
    }

    /// Of an absolute path as statements spell it.
    fn place(&self, path: &str) -> Option<TreePath> {
        self.trees.place(Path::new(&OsString::from_vec(unescaped(path))))
    }
}

fn below(root: &TreePath, name: &str) -> TreePath {
    let path = if root.path.is_empty() { name.to_owned() } else { format!("{}/{name}", root.path) };
    TreePath { tree: root.tree, path }
}

/// In what two runs of one stage differ, of all that a statement records but the id, the times and
/// the cgroup.
fn differences(this: &RunDescription, that: &RunDescription) -> Vec<&'static str> {
    // Whoever adds a field says here whether it matters.
    let RunDescription {
        id: _,
        stage: _,
        command,
        executable,
        working_directory,
        uid,
        host,
        kernel,
        cgroup: _,
        trees: _,
        declared_inputs,
        declared_outputs: _,
        inputs,
        labels,
        lock,
        started: _,
        attestfs_version,
    } = this;
    let compared = [
        (*lock == that.lock, "the lock, or whether it is enforced,"),
        (*command == that.command, "the command"),
        (*executable == that.executable, "the program"),
        (*working_directory == that.working_directory, "the working directory"),
        (*labels == that.labels, "a label"),
        (*declared_inputs == that.declared_inputs, "what --in names"),
        (*inputs == that.inputs, "--inputs"),
        (*attestfs_version == that.attestfs_version, "the version of attestfs"),
        (*uid == that.uid, "the user"),
        (*host == that.host, "the machine"),
        (*kernel == that.kernel, "the kernel"),
    ];
    compared.into_iter().filter(|(same, _)| !same).map(|(_, what)| what).collect()
}

#[cfg(test)]
mod tests {
    use attestfs_attestation::{Executable, Inputs, LockUse};

    use super::*;
    use crate::lineage::testing::description;

    #[test]
    fn a_run_with_another_id_at_another_time_is_the_same() {
        let this = description("train");
        let mut that = RunDescription { id: "another".to_owned(), ..this.clone() };
        that.started = "2030-01-01T00:00:00Z".parse().unwrap();
        that.cgroup = Some("/elsewhere".to_owned());
        assert_eq!(differences(&this, &that), Vec::<&str>::new());
    }

    type Change = fn(&mut RunDescription);

    #[test]
    fn whatever_else_is_recorded_keeps_a_run_from_being_the_same() {
        let lock = Some(LockUse { sha256: Sha256([1; 32]), enforced: true });
        let changes: [(&str, Change); 11] = [
            ("lock", |run| run.lock = Some(LockUse { sha256: Sha256([1; 32]), enforced: false })),
            ("command", |run| run.command.push("--more".to_owned())),
            ("program", |run| {
                run.executable = Some(Executable { path: "/bin/other".to_owned(), sha256: None });
            }),
            ("directory", |run| run.working_directory.push('x')),
            ("label", |run| drop(run.labels.insert("more".to_owned(), String::new()))),
            ("--in", |run| run.declared_inputs.push("/more".to_owned())),
            ("--inputs", |run| run.inputs = Inputs::None),
            ("version", |run| run.attestfs_version.push('1')),
            ("user", |run| run.uid += 1),
            ("machine", |run| run.host.push('x')),
            ("kernel", |run| run.kernel.push('x')),
        ];
        let this = RunDescription { lock, ..description("train") };
        for (what, change) in changes {
            let mut that = this.clone();
            change(&mut that);
            let found = differences(&this, &that);
            assert!(found.len() == 1 && found[0].contains(what), "{what}: {found:?}");
        }
    }
}
