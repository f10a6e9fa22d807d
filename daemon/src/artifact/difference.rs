use std::{collections::HashMap, path::Path};

use attestfs_attestation::{
    Content, Entry, EntryKind, HashType, ModelManifest, Needed, Refusal, is_publication,
};
use attestfs_digest::Sha256;

use super::{
    content::Watch,
    judge::{NotJudged, spelled},
    tree::Tree,
};

/// How a directory differs from what its model signature lists and, of the files that this leaves
/// out, from what a run says to have written. Nobody has checked who says so.
pub(super) fn difference(
    path: &Path,
    manifest: Option<&ModelManifest>,
    written: &HashMap<String, Sha256>,
    watch: &dyn Watch,
) -> Result<Option<Refusal>, NotJudged> {
    if manifest.is_none() && written.is_empty() {
        return Ok(None);
    }
    let tree = Tree::look(path)?;
    if let Some(manifest) = manifest
        && let Err(difference) =
            manifest.compare(&tree.signed(manifest, |_| listed(manifest), watch)?)
    {
        return Ok(Some(difference.into()));
    }
    let is_listed = |name: &Path| match (manifest, name.to_str()) {
        (Some(manifest), Some(name)) => !manifest.ignores(name),
        _ => false,
    };
    let is_written = |name: &Path| written.contains_key(&*spelled(name));
    let is_wanted = |name: &Path| {
        is_written(name) && !is_listed(name) && !is_publication(&name.to_string_lossy())
    };
    Ok(changed(&tree.hash(is_wanted, |_| Needed::Sha256, watch)?, written))
}

/// What it lists.
fn listed(manifest: &ModelManifest) -> Needed {
    match manifest.hash_type() {
        HashType::Sha256 => Needed::Sha256,
        HashType::Blake3 => Needed::Both,
    }
}

fn changed(entries: &[Entry], written: &HashMap<String, Sha256>) -> Option<Refusal> {
    let files = entries.iter().filter_map(|entry| match entry.kind {
        EntryKind::File(content) => Some((spelled(Path::new(&entry.name)), content)),
        _ => None,
    });
    let mut mismatches = files.filter_map(|(name, content)| mismatch(name, content, written));
    let (name, expected, found) = mismatches.next()?;
    let others = mismatches.count();
    Some(Refusal::DigestMismatch { name, expected, found, others })
}

/// The name of the file and both digests, when they differ.
fn mismatch(
    name: String,
    content: Content,
    written: &HashMap<String, Sha256>,
) -> Option<(String, String, String)> {
    let (expected, found) = (*written.get(&*name)?, content.sha256());
    (expected != found).then(|| (name, expected.to_string(), found.to_string()))
}
