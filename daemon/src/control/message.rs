//! What is said on the control socket. `daemon/DESIGN.md` tells the same message by message.

use std::{collections::BTreeMap, path::PathBuf};

use attestfs_attestation::{CommitKind, KeyHint, LeftOut, LockUse, Outcome, RunDescription};
use attestfs_digest::{Digests, Sha256};
use attestfs_fs::Identity;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::gc::{GarbageReport, Scope};
use crate::lineage::{
    Attestation, CommitId, Direction, Graph, Material, RefusedOpen, Run, RunEnd, RunId, RunOutputs,
};

/// Of this protocol. Both sides must have the same: client and daemon are one program.
pub const VERSION: u32 = 2;

/// The first frame in each direction. Every later version can read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Of the protocol, [`VERSION`].
    pub version: u32,
    /// Of the program, for people.
    pub program: String,
}

impl Hello {
    /// What this program says.
    pub fn ours() -> Self {
        Self {
            version: VERSION,
            program: concat!("attestfs ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Every frame of a client but its first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromClient {
    /// Asks for something.
    Call {
        /// Chosen by the client, and repeated in the reply.
        id: u64,
        /// What.
        request: Box<Request>,
    },
    /// Answers a [`Push`] of the daemon.
    Answer {
        /// Of the push.
        id: u64,
        /// What came of it, or why nothing did.
        answer: Answer<Pushed>,
    },
}

/// Every frame of the daemon but its first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromDaemon {
    /// Answers a call.
    Reply {
        /// Of the call; 0 when the frame could not be read so far.
        id: u64,
        /// The reply, or why there is none.
        answer: Answer<Reply>,
    },
    /// Asks the process that serves a run or a mount for something.
    Push {
        /// Chosen by the daemon, and repeated in the answer.
        id: u64,
        /// What.
        push: Push,
    },
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer<T> {
    /// It was done.
    Done(T),
    /// It was not done.
    Refused(Failure),
}

/// What a client can ask for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "request")]
pub enum Request {
    /// How the daemon is. Also the way to see that it is there.
    Status,
    /// How the daemon is, and all runs and mounts that are served now.
    Overview,
    /// Lends a private key for the life of this connection. Its descriptor travels with the frame.
    /// Commits that waited for this key go on.
    PresentKey,
    /// Lends a descriptor of a tree for the life of this connection: where the tree of this name
    /// lies, when its path leads to a mount, or nowhere. The descriptor travels with the frame.
    PresentTree {
        /// Absolute, escaped, as runs call the tree.
        tree: String,
    },
    /// A run begins, and lives as long as this connection and its locked journal. Asked again on a
    /// new connection, the run is taken up by it.
    RunBegin {
        /// What the run says of itself. Its id is a plain name, chosen by the client.
        description: Box<RunDescription>,
        /// The hint of a presented key, for what has to be signed when the run dies. Without it
        /// the default key of the state directory signs.
        signer: Option<KeyHint>,
    },
    /// Digests of files, as far as the store knows exactly these contents. At most
    /// [`Request::IDENTITIES_MAX`] at a time.
    Digests {
        /// Of the files.
        identities: Vec<Identity>,
    },
    /// The run is over and leaves nothing to attest.
    RunEnd {
        /// Its id.
        run: RunId,
        /// Bytes of its journal that count.
        journal_length: u64,
        /// How and when it ended.
        end: RunEnd,
    },
    /// Makes attestations of what the run wrote. Asked again with the same id, it is done once.
    Commit {
        /// Of what, and how.
        order: Box<CommitOrder>,
    },
    /// Has a live run make a checkpoint of a file or directory. Answered when it is published.
    Checkpoint {
        /// Absolute.
        path: String,
    },
    /// A mount is served, and lives as long as this connection. Asked again on a new connection,
    /// it is taken up by it.
    MountBegin {
        /// What the mount says of itself.
        mount: Box<MountDescription>,
    },
    /// Opens a stage on a mount: from now on its requests are those of a run. Refused while another
    /// stage is open.
    StageOpen {
        /// Absolute: the mount point, or the backing directory, or below one of them.
        path: String,
        /// Which stage.
        stage: Box<StageOrder>,
    },
    /// Closes the stage of a mount as a success, and makes attestations of what it wrote.
    StageClose {
        /// As in [`Request::StageOpen`].
        path: String,
    },
    /// Ends the stage of a mount as a failure. What it wrote is recorded, and nobody vouches for it.
    StageAbort {
        /// As in [`Request::StageOpen`].
        path: String,
    },
    /// Has a mount unmounted. A stage that began with the mount ends as a success; one that
    /// somebody opened has to be closed or aborted before.
    Unmount {
        /// As in [`Request::StageOpen`].
        path: String,
        /// Whether those who still use the mount may go on until they let go of it.
        lazy: bool,
    },
    /// Where a version came from, or what became of it.
    Lineage {
        /// The question.
        question: LineageQuestion,
    },
    /// Published attestations, newest first.
    Attestations {
        /// Which.
        filter: AttestationFilter,
        /// How many at most.
        limit: usize,
    },
    /// One published attestation.
    Attestation {
        /// Its name: the SHA-256 of the DSSE payload.
        statement: Sha256,
    },
    /// Runs, newest first.
    Stages {
        /// How many at most.
        limit: usize,
    },
    /// One run with all that it read and wrote.
    Stage {
        /// Its id, or the beginning of it if no other begins so.
        run: RunId,
    },
    /// What the state directory keeps about content that is gone.
    Collect {
        /// How much of it.
        scope: Scope,
        /// The name of the plan that is to be carried out, if it still holds; without one nothing
        /// is freed.
        agreed: Option<Sha256>,
    },
}

impl Request {
    /// The most identities that one [`Request::Digests`] may ask for.
    pub const IDENTITIES_MAX: usize = 10_000;
}

/// What a request brings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "reply", content = "value")]
pub enum Reply {
    /// To [`Request::Status`].
    Status(StatusReport),
    /// To [`Request::Overview`].
    Overview(Box<Overview>),
    /// To [`Request::PresentKey`]: how the key is called from now on.
    Key {
        /// Hex SHA-256 of the public key's PEM text, as in the bundles it signs.
        hint: KeyHint,
    },
    /// To [`Request::RunBegin`], [`Request::RunEnd`], [`Request::MountBegin`] and
    /// [`Request::PresentTree`].
    Done,
    /// To [`Request::Digests`]: as many as were asked for.
    Digests(Vec<Option<Digests>>),
    /// To [`Request::Commit`], [`Request::Checkpoint`], [`Request::StageClose`] and
    /// [`Request::StageAbort`].
    Commit(CommitReport),
    /// To [`Request::StageOpen`].
    StageOpened {
        /// Of the stage.
        run: RunId,
    },
    /// To [`Request::Unmount`].
    Unmounted {
        /// What was attested, when the mount was a stage and is no longer used.
        report: Option<CommitReport>,
    },
    /// To [`Request::Lineage`].
    Lineage(Graph),
    /// To [`Request::Attestations`].
    Attestations(Vec<Attestation>),
    /// To [`Request::Attestation`].
    Attestation {
        /// What the store knows of it.
        record: Box<Attestation>,
        /// Where its bundle lies.
        bundle: PathBuf,
    },
    /// To [`Request::Stages`].
    Stages(Vec<RunSummary>),
    /// To [`Request::Stage`].
    Stage(Box<StageDetails>),
    /// To [`Request::Collect`].
    Garbage(Box<GarbageReport>),
}

/// What the daemon asks of the process that serves a run or a mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "push")]
pub enum Push {
    /// Let the writers below `path` come to rest, order a commit of kind checkpoint on this
    /// connection, and answer with its report.
    Checkpoint {
        /// Of the run.
        run: RunId,
        /// Absolute, below one of the run's trees.
        path: String,
    },
    /// Carry out [`Request::StageOpen`].
    StageOpen {
        /// Of the mount.
        mount: String,
        /// Which stage.
        stage: Box<StageOrder>,
    },
    /// End the open stage of the mount: order its commit and answer with the report.
    StageEnd {
        /// Of the mount.
        mount: String,
        /// As what it ends.
        outcome: Outcome,
    },
    /// Say how you are.
    Condition,
    /// Carry out [`Request::Unmount`].
    Unmount {
        /// Of the mount.
        mount: String,
        /// As in the request.
        lazy: bool,
    },
}

/// What came of a [`Push`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "pushed", content = "value")]
pub enum Pushed {
    /// To [`Push::Checkpoint`] and [`Push::StageEnd`].
    Committed(CommitReport),
    /// To [`Push::StageOpen`].
    Opened {
        /// Of the stage.
        run: RunId,
    },
    /// To [`Push::Condition`].
    Condition(Condition),
    /// To [`Push::Unmount`].
    Unmounted {
        /// As in [`Reply::Unmounted`].
        report: Option<CommitReport>,
    },
}

/// What a mount says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MountDescription {
    /// A plain name, chosen by the process that serves it.
    pub id: String,
    /// Where its users see it: absolute, escaped. None when a descriptor was handed over.
    pub mount_point: Option<String>,
    /// What lies behind it, as statements call it: absolute, escaped.
    pub origin: String,
    /// Whether nothing can be written through it.
    pub read_only: bool,
    /// The policy file that its gate follows.
    pub policy: Option<PathBuf>,
    /// The process that serves it.
    pub pid: u32,
    /// When it was mounted.
    pub started: Timestamp,
}

/// Which stage is to be opened on a mount. Paths are absolute as users see them, or relative to the
/// mount's root; escaped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StageOrder {
    /// Its name.
    pub stage: String,
    /// `--in`.
    pub inputs: Vec<String>,
    /// `--out`; without any, everything that is written.
    pub outputs: Vec<String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// What is executed, as far as whoever opens the stage says so.
    pub command: Vec<String>,
    /// Whether `model.sig` may cover files that no run wrote.
    pub adopt: bool,
    /// Whether a checkpoint is made whenever a complete model appears below an output.
    pub checkpoint_rule: bool,
}

/// Of what attestations are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommitOrder {
    /// Chosen by the client, a plain name. The same id is committed once.
    pub id: CommitId,
    /// Of the run.
    pub run: RunId,
    /// The end of the stage, or a checkpoint.
    pub kind: CommitKind,
    /// The end of the run, or the time of the checkpoint.
    pub finished: Timestamp,
    /// Bytes of the journal that count.
    pub journal_length: u64,
    /// Roots that each become one statement.
    pub artifacts: Vec<ArtifactOrder>,
    /// Whether files that no run of this store wrote are hashed and signed all the same.
    pub adopt: bool,
    /// The lock that the run has written, or turned out to obey. One that was enforced is part of the
    /// run's description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<LockUse>,
    /// Hint of a presented key; without it the default key of the state directory signs.
    pub signer: Option<KeyHint>,
}

