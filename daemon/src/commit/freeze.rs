//! Deciding, once and for all, what a commit says.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ffi::OsStr,
    io,
};

use attestfs_attestation::{
    ArtifactRoot, Commit, CommitKind, KeyHint, LeftOut, LockUse, Manifest, Material as Dependency,
    MaterialDigests, Output as Product, RunDescription, file_uri, is_canonical, is_publication,
    unescaped,
};
use attestfs_digest::Sha256;
use attestfs_fs::{Identity, TreePath};

use super::{
    CommitError, Room,
    beneath::{Directory, system_path},
    model,
    record::{Artifact, Model, Record, Statement, Text, join},
};
use crate::{
    control::{ArtifactOrder, CommitOrder},
    lineage::{
        LineageError, LineageStore, Material, MaterialDigest, Output, OutputState, Run, RunOutputs,
        Subject, VersionId,
    },
    publication::Occupant,
};

/// The most attestations of ancestors that travel with an artifact.
const ANCESTORS_MAX: usize = 256;

/// Why an artifact has no statement, mostly.
const NOTHING_WRITTEN: &str = "the run wrote nothing there; what was attested before stays";
const NOTHING_SEALED: &str = "nothing that the run wrote there could be attested";

/// Why a file is no subject that would speak of itself, or takes the name of what does.
const NAMED_LIKE_AN_ATTESTATION: &str = "only attestations have this name: rename it";

/// Writes down what the order's statements say. Of the effects of a commit this has one: manifests
/// are put on the shelf, where they are found by their digest and nobody minds them.
pub(super) fn freeze(room: &Room, order: &CommitOrder) -> Result<Record, CommitError> {
    let unknown = || LineageError::UnknownRun(order.run.clone());
    let run = room.store.run(&order.run)?.ok_or_else(unknown)?;
    check_end(&run, order)?;
    let materials = room.store.materials(&order.run)?;
    let view = View {
        room,
        order,
        outputs: room.store.outputs(&order.run)?,
        ancestors: ancestors(room.store.as_ref(), &materials)?,
        dependencies: materials.iter().map(|it| dependency(&run, it)).collect(),
        run,
    };
    let artifacts = order.artifacts.iter().map(|artifact| view.artifact(artifact));
    Ok(Record {
        commit: order.id.clone(),
        run: order.run.clone(),
        stage: view.run.description.stage.clone(),
        kind: order.kind,
        finished: order.finished,
        signer: signer(room, order)?,
        artifacts: artifacts.collect::<Result<_, _>>()?,
    })
}

/// A run that has ended makes no checkpoint, and does not end otherwise.
fn check_end(run: &Run, order: &CommitOrder) -> Result<(), LineageError> {
    match (&run.end, order.kind) {
        (None, _) => Ok(()),
        (Some(_), CommitKind::Checkpoint) => Err(LineageError::RunEnded(run.id())),
        (Some(end), CommitKind::StageEnd(outcome)) => {
            let same = (end.outcome, end.finished) == (outcome, order.finished);
            same.then_some(()).ok_or_else(|| LineageError::EndDiffers(run.id()))
        }
    }
}

/// What the store knows of the run, and the order.
struct View<'a> {
    room: &'a Room,
    order: &'a CommitOrder,
    run: Run,
    outputs: RunOutputs,
    dependencies: Vec<Dependency>,
    ancestors: Vec<Sha256>,
}

/// A file that is a subject.
struct Sealed {
    product: Product,
    version: VersionId,
    identity: Identity,
}

/// What can be said of the files of one artifact, by name.
#[derive(Default)]
struct Gathered {
    products: BTreeMap<String, Sealed>,
    left_out: BTreeMap<String, String>,
}

