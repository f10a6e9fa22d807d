//! Entering a publication into the indexes that the gates of all mounts read: under which names, and
//! in which files, what was published. Only what vouches is entered.

use std::{collections::BTreeSet, io};

use attestfs_attestation::{MODEL_SIGNATURE_FILE, Unavailable};
use attestfs_digest::Sha256;

use super::{
    CommitError, Room,
    record::{Artifact, Record, Statement},
};
use crate::publication::{FileLine, NameLine, Published, ROOT, name_key};

/// Enters the subjects of a statement, one by one also where a manifest stands for them, and the
/// artifact root itself.
pub(super) fn enter(room: &Room, artifact: &Artifact, statement: &Statement) -> io::Result<()> {
    let root = artifact.root();
    let name = statement.payload.0.sha256();
    let line = |it: &str, content| NameLine { key: name_key(&root, it), content, statement: name };
    let subjects = statement.subjects.iter();
    let names = subjects.map(|subject| line(&subject.name, subject.digests.sha256));
    let files = statement.subjects.iter().zip(&statement.identities);
    let files = files.map(|(subject, identity)| FileLine {
        identity: *identity,
        digests: subject.digests,
        statement: name,
    });
    let own = std::iter::once(line(ROOT, name));
    room.shelf.enter_names(room.files.as_ref(), names.chain(own))?;
    room.shelf.enter_files(room.files.as_ref(), files)
}

/// Enters the model signature that is about to lie beside the content: from then on nobody can put an
/// older one there.
pub(super) fn enter_model(
    room: &Room,
    artifact: &Artifact,
    statement: Sha256,
    model: Sha256,
) -> io::Result<()> {
    let key = name_key(&artifact.root(), MODEL_SIGNATURE_FILE);
    let line = NameLine { key, content: model, statement };
    room.shelf.enter_names(room.files.as_ref(), std::iter::once(line))
}

/// What was made after the record, and has published under a name of this artifact already: a commit
/// that waited, for its key or for a disk, comes after it. As a part of whichever artifact: a path has
/// one history.
pub(super) fn newer(
    room: &Room,
    record: &Record,
    artifact: &Artifact,
) -> Result<BTreeSet<Sha256>, CommitError> {
    let Some(statement) = &artifact.statement else {
        return Ok(BTreeSet::new());
    };
    let published = Published::on(room.shelf.clone());
    let mut entered = BTreeSet::new();
    for name in names(statement) {
        let lines = published.names(&artifact.root(), name).map_err(|error| unread(room, error))?;
        entered.extend(lines.into_iter().map(|line| line.statement));
    }
    let mut newer = BTreeSet::new();
    for statement in entered {
        let known = room.store.attestation(&statement)?;
        newer.extend(known.filter(|it| it.time > record.finished).map(|it| it.statement));
    }
    Ok(newer)
}

/// Enters again what newer statements published under the names of this one, so that it stays the
/// newest.
pub(super) fn enter_again(
    room: &Room,
    artifact: &Artifact,
    statement: &Statement,
    newer: &BTreeSet<Sha256>,
) -> io::Result<()> {
    let published = Published::on(room.shelf.clone());
    let mut again = Vec::new();
    for name in names(statement) {
        let lines = published.names(&artifact.root(), name).map_err(io::Error::other)?;
        again.extend(lines.into_iter().filter(|line| newer.contains(&line.statement)));
    }
    room.shelf.enter_names(room.files.as_ref(), again.into_iter())
}

/// The names under which a statement publishes: those of its subjects, and that of the root itself.
fn names(statement: &Statement) -> impl Iterator<Item = &str> {
    statement.subjects.iter().map(|subject| subject.name.as_str()).chain([ROOT])
}

fn unread(room: &Room, error: Unavailable) -> CommitError {
    CommitError::Write { path: room.shelf.directory().into(), source: io::Error::other(error) }
}
