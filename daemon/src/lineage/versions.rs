//! When are two sightings of a file one version? The rules are in `daemon/LINEAGE.md`.

use std::mem;

use attestfs_digest::Digests;
use attestfs_fs::Identity;

use super::{
    LineageError, VersionId,
    entries::{Entries, Transaction},
    finding::Finding,
    records::{Edge, VersionRecord},
    schema::{Counter, EdgeEnd, Key, Table},
};

impl Transaction<'_> {
    pub(super) fn new_version(
        &mut self,
        version: &VersionRecord,
    ) -> Result<VersionId, LineageError> {
        let id = VersionId(self.next(Counter::Version)?);
        self.put_version(id, version)?;
        Ok(id)
    }

    /// Stores a version and moves the keys under which it is found.
    pub(super) fn put_version(
        &mut self,
        id: VersionId,
        version: &VersionRecord,
    ) -> Result<(), LineageError> {
        let before = self.version_if_known(id)?;
        if before.as_ref() == Some(version) {
            return Ok(());
        }
        self.move_index(id, before.as_ref(), Some(version))?;
        self.put_version_record(id, Some(version.clone()))
    }

    /// What was found under a path and belongs to no known version.
    pub(super) fn found_version(
        &mut self,
        identity: &Identity,
        path: String,
    ) -> Result<VersionId, LineageError> {
        self.new_version(&VersionRecord {
            file: identity.file,
            writer: None,
            identity: Some(*identity),
            digests: None,
            path,
            also: Vec::new(),
            superseded_by: None,
            after: self.written_before(identity)?,
            gone: false,
            removed_by: None,
        })
    }

    /// What a run had written to this file last when it was found with this identity. A run that
    /// started after the file had changed for the last time came later: its journal was only read
    /// earlier.
    fn written_before(&self, identity: &Identity) -> Result<Option<VersionId>, LineageError> {
        let Some(head) = self.head(&identity.file)? else {
            return Ok(None);
        };
        let Some(writer) = self.version(head)?.writer else {
            return Ok(None);
        };
        let started = self.run_record(writer.run)?.description.started.as_nanosecond();
        Ok((i128::from(identity.ctime_ns) >= started).then_some(head))
    }

    /// Takes in that the content of `identity` has these digests, where it was taken for
    /// `assumed` so far, and returns the version to which it belongs.
    pub(super) fn learn(
        &mut self,
        identity: &Identity,
        digests: &Digests,
        path: &str,
        assumed: Option<VersionId>,
    ) -> Result<VersionId, LineageError> {
        let id = match self.version_with(identity, digests, assumed)? {
            Some(id) => id,
            None => self.found_version(identity, path.to_owned())?,
        };
        let mut version = self.version(id)?;
        version.identity = Some(*identity);
        version.digests = Some(*digests);
        self.put_version(id, &version)?;
        self.gather(id, identity, digests)?;
        Ok(id)
    }

    /// The rules of joining, the strongest first.
    fn version_with(
        &self,
        identity: &Identity,
        digests: &Digests,
        assumed: Option<VersionId>,
    ) -> Result<Option<VersionId>, LineageError> {
        // 1. What it was taken for, when that has this content.
        if let Some(id) = assumed
            && self.version(id)?.digests == Some(*digests)
        {
            return Ok(assumed);
        }
        // 2. The newest version of this file with this content, unless there is no content.
        if let Some(id) = self.newest_of_content(&identity.file, &digests.sha256)? {
            return Ok(Some(id));
        }
        // 3. The newest version with this identity, unless it is known to be other content.
        let Some(id) = self.newest_of_identity(identity)? else {
            return Ok(None);
        };
        let known = self.version(id)?.digests;
        Ok(known.is_none_or(|known| known == *digests).then_some(id))
    }

    /// Lets `id` take the place of all found versions with exactly its identity: they were seen
    /// before the store heard what `id` is.
    pub(super) fn gather(
        &mut self,
        id: VersionId,
        identity: &Identity,
        digests: &Digests,
    ) -> Result<(), LineageError> {
        for other in self.versions_of_identity(identity)? {
            let version = self.version(other)?;
            let same = version.digests.is_none_or(|known| known == *digests);
            if other != id && same && version.writer.is_none() && !self.is_published(other)? {
                self.replace(other, id)?;
            }
        }
        Ok(())
    }

    /// The content of a version is about to be another. Whoever has read it has read what it was:
    /// that becomes a found version which lies behind it.
    pub(super) fn leave_to_readers(&mut self, id: VersionId) -> Result<(), LineageError> {
        let version = self.version(id)?;
        if version.digests.is_none() {
            return Ok(());
        }
        let readers = self.readers(id)?;
        if readers.is_empty() {
            return Ok(());
        }
        let left = self.new_version(&VersionRecord {
            writer: None,
            superseded_by: None,
            after: Some(id),
            gone: false,
            ..version
        })?;
        for edge in readers {
            self.move_edge(edge, left)?;
        }
        Ok(())
    }

    /// A subject of an attestation stays what it is.
    fn is_published(&self, id: VersionId) -> Result<bool, LineageError> {
        Ok(!self.keys(&Key::version(Table::ByVersion, id))?.is_empty())
    }

    /// Moves all edges of a found version to another one, and forgets it.
    fn replace(&mut self, found: VersionId, by: VersionId) -> Result<(), LineageError> {
        for edge in self.readers(found)? {
            self.move_edge(edge, by)?;
        }
        self.forget_version(found)
    }

    /// Lets an edge of a run to a material end at another version.
    pub(super) fn move_edge(&mut self, end: EdgeEnd, to: VersionId) -> Result<(), LineageError> {
        let Some(Edge::Read(mut edge)) = self.edge(end)? else {
            let what = format!("an edge of run {} is missing", end.run.0);
            return Err(LineageError::Damaged { what });
        };
        self.remove_reader(edge.version, end)?;
        self.add_reader(to, end)?;
        edge.version = to;
        self.put_edge(end, Edge::Read(edge))
    }

    /// Forgets a found version that nothing points to any more.
    pub(super) fn forget_if_unused(&mut self, id: VersionId) -> Result<(), LineageError> {
        let found = self.version(id)?.writer.is_none();
        if found && self.readers(id)?.is_empty() && !self.is_published(id)? {
            self.forget_version(id)?;
        }
        Ok(())
    }

    fn forget_version(&mut self, id: VersionId) -> Result<(), LineageError> {
        let before = self.version_if_known(id)?;
        self.move_index(id, before.as_ref(), None)?;
        self.put_version_record(id, None)
    }
}

impl VersionRecord {
    /// Takes in that it was seen at `path`: by one of its names, or by one that takes the place of
    /// the one seen last, since a file may be moved outside of a run.
    pub(super) fn see_at(&mut self, path: String) {
        let before = mem::replace(&mut self.path, path);
        if let Some(known) = self.also.iter_mut().find(|name| **name == self.path) {
            *known = before;
        }
    }
}
