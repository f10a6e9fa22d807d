//! What lies there, compared with what was locked, published and signed.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

use attestfs_attestation::{
    BUNDLE_MAX, Bundle, Content, MODEL_SIGNATURE_FILE, ModelManifest, Publications, escaped,
};
use attestfs_digest::Sha256;
use attestfs_fs::{Identity, TreePath};

use super::{Expected, NotReused, Repetition, below};
use crate::{
    artifact::{ContentError, Directory, Kind, Unwatched, content},
    lineage::Attestation,
    publication::Published,
};

/// Files that are open at a time while they are compared.
const OPEN_MAX: usize = 128;

impl Repetition<'_> {
    /// # Errors
    /// The first file that is not what it was.
    pub(super) fn refuse_changes(
        &self,
        statements: &[Attestation],
        outputs: &[Expected],
    ) -> Result<(), NotReused> {
        self.compare(self.inputs(), "locked", is)?;
        self.compare(outputs.iter().cloned(), "published", is)?;
        let published = outputs.iter().map(|(place, _)| place).collect();
        statements.iter().try_for_each(|statement| self.compare_signed(statement, &published))
    }

    fn inputs(&self) -> impl Iterator<Item = Expected> {
        let files = self.lock.files();
        files.map(|(tree, path, sha256)| (TreePath { tree, path: path.to_owned() }, sha256))
    }

    /// Whether each file has the content that is `expected` of it: by its identity where the store
    /// knows that, else it is hashed.
    fn compare<E>(
        &self,
        files: impl Iterator<Item = (TreePath, E)>,
        then: &'static str,
        is: impl Fn(&Content, &E) -> bool,
    ) -> Result<(), NotReused> {
        let files: Vec<_> = files.collect();
        files.chunks(OPEN_MAX).try_for_each(|piece| {
            let contents = self.contents(piece.iter().map(|(place, _)| place))?;
            let mut compared = piece.iter().zip(&contents);
            match compared.find(|((_, expected), found)| !is(found, expected)) {
                Some(((place, _), _)) => {
                    Err(NotReused::Changed { path: self.trees.absolute(place), then })
                }
                None => Ok(()),
            }
        })
    }

    fn contents<'p>(
        &self,
        places: impl Iterator<Item = &'p TreePath>,
    ) -> Result<Vec<Content>, NotReused> {
        let opened = places.map(|place| Ok((place, self.open(place)?)));
        let opened = opened.collect::<Result<Vec<_>, NotReused>>()?;
        let identities: Vec<Identity> = opened.iter().map(|(_, (_, identity))| *identity).collect();
        let known = self.client.digests(&identities)?;
        let contents = opened.iter().zip(known).map(|((place, (file, identity)), known)| {
            let path = || self.trees.absolute(place);
            match known {
                Some(digests) => Ok(Content::new(digests, identity.size)),
                None => content(file, &Unwatched)
                    .map_err(|source| NotReused::Unreadable { path: path(), source }),
            }
        });
        contents.collect()
    }

    fn open(&self, place: &TreePath) -> Result<(File, Identity), NotReused> {
        let path = || self.trees.absolute(place);
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                NotReused::Gone { path: path() }
            }
            _ => NotReused::Unreadable { path: path(), source: error.into() },
        };
        let file = self.trees.open_file(place).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            let source = ContentError::NotAFile;
            return Err(NotReused::Unreadable { path: path(), source });
        }
        let identity = Identity::of(&file).map_err(|errno| failed(errno.into()))?;
        Ok((file, identity))
    }

    /// An `--out` that is a directory has the `model.sig` that it got with its statement, and holds
    /// what that lists.
    fn compare_signed(
        &self,
        statement: &Attestation,
        published: &HashSet<&TreePath>,
    ) -> Result<(), NotReused> {
        let root = &statement.artifact_root;
        let history = Published::on(self.shelf.clone()).history(root, MODEL_SIGNATURE_FILE)?;
        let signed = history.iter().rev().find(|it| it.statement == statement.statement);
        let Some(signed) = signed else {
            // Only a directory that is an `--out` itself is signed.
            let (run, output) = (statement.run.clone(), root.clone());
            let is_output = self.description.declared_outputs.contains(root);
            return if is_output { Err(NotReused::NotSigned { run, output }) } else { Ok(()) };
        };
        let Some(root) = self.place(root) else {
            return Err(NotReused::Statement { statement: statement.statement });
        };
        let signature = below(&root, MODEL_SIGNATURE_FILE);
        let (file, _) = self.open(&signature)?;
        let mut bundle = Vec::new();
        let read = file.take(BUNDLE_MAX as u64 + 1).read_to_end(&mut bundle);
        let bundle = read.ok().and_then(|_| Bundle::parse(&bundle).ok());
        let payload = bundle.as_ref().map(Bundle::payload);
        let payload = payload.filter(|payload| payload.sha256() == signed.content);
        let Some(manifest) = payload.and_then(|payload| ModelManifest::read(payload).ok()) else {
            let path = self.trees.absolute(&signature);
            return Err(NotReused::Changed { path, then: "published" });
        };
        self.compare_directory(&root, &manifest, published)
    }

    /// A directory holds what its model signature lists, and nothing that it does not list. What the
    /// run `published` was compared before; files that were there already are compared now.
    fn compare_directory(
        &self,
        root: &TreePath,
        manifest: &ModelManifest,
        published: &HashSet<&TreePath>,
    ) -> Result<(), NotReused> {
        let mut listed = 0;
        let mut others = Vec::new();
        for (name, kind) in self.listing(root)? {
            let place = below(root, &escaped(name.as_os_str().as_bytes()));
            let name = name.to_str().unwrap_or_default();
            if name == MODEL_SIGNATURE_FILE || manifest.ignores(name) {
                continue;
            }
            if !manifest.lists(name) || !matches!(kind, Kind::File { .. }) {
                return Err(NotReused::Added { path: self.trees.absolute(&place) });
            }
            listed += 1;
            if !published.contains(&place) {
                others.push((place, name.to_owned()));
            }
        }
        if listed != manifest.files() {
            let path = self.trees.absolute(&below(root, MODEL_SIGNATURE_FILE));
            return Err(NotReused::Missing { path });
        }
        let is_listed = |found: &Content, name: &String| manifest.compare_file(name, found).is_ok();
        self.compare(others.into_iter(), "signed", is_listed)
    }

    fn listing(&self, root: &TreePath) -> Result<Vec<(PathBuf, Kind)>, NotReused> {
        let unreadable = |error: io::Error| NotReused::Unreadable {
            path: self.trees.absolute(root),
            source: error.into(),
        };
        let directory = self.trees.open_directory(root).map_err(unreadable)?;
        let found = Directory::from(directory).walk();
        let mut found = found.map_err(|error| unreadable(io::Error::other(error)))?;
        found.retain(|found| found.kind != Kind::EmptyDirectory);
        Ok(found.into_iter().map(|found| (found.path, found.kind)).collect())
    }
}

fn is(found: &Content, expected: &Sha256) -> bool {
    found.sha256() == *expected
}