impl Gathered {
    /// A file is a subject by each of its names that still holds, and left out when none does.
    fn take(&mut self, output: &Output, scope: &Scope<'_>, directory: &Directory) {
        let mut broken = BTreeMap::new();
        let mut holds = false;
        let names = output.names().filter_map(|path| scope.name(path));
        for name in names.filter(|name| !is_attestation(directory, name)) {
            match sealed(directory, name, &output.state) {
                Ok((product, identity)) => {
                    let sealed = Sealed { product, version: output.version, identity };
                    self.products.insert(name.to_owned(), sealed);
                    holds = true;
                }
                Err(reason) => {
                    broken.insert(name.to_owned(), reason);
                }
            }
        }
        if !holds {
            self.left_out.append(&mut broken);
        }
    }
}

impl View<'_> {
    /// What is said of one directory. One that is missing, or holds nothing of this run, does not
    /// keep the others from being attested.
    fn artifact(&self, order: &ArtifactOrder) -> Result<Artifact, CommitError> {
        let tree = self.tree(order)?;
        let root = join(tree, &order.path);
        let opened = Directory::open(&self.room.trees, tree, &order.path)
            .and_then(|directory| Ok((Identity::of(directory.file())?.file, directory)));
        let (key, directory) = match opened {
            Ok(opened) => opened,
            Err(error) => return Ok(unattested(tree, order, &error)),
        };
        let gathered = self.gather(&Scope::of(order), &directory);
        let left_out = left_out(&gathered);
        let statement = self.statement(&root, gathered, &left_out)?;
        let nothing = if left_out.is_empty() { NOTHING_WRITTEN } else { NOTHING_SEALED };
        let nothing = statement.is_none().then(|| nothing.to_owned());
        Ok(Artifact {
            tree: tree.to_owned(),
            path: order.path.clone(),
            directory: Some(key),
            model: match (&nothing, self.signs_model(order)) {
                (_, false) => Model::NotAsked,
                // A stage that found its work done (make, a resumed job) is no failure.
                (Some(_), true) if left_out.is_empty() => Model::NotAsked,
                (Some(reason), true) => Model::Refused(reason.clone()),
                (None, true) => self.model(order, &directory, &left_out)?,
            },
            statement,
            unattested: nothing,
            left_out,
        })
    }

    fn signs_model(&self, order: &ArtifactOrder) -> bool {
        order.model_signature && self.order.kind.vouches()
    }

    fn tree(&self, order: &ArtifactOrder) -> Result<&str, CommitError> {
        let tree = self.run.description.trees.get(usize::from(order.tree));
        tree.filter(|_| order.path.is_empty() || is_canonical(&order.path))
            .map(String::as_str)
            .ok_or_else(|| CommitError::Order { tree: order.tree, path: order.path.clone() })
    }

    /// The run's outputs below the artifact's root, as far as they are still what was sealed. Of
    /// several versions that once had one name, the one that is there counts.
    fn gather(&self, scope: &Scope<'_>, directory: &Directory) -> Gathered {
        let mut gathered = Gathered::default();
        for output in &self.outputs.kept {
            gathered.take(output, scope, directory);
        }
        let Gathered { products, left_out } = &mut gathered;
        left_out.retain(|name, _| !products.contains_key(name));
        let unsettled = scope.unsettled.iter();
        left_out.extend(unsettled.map(|(name, reason)| ((*name).to_owned(), (*reason).to_owned())));
        gathered
    }

    fn statement(
        &self,
        root: &str,
        gathered: Gathered,
        left_out: &[LeftOut],
    ) -> Result<Option<Statement>, CommitError> {
        if gathered.products.is_empty() {
            return Ok(None);
        }
        let subjects = gathered.products.values().map(subject).collect();
        let identities = gathered.products.values().map(|sealed| sealed.identity).collect();
        let products = gathered.products.into_values().map(|sealed| sealed.product);
        let draft = self.commit(root, products.collect(), left_out).draft()?;
        for manifest in &draft.manifests {
            self.room.put_manifest(manifest)?;
        }
        Ok(Some(Statement {
            payload: Text(draft.payload),
            predicate_type: draft.predicate_type.to_owned(),
            subjects,
            identities,
            manifests: draft.manifests.iter().map(Manifest::sha256).collect(),
            ancestors: self.ancestors.clone(),
        }))
    }

    fn lock(&self) -> Option<LockUse> {
        self.order.lock.or(self.run.description.lock)
    }

    fn commit(&self, root: &str, outputs: Vec<Product>, left_out: &[LeftOut]) -> Commit {
        Commit {
            run: RunDescription { lock: self.lock(), ..self.run.description.clone() },
            root: ArtifactRoot { name: model::base_name(root), path: root.to_owned() },
            kind: self.order.kind,
            finished: self.order.finished,
            outputs,
            left_out: left_out.to_vec(),
            materials: self.dependencies.clone(),
        }
    }

    fn model(
        &self,
        order: &ArtifactOrder,
        directory: &Directory,
        left_out: &[LeftOut],
    ) -> Result<Model, CommitError> {
        let survey = model::Survey {
            store: self.room.store.as_ref(),
            directory,
            root: &join(self.tree(order)?, &order.path),
            unsettled: left_out.iter().map(|it| (it.name.as_str(), it.reason.as_str())).collect(),
            publishing: self.publishing_below(order).collect(),
            adopt: self.order.adopt,
        };
        survey.model()
    }

    /// Directories below this one that get a signature of their own from the same commit.
    fn publishing_below<'a>(&'a self, order: &'a ArtifactOrder) -> impl Iterator<Item = &'a str> {
        let others = self.order.artifacts.iter();
        let others = others.filter(|it| self.signs_model(it) && it.tree == order.tree);
        let below = others.filter_map(|it| below(&order.path, &it.path));
        below.filter(|path| !path.is_empty())
    }
}

