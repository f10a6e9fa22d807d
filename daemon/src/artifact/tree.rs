use std::path::Path;

use attestfs_attestation::{Entry, ModelManifest, Needed, is_publication};

use super::{
    at_hand::{AtHandError, read_beneath},
    content::Watch,
    directory::{Directory, Found, Kind},
    judge::NotJudged,
    links::Links,
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
    pub(super) fn subjects(
        &self,
        needed: impl Fn(&Path) -> Needed,
        watch: &dyn Watch,
    ) -> Result<Vec<Entry>, NotJudged> {
        self.hash(|name| !is_publication(&name.to_string_lossy()), needed, watch)
    }

    /// The names of what may be.
    pub(super) fn subject_names(&self) -> impl Iterator<Item = &Path> {
        let names = self.found.iter().map(|found| found.path.as_path());
        names.filter(|name| !is_publication(&name.to_string_lossy()))
    }

    /// What is neither a directory nor a symbolic link.
    pub(super) fn files(&self) -> impl Iterator<Item = &Found> {
        self.found.iter().filter(|found| found.kind != Kind::Symlink)
    }

    /// The file of this name, if it is there, and a byte more than may be in it, if there is more. No
    /// link leads to it.
    pub(super) fn read(&self, name: &Path, max: usize) -> Result<Option<Vec<u8>>, AtHandError> {
        read_beneath(&self.directory, name, max)
    }

    /// The symbolic links.
    pub(super) fn links(&self) -> Result<Links, NotJudged> {
        let links = Links::among(&self.found, &self.directory);
        links.map_err(|source| {
            let path = self.path.to_path_buf();
            NotJudged::Content { path, source: source.into() }
        })
    }

    /// What a model signature speaks of.
    pub(super) fn signed(
        &self,
        manifest: &ModelManifest,
        needed: impl Fn(&Path) -> Needed,
        watch: &dyn Watch,
    ) -> Result<Vec<Entry>, NotJudged> {
        let is_ignored = |name: &Path| name.to_str().is_some_and(|name| manifest.ignores(name));
        let is_publication = |name: &Path| name == attestfs_attestation::MODEL_SIGNATURE_FILE;
        self.hash(|name| !is_publication(name) && !is_ignored(name), needed, watch)
    }

    /// The names of files that a model signature leaves out, publications aside.
    pub(super) fn left_out(&self, manifest: &ModelManifest) -> impl Iterator<Item = &str> {
        let names = self.found.iter().filter_map(|found| found.path.to_str());
        names.filter(|name| manifest.ignores(name) && !is_publication(name))
    }

    /// The files of these names, with the digests that are needed of them.
    pub(super) fn hash(
        &self,
        is_wanted: impl Fn(&Path) -> bool,
        needed: impl Fn(&Path) -> Needed,
        watch: &dyn Watch,
    ) -> Result<Vec<Entry>, NotJudged> {
        let wanted = self.found.iter().filter(|found| is_wanted(&found.path));
        let wanted: Vec<_> = wanted.cloned().collect();
        let surveyed = self.directory.survey(&wanted, needed, watch);
        surveyed.map_err(|source| NotJudged::Survey { path: self.path.to_path_buf(), source })
    }
}
