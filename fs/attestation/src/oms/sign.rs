use std::collections::{BTreeMap, BTreeSet};

use attestfs_digest::Sha256;

use super::{
    Entry, EntryKind, MODEL_SIGNATURE_FILE, MODEL_SIGNATURE_TYPE, OmsError, OmsRefusal,
    OmsRefusals,
    predicate::{GIT_PATHS, Predicate, Resource, Serialization, clip, is_plain, root_digest},
};
use crate::{
    bundle::PAYLOAD_MAX,
    claims::CLAIMS_FILE,
    name::{is_publication, paths_to},
    statement::{Payload, ResourceDescriptor, Statement},
};

/// Writes the statement of a model signature over a directory.
///
/// `name` is the last component of the directory's path. `entries` come in any order; what git and
/// a commit put there is left out and listed in `ignore_paths`.
///
/// # Errors
/// Every entry that cannot be signed, by name.
pub fn model_statement(name: &str, entries: &[Entry]) -> Result<Payload, OmsRefusals> {
    model_statement_ignoring(name, entries, &IgnoredPaths::default())
}

/// As [`model_statement`]; what lies at or below these paths is left out and listed as well.
///
/// # Errors
/// As [`model_statement`].
pub fn model_statement_ignoring(
    name: &str,
    entries: &[Entry],
    paths: &IgnoredPaths,
) -> Result<Payload, OmsRefusals> {
    let ignored = ignored(entries, paths);
    let resources = resources(entries, &ignored)?;
    if resources.is_empty() || name.is_empty() {
        return Err(OmsRefusals(vec![OmsRefusal::Nothing { name: name.to_owned() }]));
    }
    let files = resources.len();
    let root = root_digest(resources.values().map(|digest| digest.0));
    let predicate = Predicate {
        resources: resources.into_iter().map(Resource::from).collect(),
        serialization: Serialization::ours(ignored.into_iter().map(ToOwned::to_owned).collect()),
    };
    let subject = vec![ResourceDescriptor::named(name, root)];
    let payload = Payload::of(&Statement::new(subject, MODEL_SIGNATURE_TYPE, predicate));
    if payload.bytes().len() > PAYLOAD_MAX {
        return Err(OmsRefusals(vec![OmsRefusal::TooMany { files }]));
    }
    Ok(payload)
}

/// What a model signature leaves out, and says that it does: what git keeps at the root, what
/// commits write, and whatever the signer adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoredPaths(BTreeSet<String>);

impl Default for IgnoredPaths {
    fn default() -> Self {
        let always = GIT_PATHS.into_iter().chain([MODEL_SIGNATURE_FILE, CLAIMS_FILE]);
        Self(always.map(ToOwned::to_owned).collect())
    }
}

impl IgnoredPaths {
    /// Leaves out what lies at or below this path, too.
    ///
    /// # Errors
    /// [`OmsError::IgnorePath`]: no verifier would take it for a plain path below the model.
    pub fn add(&mut self, path: &str) -> Result<(), OmsError> {
        if !is_plain(path) {
            return Err(OmsError::IgnorePath { path: clip(path) });
        }
        self.0.insert(path.to_owned());
        Ok(())
    }

    /// Whether the signature will say nothing of this name: there is no need to hash it. What other
    /// commits wrote below is not known here.
    pub fn cover(&self, name: &str) -> bool {
        paths_to(name).any(|path| self.0.contains(path))
    }
}

/// These paths, and what commits wrote anywhere below. A name that is not UTF-8 is only an
/// approximation here and cannot be listed.
fn ignored<'a>(entries: &'a [Entry], paths: &'a IgnoredPaths) -> BTreeSet<&'a str> {
    let published = entries
        .iter()
        .filter(|entry| entry.kind != EntryKind::NotUtf8)
        .map(|entry| entry.name.as_str())
        .filter(|name| is_publication(name));
    paths.0.iter().map(String::as_str).chain(published).collect()
}

/// The files that are signed, in the order of their names' bytes: a map's own order.
fn resources<'a>(
    entries: &'a [Entry],
    ignored: &BTreeSet<&str>,
) -> Result<BTreeMap<&'a str, Sha256>, OmsRefusals> {
    let mut resources = BTreeMap::new();
    let mut refusals = Vec::new();
    for entry in entries {
        let name = entry.name.as_str();
        if paths_to(name).any(|path| ignored.contains(path)) {
            continue;
        }
        match entry.signable() {
            Err(refusal) => refusals.push(refusal),
            Ok(content) => {
                if resources.insert(name, content.sha256()).is_some() {
                    refusals.push(OmsRefusal::Name { name: name.to_owned() });
                }
            }
        }
    }
    if refusals.is_empty() { Ok(resources) } else { Err(OmsRefusals(refusals)) }
}