/// Which files of a run an artifact speaks of.
struct Scope<'a> {
    tree: u16,
    path: &'a str,
    only: Option<BTreeSet<&'a str>>,
    /// What is still being written, whatever was sealed before, and why it is no subject.
    unsettled: BTreeMap<&'a str, &'a str>,
}

impl<'a> Scope<'a> {
    fn of(order: &'a ArtifactOrder) -> Self {
        let only = order.only.as_ref();
        let unsettled = order.left_out.iter().map(|it| (it.name.as_str(), it.reason.as_str()));
        Self {
            tree: order.tree,
            path: &order.path,
            only: only.map(|names| names.iter().map(String::as_str).collect()),
            unsettled: unsettled.collect(),
        }
    }

    /// The name by which a file of the run can be a subject, if it can.
    fn name<'p>(&self, path: &'p TreePath) -> Option<&'p str> {
        let name = below(self.path, &path.path)?;
        let wanted = path.tree == self.tree
            && self.only.as_ref().is_none_or(|only| only.contains(name))
            && !self.unsettled.contains_key(name);
        wanted.then_some(name)
    }
}

/// What is said of a directory that cannot be opened: nothing, and why.
fn unattested(tree: &str, order: &ArtifactOrder, error: &io::Error) -> Artifact {
    let reason = format!("the directory cannot be opened: {error}");
    Artifact {
        tree: tree.to_owned(),
        path: order.path.clone(),
        directory: None,
        statement: None,
        model: if order.model_signature { Model::Refused(reason.clone()) } else { Model::NotAsked },
        unattested: Some(reason),
        left_out: order.left_out.clone(),
    }
}

/// The key that will sign, which must be there now: what nobody can sign is not frozen.
fn signer(room: &Room, order: &CommitOrder) -> Result<KeyHint, CommitError> {
    match order.signer {
        None => Ok(room.keys.default_key()?.hint()),
        Some(hint) => {
            room.keys.presented(hint).map(|_| hint).ok_or(CommitError::KeyAbsent { hint })
        }
    }
}

