//! What a store has published, in memory: signed statements about files that lie somewhere.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
};

use attestfs_attestation::{
    ArtifactRoot, Attestations, Bundle, BundleError, Claims, Commit, CommitKind, Outcome, Output,
    Publication, Publications, SigningKey, Unavailable,
};
use attestfs_digest::Sha256;
use attestfs_fs::{BundleSource, FileKey, Identity, Maker, PublishedFile};
use parking_lot::{Mutex, MutexGuard};
use serde_json::json;

use super::digests_of;

/// Shared by its clones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store(Arc<Mutex<Shelf>>, Arc<Mutex<()>>);

#[derive(Debug, Default)]
struct Shelf {
    bundles: BTreeMap<Sha256, Bundle>,
    manifests: HashMap<Sha256, Vec<u8>>,
    /// By content, the oldest first.
    naming: HashMap<Sha256, Vec<Sha256>>,
    /// By absolute path.
    names: HashMap<String, Vec<Publication>>,
    files: HashMap<FileKey, Vec<(Identity, PublishedFile)>>,
    generation: u64,
    /// How often something was published under names.
    objections: u64,
    is_away: bool,
    /// How often somebody asked whether a file was published.
    asked: u64,
    /// How often somebody asked which attestations name a content.
    searched: u64,
}

impl Store {
    /// A stage `stage` ends and publishes the files of these names below `root`, as they are now.
    pub(crate) fn publish(
        &self,
        key: &SigningKey,
        stage: &str,
        root: &Path,
        names: &[&str],
    ) -> Sha256 {
        self.publish_as(key, stage, CommitKind::StageEnd(Outcome::Success), root, names)
    }

    pub(crate) fn publish_as(
        &self,
        key: &SigningKey,
        stage: &str,
        kind: CommitKind,
        root: &Path,
        names: &[&str],
    ) -> Sha256 {
        let (statement, subjects) = self.put(key, stage, kind, root, names);
        let root: PathBuf = root.components().collect();
        let shelf = &mut *self.0.lock();
        shelf.objections += 1;
        for (name, content) in [(String::new(), statement)].into_iter().chain(subjects) {
            let entry = shelf.names.entry(format!("{}/{name}", root.display())).or_default();
            entry.push(Publication { statement, content });
        }
        statement
    }

    /// As when something is published, but under no name: it only speaks for what it is about.
    pub(crate) fn attest(&self, key: &SigningKey, root: &Path, names: &[&str]) {
        self.put(key, "train", CommitKind::StageEnd(Outcome::Success), root, names);
    }

    /// The statement, and what it is about.
    fn put(
        &self,
        key: &SigningKey,
        stage: &str,
        kind: CommitKind,
        root: &Path,
        names: &[&str],
    ) -> (Sha256, Vec<(String, Sha256)>) {
        // Statements end no path in a slash.
        let root: &Path = &root.components().collect::<PathBuf>();
        let draft = commit(stage, kind, root, names).draft().unwrap();
        let bundle = Bundle::sign_attestation(draft.payload, key).unwrap();
        let statement = bundle.sha256();
        let shelf = &mut *self.0.lock();
        shelf.generation += 1;
        shelf.bundles.insert(statement, bundle);
        for manifest in draft.manifests {
            shelf.manifests.insert(manifest.sha256(), manifest.bytes().to_vec());
        }
        for name in names {
            let path = root.join(name);
            let digests = digests_of(&path);
            shelf.naming.entry(digests.sha256).or_default().push(statement);
            let identity = Identity::of(File::open(&path).unwrap()).unwrap();
            let published = PublishedFile {
                content: digests.sha256,
                digests: Some(digests),
                statement,
                stage: stage.to_owned(),
                run: format!("{stage}-1"),
                signer: key.verifying_key().hint().to_string(),
            };
            shelf.files.entry(identity.file).or_default().push((identity, published));
        }
        (statement, draft.subjects)
    }

    /// The publication of a file is by mistake said to be of what it holds now.
    pub(crate) fn mistake(&self, path: &Path) {
        let identity = Identity::of(File::open(path).unwrap()).unwrap();
        let mut shelf = self.0.lock();
        let lines = shelf.files.get_mut(&identity.file).unwrap();
        lines.last_mut().unwrap().0 = identity;
    }

    /// The `claims.jsonl` with which another store would publish these files, known to nobody here.
    pub(crate) fn claims(key: &SigningKey, root: &Path, names: &[&str]) -> Vec<u8> {
        let kind = CommitKind::StageEnd(Outcome::Success);
        let draft = commit("train", kind, root, names).draft().unwrap();
        let bundle = Bundle::sign_attestation(draft.payload, key).unwrap();
        let manifests = draft.manifests.iter().map(|manifest| manifest.bytes().to_vec());
        Claims { bundles: vec![bundle], manifests: manifests.collect(), skipped: 0 }.to_jsonl()
    }

