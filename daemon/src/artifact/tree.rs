use std::path::Path;

use attestfs_attestation::{Entry, ModelManifest, is_publication};

use super::{
    content::Watch,
    directory::{Directory, Found, Kind},
    judge::NotJudged,
};

/// A directory that was looked through. An empty directory in it is nothing that anybody attests.
pub(super) struct Tree<'a> {
    path: &'a Path,
    directory: Directory,
    found: Vec<Found>,
}

impl<'a> Tree<'a> {
    pub(super) fn look(path: &'a Path) -> Result<Self, NotJudged> {
        let owned = || path.to_path_buf();
        let directory = Directory::open(path)
            .map_err(|source| NotJudged::Content { path: owned(), source: source.into() })?;
        let mut found =
            directory.walk().map_err(|source| NotJudged::Walk { path: owned(), source })?;
        found.retain(|found| found.kind != Kind::EmptyDirectory);
        Ok(Self { path, directory, found })
    }

    /// What no model signature speaks of may be attested: all but publications.
    pub(super) fn subjects(&self, watch: &dyn Watch) -> Result<Vec<Entry>, NotJudged> {
        self.hash(|name| !is_publication(&name.to_string_lossy()), watch)
    }

    /// The regular files that are no publications, relative to the directory.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        let files = self.found.iter().filter(|found| matches!(found.kind, Kind::File { .. }));
        let paths = files.map(|found| found.path.as_path());
        paths.filter(|path| !is_publication(&path.to_string_lossy()))
    }

    /// What a model signature speaks of.
    pub(super) fn signed(
        &self,
        manifest: &ModelManifest,
        watch: &dyn Watch,
    ) -> Result<Vec<Entry>, NotJudged> {
        let is_ignored = |name: &Path| name.to_str().is_some_and(|name| manifest.ignores(name));
        let is_publication = |name: &Path| name == attestfs_attestation::MODEL_SIGNATURE_FILE;
        self.hash(|name| !is_publication(name) && !is_ignored(name), watch)
    }

    /// The names of files that a model signature leaves out, publications aside.
    pub(super) fn left_out(&self, manifest: &ModelManifest) -> impl Iterator<Item = &str> {
        let names = self.found.iter().filter_map(|found| found.path.to_str());
        names.filter(|name| manifest.ignores(name) && !is_publication(name))
    }

    /// The files of these names, with their digests.
    pub(super) fn hash(
        &self,
        is_wanted: impl Fn(&Path) -> bool,
        watch: &dyn Watch,
    ) -> Result<Vec<Entry>, NotJudged> {
        let wanted = self.found.iter().filter(|found| is_wanted(&found.path));
        let wanted: Vec<_> = wanted.cloned().collect();
        let surveyed = self.directory.survey(&wanted, watch);
        surveyed.map_err(|source| NotJudged::Survey { path: self.path.to_path_buf(), source })
    }
}
