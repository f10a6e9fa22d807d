//! SLSA Provenance v1 of a run that is believed to have succeeded, at least up to a checkpoint.
//!
//! Only the predicate's own fields; ours stand under `internalParameters` and in annotations,
//! because some consumers parse the rest strictly. `FORMAT.md` documents every field.

use std::collections::BTreeMap;

use attestfs_digest::Sha256;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    manifest::{LISTED_MAX, Manifest},
    name::file_uri,
    run::{
        Commit, CommitKind, Executable, Inputs, LeftOut, LockUse, Material, MaterialDigests,
        Outcome,
    },
    statement::ResourceDescriptor,
};

/// `predicateType` of SLSA Provenance v1.
pub const PROVENANCE_TYPE: &str = "https://slsa.dev/provenance/v1";

/// `buildType`: says how to read the parameters and dependencies.
pub const BUILD_TYPE: &str = "https://attestfs.dev/build/filesystem-run/v1";

/// `builder.id`: attestfs on a machine that somebody administers, without hardware evidence.
pub const BUILDER_ID: &str = "https://attestfs.dev/builder/local/v1";

/// The predicate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provenance {
    /// What went in.
    pub build_definition: BuildDefinition,
    /// This execution.
    pub run_details: RunDetails,
}

/// What went in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildDefinition {
    /// [`BUILD_TYPE`].
    pub build_type: String,
    /// What the user said.
    pub external_parameters: ExternalParameters,
    /// What attestfs saw.
    pub internal_parameters: InternalParameters,
    /// What was read, and the program.
    #[serde(default)]
    pub resolved_dependencies: Vec<ResourceDescriptor>,
}

/// Everything that a user can influence. An unknown key is refused: it would be an influence that
/// nobody looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExternalParameters {
    /// `--stage`.
    pub stage: String,
    /// Arguments, redacted.
    pub command: Vec<String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--in`.
    pub declared_inputs: Vec<String>,
    /// `--out`.
    pub declared_outputs: Vec<String>,
    /// `--lock`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<LockUse>,
}

/// What attestfs saw around the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InternalParameters {
    /// The last component of the artifact root's path.
    pub artifact: String,
    /// The artifact root's absolute path at the time of the commit.
    pub artifact_root: String,
    /// Why the statement was made.
    pub commit: CommitWord,
    /// How the run ended.
    pub outcome: OutcomeWord,
    /// Files that the run wrote below the root and that are no subjects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// How many more of them are not listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out_unlisted: Option<String>,
    /// Which materials were hashed.
    pub inputs: Inputs,
    /// How many materials without digest are not listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub materials_unlisted: Option<String>,
    /// Absolute paths of the trees that were observed.
    pub trees: Vec<String>,
    /// Absolute.
    pub working_directory: String,
    /// Of the user.
    pub uid: u32,
    /// Node name.
    pub host: String,
    /// Name, release, version.
    pub kernel: String,
    /// Of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
}

/// `internalParameters.commit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommitWord {
    /// The run was over.
    StageEnd,
    /// The run went on.
    Checkpoint,
}

/// `internalParameters.outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutcomeWord {
    /// A checkpoint: the run had not ended.
    Running,
    /// The command exited with 0.
    Success,
    /// It did not.
    Failed,
    /// Nobody saw the end.
    Unknown,
}

/// This execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunDetails {
    /// Who observed.
    pub builder: Builder,
    /// Which run, when.
    pub metadata: Metadata,
}

/// Who observed the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Builder {
    /// [`BUILDER_ID`].
    pub id: String,
    /// Component and version.
    #[serde(default)]
    pub version: BTreeMap<String, String>,
}

/// Which run, when. Times are UTC and end in `Z`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// The run's id.
    pub invocation_id: String,
    /// When the command was started.
    pub started_on: Timestamp,
    /// When it ended, or the time of the checkpoint.
    pub finished_on: Timestamp,
}

