use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use attestfs_fs::RunVersion;
use serde::{Deserialize, Serialize};
use sled::{Batch, Tree};

use super::{
    LineageError, Run, RunId, VersionId,
    blocks::Blocks,
    packing::{Block, Packed},
    recent::Recent,
    records::{Edge, Readings, VersionRecord},
    schema::{Counter, EdgeEnd, Key, Place, RunNumber, Table, decode, encode, last_number},
};

/// What can be asked of the database, whether or not something is about to change.
pub(super) trait Entries {
    fn bytes(&self, key: &Key) -> Result<Option<Vec<u8>>, LineageError>;

    fn has(&self, key: &Key) -> Result<bool, LineageError> {
        Ok(self.bytes(key)?.is_some())
    }

    fn number(&self, key: &Key) -> Result<Option<u64>, LineageError> {
        self.bytes(key)?.map(|value| last_number(&value)).transpose()
    }

    fn record<T: for<'de> Deserialize<'de>>(
        &self,
        what: &str,
        key: &Key,
    ) -> Result<Option<T>, LineageError> {
        self.bytes(key)?.map(|value| decode(what, &value)).transpose()
    }

    fn run_number(&self, run: &RunId) -> Result<Option<RunNumber>, LineageError> {
        Ok(self.number(&Key::run_number(run))?.map(RunNumber))
    }

    /// # Errors
    /// [`LineageError::UnknownRun`].
    fn known_run(&self, run: &RunId) -> Result<RunNumber, LineageError> {
        self.run_number(run)?.ok_or_else(|| LineageError::UnknownRun(run.clone()))
    }

    fn run_record(&self, run: RunNumber) -> Result<Run, LineageError> {
        self.record("run", &Key::run(Table::Runs, run))?
            .ok_or_else(|| LineageError::Damaged { what: format!("run {} is missing", run.0) })
    }

    /// The keys that begin with `prefix`, in order. For prefixes that few keys have.
    fn keys(&self, prefix: &Key) -> Result<Vec<Vec<u8>>, LineageError>;

    fn version_if_known(&self, id: VersionId) -> Result<Option<VersionRecord>, LineageError>;

    fn version(&self, id: VersionId) -> Result<VersionRecord, LineageError> {
        self.version_if_known(id)?
            .ok_or_else(|| LineageError::Damaged { what: format!("version {id} is missing") })
    }
}

/// The entries as they are, and will be as long as this lives: it holds the store's lock.
#[derive(Debug)]
pub(super) struct View<'a> {
    tree: &'a Tree,
    recent: &'a Recent,
    _guard: Guard<'a>,
}

/// Many read at a time, or one writes.
#[derive(Debug)]
#[expect(dead_code, reason = "a guard is held, not read")]
enum Guard<'a> {
    Reading(RwLockReadGuard<'a, ()>),
    Writing(RwLockWriteGuard<'a, ()>),
}

impl Entries for View<'_> {
    fn bytes(&self, key: &Key) -> Result<Option<Vec<u8>>, LineageError> {
        Ok(self.tree.get(key).map_err(database)?.map(|value| value.to_vec()))
    }

    fn keys(&self, prefix: &Key) -> Result<Vec<Vec<u8>>, LineageError> {
        self.scan(prefix).map(|entry| Ok(entry?.key)).collect()
    }

    fn version_if_known(&self, id: VersionId) -> Result<Option<VersionRecord>, LineageError> {
        let Place { block, slot } = Place::version(id);
        Ok(self.versions(&block)?.at(slot).cloned())
    }
}

impl<'a> View<'a> {
    /// Waits until nobody writes.
    pub(super) fn of(tree: &'a Tree, recent: &'a Recent, lock: &'a RwLock<()>) -> Self {
        // The lock guards nothing that a panic could leave half done.
        let guard = lock.read().unwrap_or_else(PoisonError::into_inner);
        Self { tree, recent, _guard: Guard::Reading(guard) }
    }

