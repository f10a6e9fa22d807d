use std::collections::BTreeMap;

use attestfs_attestation::{CommitKind, Inputs, Outcome, RunDescription};
use attestfs_digest::{Blake3, Digests, Sha256};
use attestfs_fs::{Fact, FileKey, Identity, Process, RunVersion, TreePath, Unknown, Unsealed};
use jiff::Timestamp;

use crate::lineage::{
    CommitId, LineageStore, PublishedAttestation, RunEnd, RunId, Subject, VersionId,
};

/// A run of the stage of the same name over the tree `/lab`.
pub(crate) fn description(id: &str) -> RunDescription {
    RunDescription {
        id: id.to_owned(),
        stage: id.to_owned(),
        command: vec!["python".to_owned(), format!("{id}.py")],
        executable: None,
        working_directory: "/lab".to_owned(),
        uid: 1000,
        host: "bench".to_owned(),
        kernel: "Linux".to_owned(),
        cgroup: None,
        trees: vec!["/lab".to_owned()],
        declared_inputs: Vec::new(),
        declared_outputs: Vec::new(),
        inputs: Inputs::Opened,
        labels: BTreeMap::new(),
        started: started(),
        lock: None,
        attestfs_version: "0.1.0".to_owned(),
    }
}

pub(crate) fn succeeded() -> RunEnd {
    RunEnd { outcome: Outcome::Success, finished: started() }
}

fn started() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

/// What a file holds at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    /// Which file. Its name is `f<inode>`.
    pub(crate) inode: u64,
    /// Every byte of its digests.
    pub(crate) fill: u8,
    /// Bytes.
    pub(crate) size: u64,
    /// Seconds between the start of all runs and the last change of the inode.
    pub(crate) changed: i64,
}

impl Content {
    pub(crate) fn of(inode: u64, fill: u8) -> Self {
        Self { inode, fill, size: 10, changed: i64::from(fill) }
    }

    pub(crate) fn empty(inode: u64) -> Self {
        Self { inode, fill: 0, size: 0, changed: 0 }
    }

    /// The same content after a `chmod`.
    pub(crate) fn touched(self) -> Self {
        Self { changed: self.changed + 1000, ..self }
    }

    pub(crate) fn file(self) -> FileKey {
        FileKey { filesystem: 7, inode: self.inode, born_ns: 1 }
    }

    pub(crate) fn identity(self) -> Identity {
        let changed = started().as_second() + self.changed;
        Identity {
            file: self.file(),
            size: self.size,
            mtime_ns: 5,
            ctime_ns: changed * 1_000_000_000,
        }
    }

    pub(crate) fn digests(self) -> Digests {
        Digests { sha256: self.sha256(), blake3: Blake3([self.fill; 32]) }
    }

    pub(crate) fn sha256(self) -> Sha256 {
        Sha256([self.fill; 32])
    }

    pub(crate) fn path(self) -> TreePath {
        TreePath { tree: 0, path: format!("f{}", self.inode) }
    }

    pub(crate) fn opened(self, version: u64) -> Fact {
        Fact::Opened {
            version: RunVersion(version),
            identity: self.identity(),
            path: self.path(),
            by: Process::default(),
        }
    }

    /// By another link of what was opened.
    pub(crate) fn opened_as(version: u64, link: &str) -> Fact {
        let path = TreePath { tree: 0, path: link.to_owned() };
        Fact::OpenedAs { version: RunVersion(version), path }
    }

    pub(crate) fn hashed(self, version: u64) -> Fact {
        let (identity, digests) = (self.identity(), self.digests());
        Fact::Hashed { version: RunVersion(version), identity, digests }
    }

    pub(crate) fn not_hashed(version: u64, unknown: Unknown) -> Fact {
        Fact::NotHashed { version: RunVersion(version), unknown }
    }

    pub(crate) fn written(self, version: u64) -> Fact {
        Fact::Written {
            version: RunVersion(version),
            file: self.file(),
            path: self.path(),
            by: Process::default(),
        }
    }

    pub(crate) fn sealed(self, version: u64) -> Fact {
        self.sealed_with_links(version, &[])
    }