impl Provenance {
    /// What a commit says, and the manifests that it refers to.
    pub(crate) fn of(commit: &Commit) -> (Self, Vec<Manifest>) {
        let materials = Dependencies::of(commit);
        let provenance = Self {
            build_definition: BuildDefinition {
                build_type: BUILD_TYPE.to_owned(),
                external_parameters: external_parameters(commit),
                internal_parameters: internal_parameters(commit, materials.unlisted),
                resolved_dependencies: materials.descriptors,
            },
            run_details: run_details(commit),
        };
        (provenance, materials.manifests)
    }
}

fn external_parameters(commit: &Commit) -> ExternalParameters {
    let run = &commit.run;
    ExternalParameters {
        stage: run.stage.clone(),
        command: run.command.clone(),
        labels: run.labels.clone(),
        declared_inputs: run.declared_inputs.clone(),
        declared_outputs: run.declared_outputs.clone(),
        lock: run.lock,
    }
}

fn internal_parameters(commit: &Commit, materials_unlisted: usize) -> InternalParameters {
    let run = &commit.run;
    let mut left_out = commit.left_out.clone();
    left_out.sort_unstable_by(|left, right| left.name.cmp(&right.name));
    let left_out_unlisted = left_out.len().saturating_sub(LISTED_MAX);
    left_out.truncate(LISTED_MAX);
    InternalParameters {
        artifact: commit.root.name.clone(),
        artifact_root: commit.root.path.clone(),
        commit: commit.kind.into(),
        outcome: commit.kind.into(),
        left_out,
        left_out_unlisted: count(left_out_unlisted),
        inputs: run.inputs,
        materials_unlisted: count(materials_unlisted),
        trees: run.trees.clone(),
        working_directory: run.working_directory.clone(),
        uid: run.uid,
        host: run.host.clone(),
        kernel: run.kernel.clone(),
        cgroup: run.cgroup.clone(),
    }
}

fn run_details(commit: &Commit) -> RunDetails {
    let version = BTreeMap::from([("attestfs".to_owned(), commit.run.attestfs_version.clone())]);
    RunDetails {
        builder: Builder { id: BUILDER_ID.to_owned(), version },
        metadata: Metadata {
            invocation_id: commit.run.id.clone(),
            started_on: commit.run.started,
            finished_on: commit.finished,
        },
    }
}

/// A number as text, and nothing for none.
fn count(number: usize) -> Option<String> {
    (number > 0).then(|| number.to_string())
}

impl From<CommitKind> for CommitWord {
    fn from(kind: CommitKind) -> Self {
        match kind {
            CommitKind::StageEnd(_) => Self::StageEnd,
            CommitKind::Checkpoint => Self::Checkpoint,
        }
    }
}

impl From<CommitKind> for OutcomeWord {
    fn from(kind: CommitKind) -> Self {
        match kind {
            CommitKind::Checkpoint => Self::Running,
            CommitKind::StageEnd(Outcome::Success) => Self::Success,
            CommitKind::StageEnd(Outcome::Failed { .. }) => Self::Failed,
            CommitKind::StageEnd(Outcome::Unknown) => Self::Unknown,
        }
    }
}

/// `annotations.role` of a dependency.
pub(crate) mod role {
    /// A file that was read.
    pub(crate) const MATERIAL: &str = "material";
    /// A manifest of files that were read.
    pub(crate) const MATERIALS: &str = "materials";
    /// The program.
    pub(crate) const EXECUTABLE: &str = "executable";
    /// An attestation that published some file of a manifest.
    pub(crate) const ATTESTATION: &str = "attestation";
}

struct Dependencies {
    descriptors: Vec<ResourceDescriptor>,
    manifests: Vec<Manifest>,
    unlisted: usize,
}

impl Dependencies {
    fn of(commit: &Commit) -> Self {
        let mut materials: Vec<&Material> = commit.materials.iter().collect();
        materials.sort_by_key(|material| order(material));
        let mut dependencies = if materials.len() > LISTED_MAX {
            Self::in_manifests(&materials)
        } else {
            Self::listed(&materials)
        };
        let executable = commit.run.executable.as_ref();
        dependencies
            .descriptors
            .extend(executable.map(|program| executable_descriptor(&commit.run.host, program)));
        dependencies
    }

    fn listed(materials: &[&Material]) -> Self {
        Self {
            descriptors: materials.iter().map(|material| material_descriptor(material)).collect(),
            manifests: Vec::new(),
            unlisted: 0,
        }
    }

