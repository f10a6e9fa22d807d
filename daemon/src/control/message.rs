//! What is said on the control socket. `daemon/DESIGN.md` tells the same message by message.

use std::path::PathBuf;

use attestfs_attestation::{CommitKind, KeyHint, LeftOut, RunDescription};
use attestfs_digest::{Digests, Sha256};
use attestfs_fs::Identity;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::lineage::{
    Attestation, CommitId, Direction, Graph, Material, Run, RunEnd, RunId, RunOutputs,
};

/// Of this protocol. Both sides must have the same: client and daemon are one program.
pub const VERSION: u32 = 1;

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
        /// The report of the checkpoint, or why there is none.
        answer: Answer<CommitReport>,
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
    /// Asks the process that serves a run for something.
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
    /// Lends a private key for the life of this connection. Its descriptor travels with the frame;
    /// no other frame may carry one. Commits that waited for this key go on.
    PresentKey,
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
    /// To [`Request::PresentKey`]: how the key is called from now on.
    Key {
        /// Hex SHA-256 of the public key's PEM text, as in the bundles it signs.
        hint: KeyHint,
    },
    /// To [`Request::RunBegin`] and [`Request::RunEnd`].
    Done,
    /// To [`Request::Digests`]: as many as were asked for.
    Digests(Vec<Option<Digests>>),
    /// To [`Request::Commit`] and [`Request::Checkpoint`].
    Commit(CommitReport),
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
}

/// What the daemon asks of the process that serves a run.
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
    /// Commits that are frozen and not yet published.
    pub pending: Vec<PendingCommit>,
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