/// One artifact root: a directory whose files become the subjects of one statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactOrder {
    /// Index of the run's tree.
    pub tree: u16,
    /// The directory, relative to the tree's root and written as in a `TreePath`; empty for the
    /// tree itself.
    pub path: String,
    /// Names relative to the directory, written likewise. When given, nothing else is a subject.
    pub only: Option<Vec<String>>,
    /// What the run could not bring to rest there, and why. It is no subject.
    pub left_out: Vec<LeftOut>,
    /// Whether the directory as a whole gets a `model.sig`.
    pub model_signature: bool,
}

/// What a commit made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitReport {
    /// Of the order.
    pub commit: CommitId,
    /// One for each ordered artifact, in the same order.
    pub artifacts: Vec<ArtifactReport>,
}

impl CommitReport {
    /// Why there is no attestation of an output that nobody made.
    pub const NOTHING_THERE: &str = "there is nothing";
}

/// What a commit made of one artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactReport {
    /// Absolute path of the directory.
    pub root: String,
    /// Name of the statement.
    pub statement: Option<Sha256>,
    /// Why there is none: the run wrote nothing there, or the directory is missing.
    pub unattested: Option<String>,
    /// What kind of claim it makes.
    pub predicate_type: Option<String>,
    /// How many files it names.
    pub subjects: usize,
    /// What it does not speak of, and why.
    pub left_out: Vec<LeftOut>,
    /// What became of `model.sig`.
    pub model_signature: ModelSignature,
}

