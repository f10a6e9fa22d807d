//! What lies on a shelf, and taking it off.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
};

use attestfs_digest::Sha256;

use super::{
    BUNDLE_SUFFIX, Files, Shelf,
    shelf::{MANIFEST_SUFFIX, NAMES_INDEX},
};

impl Shelf {
    /// The bundles on this shelf, with their lengths.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub(crate) fn bundles(&self) -> io::Result<BTreeMap<Sha256, u64>> {
        self.named(BUNDLE_SUFFIX)
    }

    /// The manifests on this shelf, with their lengths.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub(crate) fn manifests(&self) -> io::Result<BTreeMap<Sha256, u64>> {
        self.named(MANIFEST_SUFFIX)
    }

    fn named(&self, suffix: &str) -> io::Result<BTreeMap<Sha256, u64>> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(self.directory())? {
            let entry = entry?;
            let name = entry.file_name();
            let digest = name.to_str().and_then(|name| name.strip_suffix(suffix)?.parse().ok());
            if let Some(digest) = digest {
                found.insert(digest, entry.metadata()?.len());
            }
        }
        Ok(found)
    }

    /// Takes bundles, and then manifests, off the shelf. Gates remember what they admitted until the index of names
    /// changes: an empty line, which is no entry, tells them, once before and once after. Only what they judge in between
    /// they may believe for a minute, if a crash comes in between as well.
    ///
    /// # Errors
    /// What removing says; then some may be gone.
    pub(crate) fn remove<'a>(
        &self,
        files: &dyn Files,
        bundles: impl Iterator<Item = &'a Sha256>,
        manifests: impl Iterator<Item = &'a Sha256>,
    ) -> io::Result<()> {
        let bundles = bundles.map(|name| format!("{name}{BUNDLE_SUFFIX}"));
        let manifests = manifests.map(|name| format!("{name}{MANIFEST_SUFFIX}"));
        let names: Vec<_> = bundles.chain(manifests).collect();
        let directory = File::open(self.directory())?;
        // Without an index nothing is admitted, and an empty one would be taken for all there is.
        let marks = !names.is_empty() && self.has_names()?;
        let mark = || if marks { files.append(&directory, NAMES_INDEX, "\n") } else { Ok(()) };
        mark()?;
        files.remove(&directory, &names)?;
        mark()
    }
}