    /// One manifest of what was declared and one of what was not, so that a policy can still refuse
    /// the second; then each attestation that published any of them, once.
    fn in_manifests(materials: &[&Material]) -> Self {
        let mut dependencies = Self {
            descriptors: Vec::new(),
            manifests: Vec::new(),
            unlisted: materials.iter().filter(|material| known(material).is_none()).count(),
        };
        dependencies.add_manifest(materials, true, "materials.declared.manifest");
        dependencies.add_manifest(materials, false, "materials.undeclared.manifest");
        let attestations: std::collections::BTreeSet<Sha256> =
            materials.iter().filter_map(|material| material.attestation).collect();
        dependencies.descriptors.extend(attestations.into_iter().map(attestation_descriptor));
        dependencies
    }

    fn add_manifest(&mut self, materials: &[&Material], declared: bool, name: &str) {
        let manifest = Manifest::of(
            materials
                .iter()
                .filter(|material| material.declared == declared)
                .filter_map(|material| known(material)),
        );
        if manifest.files() == 0 {
            return;
        }
        self.descriptors.push(
            manifest_descriptor(name, &manifest)
                .annotated("role", role::MATERIALS)
                .annotated("declared", declared),
        );
        self.manifests.push(manifest);
    }
}

/// The same materials make the same statement, in whatever order they were seen.
fn order(material: &Material) -> (&str, &str, Option<Sha256>, Option<Sha256>) {
    let sha256 = known(material).map(|(_, sha256)| sha256);
    (&material.uri, &material.name, sha256, material.attestation)
}

fn known(material: &Material) -> Option<(&str, Sha256)> {
    match &material.digests {
        MaterialDigests::Known(digests) => Some((&material.name, digests.sha256)),
        MaterialDigests::Unknown(_) => None,
    }
}

fn material_descriptor(material: &Material) -> ResourceDescriptor {
    let descriptor = match &material.digests {
        MaterialDigests::Known(digests) => {
            ResourceDescriptor::file(&material.name, digests, material.size)
        }
        MaterialDigests::Unknown(reason) => ResourceDescriptor {
            name: Some(material.name.clone()),
            ..ResourceDescriptor::default()
        }
        .annotated("digestUnknown", reason)
        .annotated("size", material.size),
    };
    let descriptor = ResourceDescriptor { uri: Some(material.uri.clone()), ..descriptor }
        .annotated("role", role::MATERIAL)
        .annotated("declared", material.declared);
    match material.attestation {
        Some(attestation) => descriptor.annotated("attestation", attestation),
        None => descriptor,
    }
}

fn executable_descriptor(host: &str, program: &Executable) -> ResourceDescriptor {
    let name = program.path.rsplit('/').next().unwrap_or_default();
    let descriptor = match program.sha256 {
        Some(sha256) => ResourceDescriptor::named(name, sha256),
        None => ResourceDescriptor { name: Some(name.to_owned()), ..ResourceDescriptor::default() }
            .annotated("digestUnknown", "it could not be read"),
    };
    ResourceDescriptor { uri: Some(file_uri(host, program.path.as_bytes())), ..descriptor }
        .annotated("role", role::EXECUTABLE)
}

fn attestation_descriptor(attestation: Sha256) -> ResourceDescriptor {
    ResourceDescriptor {
        media_type: Some(crate::bundle::PAYLOAD_TYPE.to_owned()),
        ..ResourceDescriptor::named(&attestation.to_string(), attestation)
    }
    .annotated("role", role::ATTESTATION)
}

/// A manifest in place of the list that it holds.
pub(crate) fn manifest_descriptor(name: &str, manifest: &Manifest) -> ResourceDescriptor {
    ResourceDescriptor {
        media_type: Some("text/plain".to_owned()),
        ..ResourceDescriptor::named(name, manifest.sha256())
    }
    .annotated("manifest", MANIFEST_FORMAT)
    .annotated("files", manifest.files())
}

/// `annotations.manifest` of a descriptor that stands for a list.
pub(crate) const MANIFEST_FORMAT: &str = "sha256sum";
