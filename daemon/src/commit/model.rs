//! What a model signature says of a directory: every file there, each known by its digest.

use std::{collections::BTreeMap, path::Path};

use attestfs_attestation::{
    Content, Entry, EntryKind, PUBLICATIONS, escaped, is_publication, model_statement, unescaped,
};
use attestfs_digest::{Digests, digests};
use attestfs_fs::Identity;

use super::{
    CommitError,
    beneath::{Directory, Found, Kind, system_path},
    beside,
    record::{Model, Text},
};
use crate::lineage::{LineageError, LineageStore, Origin};

/// A directory whose files are to be named, and by what they are known.
pub(super) struct Survey<'a> {
    pub(super) store: &'a dyn LineageStore,
    pub(super) directory: &'a Directory,
    /// Absolute, escaped.
    pub(super) root: &'a str,
    /// Files that are still being written, or changed since, and what is wrong with them.
    pub(super) unsettled: BTreeMap<&'a str, &'a str>,
    /// Directories below, escaped, into which the same commit will write. A signature made before
    /// that has to know.
    pub(super) publishing: Vec<&'a str>,
    /// Whether files are hashed that no run wrote.
    pub(super) adopt: bool,
}

impl Survey<'_> {
    /// The statement of the model signature, or why there can be none. What is wrong with the
    /// directory refuses the signature and not the commit.
    pub(super) fn model(&self) -> Result<Model, CommitError> {
        if let Some(obstacles) = beside::obstacles(self.store, self.directory)? {
            return Ok(refused(obstacles.to_string()));
        }
        let found = match self.directory.walk() {
            Ok(found) => found,
            Err(error) => return Ok(refused(format!("the directory cannot be read: {error}"))),
        };
        let entries = found.iter().map(|found| self.entry(found));
        let mut entries = entries.collect::<Result<Vec<_>, _>>()?;
        entries.extend(self.publications());
        Ok(match model_statement(&base_name(self.root), &entries) {
            Err(refusals) => refused(refusals.to_string()),
            Ok(payload) => Model::Asked(Text(payload)),
        })
    }

    fn publications(&self) -> impl Iterator<Item = Entry> {
        let directories = self.publishing.iter().map(|path| system_path(path));
        let files = directories.flat_map(|directory| PUBLICATIONS.map(|name| directory.join(name)));
        files.filter_map(|path| {
            Some(Entry { name: path.to_str()?.to_owned(), kind: never_signed() })
        })
    }

    fn entry(&self, found: &Found) -> Result<Entry, LineageError> {
        let Some(name) = found.path.to_str() else {
            return Ok(Entry {
                name: found.path.to_string_lossy().into_owned(),
                kind: EntryKind::NotUtf8,
            });
        };
        Ok(Entry {
            name: name.to_owned(),
            kind: match found.kind {
                Kind::File(_) if is_publication(name) => never_signed(),
                Kind::File(identity) => self.file(&found.path, &identity)?,
                Kind::Symlink => EntryKind::Symlink,
                Kind::EmptyDirectory => EntryKind::EmptyDirectory,
                Kind::Special => EntryKind::Special,
            },
        })
    }

    fn file(&self, path: &Path, identity: &Identity) -> Result<EntryKind, LineageError> {
        let name = escaped(path.as_os_str().as_encoded_bytes());
        if let Some(reason) = self.unsettled.get(name.as_str()) {
            return Ok(EntryKind::Withheld((*reason).to_owned()));
        }
        if let Some(digests) = self.known(identity)? {
            return Ok(EntryKind::File(Content::new(digests, identity.size)));
        }
        let digests = match self.hashed(path, identity) {
            Ok(digests) => digests,
            Err(reason) => return Ok(EntryKind::Withheld(reason)),
        };
        if !self.adopt && !self.is_of_a_run(identity, &digests)? {
            let reason = "no run of this store wrote it: remove it, or give --adopt";
            return Ok(EntryKind::Withheld(reason.to_owned()));
        }
        self.store.remember(identity, &digests, &super::record::join(self.root, &name))?;
        Ok(EntryKind::File(Content::new(digests, identity.size)))
    }

    /// The digests of a content that a run wrote, or that may be adopted.
    fn known(&self, identity: &Identity) -> Result<Option<Digests>, LineageError> {
        let Some(version) = self.store.version_of(identity)? else {
            return Ok(None);
        };
        let version = self.store.version(version)?;
        let is_ours = |origin: &Origin| self.adopt || matches!(origin, Origin::Written { .. });
        Ok(version.filter(|it| is_ours(&it.origin)).and_then(|it| it.digests))
    }

    /// Whether a run wrote this content to this very file, which was moved, linked or touched since.
    fn is_of_a_run(&self, identity: &Identity, digests: &Digests) -> Result<bool, LineageError> {
        let Some(version) = self.store.version_of_content(&identity.file, &digests.sha256)? else {
            return Ok(false);
        };
        let version = self.store.version(version)?;
        Ok(version.is_some_and(|it| matches!(it.origin, Origin::Written { .. })))
    }

    /// Hashes a file that is not known as it is now, or says why that cannot be.
    fn hashed(&self, path: &Path, identity: &Identity) -> Result<Digests, String> {
        let read = self.directory.open_file(path).and_then(|file| {
            // What is remembered of it, and signed, must not be there longer than its bytes.
            file.sync_all()?;
            let digests = digests(&file, identity.size).map_err(std::io::Error::other)?;
            Ok((digests, Identity::of(file)?))
        });
        match read {
            Ok((digests, after)) if after == *identity => Ok(digests),
            Ok(_) => Err("it changed while it was hashed".to_owned()),
            Err(error) => Err(format!("it cannot be read: {error}")),
        }
    }
}

/// The last component of an absolute path, for people; never empty.
pub(super) fn base_name(root: &str) -> String {
    let name = root.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let name = String::from_utf8_lossy(&unescaped(name)).into_owned();
    if name.is_empty() { "root".to_owned() } else { name }
}

/// A publication; the statement lists it as ignored.
fn never_signed() -> EntryKind {
    EntryKind::Withheld("a publication is never signed".to_owned())
}

fn refused(reason: String) -> Model {
    Model::Refused(reason)
}
