//! The steps of a commit after it is frozen, as types that consume each other.

use std::{collections::BTreeSet, io};

use attestfs_attestation::{Bundle, CLAIMS_FILE, Claims, MODEL_SIGNATURE_FILE, Payload, pae};
use attestfs_digest::Sha256;
use attestfs_fs::Identity;
use rustix::io::Errno;

use super::{
    CommitError, Evidence, Room,
    beneath::Directory,
    beside::{Obstacles, obstacles},
    enter::{enter, enter_again, enter_model, newer},
    record::{Artifact, Model, Record, Statement},
};
use crate::{
    config::StopAt,
    control::{ArtifactReport, CommitReport, ModelSignature},
    lineage::{FrozenCommit, PublishedAttestation, RunId},
    publication::Mentions,
    signer::Signer,
};

/// The most bytes of ancestors' bundles and manifests that travel with an artifact.
const CLAIMS_BYTES_MAX: usize = 32 << 20;

/// Why nothing is put beside the content by a commit that waited.
const OVERTAKEN: &str = "a commit that was made later has published there already";

/// What will be said is on disk, to the byte.
#[derive(Debug)]
#[must_use = "a frozen commit waits to be published"]
pub struct Frozen {
    record: Record,
    /// Left by an earlier attempt: others may have been published since.
    resumed: bool,
}

/// The platform was asked for evidence.
#[derive(Debug)]
#[must_use = "a commit is not published yet"]
pub struct Quoted {
    record: Record,
    resumed: bool,
    #[expect(dead_code, reason = "uninhabited until a platform has something to say")]
    evidence: Option<Evidence>,
}

/// Each statement is in a signed envelope, in memory.
#[derive(Debug)]
#[must_use = "a commit is not published yet"]
pub struct Signed {
    record: Record,
    resumed: bool,
    envelopes: Vec<Envelopes>,
}

/// Others can find the attestations, and the store knows it.
#[derive(Debug)]
pub struct Published {
    report: CommitReport,
}

/// The signed envelopes of one artifact.
#[derive(Debug)]
struct Envelopes {
    statement: Option<Bundle>,
    model: Option<Bundle>,
}

impl Frozen {
    /// Keeps a record until it is published.
    pub(super) fn keep(room: &Room, record: Record) -> Result<Self, CommitError> {
        room.store.freeze(&record.commit, &record.to_bytes()?)?;
        room.reached(StopAt::Frozen);
        Ok(Self { record, resumed: false })
    }

    /// Takes up a commit where an earlier daemon left it.
    ///
    /// # Errors
    /// [`CommitError::Record`].
    pub fn resume(frozen: &FrozenCommit) -> Result<Self, CommitError> {
        let record = Record::parse(frozen)?;
        Ok(Self { record, resumed: true })
    }

    /// What must stay on the shelf until this is published.
    pub(crate) fn mentions(&self) -> Mentions {
        let mut mentions = Mentions::default();
        for (_, statement) in self.record.statements() {
            let Mentions { attestations, manifests } = Mentions::of(&statement.payload.0);
            mentions.attestations.extend(attestations);
            mentions.attestations.extend(&statement.ancestors);
            mentions.manifests.extend(manifests);
        }
        mentions
    }

    /// Of which run it is.
    pub(crate) fn run(&self) -> &RunId {
        &self.record.run
    }

    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    /// Tells the store that the run is over, when this commit says so. Told again, nothing happens.
    ///
    /// # Errors
    /// [`CommitError::Lineage`].
    pub fn end_run(&self, room: &Room) -> Result<(), CommitError> {
        match self.record.end() {
            Some(end) => Ok(room.store.end(&self.record.run, &end)?),
            None => Ok(()),
        }
    }

    /// Asks the platform for evidence about these statements.
    ///
    /// # Errors
    /// [`CommitError::Quote`].
    pub fn quote(self, room: &Room) -> Result<Quoted, CommitError> {
        let statements = self.record.statements();
        let names: Vec<_> = statements.map(|(_, it)| it.payload.0.sha256()).collect();
        let evidence = room.attester.quote(&names)?;
        room.reached(StopAt::Quoted);
        let Self { record, resumed } = self;
        Ok(Quoted { record, resumed, evidence })
    }
}

impl Quoted {
    /// Signs each statement.
    ///
    /// # Errors
    /// [`CommitError::KeyAbsent`], [`CommitError::KeyFile`], [`CommitError::Signing`].
    pub fn sign(self, room: &Room) -> Result<Signed, CommitError> {
        let key = room.key(self.record.signer)?;
        let artifacts = self.record.artifacts.iter();
        let envelopes = artifacts
            .map(|artifact| Envelopes::sign(artifact, key.as_ref()))
            .collect::<Result<_, _>>()?;
        room.reached(StopAt::Signed);
        let Self { record, resumed, .. } = self;
        Ok(Signed { record, resumed, envelopes })
    }
}

