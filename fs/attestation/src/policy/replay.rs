//! Check 12, and as much of check 7 as only the store can tell: whether this is the place for it.

use attestfs_digest::Sha256;

use super::Question;
use crate::{
    oms::MODEL_SIGNATURE_FILE,
    verify::{Latest, Publication, Refusal, Unavailable, root_and_name},
};

/// That nothing else was published later under the name, below the root, that the attestation records.
/// Of publications of the same content that follow each other the store may keep the last one only.
pub(super) fn newest(
    question: &Question<'_>,
    attestation: Sha256,
    (root, name): (&str, &str),
) -> Result<(), Refusal> {
    let content = question.content.sha256();
    let is_it = |it: &Publication| it.statement == attestation || it.content == content;
    newest_of(question, attestation, (root, name), content, is_it)
}

/// The same of a model signature in the directory `root`. The store keeps it as the content that a run
/// published under that name.
pub(super) fn newest_model(
    question: &Question<'_>,
    attestation: Sha256,
    root: &str,
) -> Result<(), Refusal> {
    let is_it = |publication: &Publication| publication.content == attestation;
    newest_of(question, attestation, (root, MODEL_SIGNATURE_FILE), attestation, is_it)
}

fn newest_of(
    question: &Question<'_>,
    attestation: Sha256,
    (root, name): (&str, &str),
    content: Sha256,
    is_it: impl Fn(&Publication) -> bool,
) -> Result<(), Refusal> {
    match question.store.latest(root, name, &is_it)? {
        Some(Latest { newest, asked: Some(_) }) if newest.content != content => {
            let (name, by) = (question.name.to_owned(), newest.statement);
            Err(Refusal::Superseded { name, attestation, by })
        }
        _newest_or_not_ours => Ok(()),
    }
}

/// That this is no content which the store published under this very path, and then replaced: whoever
/// else vouches for it, this is not what should be here.
pub(super) fn not_replaced(question: &Question<'_>) -> Result<(), Refusal> {
    let content = question.content.sha256();
    match latest_here(question, &|publication| publication.content == content)? {
        Some(Latest { newest, asked: Some(ours) }) if newest.content != content => {
            let (attestation, by) = (ours.statement, newest.statement);
            Err(Refusal::Superseded { name: question.name.to_owned(), attestation, by })
        }
        _newest_or_not_ours => Ok(()),
    }
}

/// That nothing else was published under this very path: the attestation speaks of another place.
pub(super) fn free(question: &Question<'_>, attested_as: &str) -> Result<(), Refusal> {
    let content = question.content.sha256();
    let latest = latest_here(question, &|_| true)?;
    if latest.is_none_or(|latest| latest.newest.content == content) {
        return Ok(());
    }
    let (name, attested_as) = (question.name.to_owned(), attested_as.to_owned());
    Err(Refusal::WrongSubject { name, attested_as })
}

/// The attestation of this content, if it is what the store last published under this very path.
pub(super) fn newest_here(question: &Question<'_>) -> Result<Option<Sha256>, Unavailable> {
    let content = question.content.sha256();
    let newest = latest_here(question, &|_| true)?.map(|latest| latest.newest);
    Ok(newest.filter(|newest| newest.content == content).map(|newest| newest.statement))
}

/// The attestation that last published something under this very path, below whatever root.
pub(super) fn last_published(question: &Question<'_>) -> Result<Option<Sha256>, Unavailable> {
    Ok(latest_here(question, &|_| true)?.map(|latest| latest.newest.statement))
}

fn latest_here(
    question: &Question<'_>,
    is_asked: &dyn Fn(&Publication) -> bool,
) -> Result<Option<Latest>, Unavailable> {
    let (root, name) = root_and_name(question.path);
    question.store.latest(root, name, is_asked)
}
