use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    LineageError, RunId,
    packing::Block,
    records::VersionRecord,
    schema::{Key, RunNumber},
};

/// What was read last, unpacked. A walk through a graph comes to the same runs and to neighbouring
/// versions again and again.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// Forgotten when anything is written.
    pub(super) versions: Known<Key, Arc<Block<VersionRecord>>>,
    /// A run keeps its name and its number.
    pub(super) runs: Known<RunNumber, RunId>,
}

#[derive(Debug)]
pub(super) struct Known<K, V>(Mutex<BTreeMap<K, V>>);

impl<K, V> Default for Known<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord + Clone, V: Clone> Known<K, V> {
    /// What is known of `key`, or else what can be `found` now.
    pub(super) fn get(
        &self,
        key: &K,
        found: impl FnOnce() -> Result<V, LineageError>,
    ) -> Result<V, LineageError> {
        if let Some(known) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key) {
            return Ok(known.clone());
        }
        let found = found()?;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() == KNOWN_MAX {
            known.clear();
        }
        known.insert(key.clone(), found.clone());
        Ok(found)
    }

    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Enough for the versions of a graph of 10 000 nodes that lie together; some 5 MB of them.
const KNOWN_MAX: usize = 1024;
