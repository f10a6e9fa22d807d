//! What publications left around a file: read beneath the backing store's root, following no link.

use std::{
    os::{
        fd::{AsFd, BorrowedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use attestfs_attestation::{
    Around, BUNDLE_MAX, Beside, CLAIMS_FILE, CLAIMS_MAX, MODEL_SIGNATURE_FILE, Unavailable, escaped,
};
use jiff::Timestamp;
use parking_lot::Mutex;
use rustix::{
    fs::{FileType, OFlags},
    io::Errno,
};

use super::recent::Recent;
use crate::{
    backing::{Backing, Node},
    identity::Identity,
};

/// The identities of a directory's `model.sig` and `claims.jsonl`.
pub(super) type Beneath = [Option<Identity>; 2];

/// What was read before: a directory of a thousand files is read once.
#[derive(Debug)]
pub(super) struct Library(Mutex<Recent<Beneath, Arc<Beside>>>);

/// What lies around one file, looked at and not read yet.
#[derive(Debug)]
pub(super) struct Evidence<'a> {
    backing: &'a dyn Backing,
    relative: &'a Path,
    /// The nearest first.
    shelves: Vec<Shelf>,
}

/// One directory that the file lies in or below, as it was looked at.
#[derive(Debug)]
struct Shelf {
    /// None of what is no directory any more, or lies behind a symbolic link.
    node: Option<Node>,
    identities: Beneath,
}

/// An attestation that was looked at, at hand: it is reached whatever becomes of its name.
#[derive(Debug)]
pub(super) struct Exhibit {
    node: Node,
    identity: Identity,
}

impl<'a> Evidence<'a> {
    /// Looks around the file at `relative`, which costs some system calls at each open of a guarded file:
    /// nothing is opened but the directories.
    ///
    /// # Errors
    /// Something is there, or may be, and cannot be looked at.
    pub(super) fn around(
        backing: &'a dyn Backing,
        relative: &'a Path,
    ) -> Result<Self, Unavailable> {
        let directories = relative.ancestors().skip(1);
        let shelves = directories.map(|directory| Shelf::at(backing, directory));
        Ok(Self { backing, relative, shelves: shelves.collect::<Result<_, _>>()? })
    }

    /// What the evidence is: another as soon as any of it changes.
    pub(super) fn identities(&self) -> Vec<Beneath> {
        self.shelves.iter().map(|shelf| shelf.identities).collect()
    }

    /// All of it at hand.
    ///
    /// # Errors
    /// It cannot be reached, or has changed.
    pub(super) fn exhibits(&self) -> Result<Vec<Exhibit>, Unavailable> {
        self.shelves.iter().flat_map(|shelf| shelf.exhibits(self.backing)).collect()
    }

    /// Whether it will be known by other identities when it changes from `now` on.
    pub(super) fn is_settled(&self, now: Timestamp) -> bool {
        self.shelves.iter().all(|shelf| shelf.is_settled(now))
    }

    /// Reads it, in the tree that statements call `origin`.
    ///
    /// # Errors
    /// It cannot be read, or changes meanwhile.
    pub(super) fn read(
        &self,
        origin: &Path,
        library: &Library,
        now: Timestamp,
    ) -> Result<Vec<Around>, Unavailable> {
        let directories = self.relative.ancestors().skip(1);
        let filled = directories.zip(&self.shelves).filter(|(_, shelf)| !shelf.is_empty());
        filled
            .map(|(directory, shelf)| {
                let name = self.relative.strip_prefix(directory).unwrap_or(self.relative);
                Ok(Around {
                    root: spell(&absolute(origin, directory)),
                    name: spell(name),
                    beside: library.beside(self.backing, shelf, now)?,
                })
            })
            .collect()
    }
}

/// The directories that the file at `relative` lies in or below, the root first; each is looked for when it is wanted.
pub(super) fn directories_above<'a>(
    backing: &'a dyn Backing,
    relative: &'a Path,
) -> impl Iterator<Item = Result<Node, Errno>> {
    let directories: Vec<_> = relative.ancestors().skip(1).collect();
    directories.into_iter().rev().map(|directory| directory_at(backing, directory))
}

fn directory_at(backing: &dyn Backing, path: &Path) -> Result<Node, Errno> {
    if path == Path::new("") { backing.root() } else { backing.resolve(path) }
}

/// What statements call the file at `relative` in the tree `origin`.
pub(super) fn path_of(origin: &Path, relative: &Path) -> String {
    spell(&origin.join(relative))
}

fn absolute(origin: &Path, directory: &Path) -> PathBuf {
    // Joining nothing would end in a slash.
    if directory == Path::new("") { origin.to_owned() } else { origin.join(directory) }
}

impl Shelf {
    fn at(backing: &dyn Backing, directory: &Path) -> Result<Self, Unavailable> {
        let Some(node) = if_there(directory_at(backing, directory))? else {
            return Ok(Self { node: None, identities: [None; 2] });
        };
        let look = |name: &str| identity_of(backing, &node, name);
        let identities = [look(MODEL_SIGNATURE_FILE)?, look(CLAIMS_FILE)?];
        Ok(Self { node: Some(node), identities })
    }

    fn is_empty(&self) -> bool {
        self.identities.iter().all(Option::is_none)
    }

    fn is_settled(&self, now: Timestamp) -> bool {
        let mut identities = self.identities.iter().flatten();
        identities.all(|identity| identity.settles_in(now).is_zero())
    }

    fn exhibits(
        &self,
        backing: &dyn Backing,
    ) -> impl Iterator<Item = Result<Exhibit, Unavailable>> {
        let names = [MODEL_SIGNATURE_FILE, CLAIMS_FILE].into_iter().zip(self.identities);
        let there = names.filter_map(|(name, identity)| Some((name, identity?)));
        there.filter_map(move |(name, identity)| {
            let node = backing.lookup(self.node.as_ref()?, name.as_ref()).map_err(unavailable);
            Some(node.and_then(|node| {
                check_identity(backing, node.as_fd(), &identity)?;
                Ok(Exhibit { node, identity })
            }))
        })
    }

    /// What lies there, in the order of the identities.
    fn read(&self, backing: &dyn Backing) -> Result<[Option<Vec<u8>>; 2], Unavailable> {
        let Some(node) = &self.node else { return Ok([None, None]) };
        let read = |name: &str, identity: Option<Identity>, length_max: usize| {
            identity.map(|known| read_entry(backing, (node, name), &known, length_max)).transpose()
        };
        let [model, claims] = self.identities;
        Ok([read(MODEL_SIGNATURE_FILE, model, BUNDLE_MAX)?, read(CLAIMS_FILE, claims, CLAIMS_MAX)?])
    }
}

impl Exhibit {
    pub(super) fn is_unchanged(&self, backing: &dyn Backing) -> bool {
        check_identity(backing, self.node.as_fd(), &self.identity).is_ok()
    }
}

impl Default for Library {
    fn default() -> Self {
        Self(Mutex::new(Recent::new(EVIDENCE_BYTES_MAX)))
    }
}

impl Library {
    fn beside(
        &self,
        backing: &dyn Backing,
        shelf: &Shelf,
        now: Timestamp,
    ) -> Result<Arc<Beside>, Unavailable> {
        if let Some(known) = self.0.lock().get(&shelf.identities) {
            return Ok(known);
        }
        let [model, claims] = shelf.read(backing)?;
        let beside = Arc::new(Beside::parse(model.as_deref(), claims.as_deref()));
        let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let weight = length(&model) + length(&claims);
        if shelf.is_settled(now) {
            self.0.lock().insert(shelf.identities, Arc::clone(&beside), weight);
        }
        Ok(beside)
    }
}

/// Reads what has this name, if it still is what it was. A byte more than `length_max` is read, so that whoever parses
/// it sees that it is too long.
fn read_entry(
    backing: &dyn Backing,
    (directory, name): (&Node, &str),
    identity: &Identity,
    length_max: usize,
) -> Result<Vec<u8>, Unavailable> {
    let node = backing.lookup(directory, name.as_ref()).map_err(unavailable)?;
    // Of a pipe that took the name, not even to open it would end.
    check_identity(backing, node.as_fd(), identity)?;
    let file = backing.open(&node, OFlags::RDONLY).map_err(unavailable)?;
    let length = usize::try_from(identity.size).unwrap_or(usize::MAX);
    let mut bytes = vec![0; length.min(length_max.saturating_add(1))];
    let count = backing.read_at(&file, &mut bytes, 0).map_err(unavailable)?;
    check_identity(backing, file.as_fd(), identity)?;
    if count < bytes.len() { Err(just_written()) } else { Ok(bytes) }
}

fn check_identity(
    backing: &dyn Backing,
    file: BorrowedFd<'_>,
    identity: &Identity,
) -> Result<(), Unavailable> {
    let now = backing.stat(file).map_err(unavailable)?.identity;
    if now == *identity { Ok(()) } else { Err(just_written()) }
}

/// What is no regular file counts as not there.
fn identity_of(
    backing: &dyn Backing,
    directory: &Node,
    name: &str,
) -> Result<Option<Identity>, Unavailable> {
    let stat = if_there(backing.stat_entry(directory, name.as_ref()))?;
    Ok(stat.filter(|stat| stat.kind() == FileType::RegularFile).map(|stat| stat.identity))
}

fn if_there<T>(found: Result<T, Errno>) -> Result<Option<T>, Unavailable> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(unavailable(errno)),
    }
}