/// What became of a `model.sig`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelSignature {
    /// It lies in the directory.
    Written,
    /// It could not be made.
    Refused(String),
    /// Nobody asked for one, or the run was no success.
    NotAsked,
}

/// A question about lineage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineageQuestion {
    /// Where to begin.
    pub root: LineageRoot,
    /// Where to go.
    pub direction: Direction,
    /// How many runs away at most.
    pub depth: Option<usize>,
}

/// Where a lineage begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LineageRoot {
    /// A file as it is now. When the store does not know this identity, the digest decides.
    File {
        /// What `stat` says of it.
        identity: Identity,
        /// For messages.
        path: String,
        /// When the client has computed it.
        sha256: Option<Sha256>,
    },
    /// Whatever has this content.
    Digest(Sha256),
    /// What was last published at or below this absolute path.
    Latest(String),
}

/// Which attestations are meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttestationFilter {
    /// All of them.
    All,
    /// Those of one run.
    Run(RunId),
    /// Those whose artifact root is this absolute path, or lies below it.
    Under(String),
    /// Those that name this content.
    Digest(Sha256),
}

/// How the daemon is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// Of the program.
    pub program: String,
    /// Its process.
    pub pid: u32,
    /// When it began.
    pub started: Timestamp,
    /// The state directory.
    pub state: PathBuf,
    /// Runs that a connection speaks for.
    pub live_runs: Vec<RunId>,
    /// Mounts that a connection speaks for.
    #[serde(default)]
    pub mounts: Vec<MountSummary>,
    /// Commits that are frozen and not yet published.
    pub pending: Vec<PendingCommit>,
}

