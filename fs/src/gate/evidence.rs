//! What publications left around a file: read beneath the backing store's root, following no link.

use std::{
    fs::File,
    os::{fd::AsFd, unix::ffi::OsStrExt},
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

/// What lies around one file, found and not read yet.
#[derive(Debug)]
pub(super) struct Evidence<'a> {
    backing: &'a dyn Backing,
    origin: &'a Path,
    /// The nearest first.
    shelves: Vec<Shelf>,
}

/// One directory that the file lies in or below.
#[derive(Debug)]
struct Shelf {
    directory: PathBuf,
    name: PathBuf,
    pieces: [Option<Piece>; 2],
}

#[derive(Debug)]
struct Piece {
    node: Node,
    identity: Identity,
}

impl<'a> Evidence<'a> {
    /// Looks around the file at `relative` in the tree that statements call `origin`.
    ///
    /// # Errors
    /// Something is there, or may be, and cannot be looked at.
    pub(super) fn around(
        backing: &'a dyn Backing,
        origin: &'a Path,
        relative: &Path,
    ) -> Result<Self, Unavailable> {
        let mut shelves = Vec::new();
        for directory in relative.ancestors().skip(1) {
            let name = relative.strip_prefix(directory).unwrap_or(relative).to_owned();
            let pieces = [
                find(backing, &directory.join(MODEL_SIGNATURE_FILE))?,
                find(backing, &directory.join(CLAIMS_FILE))?,
            ];
            shelves.push(Shelf { directory: directory.to_owned(), name, pieces });
        }
        Ok(Self { backing, origin, shelves })
    }

    /// What the evidence is: another as soon as any of it changes.
    pub(super) fn identities(&self) -> Vec<Beneath> {
        self.shelves.iter().map(Shelf::identities).collect()
    }

    /// Whether it will be known by other identities when it changes from `now` on.
    pub(super) fn is_settled(&self, now: Timestamp) -> bool {
        self.shelves.iter().all(|shelf| shelf.is_settled(now))
    }

    /// Reads it.
    ///
    /// # Errors
    /// It cannot be read, or changes meanwhile.
    pub(super) fn read(
        &self,
        library: &Library,
        now: Timestamp,
    ) -> Result<Vec<Around>, Unavailable> {
        let filled = self.shelves.iter().filter(|shelf| shelf.pieces.iter().any(Option::is_some));
        filled
            .map(|shelf| {
                Ok(Around {
                    root: spell(&self.absolute(&shelf.directory)),
                    name: spell(&shelf.name),
                    beside: library.beside(self.backing, shelf, now)?,
                })
            })
            .collect()
    }

    /// What statements call the file.
    pub(super) fn path_of(&self, relative: &Path) -> String {
        spell(&self.origin.join(relative))
    }

    fn absolute(&self, directory: &Path) -> PathBuf {
        // Joining nothing would end in a slash.
        if directory == Path::new("") {
            self.origin.to_owned()
        } else {
            self.origin.join(directory)
        }
    }
}

impl Shelf {
    fn identities(&self) -> Beneath {
        self.pieces.each_ref().map(|piece| piece.as_ref().map(|piece| piece.identity))
    }

    fn is_settled(&self, now: Timestamp) -> bool {
        let mut identities = self.identities().into_iter().flatten();
        identities.all(|identity| identity.settles_in(now).is_zero())
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
        let identities = shelf.identities();
        if let Some(known) = self.0.lock().get(&identities) {
            return Ok(known);
        }
        let [model, claims] = &shelf.pieces;
        let model = model.as_ref().map(|piece| piece.read(backing, BUNDLE_MAX)).transpose()?;
        let claims = claims.as_ref().map(|piece| piece.read(backing, CLAIMS_MAX)).transpose()?;
        let beside = Arc::new(Beside::parse(model.as_deref(), claims.as_deref()));
        let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let weight = length(&model) + length(&claims);
        if shelf.is_settled(now) {
            self.0.lock().insert(identities, Arc::clone(&beside), weight);
        }
        Ok(beside)
    }
}

impl Piece {
    /// A byte more than `length_max` is read, so that whoever parses it sees that it is too long.
    fn read(&self, backing: &dyn Backing, length_max: usize) -> Result<Vec<u8>, Unavailable> {
        let file = backing.open(&self.node, OFlags::RDONLY).map_err(unavailable)?;
        let length = usize::try_from(self.identity.size).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length.min(length_max.saturating_add(1))];
        let count = backing.read_at(&file, &mut bytes, 0).map_err(unavailable)?;
        if count < bytes.len() || self.has_changed(backing, &file)? {
            return Err(Unavailable("an attestation beside the file is just being written".into()));
        }
        Ok(bytes)
    }

    fn has_changed(&self, backing: &dyn Backing, file: &File) -> Result<bool, Unavailable> {
        Ok(backing.stat(file.as_fd()).map_err(unavailable)?.identity != self.identity)
    }
}

/// What is no regular file counts as not there.
fn find(backing: &dyn Backing, path: &Path) -> Result<Option<Piece>, Unavailable> {
    let node = match backing.resolve(path) {
        Ok(node) => node,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        Err(errno) => return Err(unavailable(errno)),
    };
    let stat = backing.stat(node.as_fd()).map_err(unavailable)?;
    let regular = stat.kind() == FileType::RegularFile;
    Ok(regular.then_some(Piece { node, identity: stat.identity }))
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
    use std::{fs, os::fd::OwnedFd, time::Duration};

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
        let evidence = Evidence::around(&backing, origin, Path::new("w.pt")).unwrap();
        for (later, remembered) in [(0, false), (19, false), (20, true)] {
            let (library, now) = (Library::default(), changed + Duration::from_millis(later));
            evidence.read(&library, now).unwrap();
            let known = library.0.lock().get(&evidence.identities()[0]).is_some();
            assert_eq!((known, evidence.is_settled(now)), (remembered, remembered), "{later}");
        }
    }
}