    /// The versions that lie together under this key.
    pub(super) fn versions(&self, key: &Key) -> Result<Arc<Block<VersionRecord>>, LineageError> {
        self.recent.versions.get(key, || Ok(Arc::new(self.block(key)?)))
    }

    /// The name of a run.
    pub(super) fn run_id(&self, run: RunNumber) -> Result<RunId, LineageError> {
        self.recent.runs.get(&run, || {
            let id = self.bytes(&Key::run(Table::RunIds, run))?;
            let id = id.and_then(|id| String::from_utf8(id).ok()).map(RunId);
            let what = || format!("the name of run {} is missing", run.0);
            id.ok_or_else(|| LineageError::Damaged { what: what() })
        })
    }

    /// The records under this key, if there are any.
    pub(super) fn block<R: Packed>(&self, key: &Key) -> Result<Block<R>, LineageError> {
        match self.tree.get(key).map_err(database)? {
            Some(bytes) => Block::unpacked(&bytes),
            None => Ok(Block::default()),
        }
    }

    /// The entries whose key begins with `prefix`, in the order of their keys.
    pub(super) fn scan(
        &self,
        prefix: &Key,
    ) -> impl DoubleEndedIterator<Item = Result<Entry, LineageError>> + use<> {
        self.tree.scan_prefix(prefix).map(|entry| {
            let (key, value) = entry.map_err(database)?;
            Ok(Entry { key: key.to_vec(), value: value.to_vec() })
        })
    }
}

/// A key with its value.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
}

/// Entries as they will be, before any of them is: what an operation writes is seen by its own
/// reads, and reaches the database in one piece or not at all.
#[derive(Debug)]
pub(super) struct Transaction<'a> {
    before: View<'a>,
    writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    versions: Blocks<VersionRecord>,
    edges: Blocks<Edge>,
    readers: Blocks<Readings>,
}

impl Entries for Transaction<'_> {
    fn bytes(&self, key: &Key) -> Result<Option<Vec<u8>>, LineageError> {
        match self.writes.get(key.as_ref()) {
            Some(written) => Ok(written.clone()),
            None => self.before.bytes(key),
        }
    }

    fn keys(&self, prefix: &Key) -> Result<Vec<Vec<u8>>, LineageError> {
        let mut keys: BTreeSet<_> = self.before.keys(prefix)?.into_iter().collect();
        let prefix = prefix.as_ref();
        let from = self.writes.range(prefix.to_vec()..);
        for (key, value) in from.take_while(|(key, _)| key.starts_with(prefix)) {
            match value {
                Some(_) => keys.insert(key.clone()),
                None => keys.remove(key),
            };
        }
        Ok(keys.into_iter().collect())
    }

    fn version_if_known(&self, id: VersionId) -> Result<Option<VersionRecord>, LineageError> {
        self.versions.record(&self.before, Place::version(id))
    }
}

impl<'a> Transaction<'a> {
    /// Waits until nobody reads or writes.
    pub(super) fn on(tree: &'a Tree, recent: &'a Recent, lock: &'a RwLock<()>) -> Self {
        let guard = lock.write().unwrap_or_else(PoisonError::into_inner);
        Self {
            before: View { tree, recent, _guard: Guard::Writing(guard) },
            writes: BTreeMap::new(),
            versions: Blocks::default(),
            edges: Blocks::default(),
            readers: Blocks::default(),
        }
    }

