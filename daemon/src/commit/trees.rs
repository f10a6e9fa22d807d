//! Where the trees of runs lie. Most are where their paths say; over others something is mounted, or
//! they are known in another container only, and whoever serves them lends a descriptor.

use std::{
    collections::HashMap,
    ffi::OsStr,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use attestfs_attestation::unescaped;
use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags, open, openat};

/// The trees that somebody has lent a descriptor of.
#[derive(Debug, Default)]
pub struct LentTrees {
    loans: AtomicU64,
    /// By the tree's path, escaped; the last loan counts.
    lent: Mutex<HashMap<String, Vec<Loan>>>,
}

#[derive(Debug)]
struct Loan {
    number: u64,
    root: Arc<OwnedFd>,
}

/// A tree is lent as long as one of these.
#[derive(Debug)]
pub struct TreeLease {
    trees: Arc<LentTrees>,
    tree: String,
    number: u64,
}

impl LentTrees {
    /// Until the lease is dropped, `tree` is where `root` is open, which may be `O_PATH`.
    pub fn lend(self: &Arc<Self>, tree: String, root: OwnedFd) -> TreeLease {
        let number = self.loans.fetch_add(1, Ordering::Relaxed);
        let loan = Loan { number, root: Arc::new(root) };
        self.lent.lock().entry(tree.clone()).or_default().push(loan);
        TreeLease { trees: Arc::clone(self), tree, number }
    }

    /// Opens a tree for reading: as it was lent, else by its path.
    ///
    /// # Errors
    /// What `open(2)` says.
    pub fn open(&self, tree: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        if let Some(root) = self.root(tree) {
            return Ok(openat(root, ".", flags, Mode::empty())?);
        }
        let path = PathBuf::from(OsStr::from_bytes(&unescaped(tree)));
        Ok(open(&path, flags, Mode::empty())?)
    }

    fn root(&self, tree: &str) -> Option<Arc<OwnedFd>> {
        let lent = self.lent.lock();
        lent.get(tree).and_then(|loans| loans.last()).map(|loan| Arc::clone(&loan.root))
    }
}

impl Drop for TreeLease {
    fn drop(&mut self) {
        let mut lent = self.trees.lent.lock();
        let Some(loans) = lent.get_mut(&self.tree) else { return };
        loans.retain(|loan| loan.number != self.number);
        if loans.is_empty() {
            lent.remove(&self.tree);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, fs::File};

    use attestfs_attestation::escaped;

    use super::*;

    fn holds(trees: &LentTrees, tree: &str, name: &str) -> bool {
        let root = trees.open(tree).unwrap();
        rustix::fs::statat(&root, name, rustix::fs::AtFlags::empty()).is_ok()
    }

    #[test]
    fn a_tree_is_where_it_was_lent_last_and_else_where_its_path_says() {
        let base = tempfile::tempdir().unwrap();
        for name in ["by-path", "first", "second"] {
            fs::create_dir(base.path().join(name)).unwrap();
            fs::write(base.path().join(name).join(name), "").unwrap();
        }
        let tree = escaped(base.path().join("by-path").as_os_str().as_encoded_bytes());
        let trees = Arc::new(LentTrees::default());
        let lend = |name: &str| {
            let root = File::open(base.path().join(name)).unwrap();
            trees.lend(tree.clone(), root.into())
        };
        assert!(holds(&trees, &tree, "by-path"));
        let (first, second) = (lend("first"), lend("second"));
        assert!(holds(&trees, &tree, "second"));
        drop(second);
        assert!(holds(&trees, &tree, "first"));
        drop(first);
        assert!(holds(&trees, &tree, "by-path"));
        assert!(trees.lent.lock().is_empty());
    }

    #[test]
    fn a_descriptor_without_read_access_is_enough() {
        let base = tempfile::tempdir().unwrap();
        fs::write(base.path().join("file"), "").unwrap();
        let root = open(base.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let trees = Arc::new(LentTrees::default());
        let _lease = trees.lend("/no/such/tree".to_owned(), root);
        assert!(holds(&trees, "/no/such/tree", "file"));
    }
}
