//! Who signs: private keys in files, the rules under which such a file is taken, and the default
//! key of a state directory.

use std::{
    fmt::Debug,
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use attestfs_attestation::{
    KEY_FILE_MAX, KeyError, KeyHint, SigningError, SigningKey, VerifyingKey,
};
use rustix::fs::Mode;
use zeroize::Zeroizing;

use crate::{
    artifact::{ContentError, open_file},
    publication::Unplaced,
};

/// For its owner alone.
const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

/// For everybody to read.
const PUBLIC: Mode = PRIVATE.union(Mode::RGRP).union(Mode::ROTH);

/// Signs the PAE of an envelope.
pub trait Signer: Debug + Send + Sync {
    /// How the key is called in bundles.
    fn hint(&self) -> KeyHint;

    /// An ASN.1 DER signature over `message`.
    ///
    /// # Errors
    /// The key is there and does not sign.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError>;
}

impl Signer for SigningKey {
    fn hint(&self) -> KeyHint {
        self.verifying_key().hint()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        Self::sign(self, message)
    }
}

/// Where a key is found by its hint.
pub trait Keyring: Debug + Send + Sync {
    /// The key that an order does not name: that of the state directory.
    ///
    /// # Errors
    /// It cannot be read or made.
    fn default_key(&self) -> Result<Arc<dyn Signer>, KeyFileError>;

    /// The key of this hint, if anybody has presented it.
    fn presented(&self, hint: KeyHint) -> Option<Arc<dyn Signer>>;
}

/// Why a file is not taken as a private key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be opened, read or made.
    #[error("the key {name}: {source}")]
    Io {
        /// Its path, or what else is known of it.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// A directory, a device, a pipe.
    #[error("the key {name} is not a regular file")]
    NotAFile {
        /// Its path, or what else is known of it.
        name: String,
    },
    /// Others could have copied it.
    #[error(
        "the key {name} is open to others (mode {mode:03o}): chmod 600 it, and replace it if somebody may have read it"
    )]
    OpenToOthers {
        /// Its path, or what else is known of it.
        name: String,
        /// Its permission bits.
        mode: u32,
    },
    /// Its content is not a private key that signs.
    #[error("the key {name}: {source}")]
    Key {
        /// Its path, or what else is known of it.
        name: String,
        /// What is wrong with it.
        source: KeyError,
    },
    /// A new key would take the place of another one.
    #[error("{} is there already: a key is never overwritten", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
}

/// Reads the private key in a file. A symbolic link is followed; it is the file that must be closed
/// to others.
///
/// # Errors
/// Each variant of [`KeyFileError`] but the last.
pub fn key_from_path(path: &Path) -> Result<SigningKey, KeyFileError> {
    let name = path.display().to_string();
    key_from_file(&open_key(path)?, &name)
}

/// Opens what should be a key, without waiting for anybody: a pipe does not hold us. What it holds
/// is for [`key_from_file`] to check.
///
/// # Errors
/// [`KeyFileError::Io`], [`KeyFileError::NotAFile`].
pub fn open_key(path: &Path) -> Result<File, KeyFileError> {
    let name = || path.display().to_string();
    open_file(path).map_err(|error| match error {
        ContentError::Io(source) => KeyFileError::Io { name: name(), source },
        _ => KeyFileError::NotAFile { name: name() },
    })
}

/// Reads the private key that `file` is open on, from its beginning and without moving its offset.
/// `name` is what messages call it.
///
/// # Errors
/// As [`key_from_path`].
pub fn key_from_file(file: &File, name: &str) -> Result<SigningKey, KeyFileError> {
    let io = |source| KeyFileError::Io { name: name.to_owned(), source };
    let metadata = file.metadata().map_err(io)?;
    let name = || name.to_owned();
    if !metadata.is_file() {
        return Err(KeyFileError::NotAFile { name: name() });
    }
    let mode = metadata.mode() & 0o777;
    let pem = read(file).map_err(io)?;
    match SigningKey::from_pem(&pem) {
        // Everybody may read it, as it should be.
        Err(source @ KeyError::PublicForPrivate) => Err(KeyFileError::Key { name: name(), source }),
        _ if mode & 0o077 != 0 => Err(KeyFileError::OpenToOthers { name: name(), mode }),
        result => result.map_err(|source| KeyFileError::Key { name: name(), source }),
    }
}

