use std::{
    cell::RefCell,
    collections::{BTreeMap, btree_map::Entry},
};

use super::{
    LineageError,
    entries::View,
    packing::{Block, Packed},
    schema::{Key, Place},
};

/// The blocks of one kind as they will be: unpacked when one of their records is first asked for,
/// packed again when everything is written.
#[derive(Debug)]
pub(super) struct Blocks<R> {
    open: RefCell<BTreeMap<Key, OpenBlock<R>>>,
}

#[derive(Debug)]
struct OpenBlock<R> {
    block: Block<R>,
    changed: bool,
}

impl<R> Default for Blocks<R> {
    fn default() -> Self {
        Self { open: RefCell::default() }
    }
}

impl<R: Packed + Clone> Blocks<R> {
    pub(super) fn record(&self, before: &View<'_>, at: Place) -> Result<Option<R>, LineageError> {
        self.with(before, at.block, |open| open.block.at(at.slot).cloned())
    }

    /// Puts a record to its place, or leaves the place empty.
    pub(super) fn put(
        &mut self,
        before: &View<'_>,
        at: Place,
        record: Option<R>,
    ) -> Result<(), LineageError> {
        self.with(before, at.block, |open| {
            open.changed = true;
            match record {
                Some(record) => open.block.put(at.slot, record),
                None => open.block.remove(at.slot),
            }
        })
    }

    /// The keys of the open blocks that begin with `prefix`.
    pub(super) fn keys(&self, prefix: &Key) -> Vec<Vec<u8>> {
        let open = self.open.borrow();
        let from = open.range(prefix.clone()..).map(|(key, _)| key.as_ref());
        from.take_while(|key| key.starts_with(prefix.as_ref())).map(<[u8]>::to_vec).collect()
    }

    /// What has to be written: a block under its key, or nothing where it has no record any more.
    pub(super) fn packed(self) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> {
        let changed = self.open.into_inner().into_iter().filter(|(_, open)| open.changed);
        changed.map(|(key, OpenBlock { block, .. })| {
            (key.into(), (!block.is_empty()).then(|| block.packed()))
        })
    }

    fn with<T>(
        &self,
        before: &View<'_>,
        key: Key,
        work: impl FnOnce(&mut OpenBlock<R>) -> T,
    ) -> Result<T, LineageError> {
        let mut open = self.open.borrow_mut();
        match open.entry(key) {
            Entry::Occupied(mut known) => Ok(work(known.get_mut())),
            Entry::Vacant(place) => {
                let block = before.block(place.key())?;
                Ok(work(place.insert(OpenBlock { block, changed: false })))
            }
        }
    }
}