    /// Sealed, and known by these names as well.
    pub(crate) fn sealed_with_links(self, version: u64, links: &[&str]) -> Fact {
        Fact::Sealed {
            version: RunVersion(version),
            identity: self.identity(),
            digests: self.digests(),
            path: Some(self.path()),
            also: paths(links),
        }
    }

    /// More of the names that it was sealed with.
    pub(crate) fn also_named(version: u64, links: &[&str]) -> Fact {
        Fact::AlsoNamed { version: RunVersion(version), also: paths(links) }
    }

    pub(crate) fn unsealed(self, version: u64, unsealed: Unsealed) -> Fact {
        let version = RunVersion(version);
        Fact::Unsealed { version, unsealed, path: Some(self.path()), also: Vec::new() }
    }

    pub(crate) fn removed(self) -> Fact {
        Fact::Removed { file: self.file(), path: self.path(), by: Process::default() }
    }

    pub(crate) fn refused(self, check: u8) -> Fact {
        Fact::Refused {
            path: self.path(),
            sha256: Some(self.sha256()),
            check,
            reason: "signed by a stranger".to_owned(),
            next_step: "ask".to_owned(),
            enforced: true,
            by: Process::default(),
        }
    }

    pub(crate) fn gone(version: u64) -> Fact {
        Fact::Gone { version: RunVersion(version) }
    }
}

fn paths(names: &[&str]) -> Vec<TreePath> {
    names.iter().map(|name| TreePath { tree: 0, path: (*name).to_owned() }).collect()
}

/// A run as it happens. Each fact is one byte of its journal.
#[derive(Debug)]
pub(crate) struct Story<'a> {
    store: &'a dyn LineageStore,
    pub(crate) run: RunId,
    journal_bytes: u64,
    versions: u64,
}

impl<'a> Story<'a> {
    pub(crate) fn begin(store: &'a dyn LineageStore, id: &str) -> Self {
        store.begin(&description(id)).unwrap();
        Self { store, run: RunId(id.to_owned()), journal_bytes: 0, versions: 0 }
    }

    pub(crate) fn tell(&mut self, facts: &[Fact]) {
        let end = self.journal_bytes + facts.len() as u64;
        self.store.ingest(&self.run, self.journal_bytes..end, facts).unwrap();
        self.journal_bytes = end;
    }

    pub(crate) fn reads(&mut self, content: Content) -> VersionId {
        self.versions += 1;
        self.tell(&[content.opened(self.versions), content.hashed(self.versions)]);
        self.store.materials(&self.run).unwrap().last().unwrap().version
    }

    pub(crate) fn writes(&mut self, content: Content) -> VersionId {
        self.versions += 1;
        self.tell(&[content.written(self.versions), content.sealed(self.versions)]);
        self.store.outputs(&self.run).unwrap().kept.last().unwrap().version
    }

    pub(crate) fn ends(self) -> RunId {
        self.store.end(&self.run, &succeeded()).unwrap();
        self.run
    }
}

/// What a commit of this run says about some of its outputs, below `root`. The bytes of the
/// statement's digest are `fill`.
pub(crate) fn attested(
    run: &RunId,
    fill: u8,
    root: &str,
    subjects: &[(VersionId, Content)],
) -> PublishedAttestation {
    let subject = |(version, content): &(VersionId, Content)| Subject {
        name: content.path().path,
        digests: content.digests(),
        version: Some(*version),
    };
    PublishedAttestation {
        statement: Sha256([fill; 32]),
        kind: CommitKind::StageEnd(Outcome::Success),
        run: run.clone(),
        stage: run.0.clone(),
        artifact_root: root.to_owned(),
        subjects: subjects.iter().map(subject).collect(),
        signer: "hint".to_owned(),
        time: started(),
        predicate_type: "https://slsa.dev/provenance/v1".to_owned(),
    }
}

/// Freezes and publishes in one go.
pub(crate) fn publish(
    store: &dyn LineageStore,
    commit: &str,
    attestations: &[PublishedAttestation],
) {
    let commit = CommitId(commit.to_owned());
    store.freeze(&commit, b"statements").unwrap();
    store.publish(&commit, attestations).unwrap();
}
