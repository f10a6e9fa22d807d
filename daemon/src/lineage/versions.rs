//! When are two sightings of a file one version? The rules are in `daemon/LINEAGE.md`.

use attestfs_digest::Digests;
use attestfs_fs::{FileKey, Identity};

use super::{
    LineageError, Role, VersionId,
    entries::{Entries, Transaction},
    schema::{Counter, EdgeEnd, Key, ReadEdge, Table, VersionRecord, edge_end, last_number},
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
        self.forget_index(id)?;
        for key in version.index(id) {
            self.mark(key);
        }
        self.put_record(Key::version(Table::Versions, id), version)
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
            removed_by: None,
        })
    }

    /// What a run had written to this file last when it was found with this identity. A run that
    /// started after the file had changed for the last time came later: its journal was only read
    /// earlier.
    fn written_before(&self, identity: &Identity) -> Result<Option<VersionId>, LineageError> {
        let Some(head) = self.number(&Key::head(&identity.file))?.map(VersionId) else {
            return Ok(None);
        };
        let Some(writer) = self.version(head)?.writer else {
            return Ok(None);
        };
        let started = self.run_record(writer.run)?.description.started.as_nanosecond();
        Ok((i128::from(identity.ctime_ns) >= started).then_some(head))
    }

    pub(super) fn newest_of_identity(
        &self,
        identity: &Identity,
    ) -> Result<Option<VersionId>, LineageError> {
        Ok(self.versions_below(&Key::identity(identity))?.pop())
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
        if let Some(id) = self.newest_of_content(&identity.file, digests)? {
            return Ok(Some(id));
        }
        // 3. The newest version with this identity, unless it is known to be other content.
        let Some(id) = self.newest_of_identity(identity)? else {
            return Ok(None);
        };
        let known = self.version(id)?.digests;
        Ok(known.is_none_or(|known| known == *digests).then_some(id))
    }

    fn newest_of_content(
        &self,
        file: &FileKey,
        digests: &Digests,
    ) -> Result<Option<VersionId>, LineageError> {
        Ok(self.versions_below(&Key::content(file, &digests.sha256))?.pop())
    }

    /// Lets `id` take the place of all found versions with exactly its identity: they were seen
    /// before the store heard what `id` is.
    pub(super) fn gather(
        &mut self,
        id: VersionId,
        identity: &Identity,
        digests: &Digests,
    ) -> Result<(), LineageError> {
        for other in self.versions_below(&Key::identity(identity))? {
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
        let edges = self.keys(&Key::edges_back(id, Role::Read))?;
        let version = self.version(id)?;
        if version.digests.is_none() || edges.is_empty() {
            return Ok(());
        }
        let left = self.new_version(&VersionRecord {
            writer: None,
            superseded_by: None,
            after: Some(id),
            ..version
        })?;
        for edge in edges {
            self.move_edge(edge_end(&edge)?, left)?;
        }
        Ok(())
    }

    /// A subject of an attestation stays what it is.
    fn is_published(&self, id: VersionId) -> Result<bool, LineageError> {
        Ok(!self.keys(&Key::version(Table::ByVersion, id))?.is_empty())
    }

    /// Moves all edges of a found version to another one, and forgets it.
    fn replace(&mut self, found: VersionId, by: VersionId) -> Result<(), LineageError> {
        for key in self.keys(&Key::edges_back(found, Role::Read))? {
            self.move_edge(edge_end(&key)?, by)?;
        }
        self.forget_version(found)
    }

    /// Lets an edge of a run to a material end at another version.
    pub(super) fn move_edge(&mut self, end: EdgeEnd, to: VersionId) -> Result<(), LineageError> {
        let key = Key::edge(end.run, Role::Read, end.version);
        let mut edge: ReadEdge = self.record("edge", &key)?.ok_or_else(|| {
            LineageError::Damaged { what: format!("an edge of run {} is missing", end.run.0) }
        })?;
        self.remove(Key::edge_back(edge.version, Role::Read, end));
        self.mark(Key::edge_back(to, Role::Read, end));
        edge.version = to;
        self.put_record(key, &edge)
    }

    /// Forgets a found version that nothing points to any more.
    pub(super) fn forget_if_unused(&mut self, id: VersionId) -> Result<(), LineageError> {
        let found = self.version(id)?.writer.is_none();
        let read = !self.keys(&Key::edges_back(id, Role::Read))?.is_empty();
        if found && !read && !self.is_published(id)? {
            self.forget_version(id)?;
        }
        Ok(())
    }

    fn forget_version(&mut self, id: VersionId) -> Result<(), LineageError> {
        self.forget_index(id)?;
        self.remove(Key::version(Table::Versions, id));
        Ok(())
    }

    fn forget_index(&mut self, id: VersionId) -> Result<(), LineageError> {
        if let Some(version) = self.version_if_known(id)? {
            for key in version.index(id) {
                self.remove(key);
            }
        }
        Ok(())
    }

    /// The versions at the end of the keys that begin with `prefix`, oldest first.
    fn versions_below(&self, prefix: &Key) -> Result<Vec<VersionId>, LineageError> {
        let keys = self.keys(prefix)?;
        keys.iter().map(|key| Ok(VersionId(last_number(key)?))).collect()
    }
}