/// Reads the public key in a file.
///
/// # Errors
/// [`KeyFileError::Io`], [`KeyFileError::NotAFile`], [`KeyFileError::Key`].
pub fn public_key_from_path(path: &Path) -> Result<VerifyingKey, KeyFileError> {
    let pem = read(&open_key(path)?).map_err(|source| io_error(path, source))?;
    let name = path.display().to_string();
    VerifyingKey::from_pem(&pem).map_err(|source| KeyFileError::Key { name, source })
}

/// The key of a state directory, made at its first use together with its public half.
///
/// # Errors
/// As [`key_from_path`]; what writing says.
pub fn default_key(private: &Path, public: &Path) -> Result<SigningKey, KeyFileError> {
    let key = match key_from_path(private) {
        Err(KeyFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            let key = generate(private)?;
            create(private, key.to_pem().as_bytes(), PRIVATE)?;
            key
        }
        result => result?,
    };
    let expected = key.verifying_key();
    if public_key_from_path(public).ok().as_ref() != Some(&expected) {
        let pem = expected.to_pem();
        in_directory_of(public, |directory, name| {
            Unplaced::write(directory, name, pem.as_bytes(), PUBLIC)?.replace()
        })?;
    }
    Ok(key)
}

/// Makes a key pair in two files that must not exist. When one cannot be made, neither is left.
///
/// # Errors
/// [`KeyFileError::Exists`]; what writing says.
pub fn new_key_pair(private: &Path, public: &Path) -> Result<SigningKey, KeyFileError> {
    let taken = [private, public].into_iter().find(|path| path.symlink_metadata().is_ok());
    if let Some(path) = taken {
        let path = path.to_path_buf();
        return Err(KeyFileError::Exists { path });
    }
    let key = generate(private)?;
    create(private, key.to_pem().as_bytes(), PRIVATE)?;
    if let Err(error) = create(public, key.verifying_key().to_pem().as_bytes(), PUBLIC) {
        // Half a pair is in the way of the next attempt, and nobody has used it yet.
        fs::remove_file(private).unwrap_or_default();
        return Err(error);
    }
    Ok(key)
}

fn generate(path: &Path) -> Result<SigningKey, KeyFileError> {
    SigningKey::generate()
        .map_err(|source| KeyFileError::Key { name: path.display().to_string(), source })
}

/// Reads one byte more than a key may have, so that the parser can tell that there is more.
fn read(file: &File) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut pem = Zeroizing::new(vec![0; KEY_FILE_MAX + 1]);
    let mut length = 0;
    while length < pem.len() {
        match file.read_at(&mut pem[length..], length as u64) {
            Ok(0) => break,
            Ok(bytes) => length += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    pem.truncate(length);
    Ok(pem)
}

/// Writes a file that appears with all its bytes or not at all, and never in place of another.
fn create(path: &Path, bytes: &[u8], mode: Mode) -> Result<(), KeyFileError> {
    in_directory_of(path, |directory, name| Unplaced::write(directory, name, bytes, mode)?.create())
        .map_err(|error| match error {
            KeyFileError::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => {
                KeyFileError::Exists { path: path.to_path_buf() }
            }
            other => other,
        })
}

/// Does something with the directory of a path and the name in it.
fn in_directory_of(
    path: &Path,
    work: impl FnOnce(&File, &str) -> io::Result<()>,
) -> Result<(), KeyFileError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let name = path.file_name().and_then(|name| name.to_str());
    let no_name = || io::Error::from(io::ErrorKind::InvalidFilename);
    File::open(parent.unwrap_or(Path::new(".")))
        .and_then(|directory| work(&directory, name.ok_or_else(no_name)?))
        .map_err(|source| io_error(path, source))
}

