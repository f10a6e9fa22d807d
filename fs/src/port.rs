//! What the data plane asks of whoever runs it.

use std::fmt::Debug;

use attestfs_digest::Digests;

use crate::{
    fact::{Fact, TreePath},
    identity::Identity,
};

/// Takes down what happened. Called from request threads: must neither block on the network nor on
/// a database. A recorder that fails keeps the failure and reports it when the run ends.
pub trait Recorder: Send + Sync + Debug {
    /// Takes down one fact. Facts of one version arrive in order.
    fn record(&self, fact: Fact);

    /// A directory has a new name, and all that lies below it. No fact of its own: the names of the
    /// files are told again when the run comes to rest. For those who wait for such a rename.
    fn directory_renamed(&self, from: &TreePath, to: &TreePath) {
        let (_, _) = (from, to);
    }
}

/// Digests that an earlier run computed.
pub trait KnownDigests: Send + Sync + Debug {
    /// For each identity the digests of exactly that content, or `None`. As many answers as
    /// questions; all `None` when the store cannot be asked. Called from background threads only.
    fn known(&self, identities: &[Identity]) -> Vec<Option<Digests>>;
}
