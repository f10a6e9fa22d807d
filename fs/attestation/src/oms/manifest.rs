use std::collections::{BTreeMap, BTreeSet};

use attestfs_digest::Sha256;

use super::{
    Content, Entry, EntryKind, HashType, OmsError, OmsRefusal,
    predicate::{Listed, Predicate},
};
use crate::{
    name::paths_to,
    statement::{Payload, Statement},
};

/// The list of a model signature, read from a statement whose signature somebody else has checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelManifest {
    name: String,
    hash_type: HashType,
    resources: BTreeMap<String, [u8; 32]>,
    ignored: BTreeSet<String>,
    in_order: bool,
}

/// How a directory differs from its model signature: the first kind of difference, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Content is not what was signed.
    Changed {
        /// The first such file.
        name: String,
        /// Hexadecimal.
        expected: String,
        /// Hexadecimal.
        found: String,
        /// How many more files changed.
        others: usize,
    },
    /// Files that were signed are not there.
    Missing {
        /// Sorted.
        names: Vec<String>,
    },
    /// Files are there that were not signed.
    Extra {
        /// Sorted.
        names: Vec<String>,
    },
    /// Something is there that cannot be signed at all.
    Unsignable(OmsRefusal),
}

impl ModelManifest {
    /// Reads the predicate.
    ///
    /// # Errors
    /// It is no model signature, or one that could be read in two ways.
    pub fn read(payload: &Payload) -> Result<Self, OmsError> {
        let statement: Statement<Predicate> = payload.statement()?;
        let serialization = &statement.predicate.serialization;
        let listed = Listed::read(&statement.predicate.resources, serialization.hash_type()?)?;
        let [subject] = statement.subject.as_slice() else {
            return Err(OmsError::Subjects { count: statement.subject.len() });
        };
        if subject.digest.sha256() != Some(listed.root) {
            return Err(OmsError::RootDigest);
        }
        let name = subject.name.clone().filter(|name| !name.is_empty());
        Ok(Self {
            name: name.ok_or(OmsError::Subjects { count: 1 })?,
            hash_type: serialization.hash_type()?,
            resources: listed.resources,
            ignored: serialization.ignored()?,
            in_order: listed.in_order,
        })
    }

    /// The name that the directory had when it was signed. Renaming it is no harm.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which digest it holds.
    pub fn hash_type(&self) -> HashType {
        self.hash_type
    }

    /// Number of files that it lists.
    pub fn files(&self) -> usize {
        self.resources.len()
    }

    /// Whether it lists a file of this name.
    pub fn lists(&self, name: &str) -> bool {
        self.resources.contains_key(name)
    }

    /// The SHA-256 that it lists for a file of this name. None also where it lists another digest.
    pub fn sha256(&self, name: &str) -> Option<Sha256> {
        let listed = self.resources.get(name).filter(|_| self.hash_type == HashType::Sha256)?;
        Some(Sha256(*listed))
    }

    /// The SHA-256 of every file that it lists. None where it lists other digests.
    pub fn contents(&self) -> impl Iterator<Item = Sha256> {
        self.resources.keys().filter_map(|name| self.sha256(name))
    }

    /// Whether it lists a file below this directory.
    pub fn lists_below(&self, directory: &str) -> bool {
        let prefix = format!("{directory}/");
        let mut following = self.resources.range(prefix.clone()..);
        following.next().is_some_and(|(name, _)| name.starts_with(&prefix))
    }

    /// Whether the list is in the order that the specification asks for. The Python implementation
    /// writes another one, and checks none.
    pub fn in_order(&self) -> bool {
        self.in_order
    }

    /// Whether the signature says nothing about this path: there is no need to hash it.
    pub fn ignores(&self, name: &str) -> bool {
        self.ignored_at(name).is_some()
    }

    /// The path, this one or one that leads to it, of which the signature says nothing.
    pub fn ignored_at<'n>(&self, name: &'n str) -> Option<&'n str> {
        paths_to(name).find(|path| self.ignored.contains(*path))
    }

    /// Compares one file with what was signed.
    ///
    /// # Errors
    /// It was not signed, or its content is another one.
    pub fn compare_file(&self, name: &str, content: &Content) -> Result<(), Difference> {
        let Some(expected) = self.resources.get(name) else {
            return Err(Difference::Extra { names: vec![name.to_owned()] });
        };
        let found = self.hash_type.of(content);
        if found == Some(*expected) {
            return Ok(());
        }
        Err(Difference::Changed {
            name: name.to_owned(),
            expected: hex::encode(expected),
            found: found.map_or_else(|| "nobody has computed it".to_owned(), hex::encode),
            others: 0,
        })
    }

    /// Compares a whole directory with what was signed. `entries` are all of it, but for the
    /// signature itself; those that the signature ignores may be left out. An empty directory is no
    /// difference: a model signature does not speak of directories.
    ///
    /// # Errors
    /// The first kind of difference.
    pub fn compare(&self, entries: &[Entry]) -> Result<(), Difference> {
        let found = self.signed_part(entries)?;
        let mut changed = found
            .iter()
            .filter(|(name, _)| self.resources.contains_key(**name))
            .filter_map(|(name, content)| self.compare_file(name, content).err());
        if let Some(Difference::Changed { name, expected, found, .. }) = changed.next() {
            return Err(Difference::Changed { name, expected, found, others: changed.count() });
        }
        let missing = self.resources.keys().filter(|name| !found.contains_key(name.as_str()));
        if let Some(names) = some_names(missing.map(String::as_str)) {
            return Err(Difference::Missing { names });
        }
        let extra = found.keys().filter(|name| !self.resources.contains_key(**name));
        match some_names(extra.copied()) {
            Some(names) => Err(Difference::Extra { names }),
            None => Ok(()),
        }
    }

    fn signed_part<'a>(
        &self,
        entries: &'a [Entry],
    ) -> Result<BTreeMap<&'a str, &'a Content>, Difference> {
        entries
            .iter()
            .filter(|entry| !self.ignores(&entry.name))
            .filter_map(|entry| match &entry.kind {
                EntryKind::File(content) => Some(Ok((entry.name.as_str(), content))),
                EntryKind::EmptyDirectory => None,
                _ => entry.signable().err().map(|refusal| Err(Difference::Unsignable(refusal))),
            })
            .collect()
    }
}

fn some_names<'a>(names: impl Iterator<Item = &'a str>) -> Option<Vec<String>> {
    let names: Vec<String> = names.map(ToOwned::to_owned).collect();
    (!names.is_empty()).then_some(names)
}
