use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use attestfs_digest::Sha256;
use jiff::Timestamp;

/// How long a signature that was checked is believed, in seconds. Certificates expire; a thousand
/// shards are opened meanwhile.
const BELIEVED_SECONDS_MAX: i64 = 60;

/// Most names of files in all attestations that are remembered.
const NAMES_MAX: usize = 2_000_000;

/// Most attestations that are remembered.
const ATTESTATIONS_MAX: usize = 4096;

/// Attestations that a rule believes, by their names. A name is the digest of what was signed, so that
/// what is found here is what was checked, from whatever file it came. When it is full, all is
/// forgotten.
#[derive(Debug)]
pub(super) struct Memory<T>(Mutex<Believed<T>>);

#[derive(Debug)]
struct Believed<T> {
    attestations: HashMap<Sha256, Item<T>>,
    names: usize,
}

#[derive(Debug)]
struct Item<T> {
    value: Arc<T>,
    checked: Timestamp,
}

impl<T> Memory<T> {
    /// What was checked a short while ago.
    pub(super) fn recall(&self, attestation: Sha256, now: Timestamp) -> Option<Arc<T>> {
        let believed = self.lock();
        let item = believed.attestations.get(&attestation)?;
        let age = now.duration_since(item.checked).as_secs();
        (0..=BELIEVED_SECONDS_MAX).contains(&age).then(|| Arc::clone(&item.value))
    }

    /// Keeps what was checked just now, and speaks of so many files.
    pub(super) fn keep(&self, attestation: Sha256, value: &Arc<T>, files: usize, now: Timestamp) {
        let mut believed = self.lock();
        let is_full = believed.attestations.len() >= ATTESTATIONS_MAX
            || believed.names.saturating_add(files) > NAMES_MAX;
        if is_full {
            *believed = Believed::default();
        }
        believed.names = believed.names.saturating_add(files);
        let item = Item { value: Arc::clone(value), checked: now };
        believed.attestations.insert(attestation, item);
    }

    /// A thread that panicked left whole items behind.
    fn lock(&self) -> MutexGuard<'_, Believed<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Memory<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Default for Believed<T> {
    fn default() -> Self {
        Self { attestations: HashMap::new(), names: 0 }
    }
}
