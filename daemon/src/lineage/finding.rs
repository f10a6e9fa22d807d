//! How versions are found by what is known of them. Keys are short, and may lead to a version that is
//! another: what is found is compared.

use attestfs_digest::Sha256;
use attestfs_fs::{FileKey, Identity};

use super::{
    LineageError, VersionId,
    entries::{Entries, Transaction},
    packing::{Packer, Unpacker},
    records::VersionRecord,
    schema::{Key, Table, content_version},
};

/// Finds versions, whether or not something is about to change.
pub(super) trait Finding: Entries {
    /// All versions with exactly this identity, oldest first.
    fn versions_of_identity(&self, identity: &Identity) -> Result<Vec<VersionId>, LineageError> {
        let mut versions = self.listed(&Key::identity(identity))?;
        self.keep(&mut versions, |version| version.identity == Some(*identity))?;
        Ok(versions)
    }

    fn newest_of_identity(&self, identity: &Identity) -> Result<Option<VersionId>, LineageError> {
        Ok(self.versions_of_identity(identity)?.pop())
    }

    /// The newest version of this file with this content, unless there is no content: that is the
    /// same everywhere, and says nothing about where it comes from.
    fn newest_of_content(
        &self,
        file: &FileKey,
        sha256: &Sha256,
    ) -> Result<Option<VersionId>, LineageError> {
        for key in self.keys(&Key::content(file, sha256))?.iter().rev() {
            let id = content_version(key)?;
            let version = self.version(id)?;
            if version.file == *file && version.has_content(sha256) && !version.is_empty() {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Versions of whatever file, newest first.
    fn versions_of_digest(
        &self,
        sha256: &Sha256,
        limit: usize,
    ) -> Result<Vec<VersionId>, LineageError> {
        let keys = self.keys(&Key::contents(sha256))?;
        let mut versions =
            keys.iter().map(|key| content_version(key)).collect::<Result<Vec<_>, _>>()?;
        versions.sort_unstable_by(|one, other| other.cmp(one));
        let mut found = Vec::new();
        for id in versions {
            if found.len() == limit {
                break;
            }
            if self.version(id)?.has_content(sha256) {
                found.push(id);
            }
        }
        Ok(found)
    }

    /// What a run wrote to this file last.
    fn head(&self, file: &FileKey) -> Result<Option<VersionId>, LineageError> {
        let mut heads = self.listed(&Key::head(file))?;
        self.keep(&mut heads, |version| version.file == *file)?;
        Ok(heads.pop())
    }

    /// The versions in the value of this key.
    fn listed(&self, key: &Key) -> Result<Vec<VersionId>, LineageError> {
        let Some(bytes) = self.bytes(key)? else {
            return Ok(Vec::new());
        };
        unpack_versions(&bytes).ok_or_else(|| LineageError::Damaged {
            what: format!("{} bytes are no list of versions", bytes.len()),
        })
    }

    fn keep(
        &self,
        versions: &mut Vec<VersionId>,
        is_wanted: impl Fn(&VersionRecord) -> bool,
    ) -> Result<(), LineageError> {
        let mut kept = Vec::new();
        for id in versions.drain(..) {
            if is_wanted(&self.version(id)?) {
                kept.push(id);
            }
        }
        *versions = kept;
        Ok(())
    }
}

impl<E: Entries> Finding for E {}

impl Transaction<'_> {
    pub(super) fn put_head(&mut self, file: &FileKey, id: VersionId) -> Result<(), LineageError> {
        let key = Key::head(file);
        let mut heads = self.listed(&key)?;
        self.keep(&mut heads, |version| version.file != *file)?;
        heads.push(id);
        heads.sort_unstable();
        self.put_list(key, heads);
        Ok(())
    }

    /// Lets a version be found by what is known of it now, and by nothing that was known before.
    pub(super) fn move_index(
        &mut self,
        id: VersionId,
        before: Option<&VersionRecord>,
        now: Option<&VersionRecord>,
    ) -> Result<(), LineageError> {
        let identity = |version: &VersionRecord| version.identity.as_ref().map(Key::identity);
        let (left, taken) = (before.and_then(identity), now.and_then(identity));
        if left != taken {
            self.change_list(left, |versions| versions.retain(|version| *version != id))?;
            self.change_list(taken, |versions| versions.push(id))?;
        }
        let keys = |version: Option<&VersionRecord>| {
            version.map_or_else(Vec::new, |version| version.keys(id))
        };
        let (left, taken) = (keys(before), keys(now));
        if left != taken {
            for key in left {
                self.remove(key);
            }
            for key in taken {
                self.mark(key);
            }
        }
        Ok(())
    }

    fn change_list(
        &mut self,
        key: Option<Key>,
        change: impl FnOnce(&mut Vec<VersionId>),
    ) -> Result<(), LineageError> {
        let Some(key) = key else {
            return Ok(());
        };
        let mut versions = self.listed(&key)?;
        change(&mut versions);
        versions.sort_unstable();
        self.put_list(key, versions);
        Ok(())
    }

    fn put_list(&mut self, key: Key, versions: Vec<VersionId>) {
        if versions.is_empty() {
            self.remove(key);
        } else {
            self.put(key, pack_versions(&versions));
        }
    }
}

impl VersionRecord {
    fn has_content(&self, sha256: &Sha256) -> bool {
        self.digests.is_some_and(|digests| digests.sha256 == *sha256)
    }

    /// The keys that end with the version and have no value.
    fn keys(&self, id: VersionId) -> Vec<Key> {
        let content = self
            .digests
            .map(|digests| Key::content(&self.file, &digests.sha256).short_number(id.0));
        let after = self.after.map(|before| Key::version(Table::FoundAfter, before).number(id.0));
        content.into_iter().chain(after).collect()
    }
}

fn pack_versions(versions: &[VersionId]) -> Vec<u8> {
    let mut into = Packer::default();
    for version in versions {
        into.number(version.0);
    }
    into.into_bytes()
}

fn unpack_versions(bytes: &[u8]) -> Option<Vec<VersionId>> {
    let mut from = Unpacker::of(bytes);
    let mut versions = Vec::new();
    while !from.is_empty() {
        versions.push(VersionId(from.number()?));
    }
    Some(versions)
}

#[cfg(test)]
mod tests {
    use std::sync::RwLock;

    use super::*;
    use crate::lineage::{recent::Recent, testing::Content};

    #[test]
    fn what_only_shares_a_mark_is_not_found() {
        let (asked, other) = (Content::of(1, 1), Content::of(2, 2));
        let database = sled::Config::new().temporary(true).open().unwrap();
        let (recent, lock) = (Recent::default(), RwLock::new(()));
        let mut transaction = Transaction::on(&database, &recent, &lock);
        let id = transaction.found_version(&other.identity(), "/lab/f2".to_owned()).unwrap();
        transaction.learn(&other.identity(), &other.digests(), "/lab/f2", Some(id)).unwrap();

        // As if everything about the two had the same marks.
        let sha256 = asked.sha256();
        transaction.put_list(Key::identity(&asked.identity()), vec![id]);
        transaction.put_list(Key::head(&asked.file()), vec![id]);
        transaction.mark(Key::content(&asked.file(), &sha256).short_number(id.0));

        assert_eq!(transaction.newest_of_identity(&asked.identity()).unwrap(), None);
        assert_eq!(transaction.head(&asked.file()).unwrap(), None);
        assert_eq!(transaction.newest_of_content(&asked.file(), &sha256).unwrap(), None);
        assert_eq!(transaction.versions_of_digest(&sha256, 9).unwrap(), []);
        assert_eq!(transaction.newest_of_identity(&other.identity()).unwrap(), Some(id));
    }

    #[test]
    fn two_files_with_one_mark_keep_a_head_each() {
        let (one, other) = (Content::of(1, 1), Content::of(2, 2));
        let database = sled::Config::new().temporary(true).open().unwrap();
        let (recent, lock) = (Recent::default(), RwLock::new(()));
        let mut transaction = Transaction::on(&database, &recent, &lock);
        let first = transaction.found_version(&one.identity(), "/lab/f1".to_owned()).unwrap();
        let second = transaction.found_version(&other.identity(), "/lab/f2".to_owned()).unwrap();
        transaction.put_list(Key::head(&one.file()), vec![second]);
        transaction.put_head(&one.file(), first).unwrap();
        let heads = transaction.listed(&Key::head(&one.file())).unwrap();
        assert_eq!(heads, [first, second]);
        assert_eq!(transaction.head(&one.file()).unwrap(), Some(first));
    }

    #[test]
    fn keys_of_contents_lie_in_the_order_of_their_versions() {
        let (file, sha256) = (Content::of(1, 1).file(), Content::of(1, 1).sha256());
        let numbers = [0, 1, 255, 256, u64::from(u32::MAX), u64::MAX];
        let keys = numbers.map(|number| Key::content(&file, &sha256).short_number(number));
        assert!(keys.is_sorted());
        let versions = keys.map(|key| content_version(key.as_ref()).unwrap().0);
        assert_eq!(versions, numbers);
        assert!(content_version(&Vec::from(Key::contents(&sha256))).is_err());
    }
}
