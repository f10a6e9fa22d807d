//! The indexes of names and files, for a state directory that was made before there were any.

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use attestfs_attestation::{BUNDLE_MAX, Bundle, MODEL_SIGNATURE_FILE, SignerHint};
use attestfs_digest::Sha256;

use super::{CommitError, Room, beneath::Directory};
use crate::{
    lineage::{Attestation, AttestationQuery, LineageError},
    publication::{FileLine, NameLine, ROOT, name_key},
};

/// Builds both indexes from what the store knows, when there is none of names: it is put in its place
/// last, and whole. Also with nothing published: attestations without an index of names are those of a
/// state that nobody built it for.
///
/// # Errors
/// [`CommitError::Lineage`], [`CommitError::Write`].
pub(super) fn build(room: &Room) -> Result<(), CommitError> {
    let failed = |source| CommitError::Write { path: room.shelf.directory().into(), source };
    if room.shelf.has_names().map_err(failed)? {
        return Ok(());
    }
    let mut published = room.store.attestations(AttestationQuery::All, usize::MAX)?;
    published.reverse();
    published.retain(|attestation| attestation.kind.vouches());
    if !published.is_empty() {
        tracing::info!(attestations = published.len(), "the indexes of names and files are built");
    }
    let (mut names, mut files) = (Vec::new(), Vec::new());
    for attestation in &published {
        names.extend(names_of(room, attestation)?);
        files.extend(files_of(room, attestation)?);
    }
    names.extend(models(room, &published));
    let writer = room.files.as_ref();
    room.shelf.replace_files(writer, files.iter()).map_err(failed)?;
    room.shelf.replace_names(writer, names.iter()).map_err(failed)
}

fn names_of(room: &Room, attestation: &Attestation) -> Result<Vec<NameLine>, LineageError> {
    let Attestation { statement, .. } = *attestation;
    let root = root_of(attestation);
    let line = |name: &str, content| NameLine { key: name_key(root, name), content, statement };
    let subjects = room.store.subjects(&statement)?;
    let names = subjects.iter().map(|subject| line(&subject.name, subject.digests.sha256));
    Ok(names.chain([line(ROOT, statement)]).collect())
}

/// The files that still hold what was attested, as far as anybody knows.
fn files_of(room: &Room, attestation: &Attestation) -> Result<Vec<FileLine>, LineageError> {
    let statement = attestation.statement;
    let mut files = Vec::new();
    for subject in room.store.subjects(&statement)? {
        let version = subject.version.map(|version| room.store.version(version)).transpose()?;
        let version = version.flatten().filter(|version| !version.gone);
        let version = version.filter(|version| version.digests == Some(subject.digests));
        let identity = version.and_then(|version| version.identity);
        let digests = subject.digests;
        files.extend(identity.map(|identity| FileLine { identity, digests, statement }));
    }
    Ok(files)
}

/// The model signatures that lie in the roots now, where the newest statement about a root was
/// signed by the same key. Of earlier ones nobody knows the digest any more.
fn models(room: &Room, published: &[Attestation]) -> Vec<NameLine> {
    let newest: BTreeMap<&str, &Attestation> =
        published.iter().map(|attestation| (root_of(attestation), attestation)).collect();
    let models = newest.into_iter().filter_map(|(root, attestation)| {
        let content = model_in(room, root, &attestation.signer).ok()??;
        let key = name_key(root, MODEL_SIGNATURE_FILE);
        Some(NameLine { key, content, statement: attestation.statement })
    });
    models.collect()
}

fn model_in(room: &Room, root: &str, signer: &str) -> io::Result<Option<Sha256>> {
    let directory = Directory::open(&room.trees, root, "")?;
    let file = directory.open_file(MODEL_SIGNATURE_FILE.as_ref())?;
    let mut bytes = Vec::new();
    file.take(BUNDLE_MAX as u64).read_to_end(&mut bytes)?;
    let bundle = Bundle::parse(&bytes).ok();
    let bundle = bundle.filter(|bundle| bundle.signer() == SignerHint::Key(signer.to_owned()));
    Ok(bundle.map(|bundle| bundle.sha256()))
}

/// As statements have it: the store leaves out the slash of the root directory.
fn root_of(attestation: &Attestation) -> &str {
    match attestation.artifact_root.as_str() {
        "" => "/",
        root => root,
    }
}
