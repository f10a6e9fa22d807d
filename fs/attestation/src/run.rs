//! What a run says of itself: the input of every predicate that we write.

use std::collections::BTreeMap;

use attestfs_digest::{Digests, Sha256};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One execution of a stage, as far as it is known when it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunDescription {
    /// Unique among all runs everywhere; becomes `invocationId`.
    pub id: String,
    /// The step of the pipeline, `--stage`.
    pub stage: String,
    /// Arguments, the program first. Already redacted: a signature is for ever.
    pub command: Vec<String>,
    /// What the program's name resolved to.
    pub executable: Option<Executable>,
    /// Absolute.
    pub working_directory: String,
    /// Of the user who started the run.
    pub uid: u32,
    /// The node name of the machine.
    pub host: String,
    /// Name, release and version of the kernel.
    pub kernel: String,
    /// The path in `/proc/self/cgroup`.
    pub cgroup: Option<String>,
    /// Absolute paths of the trees (`--dir`) that were observed, in that order.
    pub trees: Vec<String>,
    /// `--in`, absolute paths.
    pub declared_inputs: Vec<String>,
    /// `--out`, absolute paths.
    pub declared_outputs: Vec<String>,
    /// Which materials get a digest.
    pub inputs: Inputs,
    /// `--label KEY=VALUE`, already redacted.
    pub labels: BTreeMap<String, String>,
    /// The lock that says what it may read, when one is enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<LockUse>,
    /// When the command was started.
    pub started: Timestamp,
    /// The version of the program that observed the run.
    pub attestfs_version: String,
}

/// A lock that has every material of a run with its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LockUse {
    /// Of the lock's file, which names the manifests that belong to it by their digests.
    pub sha256: Sha256,
    /// Whether nothing else could be opened. Otherwise the lock was written from what the run had
    /// read, or compared with it, when the run was over.
    pub enforced: bool,
}

/// The program that a run executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executable {
    /// Absolute.
    pub path: String,
    /// Of its content; none when it could not be read.
    pub sha256: Option<Sha256>,
}

/// Which materials get a digest (`--inputs`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Inputs {
    /// Only those below an `--in`.
    Declared,
    /// Everything that was opened for reading.
    #[default]
    Opened,
    /// None; they are recorded without digest.
    None,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The command exited with 0 and nothing that it wrote was lost.
    Success,
    /// The command ended otherwise.
    Failed {
        /// Its exit code, when it exited.
        exit_code: Option<i32>,
        /// The signal, when one killed it.
        signal: Option<i32>,
    },
    /// Nobody saw the end: the observer itself was killed.
    Unknown,
}

/// What makes an attestation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommitKind {
    /// The run is over.
    StageEnd(Outcome),
    /// The run goes on; what it wrote here is complete. A later failure does not take it back.
    Checkpoint,
}

impl CommitKind {
    /// Whether this makes provenance and a model signature: of a failed or unknown run, other
    /// verifiers would take them for success.
    pub fn vouches(self) -> bool {
        matches!(self, Self::Checkpoint | Self::StageEnd(Outcome::Success))
    }
}

/// A file that the run wrote, sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Relative to the artifact's root, spelt by [`crate::escaped`].
    pub name: String,
    /// Of the whole content.
    pub digests: Digests,
    /// Bytes.
    pub size: u64,
}

/// A file that the run wrote and that the attestation does not name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// As in [`Output::name`].
    pub name: String,
    /// A sentence for people.
    pub reason: String,
}

/// A content that the run read and did not write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Material {
    /// Relative to its tree, spelt by [`crate::escaped`].
    pub name: String,
    /// Where it was, usually by [`crate::file_uri`].
    pub uri: String,
    /// What it was.
    pub digests: MaterialDigests,
    /// Bytes.
    pub size: u64,
    /// Whether an `--in` covers it.
    pub declared: bool,
    /// The payload digest of the attestation that published this content, when one did.
    pub attestation: Option<Sha256>,
}

/// The digests of a material, or why there are none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaterialDigests {
    /// Of exactly the content that was read.
    Known(Digests),
    /// A sentence for people.
    Unknown(String),
}

/// Where the subjects of one statement lie: an `--out`, a checkpointed directory or a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRoot {
    /// The last component of its path, never empty.
    pub name: String,
    /// Absolute, at the time of the commit, spelt by [`crate::escaped`]. A hint: artifacts are copied.
    pub path: String,
}

/// Everything that one statement says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Which run.
    pub run: RunDescription,
    /// Which of its artifact roots.
    pub root: ArtifactRoot,
    /// Why now.
    pub kind: CommitKind,
    /// The end of the run, or the time of the checkpoint.
    pub finished: Timestamp,
    /// What the run wrote below the root. Any order.
    pub outputs: Vec<Output>,
    /// What it wrote there and is not named. Any order.
    pub left_out: Vec<LeftOut>,
    /// What the run read, wherever. Any order.
    pub materials: Vec<Material>,
}