fn just_written() -> Unavailable {
    Unavailable("an attestation beside the file is just being written".into())
}

fn unavailable(errno: Errno) -> Unavailable {
    Unavailable(format!("the attestations beside the file cannot be read: {errno}"))
}

fn spell(path: &Path) -> String {
    escaped(path.as_os_str().as_bytes())
}

/// Evidence that is remembered, by the length of what it was parsed from.
const EVIDENCE_BYTES_MAX: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        os::{fd::OwnedFd, unix::fs::symlink},
        time::Duration,
    };

    use super::*;
    use crate::backing::Directory;

    #[test]
    fn evidence_is_remembered_when_its_time_of_change_has_passed() {
        let directory = tempfile::tempdir().unwrap();
        let claims = directory.path().join(CLAIMS_FILE);
        fs::write(&claims, b"").unwrap();
        let changed = Identity::of(File::open(&claims).unwrap()).unwrap().ctime_ns;
        let changed = Timestamp::from_nanosecond(changed.into()).unwrap();
        let backing = Directory::new(OwnedFd::from(File::open(directory.path()).unwrap()));
        let origin = Path::new("/origin");
        let evidence = Evidence::around(&backing, Path::new("w.pt")).unwrap();
        for (later, remembered) in [(0, false), (19, false), (20, true)] {
            let (library, now) = (Library::default(), changed + Duration::from_millis(later));
            evidence.read(origin, &library, now).unwrap();
            let known = library.0.lock().get(&evidence.identities()[0]).is_some();
            assert_eq!((known, evidence.is_settled(now)), (remembered, remembered), "{later}");
        }
    }

    #[test]
    fn what_lies_behind_a_link_or_is_no_file_does_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        fs::create_dir_all(at("real/below")).unwrap();
        fs::create_dir(at("real/below").join(CLAIMS_FILE)).unwrap();
        fs::write(at("real").join(MODEL_SIGNATURE_FILE), b"").unwrap();
        symlink("real", at("linked")).unwrap();
        symlink(Path::new("real").join(MODEL_SIGNATURE_FILE), at(MODEL_SIGNATURE_FILE)).unwrap();
        let backing = Directory::new(OwnedFd::from(File::open(directory.path()).unwrap()));
        let seen = |path: &str| {
            let evidence = Evidence::around(&backing, Path::new(path)).unwrap();
            let identities = evidence.identities().into_iter();
            identities.map(|beneath| beneath.map(|identity| identity.is_some())).collect::<Vec<_>>()
        };
        assert_eq!(seen("real/below/w.pt"), [[false, false], [true, false], [false, false]]);
        assert_eq!(seen("linked/w.pt"), [[false, false]; 2]);
        assert_eq!(seen("gone/w.pt"), [[false, false]; 2]);
        assert_eq!(seen("real/model.sig/w.pt"), [[false, false], [true, false], [false, false]]);
    }

    #[test]
    fn evidence_that_is_replaced_before_it_is_read_is_unavailable() {
        let directory = tempfile::tempdir().unwrap();
        let claims = directory.path().join(CLAIMS_FILE);
        fs::write(&claims, b"").unwrap();
        let backing = Directory::new(OwnedFd::from(File::open(directory.path()).unwrap()));
        let evidence = Evidence::around(&backing, Path::new("w.pt")).unwrap();
        let read = || evidence.read(Path::new("/"), &Library::default(), Timestamp::UNIX_EPOCH);
        assert_eq!(read().unwrap().len(), 1);
        fs::remove_file(&claims).unwrap();
        assert!(read().is_err());
        fs::write(&claims, b"").unwrap();
        assert!(read().is_err());
    }
}