/// A mount that is served now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MountSummary {
    /// What it says of itself.
    #[serde(flatten)]
    pub mount: MountDescription,
    /// The run of the stage that is open on it.
    pub run: Option<RunId>,
}

/// The daemon and all that is served now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// The daemon itself.
    pub daemon: StatusReport,
    /// The runs, those of stages on mounts as well.
    pub runs: Vec<LiveRun>,
    /// The mounts.
    pub mounts: Vec<ServedMount>,
}

/// A run that is served now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LiveRun {
    /// Its id.
    pub run: RunId,
    /// The step of the pipeline.
    pub stage: String,
    /// Absolute paths of its trees, escaped.
    pub trees: Vec<String>,
    /// Since when the store has taken in nothing of the journal, if it is behind. It takes in what
    /// happened when something of the run is committed.
    pub behind_since: Option<Timestamp>,
    /// Bytes of the journal that the store has not taken in.
    pub bytes_behind: u64,
    /// None when the process that serves it does not answer.
    pub condition: Option<Condition>,
}

/// A mount that is served now, with its process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServedMount {
    /// The mount and its stage.
    #[serde(flatten)]
    pub summary: MountSummary,
    /// None when the process that serves it does not answer.
    pub condition: Option<Condition>,
}

/// How a process is that serves runs or mounts, since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What its gate has refused.
    pub refused: u64,
    /// What it would have refused but for audit mode.
    pub tolerated: u64,
    /// Files that were read and whose digest is still missing.
    pub files_to_hash: u64,
    /// Requests that hang in the store now. Processes of earlier versions do not say.
    #[serde(default)]
    pub stuck_requests: u64,
}

