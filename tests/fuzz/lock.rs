//! A lock, with the manifests that lie beside it.

use std::collections::BTreeMap;

use attestfs_attestation::{Lock, LockDifference, Locked};
use attestfs_digest::Sha256;

use crate::{corpus, told::is_told};

target!("lock", holds);

fn holds(bytes: &[u8]) {
    let manifests = corpus::of("manifest");
    let mut read = |wanted: Sha256| {
        let found = manifests.iter().find(|manifest| Sha256::of(manifest) == wanted);
        found.cloned().ok_or_else(|| "it is not there".to_owned())
    };
    let lock = match Lock::parse(bytes, &mut read) {
        Ok(lock) => lock,
        Err(error) => return is_told(&error),
    };
    assert_eq!(lock.sha256(), Sha256::of(bytes));
    let listed: usize = manifests.iter().map(Vec::len).sum();
    assert!(lock.files().count() <= bytes.len() / 64 * listed.max(1));
    locks_what_it_names(&lock);
}

/// Whoever opens what it names, and nothing else, differs in nothing.
fn locks_what_it_names(lock: &Lock) {
    let mut opened = vec![BTreeMap::new(); lock.trees()];
    for (tree, path, sha256) in lock.files() {
        assert!(lock.has(tree, path));
        opened[usize::from(tree)].insert(path.to_owned(), Locked { sha256, size: 0 });
    }
    assert_eq!(lock.differences(&opened), []);
    let differences = lock.differences(&[]);
    assert_eq!(differences.len(), lock.files().count());
    assert!(differences.iter().all(|one| matches!(one, LockDifference::NotOpened { .. })));
}
