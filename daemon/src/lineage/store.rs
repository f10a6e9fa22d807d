use std::{fmt::Debug, ops::Range};

use attestfs_attestation::RunDescription;
use attestfs_digest::{Digests, Sha256};
use attestfs_fs::{Fact, FileKey, Identity};

use super::{
    Attestation, AttestationQuery, CommitId, FrozenCommit, LineageError, Material,
    PublishedAttestation, RefusedOpen, Role, Run, RunEnd, RunId, RunOutputs, Subject, Version,
    VersionId,
};

/// The memory of the control plane: runs, versions, the edges between them, and attestations.
///
/// Every operation that changes something is one transaction: after a crash all of it is there or
/// nothing. Only [`begin`](Self::begin), [`freeze`](Self::freeze), [`publish`](Self::publish) and
/// [`free`](Self::free) wait for the disk; what was ingested since the last flush is read again from
/// the journals, which is why [`ingested`](Self::ingested) is part of the same transaction. Asking
/// again for what was done already is never an error.
///
/// Lists are bounded by `limit` where their length is not bounded by one run.
pub trait LineageStore: Debug + Send + Sync {
    /// Whether something could not be written, so that it takes nothing more until it is opened anew.
    fn has_failed(&self) -> bool {
        false
    }

    /// Makes a run known. Again with the same description: nothing happens.
    ///
    /// # Errors
    /// [`LineageError::RunDiffers`] when a run of that name was described differently.
    fn begin(&self, description: &RunDescription) -> Result<(), LineageError>;

    /// Takes in the facts of `range`, in bytes of the run's journal. A range that was taken in
    /// already is skipped.
    ///
    /// # Errors
    /// [`LineageError::JournalGap`] when `range` does not begin where the last one ended;
    /// [`LineageError::BadFact`] when a fact contradicts an earlier one of the run;
    /// [`LineageError::RunEnded`]. Nothing of `range` is taken in then.
    fn ingest(&self, run: &RunId, range: Range<u64>, facts: &[Fact]) -> Result<(), LineageError>;

    /// Up to which byte the journal of this run was taken in.
    ///
    /// # Errors
    /// [`LineageError::UnknownRun`], or the database fails.
    fn ingested(&self, run: &RunId) -> Result<u64, LineageError>;

    /// The run is over; no fact of it is taken in afterwards. Again with the same end: nothing
    /// happens.
    ///
    /// # Errors
    /// [`LineageError::EndDiffers`] when it ended otherwise; [`LineageError::UnknownRun`].
    fn end(&self, run: &RunId, end: &RunEnd) -> Result<(), LineageError>;

    /// What is known of one run.
    ///
    /// # Errors
    /// The database fails.
    fn run(&self, run: &RunId) -> Result<Option<Run>, LineageError>;

    /// The runs that began last, newest first.
    ///
    /// # Errors
    /// The database fails.
    fn runs(&self, limit: usize) -> Result<Vec<Run>, LineageError>;

    /// The runs without an end, oldest first.
    ///
    /// # Errors
    /// The database fails.
    fn unfinished(&self) -> Result<Vec<Run>, LineageError>;

    /// What the run made.
    ///
    /// # Errors
    /// [`LineageError::UnknownRun`], or the database fails.
    fn outputs(&self, run: &RunId) -> Result<RunOutputs, LineageError>;

    /// What the run read, in the order of the first open, each version once.
    ///
    /// # Errors
    /// [`LineageError::UnknownRun`], or the database fails.
    fn materials(&self, run: &RunId) -> Result<Vec<Material>, LineageError>;

    /// What the gate refused the run, in the order in which it happened.
    ///
    /// # Errors
    /// [`LineageError::UnknownRun`], or the database fails.
    fn refusals(&self, run: &RunId, limit: usize) -> Result<Vec<RefusedOpen>, LineageError>;

    /// The versions a run has this edge to, without repetition, in the order of the first fact.
    ///
    /// # Errors
    /// [`LineageError::UnknownRun`], or the database fails.
    fn versions_of_run(
        &self,
        run: &RunId,
        role: Role,
        limit: usize,
    ) -> Result<Vec<VersionId>, LineageError>;

    /// The runs that have this edge to a version, oldest first.
    ///
    /// # Errors
    /// The database fails.
    fn runs_of_version(
        &self,
        version: VersionId,
        role: Role,
        limit: usize,
    ) -> Result<Vec<RunId>, LineageError>;

