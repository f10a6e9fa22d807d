//! Frozen commits become attestations.

use std::collections::{BTreeMap, BTreeSet};

use attestfs_digest::Sha256;

use super::{
    Attestation, CommitId, LineageError, PublishedAttestation, VersionId,
    checks::without_slash,
    entries::{Entries, Transaction},
    schema::{Counter, Key, Table, last_number},
};

impl Transaction<'_> {
    pub(super) fn put_frozen(&mut self, commit: &CommitId, bytes: &[u8]) {
        self.put_number(Key::commit(Table::Frozen, commit), bytes.len() as u64);
        for (number, piece) in (0..).zip(bytes.chunks(PIECE_BYTES)) {
            self.put(Key::frozen_pieces(commit).number(number), piece);
        }
    }

    /// Keeps what is new among the attestations, and lets the commit be published.
    pub(super) fn publish(
        &mut self,
        commit: &CommitId,
        attestations: &[PublishedAttestation],
    ) -> Result<(), LineageError> {
        let mut numbers = Vec::new();
        for attestation in attestations {
            numbers.extend(self.keep(commit, attestation)?.to_be_bytes());
        }
        self.put(Key::commit(Table::Commits, commit), numbers);
        self.forget_frozen(commit)
    }

    /// The number of the attestation, which is kept unless it is known.
    fn keep(
        &mut self,
        commit: &CommitId,
        published: &PublishedAttestation,
    ) -> Result<u64, LineageError> {
        let name = Key::digest(Table::AttestationNumbers, &published.statement);
        if let Some(known) = self.number(&name)? {
            return Ok(known);
        }
        let run = self.known_run(&published.run)?;
        let number = self.next(Counter::Attestation)?;
        let attestation = Attestation::of(commit, published);
        self.put_number(name, number);
        self.put_record(Key::of(Table::Attestations).number(number), &attestation)?;
        self.mark(Key::run(Table::ByRun, run).number(number));
        self.mark(Key::root(&attestation.artifact_root).number(number));
        self.keep_subjects(number, published)?;
        Ok(number)
    }

    fn keep_subjects(
        &mut self,
        attestation: u64,
        published: &PublishedAttestation,
    ) -> Result<(), LineageError> {
        let mut contents: BTreeSet<Sha256> = BTreeSet::new();
        let mut versions: BTreeMap<VersionId, Sha256> = BTreeMap::new();
        for (ordinal, subject) in (0..).zip(&published.subjects) {
            let key = Key::of(Table::Subjects).number(attestation).number(ordinal);
            self.put_record(key, subject)?;
            contents.insert(subject.digests.sha256);
            versions.extend(subject.version.map(|version| (version, subject.digests.sha256)));
        }
        for content in contents {
            self.mark(Key::digest(Table::BySubject, &content).number(attestation));
        }
        for (version, content) in versions {
            self.put(Key::version(Table::ByVersion, version).number(attestation), content.0);
        }
        Ok(())
    }

    /// Marks attestations whose bundles are freed.
    pub(super) fn free(&mut self, statements: &[Sha256]) -> Result<(), LineageError> {
        for statement in statements {
            let name = Key::digest(Table::AttestationNumbers, statement);
            let Some(number) = self.number(&name)? else {
                continue;
            };
            let key = Key::of(Table::Attestations).number(number);
            if let Some(attestation) = self.record::<Attestation>("attestation", &key)? {
                self.put_record(key, &Attestation { freed: true, ..attestation })?;
            }
        }
        Ok(())
    }

    fn forget_frozen(&mut self, commit: &CommitId) -> Result<(), LineageError> {
        self.remove(Key::commit(Table::Frozen, commit));
        for piece in self.keys(&Key::frozen_pieces(commit))? {
            self.remove(piece);
        }
        Ok(())
    }
}

impl Attestation {
    /// What the store keeps of an attestation, apart from its subjects.
    pub(super) fn of(commit: &CommitId, published: &PublishedAttestation) -> Self {
        Self {
            statement: published.statement,
            commit: commit.clone(),
            kind: published.kind,
            run: published.run.clone(),
            stage: published.stage.clone(),
            artifact_root: without_slash(&published.artifact_root).to_owned(),
            subjects: published.subjects.len() as u64,
            signer: published.signer.clone(),
            time: published.time,
            predicate_type: published.predicate_type.clone(),
            freed: false,
        }
    }
}

/// The numbers in a value of [`Table::Commits`].
pub(super) fn numbers(value: &[u8]) -> Result<Vec<u64>, LineageError> {
    value.chunks(8).map(last_number).collect()
}

/// Small enough to lie inside the pages of the database instead of in a file of its own.
const PIECE_BYTES: usize = 64 << 10;