fn left_out(gathered: &Gathered) -> Vec<LeftOut> {
    let entries = gathered.left_out.iter();
    entries.map(|(name, reason)| LeftOut { name: name.clone(), reason: reason.clone() }).collect()
}

/// The name of `path` relative to `root`, when it lies below it.
fn below<'a>(root: &str, path: &'a str) -> Option<&'a str> {
    if root.is_empty() {
        return Some(path);
    }
    path.strip_prefix(root)?.strip_prefix('/')
}

fn subject(Sealed { product, version, .. }: &Sealed) -> Subject {
    Subject { name: product.name.clone(), digests: product.digests, version: Some(*version) }
}

/// Whether this is an attestation, by name and form: a run may copy one along with a model.
fn is_attestation(directory: &Directory, name: &str) -> bool {
    let path = system_path(name);
    let Some(last) = path.file_name().and_then(OsStr::to_str).filter(|_| is_publication(name))
    else {
        return false;
    };
    let occupant = directory.open_file(&path).and_then(|file| Occupant::of(file, last));
    matches!(occupant, Ok(Occupant::Publication))
}

/// The output as a subject, as it is on disk now, or why it is none.
fn sealed(
    directory: &Directory,
    name: &str,
    state: &OutputState,
) -> Result<(Product, Identity), String> {
    if is_publication(name) {
        return Err(NAMED_LIKE_AN_ATTESTATION.to_owned());
    }
    let (identity, digests) = match state {
        OutputState::Unsealed { reason } => return Err(reason.to_string()),
        OutputState::Sealed { identity, digests } => (identity, digests),
    };
    match directory.identity(&system_path(name)) {
        Ok(Some(now)) if now == *identity => {
            let product = Product { name: name.to_owned(), digests: *digests, size: now.size };
            Ok((product, now))
        }
        Ok(Some(_)) => Err("changed below the mount after it was sealed".to_owned()),
        Ok(None) => Err("gone from below the mount after it was sealed".to_owned()),
        Err(error) => Err(format!("it cannot be looked at: {error}")),
    }
}

fn dependency(run: &Run, material: &Material) -> Dependency {
    let description = &run.description;
    let tree = description.trees.get(usize::from(material.path.tree));
    let path = join(tree.map_or("", String::as_str), &material.path.path);
    Dependency {
        name: material.path.path.clone(),
        uri: file_uri(&description.host, &unescaped(&path)),
        digests: match &material.digest {
            MaterialDigest::Known { digests } => MaterialDigests::Known(*digests),
            MaterialDigest::Unknown { reason } => MaterialDigests::Unknown(reason.to_string()),
            MaterialDigest::Pending => {
                MaterialDigests::Unknown("the commit was made before it was hashed".to_owned())
            }
        },
        size: material.size.unwrap_or_default(),
        declared: description
            .declared_inputs
            .iter()
            .any(|input| path == *input || below(input.trim_end_matches('/'), &path).is_some()),
        attestation: material.attestation,
    }
}

/// The attestations behind what the run read, nearest first, as far as the store knows them.
fn ancestors(
    store: &dyn LineageStore,
    materials: &[Material],
) -> Result<Vec<Sha256>, LineageError> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let mut waiting: VecDeque<_> = attestations(materials).collect();
    let mut runs = BTreeSet::new();
    while let Some(statement) = waiting.pop_front() {
        if found.len() == ANCESTORS_MAX {
            break;
        }
        if !seen.insert(statement) {
            continue;
        }
        found.push(statement);
        let Some(attestation) = store.attestation(&statement)? else {
            continue;
        };
        if runs.insert(attestation.run.clone()) {
            waiting.extend(attestations(&store.materials(&attestation.run)?));
        }
    }
    Ok(found)
}

fn attestations(materials: &[Material]) -> impl Iterator<Item = Sha256> {
    let mut statements: Vec<_> = materials.iter().filter_map(|it| it.attestation).collect();
    statements.dedup();
    statements.into_iter()
}
