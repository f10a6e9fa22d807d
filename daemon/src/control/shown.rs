use attestfs_attestation::LeftOut;
use attestfs_digest::Sha256;
use serde::{Serialize, Serializer};

use super::{ArtifactReport, CommitReport, ModelSignature};
use crate::lineage::CommitId;

/// What a commit made, as `--json` tells it: with fields that are spelt as in all answers to programs.
/// On the socket and in the state directory they are spelt otherwise.
#[derive(Debug, Serialize)]
pub(crate) struct ShownReport<'a> {
    commit: &'a CommitId,
    #[serde(serialize_with = "shown")]
    artifacts: &'a [ArtifactReport],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownArtifact<'a> {
    root: &'a str,
    statement: Option<Sha256>,
    unattested: Option<&'a str>,
    predicate_type: Option<&'a str>,
    subjects: usize,
    left_out: &'a [LeftOut],
    model_signature: &'a ModelSignature,
}

impl<'a> From<&'a CommitReport> for ShownReport<'a> {
    fn from(CommitReport { commit, artifacts }: &'a CommitReport) -> Self {
        Self { commit, artifacts }
    }
}

impl<'a> From<&'a ArtifactReport> for ShownArtifact<'a> {
    fn from(report: &'a ArtifactReport) -> Self {
        let ArtifactReport {
            root,
            statement,
            unattested,
            predicate_type,
            subjects,
            left_out,
            model_signature,
        } = report;
        Self {
            root,
            statement: *statement,
            unattested: unattested.as_deref(),
            predicate_type: predicate_type.as_deref(),
            subjects: *subjects,
            left_out,
            model_signature,
        }
    }
}

fn shown<S: Serializer>(artifacts: &[ArtifactReport], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(artifacts.iter().map(ShownArtifact::from))
}
