//! The file of a lock, and the directory of its manifests: `F` and `F.d`.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use attestfs_attestation::{
    LOCK_HEADER, LOCK_MAX, Lock, LockError, MANIFEST_MAX, MANIFESTS_SUFFIX, Manifest, WrittenLock,
    manifest_name,
};
use rustix::fs::{Access, Mode};

use super::LockFailure;
use crate::{
    artifact::{ContentError, open_file},
    publication::{DurableFiles, Files, Unplaced},
};

/// A lock that may be there.
#[derive(Clone, Debug)]
pub(super) struct LockFile {
    /// Without symbolic links.
    path: PathBuf,
    /// As the user named it.
    given: PathBuf,
}

/// What lies at the path of a lock.
#[derive(Debug)]
pub(super) enum Found {
    Nothing,
    Lock(Lock),
    /// It begins like a lock, and a line or a manifest is wrong.
    Broken(LockError),
}

impl LockFile {
    pub(super) fn new(given: PathBuf, resolved: PathBuf) -> Result<Self, LockFailure> {
        match resolved.file_name().map(|name| name.to_str()) {
            Some(Some(_)) => Ok(Self { path: resolved, given }),
            _ => Err(LockFailure::Name { path: given }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// As the user named it.
    pub(super) fn given(&self) -> &Path {
        &self.given
    }

    pub(super) fn failed(&self, source: io::Error) -> LockFailure {
        LockFailure::Io { path: self.given.clone(), source }
    }

    /// # Errors
    /// It is there and cannot be read, or is no lock at all.
    pub(super) fn read(&self) -> Result<Found, LockFailure> {
        let bytes = match read_bounded(&self.path, LOCK_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            result => result.map_err(|source| self.failed(source))?,
        };
        if !bytes.starts_with(LOCK_HEADER.as_bytes()) {
            return Err(LockFailure::NoLock { path: self.given.clone() });
        }
        let read_manifest = &mut |manifest| {
            let path = self.manifests().join(manifest_name(manifest));
            read_bounded(&path, MANIFEST_MAX).map_err(|error| error.to_string())
        };
        Ok(Lock::parse(&bytes, read_manifest).map_or_else(Found::Broken, Found::Lock))
    }

    /// Better to say so now than after hours of training.
    ///
    /// # Errors
    /// No lock could be written here.
    pub(super) fn refuse_unwritable(&self) -> Result<(), LockFailure> {
        let writable = self.place().and_then(|(directory, _)| {
            let wanted = Access::EXISTS | Access::WRITE_OK | Access::EXEC_OK;
            Ok(rustix::fs::access(directory, wanted)?)
        });
        writable.map_err(|source| LockFailure::Directory { path: self.given.clone(), source })
    }

    /// Writes a lock where there was none.
    ///
    /// # Errors
    /// [`LockFailure::CameUp`], or what the system says.
    pub(super) fn create(&self, lock: &WrittenLock) -> Result<(), LockFailure> {
        self.put(lock, |directory, name| {
            let mode = Mode::from_raw_mode(NEW_FILE_MODE);
            Unplaced::write(directory, name, lock.bytes(), mode)?.create()
        })
        .map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => LockFailure::CameUp { path: self.given.clone() },
            _ => self.failed(error),
        })
    }

    /// Writes a lock in place of another one.
    ///
    /// # Errors
    /// What the system says; then the old one is there.
    pub(super) fn replace(&self, lock: &WrittenLock) -> Result<(), LockFailure> {
        self.put(lock, |directory, name| DurableFiles.replace(directory, name, lock.bytes()))
            .map_err(|error| self.failed(error))
    }

    /// Manifests first, so that no lock names one that is not there; those that no lock needs any
    /// more last.
    fn put(
        &self,
        lock: &WrittenLock,
        place: impl FnOnce(&File, &str) -> io::Result<()>,
    ) -> io::Result<()> {
        let (directory, name) = self.place()?;
        self.put_manifests(lock.manifests())?;
        place(&File::open(directory)?, name)?;
        self.sweep(lock.manifests())
    }

    fn place(&self) -> io::Result<(&Path, &str)> {
        let name = self.path.file_name().and_then(|name| name.to_str());
        let place = self.path.parent().zip(name);
        place.ok_or_else(|| io::ErrorKind::InvalidFilename.into())
    }

    fn put_manifests(&self, manifests: &[Manifest]) -> io::Result<()> {
        if manifests.is_empty() {
            return Ok(());
        }
        let path = self.manifests();
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let directory = File::open(path)?;
        for manifest in manifests {
            let name = manifest_name(manifest.sha256());
            DurableFiles.replace(&directory, &name, manifest.bytes())?;
        }
        Ok(())
    }

    /// Removes manifests of earlier locks, and nothing else.
    fn sweep(&self, needed: &[Manifest]) -> io::Result<()> {
        let needed: HashSet<String> =
            needed.iter().map(|manifest| manifest_name(manifest.sha256())).collect();
        let path = self.manifests();
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => result?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().filter(|name| is_manifest_name(name));
            if name.is_some_and(|name| !needed.contains(name)) {
                fs::remove_file(entry.path())?;
            }
        }
        if needed.is_empty() {
            // It stays when something else lies in it.
            fs::remove_dir(path).unwrap_or_default();
        }
        Ok(())
    }