impl Envelopes {
    fn sign(artifact: &Artifact, key: &dyn Signer) -> Result<Self, CommitError> {
        let signed = |payload: &Payload| key.sign(&pae(payload));
        let statement = match &artifact.statement {
            Some(Statement { payload, .. }) => {
                let signature = signed(&payload.0)?;
                Some(Bundle::attestation(payload.0.clone(), signature, key.hint()))
            }
            None => None,
        };
        let model = match &artifact.model {
            Model::Asked(payload) => {
                let signature = signed(&payload.0)?;
                Some(Bundle::model_signature(payload.0.clone(), signature, key.hint()))
            }
            Model::Refused(_) | Model::NotAsked => None,
        };
        Ok(Self { statement, model })
    }
}

impl Signed {
    /// Puts the bundles where they are looked for, and then tells the store. Each effect can be
    /// done again.
    ///
    /// # Errors
    /// [`CommitError::Write`], [`CommitError::Lineage`].
    pub fn publish(self, room: &Room) -> Result<Published, CommitError> {
        let mut overtaken = Vec::new();
        for (artifact, envelopes) in self.artifacts() {
            let newer = self.newer(room, artifact)?;
            self.shelve(room, artifact, envelopes, &newer)?;
            overtaken.push(!newer.is_empty());
        }
        room.reached(StopAt::Bundles);
        let reports = self
            .artifacts()
            .zip(overtaken)
            .map(|((artifact, envelopes), overtaken)| {
                accompany(room, artifact, envelopes, overtaken)
            })
            .collect::<Result<_, _>>()?;
        room.reached(StopAt::Claims);
        let report = CommitReport { commit: self.record.commit.clone(), artifacts: reports };
        room.keep_report(&self.record.run, &report)?;
        let attestations: Vec<_> = self.record.statements().map(|it| self.published(it)).collect();
        room.store.publish(&self.record.commit, &attestations)?;
        room.reached(StopAt::Published);
        Ok(Published { report })
    }

    /// What was made later, and is published already.
    fn newer(&self, room: &Room, artifact: &Artifact) -> Result<BTreeSet<Sha256>, CommitError> {
        if self.resumed && self.record.kind.vouches() {
            return newer(room, &self.record, artifact);
        }
        Ok(BTreeSet::new())
    }

    /// Puts the bundle of an artifact's statement into the state directory, and into the indexes what
    /// it speaks of. The bundle comes first, so that no line leads to nothing.
    fn shelve(
        &self,
        room: &Room,
        artifact: &Artifact,
        envelopes: &Envelopes,
        newer: &BTreeSet<Sha256>,
    ) -> Result<(), CommitError> {
        let (Some(statement), Some(bundle)) = (&artifact.statement, &envelopes.statement) else {
            return Ok(());
        };
        let name = bundle.sha256();
        let subjects = statement.subjects.iter().map(|subject| subject.digests.sha256);
        let subjects: BTreeSet<Sha256> =
            subjects.chain(statement.manifests.iter().copied()).collect();
        room.shelf
            .put_bundle(room.files.as_ref(), name, &bundle.to_json())
            .and_then(|()| room.shelf.index(room.files.as_ref(), name, subjects.into_iter()))
            .and_then(|()| self.enter(room, artifact, statement, newer))
            .map_err(|source| CommitError::Write { path: room.shelf.bundle_path(name), source })
    }

    fn enter(
        &self,
        room: &Room,
        artifact: &Artifact,
        statement: &Statement,
        newer: &BTreeSet<Sha256>,
    ) -> io::Result<()> {
        if self.record.kind.vouches() {
            enter(room, artifact, statement)?;
        }
        if !newer.is_empty() {
            enter_again(room, artifact, statement, newer)?;
        }
        Ok(())
    }

    fn artifacts(&self) -> impl Iterator<Item = (&Artifact, &Envelopes)> {
        self.record.artifacts.iter().zip(&self.envelopes)
    }

    fn published(&self, (artifact, statement): (&Artifact, &Statement)) -> PublishedAttestation {
        PublishedAttestation {
            statement: statement.payload.0.sha256(),
            kind: self.record.kind,
            run: self.record.run.clone(),
            stage: self.record.stage.clone(),
            artifact_root: artifact.root(),
            subjects: statement.subjects.clone(),
            signer: self.record.signer.to_string(),
            time: self.record.finished,
            predicate_type: statement.predicate_type.clone(),
        }
    }
}

impl Published {
    /// What was made.
    pub fn into_report(self) -> CommitReport {
        self.report
    }
}

/// Publishes beside the content, and tells what was made of the artifact.
fn accompany(
    room: &Room,
    artifact: &Artifact,
    envelopes: &Envelopes,
    overtaken: bool,
) -> Result<ArtifactReport, CommitError> {
    let model_signature = match artifact.model {
        Model::NotAsked => ModelSignature::NotAsked,
        // What lies there speaks of what is there.
        _ if overtaken => ModelSignature::Refused(OVERTAKEN.to_owned()),
        _ => model_signature(room, artifact, envelopes)?,
    };
    let statement = artifact.statement.as_ref();
    Ok(ArtifactReport {
        root: artifact.root(),
        statement: statement.map(|it| it.payload.0.sha256()),
        unattested: artifact.unattested.clone(),
        predicate_type: statement.map(|it| it.predicate_type.clone()),
        subjects: statement.map_or(0, |it| it.subjects.len()),
        left_out: artifact.left_out.clone(),
        model_signature,
    })
}

