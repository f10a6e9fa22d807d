//! The keys that the daemon can sign with now.

use std::{collections::HashMap, fmt, fs::File, os::fd::OwnedFd, sync::Arc};

use attestfs_attestation::KeyHint;
use parking_lot::Mutex;

use crate::{
    config::StateDir,
    signer::{KeyFileError, Keyring, Signer, default_key, key_from_file},
};

/// The default key of a state directory, and the keys that clients have presented. A presented key
/// is forgotten when the last connection that presented it ends.
pub(super) struct Keys {
    state: StateDir,
    presented: Mutex<HashMap<KeyHint, Presented>>,
}

struct Presented {
    key: Arc<dyn Signer>,
    leases: usize,
}

/// A presented key stays as long as one of these.
pub(super) struct Lease {
    keys: Arc<Keys>,
    hint: KeyHint,
}

impl Keys {
    pub(super) fn new(state: StateDir) -> Self {
        Self { state, presented: Mutex::default() }
    }

    /// Takes the key that `descriptor` is open on.
    pub(super) fn present(self: &Arc<Self>, descriptor: OwnedFd) -> Result<Lease, KeyFileError> {
        let key = key_from_file(&File::from(descriptor), "given with --key")?;
        let hint = key.hint();
        let mut presented = self.presented.lock();
        let entry =
            presented.entry(hint).or_insert_with(|| Presented { key: Arc::new(key), leases: 0 });
        entry.leases += 1;
        Ok(Lease { keys: Arc::clone(self), hint })
    }
}

impl Lease {
    pub(super) fn hint(&self) -> KeyHint {
        self.hint
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut presented = self.keys.presented.lock();
        if let Some(entry) = presented.get_mut(&self.hint) {
            entry.leases -= 1;
            if entry.leases == 0 {
                presented.remove(&self.hint);
            }
        }
    }
}

impl Keyring for Keys {
    /// Read anew each time, so that a key that was replaced, or opened to others, is noticed.
    fn default_key(&self) -> Result<Arc<dyn Signer>, KeyFileError> {
        let key = default_key(&self.state.key(), &self.state.public_key())?;
        Ok(Arc::new(key))
    }

    fn presented(&self, hint: KeyHint) -> Option<Arc<dyn Signer>> {
        let presented = self.presented.lock();
        presented.get(&hint).map(|it| Arc::clone(&it.key))
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let presented = self.presented.lock();
        f.debug_set().entries(presented.keys()).finish()
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lease").field(&self.hint).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use attestfs_attestation::SigningKey;

    use super::*;
    use crate::config::Environment;

    #[test]
    fn a_presented_key_stays_as_long_as_somebody_lends_it() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::resolve(Some(directory.path()), &Environment::default()).unwrap();
        let path = directory.path().join("key");
        fs::write(&path, SigningKey::generate().unwrap().to_pem()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let keys = Arc::new(Keys::new(state));
        let present = || keys.present(File::open(&path).unwrap().into()).unwrap();
        let (first, second) = (present(), present());
        let hint = first.hint();
        assert_eq!(second.hint(), hint);
        drop(first);
        assert!(keys.presented(hint).is_some());
        drop(second);
        assert!(keys.presented(hint).is_none());
    }
}