    /// Whoever wants to read an attestation waits until this is dropped.
    pub(crate) fn hold(&self) -> MutexGuard<'_, ()> {
        self.1.lock()
    }

    /// From now on it cannot be read, or can be again.
    pub(crate) fn set_away(&self, is_away: bool) {
        self.0.lock().is_away = is_away;
    }

    /// How often somebody asked which attestations name a content.
    pub(crate) fn searches(&self) -> u64 {
        self.0.lock().searched
    }

    /// How often somebody asked whether a file was published.
    pub(crate) fn questions(&self) -> u64 {
        self.0.lock().asked
    }

    fn ask<T>(&self, answer: impl FnOnce(&Shelf) -> T) -> Result<T, Unavailable> {
        let shelf = self.0.lock();
        if shelf.is_away { Err(Unavailable("it is away".to_owned())) } else { Ok(answer(&shelf)) }
    }
}

impl Attestations for Store {
    fn naming(&self, content: Sha256) -> Vec<Sha256> {
        self.0.lock().searched += 1;
        let named = self.ask(|shelf| shelf.naming.get(&content).cloned().unwrap_or_default());
        named.unwrap_or_default().into_iter().rev().collect()
    }

    fn came_along(&self, _name: Sha256) -> bool {
        false
    }

    fn attestation(&self, name: Sha256) -> Vec<Result<Bundle, BundleError>> {
        drop(self.hold());
        let bundle = self.ask(|shelf| shelf.bundles.get(&name).cloned());
        bundle.ok().flatten().map(Ok).into_iter().collect()
    }

    fn manifest(&self, digest: Sha256) -> Option<Vec<u8>> {
        self.ask(|shelf| shelf.manifests.get(&digest).cloned()).ok().flatten()
    }
}

impl Publications for Store {
    fn history(&self, root: &str, name: &str) -> Result<Vec<Publication>, Unavailable> {
        let key = format!("{root}/{name}");
        self.ask(|shelf| shelf.names.get(&key).cloned().unwrap_or_default())
    }
}

impl BundleSource for Store {
    fn generation(&self) -> Result<u64, Unavailable> {
        self.ask(|shelf| shelf.generation)
    }

    fn objections(&self) -> Result<u64, Unavailable> {
        self.ask(|shelf| shelf.objections)
    }

    fn published(&self, identity: &Identity) -> Result<Option<PublishedFile>, Unavailable> {
        self.0.lock().asked += 1;
        self.ask(|shelf| {
            let lines = shelf.files.get(&identity.file)?;
            let exact = lines.iter().rfind(|(known, _)| known == identity);
            let (known, published) = exact.or(lines.last())?;
            let digests = published.digests.filter(|_| known == identity);
            Some(PublishedFile { digests, ..published.clone() })
        })
    }

    fn maker(&self, statement: Sha256) -> Result<Maker, Unavailable> {
        self.ask(|shelf| {
            let all = shelf.files.values().flatten();
            let mut made = all.filter(|(_, published)| published.statement == statement);
            let Some((_, published)) = made.next().cloned() else { return Maker::default() };
            Maker { stage: published.stage, run: published.run, signer: published.signer }
        })
    }

    fn attestations(&self) -> Result<Vec<Sha256>, Unavailable> {
        self.ask(|shelf| shelf.bundles.keys().copied().collect())
    }
}

fn commit(stage: &str, kind: CommitKind, root: &Path, names: &[&str]) -> Commit {
    let root = root.to_str().unwrap();
    let run = json!({
        "id": format!("{stage}-1"), "stage": stage, "command": ["python"], "executable": null,
        "working_directory": root, "uid": 0, "host": "node", "kernel": "Linux", "cgroup": null,
        "trees": [root], "declared_inputs": [], "declared_outputs": [], "inputs": "opened",
        "labels": {}, "started": "2026-01-02T03:04:05Z", "attestfs_version": "0.1.0",
    });
    let output = |name: &&str| {
        let path = Path::new(root).join(name);
        let (digests, size) = (digests_of(&path), fs::metadata(&path).unwrap().len());
        Output { name: (*name).to_owned(), digests, size }
    };
    Commit {
        run: serde_json::from_value(run).unwrap(),
        root: ArtifactRoot {
            name: root.rsplit('/').next().unwrap().to_owned(),
            path: root.to_owned(),
        },
        kind,
        finished: "2026-01-02T03:05:00Z".parse().unwrap(),
        outputs: names.iter().map(output).collect(),
        left_out: Vec::new(),
        materials: Vec::new(),
    }
}