    fn manifests(&self) -> PathBuf {
        let mut path = OsString::from(&self.path);
        path.push(MANIFESTS_SUFFIX);
        path.into()
    }
}

/// As `open` gives it, less what nobody wants to grant.
const NEW_FILE_MODE: u32 = 0o644;

fn is_manifest_name(name: &str) -> bool {
    let digest = name.split('.').next().and_then(|digest| digest.parse().ok());
    digest.is_some_and(|digest| manifest_name(digest) == name)
}

fn read_bounded(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let file = open_file(path).map_err(|error| match error {
        ContentError::Io(error) => error,
        other => io::Error::other(other),
    })?;
    let mut bytes = Vec::new();
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use attestfs_attestation::Locked;
    use attestfs_digest::Sha256;

    use super::*;

    fn written(files: usize) -> WrittenLock {
        let locked = Locked { sha256: Sha256::of(b"x"), size: 1 };
        let tree: BTreeMap<_, _> =
            (0..files).map(|number| (format!("raw/{number}"), locked)).collect();
        WrittenLock::of(&[tree])
    }

    fn lock_file(base: &tempfile::TempDir) -> LockFile {
        let path = base.path().join("data.lock");
        LockFile::new(path.clone(), path).unwrap()
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn read(file: &LockFile) -> Lock {
        match file.read().unwrap() {
            Found::Lock(lock) => lock,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_no_lock_is_neither_read_nor_replaced() {
        let base = tempfile::tempdir().unwrap();
        let file = lock_file(&base);
        fs::write(file.path(), "import torch\n").unwrap();
        assert!(matches!(file.read(), Err(LockFailure::NoLock { .. })));
        assert!(matches!(file.create(&written(1)), Err(LockFailure::CameUp { .. })));
        assert_eq!(fs::read(file.path()).unwrap(), b"import torch\n");
    }

    #[test]
    fn a_directory_and_a_pipe_are_no_lock() {
        let base = tempfile::tempdir().unwrap();
        let file = lock_file(&base);
        fs::create_dir(file.path()).unwrap();
        assert!(matches!(file.read(), Err(LockFailure::Io { .. })));
        fs::remove_dir(file.path()).unwrap();
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, file.path(), rustix::fs::FileType::Fifo, mode, 0)
            .unwrap();
        assert!(matches!(file.read(), Err(LockFailure::Io { .. })));
    }

    #[test]
    fn a_lock_that_was_broken_is_told_from_none() {
        let base = tempfile::tempdir().unwrap();
        let file = lock_file(&base);
        assert!(matches!(file.read(), Ok(Found::Nothing)));
        fs::write(file.path(), format!("{LOCK_HEADER}\n<<<<<<< HEAD\n")).unwrap();
        assert!(matches!(file.read(), Ok(Found::Broken(LockError::Line { number: 2 }))));
        file.replace(&written(1)).unwrap();
        assert_eq!(read(&file).files().count(), 1);
    }

    #[test]
    fn a_lock_is_written_with_its_manifests_and_read_again() {
        let base = tempfile::tempdir().unwrap();
        let file = lock_file(&base);
        let lock = written(1001);
        file.create(&lock).unwrap();
        assert_eq!(names(base.path()), ["data.lock", "data.lock.d"]);
        assert_eq!(names(&file.manifests()), [manifest_name(lock.manifests()[0].sha256())]);
        assert_eq!(read(&file).sha256(), lock.sha256());
        fs::remove_file(file.manifests().join(&names(&file.manifests())[0])).unwrap();
        assert!(matches!(file.read(), Ok(Found::Broken(LockError::NoManifest { .. }))));
    }

    #[test]
    fn manifests_of_an_earlier_lock_go_and_nothing_else() {
        let base = tempfile::tempdir().unwrap();
        let file = lock_file(&base);
        file.create(&written(1001)).unwrap();
        fs::write(file.manifests().join("notes.txt"), "mine").unwrap();
        file.replace(&written(1002)).unwrap();
        assert_eq!(names(&file.manifests()).len(), 2);
        file.replace(&written(2)).unwrap();
        assert_eq!(names(&file.manifests()), ["notes.txt"]);
        fs::remove_file(file.manifests().join("notes.txt")).unwrap();
        file.replace(&written(3)).unwrap();
        assert_eq!(names(base.path()), ["data.lock"]);
    }
}
