use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
};

use attestfs_attestation::{Alias, Ends, aliases};

use super::{
    directory::{Directory, Found, Kind},
    judge::spelled,
};

/// The symbolic links of a tree at rest: to the files there they give other names.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// By what they lead to.
    leading_to: BTreeMap<String, BTreeSet<String>>,
    /// Those that lead out of the tree, or to where nobody can say.
    leading_out: Vec<String>,
}

impl Links {
    /// Those among what was found. Nobody knows where the tree will be mounted: an absolute link leads
    /// out.
    ///
    /// # Errors
    /// One cannot be read.
    pub(super) fn among(found: &[Found], directory: &Directory) -> io::Result<Self> {
        let mut links = Self::default();
        for Found { path, .. } in found.iter().filter(|found| found.kind == Kind::Symlink) {
            let text = directory.read_link(path)?;
            links.add(path, Ends::of(path, &text, None, |way| directory.follow(way)));
        }
        Ok(links)
    }

    fn add(&mut self, link: &Path, ends: Ends) {
        let link = spelled(link);
        if !ends.are_certain() {
            self.leading_out.push(link.clone());
        }
        for end in ends.all() {
            self.leading_to.entry(spelled(&end)).or_default().insert(link.clone());
        }
    }

    /// As [`aliases`].
    pub(super) fn aliases(&self, path: &str) -> Option<Vec<Alias>> {
        aliases(path, |target| {
            let links = self.leading_to.get(target).into_iter().flatten();
            links.map(|link| (link.as_str(), true))
        })
    }

    /// Those that a guarded name does not lead along.
    pub(super) fn leading_out(&self) -> &[String] {
        &self.leading_out
    }
}
