//! Whether the content of which an attestation speaks is still there.

use std::{collections::BTreeSet, io, os::fd::OwnedFd};

use attestfs_attestation::unescaped;
use attestfs_fs::Identity;
use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2},
    io::Errno,
};

use crate::{
    commit::{LentTrees, join},
    lineage::{LineageError, LineageStore, Subject, Version, is_under},
};

/// What is known of a content. The order is that of caution: of an artifact the first one counts
/// that any of its files has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Presence {
    /// It is there, or may be.
    Here,
    /// It is not where it was, and neither is the file system that it was on.
    Away,
    /// It is not where it was, and nobody saw it go.
    Unseen,
    /// A run removed it, or wrote over it.
    Gone,
}

/// Looks for files where they were seen last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lookout<'a> {
    pub(super) store: &'a dyn LineageStore,
    pub(super) lent: &'a LentTrees,
}

impl Lookout<'_> {
    /// Whether anything of an artifact is there. Below `trees` it is looked where these were lent.
    pub(super) fn artifact(
        &self,
        trees: &[String],
        root: &str,
        subjects: &[Subject],
    ) -> Result<Presence, LineageError> {
        let mut presence = Presence::Gone;
        for subject in subjects {
            presence = presence.min(self.subject(trees, root, subject)?);
            if presence == Presence::Here {
                break;
            }
        }
        Ok(presence)
    }

    fn subject(
        &self,
        trees: &[String],
        root: &str,
        subject: &Subject,
    ) -> Result<Presence, LineageError> {
        let version = subject.version.map(|version| self.store.version(version)).transpose()?;
        // Of what the store never knew, it does not know whether it is gone.
        let Some(version) = version.flatten() else {
            return Ok(Presence::Here);
        };
        let own = join(root, &subject.name);
        let also = version.also.iter().map(String::as_str);
        let names: BTreeSet<&str> = [own.as_str(), &version.path].into_iter().chain(also).collect();
        for name in names {
            match look(self.lent, trees, name) {
                Ok(None) => {}
                Ok(Some(found)) if !self.may_be(&found, subject, &version)? => {}
                // What cannot be looked at may be there.
                Ok(Some(_)) | Err(_) => return Ok(Presence::Here),
            }
        }
        if version.gone || version.superseded_by.is_some() {
            return Ok(Presence::Gone);
        }
        let same = filesystem_at(self.lent, trees, &own) == Some(version.file.filesystem);
        Ok(if same { Presence::Unseen } else { Presence::Away })
    }

    /// Whether what was found may have this content. It is not hashed: the store knows its digest,
    /// or else its size decides.
    fn may_be(
        &self,
        found: &Identity,
        subject: &Subject,
        version: &Version,
    ) -> Result<bool, LineageError> {
        if let [Some(digests)] = self.store.digests_of(&[*found])?[..] {
            return Ok(digests.sha256 == subject.digests.sha256);
        }
        let then = version.identity.filter(|_| version.digests == Some(subject.digests));
        Ok(then.is_none_or(|then| then.size == found.size))
    }
}

/// The regular file of this absolute path; none when there is no such file.
fn look(lent: &LentTrees, trees: &[String], path: &str) -> io::Result<Option<Identity>> {
    match node(lent, trees, path) {
        Ok(node) if is_file(&node)? => Ok(Some(Identity::of(node)?)),
        Ok(_) => Ok(None),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The file system of the nearest directory above a path that is there.
fn filesystem_at(lent: &LentTrees, trees: &[String], path: &str) -> Option<u64> {
    let mut above = path;
    loop {
        match node(lent, trees, above) {
            Ok(node) => return Some(Identity::of(node).ok()?.file.filesystem),
            Err(error) if !is_absence(&error) => return None,
            Err(_) => {}
        }
        let (parent, _) = above.rsplit_once('/')?;
        above = if parent.is_empty() { "/" } else { parent };
    }
}

/// What has this absolute path, below the nearest of these trees, as it was lent, or below the root
/// directory. No symbolic link is followed.
fn node(lent: &LentTrees, trees: &[String], path: &str) -> io::Result<OwnedFd> {
    let above = trees.iter().filter(|tree| is_under(path, tree));
    let (root, below) = match above.max_by_key(|tree| tree.len()) {
        Some(tree) => (lent.open(tree)?, path.get(tree.trim_end_matches('/').len()..)),
        None => (open("/", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?, Some(path)),
    };
    let below = unescaped(below.unwrap_or_default().trim_start_matches('/'));
    let below = if below.is_empty() { b"." } else { &below[..] };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok(openat2(root, below, flags, Mode::empty(), resolve)?)
}

fn is_file(node: &OwnedFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(fstat(node)?.st_mode) == FileType::RegularFile)
}

fn is_absence(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR))
}
