//! What `user.attestfs.*` says of a file, or of a directory that is a published artifact: all that is
//! known without looking into the file. The signed attestations are the truth, this is a hint.

use std::{collections::HashSet, ops::ControlFlow, os::unix::ffi::OsStrExt};

use attestfs_attestation::{Publication, Unavailable, escaped, root_and_name};
use attestfs_digest::{Digests, Sha256};
use rustix::fs::OFlags;

use super::{
    filesystem::Vfs,
    inode::{Inode, Kind},
    tenure::Regular,
};
use crate::{
    error::Error,
    names::{FilePath, Place},
    port::{BundleSource, Maker, PublishedFile},
};

/// What is known of a regular file.
struct Known {
    regular: Regular,
    /// The word of the run for its state.
    word: &'static str,
    /// Whether the run wrote it.
    is_own: bool,
    /// Of exactly what it holds.
    digests: Option<Digests>,
    /// The newest publication of exactly what it holds.
    published: Option<PublishedFile>,
}

impl Vfs {
    /// The value of `user.attestfs.<name>`, which none of the others has.
    pub(super) fn shown(&self, inode: &Inode, name: &[u8]) -> Result<Option<String>, Error> {
        match &inode.kind {
            Kind::Regular(_) if name == b"verdict" => self.shown_verdict(inode),
            Kind::Regular(_) => Ok(self.shown_of_file(&self.known(inode)?, name)),
            Kind::Directory(place) => Ok(self.shown_of_directory(place, name)),
            Kind::Link(_) | Kind::Other => Ok(None),
        }
    }

    fn known(&self, inode: &Inode) -> Result<Known, Error> {
        let regular = inode.regular().ok_or(Error::NoAttribute)?;
        let content = regular.tracked.content();
        let identity = self.stat(inode)?.identity;
        let of_run = content.digests().filter(|_| content.identity() == Some(identity));
        let (word, is_own) = (content.word(), content.own_version().is_some());
        drop(content);
        let published = told(self.gate.published(&identity)).flatten();
        let digests =
            of_run.or_else(|| published.as_ref()?.digests).or_else(|| self.gate.digests(&identity));
        let published = published.filter(|it| digests.is_some_and(|d| d.sha256 == it.content));
        Ok(Known { regular, word, is_own, digests, published })
    }

    fn shown_of_file(&self, known: &Known, name: &[u8]) -> Option<String> {
        let Known { regular, published, digests, .. } = known;
        let published = published.as_ref();
        let tenure = known.is_own.then_some(&regular.tenure);
        match name {
            b"state" => Some(known.state().to_owned()),
            b"sha256" => Some(digests.as_ref()?.sha256.to_string()),
            b"blake3" => Some(digests.as_ref()?.blake3.to_string()),
            b"attestation" => self.attestations(known),
            b"stage" => match tenure {
                Some(tenure) => Some(tenure.stage.clone()),
                None => given(&published?.stage),
            },
            b"run" => match tenure {
                Some(tenure) => Some(tenure.run_id.clone()),
                None => given(&published?.run),
            },
            b"signer" => given(&published?.signer),
            _ => None,
        }
    }

    /// The attestations that speak of what the file holds under one of its names, of each name the
    /// newest first. Others of the same content are about other files.
    fn attestations(&self, known: &Known) -> Option<String> {
        let source = self.gate.source()?;
        let content = known.digests?.sha256;
        let paths: Vec<FilePath> = known.regular.tracked.names().paths().collect();
        let mut here: Vec<Sha256> = known.published.iter().map(|it| it.statement).collect();
        for path in paths {
            let path = self.absolute(&path);
            here.extend(newest(source, root_and_name(&path), |it| it.content == content)?);
        }
        listed(&here)
    }

    fn shown_of_directory(&self, place: &Place, name: &[u8]) -> Option<String> {
        let source = self.gate.source()?;
        let statements = newest(source, (&self.absolute(&place.path()?), ""), |_| true)?;
        let newest = *statements.first()?;
        let maker = || -> Option<Maker> { told(source.maker(newest)) };
        match name {
            b"state" => Some(PUBLISHED.to_owned()),
            b"attestation" => listed(&statements),
            b"stage" => given(&maker()?.stage),
            b"run" => given(&maker()?.run),
            b"signer" => given(&maker()?.signer),
            _ => None,
        }
    }

    /// The gate's, as far as it comes without hashing. Of a file that may not be opened, too.
    fn shown_verdict(&self, inode: &Inode) -> Result<Option<String>, Error> {
        if !self.gate.guards() {
            return Ok(None);
        }
        let regular = inode.regular().ok_or(Error::NoAttribute)?;
        let opened = self.open_backing(inode, OFlags::RDONLY)?;
        let verdict = self.gate.verdict(&self.wanted(&regular, &opened, None));
        Ok(verdict.map(|verdict| verdict.to_string()))
    }

    /// What statements call the file at this path.
    fn absolute(&self, path: &FilePath) -> String {
        let path = self.options.origin.join(&path.relative);
        let path = escaped(path.as_os_str().as_bytes());
        // The root joined with nothing ends in a slash.
        if path.len() > 1 { path.trim_end_matches('/').to_owned() } else { path }
    }
}

impl Known {
    fn state(&self) -> &'static str {
        match self.word {
            _ if self.published.is_some() => PUBLISHED,
            // Somebody touched it below the mount: it is to be looked at again.
            "sealed" if self.digests.is_none() => "unsealed",
            word => word,
        }
    }
}

/// The state of what a signed statement names.
const PUBLISHED: &str = "published";

/// Which statements published what `is_asked` for under this name, the newest first, as far back as
/// one looks.
fn newest(
    source: &dyn BundleSource,
    (root, name): (&str, &str),
    is_asked: impl Fn(&Publication) -> bool,
) -> Option<Vec<Sha256>> {
    let (mut found, mut seen) = (Vec::new(), 0);
    told(source.newest_first(root, name, &mut |publication| {
        found.extend(is_asked(&publication).then_some(publication.statement));
        seen += 1;
        if seen < LOOKED_BACK_MAX && found.len() < LISTED_MAX {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }))?;
    Some(found)
}

/// So many publications of one name are looked at: who asks waits for no more of its history.
const LOOKED_BACK_MAX: usize = 1024;

/// So many attestations are listed, which is less than an attribute holds.
const LISTED_MAX: usize = 256;

/// What a source that cannot be asked does not know is not shown.
fn told<T>(answer: Result<T, Unavailable>) -> Option<T> {
    answer.inspect_err(|error| tracing::warn!(%error, "publications cannot be looked up")).ok()
}

fn given(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Each once, where it stands first.
fn listed(statements: &[Sha256]) -> Option<String> {
    let mut seen = HashSet::new();
    let once = statements.iter().filter(|statement| seen.insert(**statement)).take(LISTED_MAX);
    let names: Vec<String> = once.map(|statement| format!("sha256:{statement}")).collect();
    given(&names.join(" "))
}