/// Writes `claims.jsonl` and `model.sig`, where that was asked for.
fn model_signature(
    room: &Room,
    artifact: &Artifact,
    envelopes: &Envelopes,
) -> Result<ModelSignature, CommitError> {
    let obstacle = match write_beside(room, artifact, envelopes) {
        Ok(obstacles) => obstacles.map(|obstacles| obstacles.to_string()),
        Err(CommitError::Write { source, .. }) if is_lasting(&source) => {
            Some(format!("the directory cannot be written: {source}"))
        }
        Err(error) => return Err(error),
    };
    let refusal = match &artifact.model {
        Model::Refused(reason) => Some(reason.clone()),
        Model::Asked(_) | Model::NotAsked => obstacle,
    };
    Ok(refusal.map_or(ModelSignature::Written, ModelSignature::Refused))
}

/// Writes each file whose place is free, or holds an earlier one of ours; no signature without the
/// claims that belong to it, and none that is not entered. Says what was in the way.
fn write_beside(
    room: &Room,
    artifact: &Artifact,
    envelopes: &Envelopes,
) -> Result<Option<Obstacles>, CommitError> {
    let (Some(statement), Some(bundle)) = (&artifact.statement, &envelopes.statement) else {
        return Ok(None);
    };
    let failed = |source| beside(artifact, source);
    let directory = same_directory(room, artifact).map_err(failed)?;
    let obstacles = obstacles(room.store.as_ref(), &directory)?;
    if !obstacles.as_ref().is_some_and(|obstacles| obstacles.take(CLAIMS_FILE)) {
        let claims = claims(room, statement, bundle).map_err(failed)?.to_jsonl();
        room.files.replace(directory.file(), CLAIMS_FILE, &claims).map_err(failed)?;
    }
    if let (Some(model), None) = (&envelopes.model, &obstacles) {
        enter_model(room, artifact, bundle.sha256(), model.sha256())
            .map_err(|source| CommitError::Write { path: room.shelf.directory().into(), source })?;
        let model = model.to_json();
        room.files.replace(directory.file(), MODEL_SIGNATURE_FILE, &model).map_err(failed)?;
    }
    Ok(obstacles)
}

/// The directory that was frozen, if it is still in its place.
fn same_directory(room: &Room, artifact: &Artifact) -> io::Result<Directory> {
    let directory = Directory::open(&room.trees, &artifact.tree, &artifact.path)?;
    if Some(Identity::of(directory.file())?.file) != artifact.directory {
        let reason = "another directory has taken its place";
        return Err(io::Error::new(io::ErrorKind::NotFound, reason));
    }
    Ok(directory)
}

/// Whether trying again would end the same way: then the commit is published without files beside
/// the content, instead of waiting for ever.
fn is_lasting(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    error.kind() == io::ErrorKind::NotFound
        || matches!(
            errno,
            Some(
                Errno::NOTDIR
                    | Errno::ACCESS
                    | Errno::PERM
                    | Errno::ROFS
                    | Errno::LOOP
                    | Errno::XDEV
                    | Errno::ISDIR
            )
        )
}

fn beside(artifact: &Artifact, source: io::Error) -> CommitError {
    CommitError::Write { path: super::beneath::system_path(&artifact.root()), source }
}

/// The artifact's own bundle, those of its ancestors as far as they are on the shelf, and the
/// manifests that these speak of.
fn claims(room: &Room, statement: &Statement, own: &Bundle) -> io::Result<Claims> {
    let mut claims = Claims::default();
    let mut bytes = 0;
    take_along(room, own.clone(), &statement.manifests, &mut claims, &mut bytes)?;
    for ancestor in &statement.ancestors {
        let Some(bundle) = room.shelf.bundle(*ancestor)? else {
            continue;
        };
        let Ok(bundle) = Bundle::parse(&bundle) else {
            tracing::warn!(statement = %ancestor, "a bundle on the shelf is damaged");
            continue;
        };
        let manifests: Vec<_> = Mentions::of(bundle.payload()).manifests.into_iter().collect();
        take_along(room, bundle, &manifests, &mut claims, &mut bytes)?;
        if bytes > CLAIMS_BYTES_MAX {
            break;
        }
    }
    Ok(claims)
}

fn take_along(
    room: &Room,
    bundle: Bundle,
    manifests: &[Sha256],
    claims: &mut Claims,
    bytes: &mut usize,
) -> io::Result<()> {
    *bytes += bundle.payload().bytes().len();
    claims.bundles.push(bundle);
    for manifest in manifests {
        if let Some(manifest) = room.shelf.manifest(*manifest)? {
            *bytes += manifest.len();
            claims.manifests.push(manifest);
        }
    }
    Ok(())
}
