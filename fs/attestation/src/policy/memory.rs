use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use attestfs_digest::Sha256;
use jiff::{SignedDuration, Timestamp};

/// How long a signature that was checked is believed at most: a thousand shards are opened meanwhile.
const BELIEVED_MAX: SignedDuration = SignedDuration::from_secs(60);

/// Most names of files in all attestations that are remembered. Of a single attestation with more of
/// them each file would take as long as all, so that one is remembered alone.
const NAMES_MAX: usize = 1_000_000;

/// Most attestations that are remembered.
const ATTESTATIONS_MAX: usize = 4096;

/// Attestations that a policy believes, by digests: what is found here is what was checked, from
/// whatever file it came. When it is full, all is forgotten.
#[derive(Debug)]
pub(super) struct Memory<T>(Mutex<Believed<T>>);

/// What can be remembered.
pub(super) trait Believable {
    /// Of how many files it speaks.
    fn files(&self) -> usize;

    /// Until when its signature counts, if that has an end.
    fn valid_until(&self) -> Option<Timestamp>;
}

#[derive(Debug)]
struct Believed<T> {
    attestations: HashMap<Sha256, Item<T>>,
    names: usize,
}

#[derive(Debug)]
struct Item<T> {
    value: Arc<T>,
    checked: Timestamp,
    until: Timestamp,
}

impl<T: Believable> Memory<T> {
    /// What was checked a short while ago, and still counts.
    pub(super) fn recall(&self, digest: Sha256, now: Timestamp) -> Option<Arc<T>> {
        let believed = self.lock();
        let item = believed.attestations.get(&digest)?;
        (item.checked..=item.until).contains(&now).then(|| Arc::clone(&item.value))
    }

    /// Keeps what was checked just now.
    pub(super) fn keep(&self, digest: Sha256, value: &Arc<T>, now: Timestamp) {
        let mut believed = self.lock();
        let is_full = believed.attestations.len() >= ATTESTATIONS_MAX
            || believed.names.saturating_add(value.files()) > NAMES_MAX;
        if is_full {
            *believed = Believed::default();
        }
        believed.names = believed.names.saturating_add(value.files());
        let a_while = now.saturating_add(BELIEVED_MAX).unwrap_or(now);
        let until = value.valid_until().map_or(a_while, |end| end.min(a_while));
        let item = Item { value: Arc::clone(value), checked: now, until };
        believed.attestations.insert(digest, item);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Files(usize);

    impl Believable for Files {
        fn files(&self) -> usize {
            self.0
        }

        fn valid_until(&self) -> Option<Timestamp> {
            None
        }
    }

    fn keeps(memory: &Memory<Files>, number: usize, files: usize) -> bool {
        let attestation = Sha256(std::array::from_fn(|at| number.to_le_bytes()[at % 8]));
        memory.keep(attestation, &Arc::new(Files(files)), Timestamp::UNIX_EPOCH);
        memory.recall(attestation, Timestamp::UNIX_EPOCH).is_some()
    }

    #[test]
    fn it_remembers_no_more_than_its_bounds_but_always_the_last() {
        let memory = Memory::default();
        for number in 0..=2 * ATTESTATIONS_MAX {
            assert!(keeps(&memory, number, 0));
            assert!(memory.lock().attestations.len() <= ATTESTATIONS_MAX);
        }
        for files in [NAMES_MAX / 2, NAMES_MAX / 2, 1, NAMES_MAX] {
            assert!(keeps(&memory, files, files));
            assert!(memory.lock().names <= NAMES_MAX);
        }
        assert!(keeps(&memory, 0, NAMES_MAX + 1));
        assert_eq!(memory.lock().attestations.len(), 1);
        assert!(keeps(&memory, 1, 1));
        assert_eq!(memory.lock().names, 1);
    }
}