fn io_error(path: &Path, source: io::Error) -> KeyFileError {
    KeyFileError::Io { name: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use rustix::fs::FileType;

    use super::*;

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_with_the_cure() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let pem = SigningKey::generate().unwrap().to_pem();
        for mode in [0o640, 0o604, 0o620, 0o644, 0o601] {
            write(&path, &pem, mode);
            let refusal = key_from_path(&path).unwrap_err();
            assert!(matches!(refusal, KeyFileError::OpenToOthers { .. }));
            assert!(refusal.to_string().contains("chmod 600"), "{refusal}");
        }
        for mode in [0o600, 0o400] {
            write(&path, &pem, mode);
            key_from_path(&path).unwrap();
        }
    }

    #[test]
    fn a_public_key_in_place_of_a_private_one_is_told_so_whatever_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pub");
        let public = SigningKey::generate().unwrap().verifying_key().to_pem();
        for mode in [0o600, 0o644] {
            write(&path, &public, mode);
            let refusal = key_from_path(&path).unwrap_err();
            assert!(refusal.to_string().contains("this is a public key"), "{refusal}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let public = SigningKey::generate().unwrap().verifying_key().to_pem();
        for text in ["", "nonsense", &public, &"x".repeat(KEY_FILE_MAX + 1)] {
            write(&path, text, 0o600);
            let refusal = key_from_path(&path).unwrap_err();
            assert!(matches!(refusal, KeyFileError::Key { .. }), "{refusal}");
            assert!(refusal.to_string().contains(path.to_str().unwrap()));
        }
        let missing = key_from_path(&directory.path().join("missing")).unwrap_err();
        assert!(matches!(missing, KeyFileError::Io { .. }));
        let folder = key_from_path(directory.path()).unwrap_err();
        assert!(matches!(folder, KeyFileError::NotAFile { .. }));
    }

    #[test]
    fn a_pipe_in_place_of_a_key_holds_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, mode, 0).unwrap();
        let private = key_from_path(&path).unwrap_err();
        assert!(matches!(private, KeyFileError::NotAFile { .. }), "{private}");
        let public = public_key_from_path(&path).unwrap_err();
        assert!(matches!(public, KeyFileError::NotAFile { .. }), "{public}");
    }

    #[test]
    fn a_symbolic_link_to_a_closed_key_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("key"), directory.path().join("link"));
        write(&path, &SigningKey::generate().unwrap().to_pem(), 0o600);
        symlink(&path, &link).unwrap();
        key_from_path(&link).unwrap();
    }

    #[test]
    fn a_descriptor_can_be_read_more_than_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        write(&path, &SigningKey::generate().unwrap().to_pem(), 0o600);
        let file = File::open(&path).unwrap();
        let first = key_from_file(&file, "--key").unwrap().hint();
        assert_eq!(key_from_file(&file, "--key").unwrap().hint(), first);
    }

    #[test]
    fn the_default_key_is_made_once_and_closed() {
        let directory = tempfile::tempdir().unwrap();
        let (private, public) = (directory.path().join("k.key"), directory.path().join("k.pub"));
        let first = default_key(&private, &public).unwrap().hint();
        assert_eq!(fs::metadata(&private).unwrap().mode() & 0o777, 0o600);
        fs::write(&public, "something else").unwrap();
        assert_eq!(default_key(&private, &public).unwrap().hint(), first);
        let pem = fs::read_to_string(&public).unwrap();
        assert!(pem.starts_with("-----BEGIN PUBLIC KEY-----"));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_new_key_pair_takes_nobodys_place() {
        let directory = tempfile::tempdir().unwrap();
        let (private, public) = (directory.path().join("a.key"), directory.path().join("a.pub"));
        fs::write(&public, "precious").unwrap();
        let refusal = new_key_pair(&private, &public).unwrap_err();
        assert!(matches!(refusal, KeyFileError::Exists { .. }));
        assert!(!private.exists());
        fs::remove_file(&public).unwrap();
        new_key_pair(&private, &public).unwrap();
        assert!(matches!(new_key_pair(&private, &public), Err(KeyFileError::Exists { .. })));
    }

    #[test]
    fn half_a_new_pair_does_not_stay() {
        let directory = tempfile::tempdir().unwrap();
        let private = directory.path().join("a.key");
        let nowhere = directory.path().join("missing/a.pub");
        assert!(matches!(new_key_pair(&private, &nowhere), Err(KeyFileError::Io { .. })));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