    /// The entries as they were before anything was written.
    pub(super) fn before(&self) -> &View<'a> {
        &self.before
    }

    /// Makes it so. Nothing waits for the disk here, but after a crash either all of it is found
    /// or nothing.
    pub(super) fn commit(self) -> Result<(), LineageError> {
        let mut batch = Batch::default();
        let blocks = self.versions.packed().chain(self.edges.packed()).chain(self.readers.packed());
        for (key, value) in self.writes.into_iter().chain(blocks) {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        // Also when the batch fails: nobody knows then what of it is there.
        self.before.recent.versions.forget();
        self.before.tree.apply_batch(batch).map_err(database)
    }

    pub(super) fn put_version_record(
        &mut self,
        id: VersionId,
        version: Option<VersionRecord>,
    ) -> Result<(), LineageError> {
        self.versions.put(&self.before, Place::version(id), version)
    }

    pub(super) fn edge(&self, end: EdgeEnd) -> Result<Option<Edge>, LineageError> {
        self.edges.record(&self.before, Place::edge(end.run, end.version))
    }

    pub(super) fn put_edge(&mut self, end: EdgeEnd, edge: Edge) -> Result<(), LineageError> {
        self.edges.put(&self.before, Place::edge(end.run, end.version), Some(edge))
    }

    /// The edges of runs that read this version.
    pub(super) fn readers(&self, id: VersionId) -> Result<Vec<EdgeEnd>, LineageError> {
        let prefix = Key::readers(id);
        let mut keys: BTreeSet<_> = self.before.keys(&prefix)?.into_iter().collect();
        keys.extend(self.readers.keys(&prefix));
        let mut readers = Vec::new();
        for key in keys {
            let run = RunNumber(last_number(&key)?);
            let readings = self.readers.record(&self.before, Place::readings(id, run))?;
            let names = readings.unwrap_or_default().0;
            readers.extend(names.into_iter().map(|version| EdgeEnd { run, version }));
        }
        Ok(readers)
    }

    pub(super) fn add_reader(&mut self, id: VersionId, end: EdgeEnd) -> Result<(), LineageError> {
        self.change_readings(id, end.run, |names| names.push(end.version))
    }

    pub(super) fn remove_reader(
        &mut self,
        id: VersionId,
        end: EdgeEnd,
    ) -> Result<(), LineageError> {
        self.change_readings(id, end.run, |names| names.retain(|name| *name != end.version))
    }

    fn change_readings(
        &mut self,
        id: VersionId,
        run: RunNumber,
        change: impl FnOnce(&mut Vec<RunVersion>),
    ) -> Result<(), LineageError> {
        let place = Place::readings(id, run);
        let mut names = self.readers.record(&self.before, place.clone())?.unwrap_or_default().0;
        change(&mut names);
        names.sort_unstable();
        let readings = (!names.is_empty()).then_some(Readings(names));
        self.readers.put(&self.before, place, readings)
    }

    pub(super) fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.writes.insert(key.into(), Some(value.into()));
    }

    pub(super) fn put_number(&mut self, key: Key, number: u64) {
        self.put(key, number.to_be_bytes());
    }

    pub(super) fn put_record<T: Serialize>(
        &mut self,
        key: Key,
        record: &T,
    ) -> Result<(), LineageError> {
        self.put(key, encode(record)?);
        Ok(())
    }

    /// Puts a key that is all there is to say.
    pub(super) fn mark(&mut self, key: Key) {
        self.put(key, []);
    }

    pub(super) fn remove(&mut self, key: impl Into<Vec<u8>>) {
        self.writes.insert(key.into(), None);
    }

    /// The next number, from 1.
    pub(super) fn next(&mut self, counter: Counter) -> Result<u64, LineageError> {
        let key = Key::counter(counter);
        let number = self.number(&key)?.unwrap_or(0) + 1;
        self.put_number(key, number);
        Ok(number)
    }

    /// The number of a text that is stored once, however often it is said.
    pub(super) fn text_number(&mut self, text: &[u8]) -> Result<u64, LineageError> {
        let key = Key::text(text);
        if let Some(number) = self.number(&key)? {
            return Ok(number);
        }
        let number = self.next(Counter::Text)?;
        self.put(Key::of(Table::Texts).number(number), text);
        self.put_number(key, number);
        Ok(number)
    }
}

pub(super) fn database(error: sled::Error) -> LineageError {
    LineageError::Database(Box::new(error))
}
