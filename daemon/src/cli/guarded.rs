//! What a mount with a policy would say, asked at rest.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use attestfs_attestation::{Admission, Mode, NothingPublished, Policy, Publications, Refusal};
use attestfs_digest::Sha256;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    failure::{Failure, RefusedFile},
    output::shown,
    progress::Progress,
    story::counted,
    table::Table,
    verdict,
    verify::Place,
};
use crate::{
    artifact::{Artifact, ArtifactError, Guard, Guarded, GuardedFile, judge_by_policy},
    clock::{Clock as _, SystemClock},
    config::{Environment, StateDir},
    policy::read_policy,
    text::harmless,
};

/// The policy of a mount.
#[derive(Debug, clap::Args)]
pub(super) struct ByPolicy {
    /// Judge as a mount with this policy would; it names its own signers
    #[arg(long, value_name = "F", conflicts_with_all = ["keys", "authorities", "identity", "bundle"])]
    policy: Option<PathBuf>,

    /// The directory that is mounted: the policy's paths are relative to it, and only what lies in it
    /// counts. By default PATH, or the directory of a file
    #[arg(long, value_name = "DIR")]
    tree: Option<PathBuf>,
}

/// Files that would open.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Opens {
    artifact: String,
    verdict: &'static str,
    policy: Sha256,
    files: Vec<Opening>,
    /// How many no rule has: they open unchecked.
    unguarded: usize,
    not_checked: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Opening {
    name: String,
    rule: usize,
    attestations: Vec<Sha256>,
    signers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_until: Option<Timestamp>,
    stage: Option<String>,
    run: Option<String>,
}

impl ByPolicy {
    /// Whether a policy is to judge.
    pub(super) fn is_given(&self) -> bool {
        self.policy.is_some() || self.tree.is_some()
    }

    /// What the policy says of an artifact.
    ///
    /// # Errors
    /// A file is refused, by the check that it fails; or what keeps us from asking.
    pub(super) fn verdict(
        &self,
        artifact: &Artifact,
        place: &Place,
        environment: &Environment,
    ) -> Result<Opens, Failure> {
        let policy = read_policy(self.policy.as_deref().ok_or_else(no_policy)?)?;
        let tree = self.tree.as_deref().map(real).transpose()?;
        let store = place.state(environment)?.as_ref().and_then(published);
        let guard = Guard {
            policy: &policy,
            tree: tree.as_deref(),
            store: store.as_deref().unwrap_or(&NothingPublished),
            now: SystemClock.now(),
        };
        let guarded = judge_by_policy(artifact, &guard, &Progress::new())?;
        let opens = Opens::unless_refused(artifact, &policy, guarded)?;
        let not_checked = store.is_none().then_some(verdict::REPLAY).into_iter().collect();
        Ok(Opens { not_checked, ..opens })
    }
}

impl Opens {
    fn unless_refused(
        artifact: &Artifact,
        policy: &Policy,
        guarded: Guarded,
    ) -> Result<Self, Failure> {
        if let Some(refused) = refused(&guarded.refused, policy.mode()) {
            return Err(refused);
        }
        if guarded.admitted.is_empty() {
            let path = shown(artifact.path());
            return Err(Failure::refused(format_args!(
                "no rule of the policy has '{path}': it would open unchecked"
            ))
            .with_next_step("'attestfs policy check FILE PATH' tells which rule has a path"));
        }
        Ok(Self {
            artifact: shown(artifact.path()),
            verdict: "admitted",
            policy: policy.sha256(),
            files: guarded.admitted.into_iter().map(Opening::of).collect(),
            unguarded: guarded.unguarded,
            not_checked: Vec::new(),
        })
    }
}

/// The first of the refused files in full, and all by name.
fn refused(files: &[GuardedFile<Refusal>], mode: Mode) -> Option<Failure> {
    let (first, others) = files.split_first()?;
    let first = verdict::refused(&first.verdict);
    let others = match others.len() {
        0 => String::new(),
        1 => "; 1 more file is refused".to_owned(),
        more => format!("; {more} more files are refused"),
    };
    let mode = match mode {
        Mode::Enforce => "",
        Mode::Audit => "; the mode is audit: a mount would tell it, and open it all the same",
    };
    let message = format!("{}{others}{mode}", first.message);
    let refused = files.iter().map(RefusedFile::of).collect();
    Some(Failure { message, refused, ..first })
}

impl RefusedFile {
    fn of(file: &GuardedFile<Refusal>) -> Self {
        let GuardedFile { name, rule, verdict: refusal } = file;
        let (check, _) = refusal.check();
        Self {
            name: name.clone(),
            rule: *rule,
            check,
            message: verdict::refused(refusal).message,
            next_step: refusal.next_step().to_owned(),
        }
    }
}

impl Opening {
    fn of(file: GuardedFile<Admission>) -> Self {
        let GuardedFile { name, rule, verdict } = file;
        let Admission { attestations, signers, valid_until, stage, run } = verdict;
        Self { name, rule, attestations, signers, valid_until, stage, run }
    }
}

impl fmt::Display for Opens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut files = Table::default();
        for Opening { name, rule, signers, stage, .. } in &self.files {
            let signers = harmless(&signers.join(", "));
            let stage = stage.iter().map(|stage| format!("made by {}", harmless(stage)));
            files.row(
                [harmless(name), format!("rule {rule}"), format!("signed by {signers}")]
                    .into_iter()
                    .chain(stage),
            );
        }
        write!(f, "{files}")?;
        let guarded = counted(self.files.len() as u64, "file");
        writeln!(f, "\n{}: {guarded} admitted by the policy", self.artifact)?;
        if self.unguarded > 0 {
            let unguarded = counted(self.unguarded as u64, "file");
            writeln!(f, "{unguarded} that no rule has would open unchecked")?;
        }
        self.not_checked.iter().try_for_each(|what| writeln!(f, "\nnot checked: {what}"))
    }
}

/// What a state directory has published. A build without mounts only sees what lies beside.
#[cfg(feature = "mount")]
fn published(state: &StateDir) -> Option<Box<dyn Publications>> {
    let is_there = state.attestations().is_dir();
    is_there.then(|| Box::new(crate::publication::Published::of(state)) as Box<dyn Publications>)
}

#[cfg(not(feature = "mount"))]
fn published(_state: &StateDir) -> Option<Box<dyn Publications>> {
    None
}

fn no_policy() -> Failure {
    Failure::usage("--tree says where the paths of a policy begin, and there is no policy")
        .with_next_step("give it with --policy F, or leave --tree out")
}

fn real(path: &Path) -> Result<PathBuf, ArtifactError> {
    fs::canonicalize(path).map_err(|source| ArtifactError::Io { path: path.to_path_buf(), source })
}
