use std::ops::ControlFlow;

use attestfs_digest::Sha256;

use crate::{
    bundle::{Bundle, BundleError},
    verify::Attestations,
};

/// What a store has published: the attestations themselves, and in which order they came.
pub trait Publications: Attestations {
    /// What this store published under this name below this artifact root, the oldest first. `root`
    /// is the absolute path that statements record; `name` is relative to it, and `model.sig` names
    /// the model signatures themselves. A path has one history, as a part of whichever root its
    /// content was published.
    ///
    /// # Errors
    /// The store cannot tell. Then nothing is admitted.
    fn history(&self, root: &str, name: &str) -> Result<Vec<Publication>, Unavailable>;

    /// Gives `visit` the history of this name, the newest first, until it has seen enough. A store with
    /// long histories reads no more of one than that takes.
    ///
    /// # Errors
    /// As [`Publications::history`].
    fn newest_first(
        &self,
        root: &str,
        name: &str,
        visit: &mut dyn FnMut(Publication) -> ControlFlow<()>,
    ) -> Result<(), Unavailable> {
        let history = self.history(root, name)?;
        let _broke_off = history.into_iter().rev().try_for_each(visit);
        Ok(())
    }

    /// Of the history of this name its end, and the newest of those that are asked for. None when
    /// nothing was published under it.
    ///
    /// # Errors
    /// As [`Publications::history`].
    fn latest(
        &self,
        root: &str,
        name: &str,
        is_asked: &dyn Fn(&Publication) -> bool,
    ) -> Result<Option<Latest>, Unavailable> {
        let mut latest = None;
        self.newest_first(root, name, &mut |publication| {
            let latest = latest.get_or_insert(Latest { newest: publication, asked: None });
            latest.asked = Some(publication).filter(is_asked);
            if latest.asked.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(latest)
    }
}

/// An absolute path as an artifact root and a name below it. Its history is the same wherever it is
/// split.
pub fn root_and_name(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// One publication of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The name of the attestation.
    pub statement: Sha256,
    /// The content that it published under the name. Of `model.sig`: the digest of its payload.
    pub content: Sha256,
}

/// The end of a history, and what was asked for in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latest {
    /// What was published last.
    pub newest: Publication,
    /// The newest that was asked for; the last one itself, if it was.
    pub asked: Option<Publication>,
}

/// The store cannot answer: a sentence that says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// A store that has published nothing: only what lies beside the files counts.
#[derive(Clone, Copy, Debug)]
pub struct NothingPublished;

impl Attestations for NothingPublished {
    fn naming(&self, _content: Sha256) -> Vec<Sha256> {
        Vec::new()
    }

    fn came_along(&self, _name: Sha256) -> bool {
        false
    }

    fn attestation(&self, _name: Sha256) -> Vec<Result<Bundle, BundleError>> {
        Vec::new()
    }

    fn manifest(&self, _digest: Sha256) -> Option<Vec<u8>> {
        None
    }
}

impl Publications for NothingPublished {
    fn history(&self, _root: &str, _name: &str) -> Result<Vec<Publication>, Unavailable> {
        Ok(Vec::new())
    }
}
