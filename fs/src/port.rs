//! What the data plane asks of whoever runs it.

use std::fmt::Debug;

use attestfs_attestation::{Publications, Unavailable};
use attestfs_digest::{Digests, Sha256};
use jiff::Timestamp;

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

/// What was published, as the gate and the extended attributes ask for it: plain files, no round trip.
/// Asked from request threads.
pub trait BundleSource: Publications + Send + Sync + Debug {
    /// A number that changes whenever anything was published.
    ///
    /// # Errors
    /// The source cannot be read. The gate stays shut then.
    fn generation(&self) -> Result<u64, Unavailable>;

    /// As [`BundleSource::generation`], of all that may speak against what was admitted: another content that was
    /// published under a name, or an attestation that was taken away. It may stay when something else was published.
    ///
    /// # Errors
    /// As [`BundleSource::generation`].
    fn objections(&self) -> Result<u64, Unavailable> {
        self.generation()
    }

    /// As [`BundleSource::generation`], of files alone: it may stay when nothing was published that is a file.
    ///
    /// # Errors
    /// As [`BundleSource::generation`].
    fn file_generation(&self) -> Result<u64, Unavailable> {
        self.generation()
    }

    /// The newest publication of this file: of the inode, whatever it holds by now.
    ///
    /// # Errors
    /// As [`BundleSource::generation`].
    fn published(&self, identity: &Identity) -> Result<Option<PublishedFile>, Unavailable>;

    /// Who made an attestation, as far as its bundle says so.
    ///
    /// # Errors
    /// As [`BundleSource::generation`].
    fn maker(&self, statement: Sha256) -> Result<Maker, Unavailable>;

    /// The names of all attestations that are kept, in order: what `.attestfs/attestations` lists.
    ///
    /// # Errors
    /// As [`BundleSource::generation`].
    fn attestations(&self) -> Result<Vec<Sha256>, Unavailable>;
}

/// A file of which a signed statement speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedFile {
    /// The SHA-256 that was published.
    pub content: Sha256,
    /// The digests, when the identity is exactly the published one.
    pub digests: Option<Digests>,
    /// The name of the attestation: the SHA-256 of its payload.
    pub statement: Sha256,
    /// Which stage made it.
    pub stage: String,
    /// Which run made it.
    pub run: String,
    /// The hint of the signer's key, or the identity in the certificate.
    pub signer: String,
}

/// Who made an attestation. What is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maker {
    /// Which stage.
    pub stage: String,
    /// Which run.
    pub run: String,
    /// As [`PublishedFile::signer`].
    pub signer: String,
}

/// The time of day: the data plane has no clock of its own.
pub trait Clock: Send + Sync + Debug {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// Knows of no earlier run.
#[derive(Debug)]
pub(crate) struct NothingKnown;

impl KnownDigests for NothingKnown {
    fn known(&self, identities: &[Identity]) -> Vec<Option<Digests>> {
        vec![None; identities.len()]
    }
}