impl Condition {
    /// Of the process that asks.
    pub(crate) fn of_this_process() -> Self {
        let meter = attestfs_fs::meter();
        Self {
            refused: meter.refused_so_far(),
            tolerated: meter.tolerated_so_far(),
            files_to_hash: meter.files_to_hash(),
            stuck_requests: meter.stuck_requests(),
        }
    }
}

/// A commit that is frozen and not yet published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingCommit {
    /// Of the order.
    pub commit: CommitId,
    /// Of the run.
    pub run: RunId,
    /// Hint of the key that has to sign it.
    pub signer: KeyHint,
    /// The time that its statements bear.
    pub since: Timestamp,
    /// Why it waits, and for what.
    pub waits_for: String,
}

/// A line of `stage list`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// What the store knows of it.
    pub run: Run,
    /// Whether a connection speaks for it.
    pub live: bool,
}

/// All about one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageDetails {
    /// The line of `stage list`.
    pub summary: RunSummary,
    /// What it read, at most [`StageDetails::RECORDS_MAX`].
    pub materials: Vec<Material>,
    /// What it wrote, of each kind at most [`StageDetails::RECORDS_MAX`].
    pub outputs: RunOutputs,
    /// What was attested of it, newest first, at most [`StageDetails::RECORDS_MAX`].
    pub attestations: Vec<Attestation>,
    /// What the gate refused it, oldest first, at most [`StageDetails::RECORDS_MAX`].
    pub refusals: Vec<RefusedOpen>,
}

impl StageDetails {
    /// The most records of one kind, so that the answer fits a frame.
    pub const RECORDS_MAX: usize = 10_000;
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// For programs.
    pub code: Code,
    /// What was wrong, and where.
    pub message: String,
    /// What to do about it.
    pub next_step: Option<String>,
}

/// Why a request was not done, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The other side speaks another version of the protocol.
    Version,
    /// The frame is no message, or a message out of turn.
    Malformed,
    /// A bound of the protocol is exceeded.
    TooLarge,
    /// The peer is another user.
    Forbidden,
    /// There is no such run, or no live one where one is needed.
    UnknownRun,
    /// No mount is served there.
    UnknownMount,
    /// A stage is open where none may be, or none is open where one is needed.
    Stage,
    /// Somebody uses the mount.
    Busy,
    /// The run has ended already.
    RunEnded,
    /// There is no such attestation or version.
    NotFound,
    /// The key is missing or unusable.
    Key,
    /// The journal of the run is missing, shorter than said, or not readable.
    Journal,
    /// The artifact root is missing or not what it was.
    Artifact,
    /// The lineage store failed.
    Store,
    /// A file of the state directory could not be written.
    State,
    /// The run did not answer in time.
    Timeout,
    /// The daemon is ending.
    Ending,
}

impl Failure {
    /// A failure without advice.
    pub fn new(code: Code, message: impl ToString) -> Self {
        Self { code, message: message.to_string(), next_step: None }
    }

    /// The same failure with what to do about it.
    #[must_use]
    pub fn with_next_step(self, next_step: impl Into<String>) -> Self {
        Self { next_step: Some(next_step.into()), ..self }
    }
}

impl<T> From<Result<T, Failure>> for Answer<T> {
    fn from(result: Result<T, Failure>) -> Self {
        match result {
            Ok(value) => Self::Done(value),
            Err(failure) => Self::Refused(failure),
        }
    }
}

impl<T> From<Answer<T>> for Result<T, Failure> {
    fn from(answer: Answer<T>) -> Self {
        match answer {
            Answer::Done(value) => Ok(value),
            Answer::Refused(failure) => Err(failure),
        }
    }
}
