//! Check 12, and as much of check 7 as only the store can tell: whether this is the place for it.

use attestfs_digest::Sha256;

use super::Question;
use crate::{
    oms::MODEL_SIGNATURE_FILE,
    verify::{Publication, Refusal, Unavailable},
};

/// What the store says of an attestation that names a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It published this, and nothing newer is there.
    Newest,
    /// The store did not publish it.
    NotOurs,
}

/// That nothing else was published later under the name, below the root, that the attestation records.
pub(super) fn newest(
    question: &Question<'_>,
    attestation: Sha256,
    (root, name): (&str, &str),
) -> Result<Standing, Refusal> {
    let content = question.content.digests.sha256;
    let is_it = |publication: &Publication| publication.statement == attestation;
    newest_of(question, attestation, (root, name), content, is_it)
}

/// The same of a model signature in the directory `root`. The store keeps it as the content that a run
/// published under that name.
pub(super) fn newest_model(
    question: &Question<'_>,
    attestation: Sha256,
    root: &str,
) -> Result<Standing, Refusal> {
    let is_it = |publication: &Publication| publication.content == attestation;
    newest_of(question, attestation, (root, MODEL_SIGNATURE_FILE), attestation, is_it)
}

fn newest_of(
    question: &Question<'_>,
    attestation: Sha256,
    (root, name): (&str, &str),
    content: Sha256,
    is_it: impl Fn(&Publication) -> bool,
) -> Result<Standing, Refusal> {
    let history = question.store.history(root, name)?;
    match history.last() {
        Some(last) if history.iter().any(is_it) => {
            if last.content == content {
                return Ok(Standing::Newest);
            }
            let (name, by) = (question.name.to_owned(), last.statement);
            Err(Refusal::Superseded { name, attestation, by })
        }
        _ => Ok(Standing::NotOurs),
    }
}

/// That this is no content which the store published under this very path, and then replaced: whoever
/// else vouches for it, this is not what should be here.
pub(super) fn not_replaced(question: &Question<'_>) -> Result<Standing, Refusal> {
    let content = question.content.digests.sha256;
    let history = history_here(question)?;
    let ours = history.iter().rfind(|publication| publication.content == content);
    match (ours, history.last()) {
        (Some(_), Some(last)) if last.content == content => Ok(Standing::Newest),
        (Some(ours), Some(last)) => {
            let (attestation, by) = (ours.statement, last.statement);
            Err(Refusal::Superseded { name: question.name.to_owned(), attestation, by })
        }
        _ => Ok(Standing::NotOurs),
    }
}

/// That nothing else was published under this very path: only an index of contents led here, and the
/// attestation speaks of another place.
pub(super) fn free(question: &Question<'_>, attested_as: &str) -> Result<(), Refusal> {
    let content = question.content.digests.sha256;
    if history_here(question)?.last().is_none_or(|newest| newest.content == content) {
        return Ok(());
    }
    let (name, attested_as) = (question.name.to_owned(), attested_as.to_owned());
    Err(Refusal::WrongSubject { name, attested_as })
}

/// The attestation that last published something under this very path, below whatever root.
pub(super) fn last_published(question: &Question<'_>) -> Result<Option<Sha256>, Unavailable> {
    Ok(history_here(question)?.last().map(|newest| newest.statement))
}

fn history_here(question: &Question<'_>) -> Result<Vec<Publication>, Unavailable> {
    let (root, name) = question.path.rsplit_once('/').unwrap_or(("", question.path));
    question.store.history(root, name)
}
