//! What is frozen: everything that a later step needs, so that nothing is asked twice.

use attestfs_attestation::{CommitKind, KeyHint, LeftOut, Payload};
use attestfs_digest::Sha256;
use attestfs_fs::{FileKey, Identity};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::lineage::{CommitId, FrozenCommit, RunEnd, RunId, Subject};

use super::CommitError;

/// A commit as it is kept between its freeze and its publication.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) commit: CommitId,
    pub(super) run: RunId,
    pub(super) stage: String,
    pub(super) kind: CommitKind,
    /// The time that the statements bear.
    pub(super) finished: Timestamp,
    pub(super) signer: KeyHint,
    pub(super) artifacts: Vec<Artifact>,
}

/// One artifact root of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Artifact {
    /// Absolute path of the tree and path below it, both escaped.
    pub(super) tree: String,
    pub(super) path: String,
    /// Which directory it was. Another one that took its place gets no signature.
    pub(super) directory: Option<FileKey>,
    pub(super) statement: Option<Statement>,
    /// Why there is no statement.
    pub(super) unattested: Option<String>,
    pub(super) left_out: Vec<LeftOut>,
    pub(super) model: Model,
}

/// A statement to be signed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Statement {
    pub(super) payload: Text,
    pub(super) predicate_type: String,
    pub(super) subjects: Vec<Subject>,
    /// What a `stat` said of each subject, in the same order. Earlier programs froze none.
    #[serde(default)]
    pub(super) identities: Vec<Identity>,
    /// Lie on the shelf already.
    pub(super) manifests: Vec<Sha256>,
    /// Attestations that travel with the artifact, nearest first.
    pub(super) ancestors: Vec<Sha256>,
}

/// What is to become of `model.sig`, and of `claims.jsonl` with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Model {
    /// To be signed.
    Asked(Text),
    /// Asked for and not possible; the claims are written all the same.
    Refused(String),
    /// Neither is written.
    NotAsked,
}

/// A payload of ours, which is JSON and therefore text.
#[derive(Clone, Debug)]
pub(super) struct Text(pub(super) Payload);

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = std::str::from_utf8(self.0.bytes()).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(text)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer).map_err(de::Error::custom)?;
        Ok(Self(Payload::new(text.into_bytes())))
    }
}

impl Record {
    pub(super) fn parse(frozen: &FrozenCommit) -> Result<Self, CommitError> {
        serde_json::from_slice(&frozen.bytes).map_err(CommitError::Record)
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, CommitError> {
        serde_json::to_vec(self).map_err(CommitError::Record)
    }

    pub(super) fn statements(&self) -> impl Iterator<Item = (&Artifact, &Statement)> {
        let stated = |artifact| Some((artifact, Artifact::stated(artifact)?));
        self.artifacts.iter().filter_map(stated)
    }

    /// How the run ended, when this commit says so.
    pub(super) fn end(&self) -> Option<RunEnd> {
        match self.kind {
            CommitKind::StageEnd(outcome) => Some(RunEnd { outcome, finished: self.finished }),
            CommitKind::Checkpoint => None,
        }
    }
}

impl Artifact {
    fn stated(&self) -> Option<&Statement> {
        self.statement.as_ref()
    }

    /// Absolute, escaped.
    pub(super) fn root(&self) -> String {
        join(&self.tree, &self.path)
    }
}

/// Two escaped paths, of which the second may be empty.
pub(crate) fn join(tree: &str, path: &str) -> String {
    match (tree.trim_end_matches('/'), path) {
        ("", "") => "/".to_owned(),
        (tree, "") => tree.to_owned(),
        (tree, path) => format!("{tree}/{path}"),
    }
}