    /// The found versions that this one lies behind ([`Version::after`]), oldest first.
    ///
    /// # Errors
    /// The database fails.
    fn found_after(&self, version: VersionId, limit: usize)
    -> Result<Vec<VersionId>, LineageError>;

    /// What is known of one version; none for a number that was never given, or that was found to
    /// be another name of an older version.
    ///
    /// # Errors
    /// The database fails.
    fn version(&self, version: VersionId) -> Result<Option<Version>, LineageError>;

    /// The newest version with exactly this identity.
    ///
    /// # Errors
    /// The database fails.
    fn version_of(&self, identity: &Identity) -> Result<Option<VersionId>, LineageError>;

    /// The newest version of this file with this content.
    ///
    /// # Errors
    /// The database fails.
    fn version_of_content(
        &self,
        file: &FileKey,
        sha256: &Sha256,
    ) -> Result<Option<VersionId>, LineageError>;

    /// The versions, of whatever file, with this content, newest first.
    ///
    /// # Errors
    /// The database fails.
    fn versions_of_digest(
        &self,
        sha256: &Sha256,
        limit: usize,
    ) -> Result<Vec<VersionId>, LineageError>;

    /// The digest cache: for each identity the digests of a version with exactly that identity.
    ///
    /// # Errors
    /// The database fails.
    fn digests_of(&self, identities: &[Identity]) -> Result<Vec<Option<Digests>>, LineageError>;

    /// Somebody hashed the content of this identity outside of a run, under this absolute path.
    /// Returns the version it belongs to, which is a found one when none was known.
    ///
    /// # Errors
    /// The database fails.
    fn remember(
        &self,
        identity: &Identity,
        digests: &Digests,
        path: &str,
    ) -> Result<VersionId, LineageError>;

    /// Keeps what a commit is about to sign, and waits until it is on disk. Again with the same
    /// bytes: only waits.
    ///
    /// # Errors
    /// [`LineageError::FrozenDiffers`], [`LineageError::AlreadyPublished`],
    /// [`LineageError::TooLarge`].
    fn freeze(&self, commit: &CommitId, bytes: &[u8]) -> Result<(), LineageError>;

    /// The commits that were frozen and not published, ordered by name.
    ///
    /// # Errors
    /// The database fails.
    fn frozen(&self) -> Result<Vec<FrozenCommit>, LineageError>;

    /// Keeps the attestations of a commit, forgets what was frozen for it, and waits until that is
    /// on disk. A statement that is known already is not kept twice. Again: only waits.
    ///
    /// # Errors
    /// [`LineageError::NotFrozen`], [`LineageError::UnknownRun`].
    fn publish(
        &self,
        commit: &CommitId,
        attestations: &[PublishedAttestation],
    ) -> Result<(), LineageError>;

    /// The bundles of these attestations are about to be freed. The attestations stay known, marked;
    /// an unknown one is passed over. Waits until that, and all that was taken in before, is on disk.
    ///
    /// # Errors
    /// The database fails.
    fn free(&self, statements: &[Sha256]) -> Result<(), LineageError>;

    /// What a commit published, in the order in which it was given; none when it did not (yet).
    ///
    /// # Errors
    /// The database fails.
    fn published(&self, commit: &CommitId) -> Result<Option<Vec<Attestation>>, LineageError>;

    /// One attestation by the SHA-256 of its DSSE payload.
    ///
    /// # Errors
    /// The database fails.
    fn attestation(&self, statement: &Sha256) -> Result<Option<Attestation>, LineageError>;

    /// The subjects of an attestation in the order of the statement; empty when it is not known.
    ///
    /// # Errors
    /// The database fails.
    fn subjects(&self, statement: &Sha256) -> Result<Vec<Subject>, LineageError>;

    /// The attestations that match, newest first.
    ///
    /// # Errors
    /// The database fails.
    fn attestations(
        &self,
        query: AttestationQuery<'_>,
        limit: usize,
    ) -> Result<Vec<Attestation>, LineageError>;

    /// Those attestations of the newest commit under this absolute path which vouch for something
    /// at this path or below it; empty when there is none. What was freed does not count.
    ///
    /// # Errors
    /// The database fails.
    fn latest(&self, path: &str) -> Result<Vec<Attestation>, LineageError>;
}
