use std::{
    fmt,
    fs::{self, File},
    io,
    ops::Range,
    path::Path,
    sync::{
        RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use attestfs_attestation::RunDescription;
use attestfs_digest::{Digests, Sha256};
use attestfs_fs::{Fact, FileKey, Identity};
use sled::Db;

use super::{
    Attestation, AttestationQuery, CommitId, FrozenCommit, LineageError, LineageStore, Material,
    PublishedAttestation, RefusedOpen, Role, Run, RunEnd, RunId, RunOutputs, Subject, Version,
    VersionId,
    checks::{check_frozen, check_name},
    entries::{Entries, Transaction, View, database},
    finding::Finding,
    recent::Recent,
    recording,
    schema::{Counter, Key, RunNumber, SCHEMA, Table, decode},
};

/// The lineage store in a folder of the state directory.
///
/// Everything lies in one sled tree, because a batch of one tree is all or nothing after a crash.
/// One operation writes at a time; those that read run beside each other and see no half of one.
pub struct DiskStore {
    database: Db,
    /// The file that the database appends to, see [`DiskStore::flush`].
    log: File,
    recent: Recent,
    lock: RwLock<()>,
    has_failed: AtomicBool,
}

impl fmt::Debug for DiskStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskStore").finish_non_exhaustive()
    }
}

impl DiskStore {
    /// Opens the store in this folder, or makes both.
    ///
    /// # Errors
    /// [`LineageError::Locked`] when another process has it open, [`LineageError::Schema`] when
    /// another version of attestfs wrote it, or the database fails.
    pub fn open(path: &Path) -> Result<Self, LineageError> {
        if !path.try_exists().map_err(of_the_system)? {
            make(path)?;
        }
        Self::open_made(path)
    }

    fn open_made(path: &Path) -> Result<Self, LineageError> {
        let database = open_patiently(path)?;
        let log = File::open(path.join("db")).map_err(of_the_system)?;
        let store = Self {
            database,
            log,
            recent: Recent::default(),
            lock: RwLock::new(()),
            has_failed: AtomicBool::new(false),
        };
        store.check_schema(path)?;
        Ok(store)
    }

    fn check_schema(&self, path: &Path) -> Result<(), LineageError> {
        let found = self.view().bytes(&Key::of(Table::Schema))?;
        match found {
            None if self.database.is_empty() => self.put_schema(path),
            Some(found) if found == SCHEMA.to_be_bytes() => Ok(()),
            found => Err(LineageError::Schema {
                path: path.to_owned(),
                found: spell_schema(&found.unwrap_or_default()),
                expected: SCHEMA,
            }),
        }
    }

    fn put_schema(&self, path: &Path) -> Result<(), LineageError> {
        self.change(|transaction| {
            transaction.put(Key::of(Table::Schema), SCHEMA.to_be_bytes());
            Ok(())
        })?;
        self.flush()?;
        let directories = path.ancestors().take(2);
        directories.map(File::open).try_for_each(|it| it?.sync_all()).map_err(of_the_system)
    }

    fn view(&self) -> View<'_> {
        View::of(&self.database, &self.recent, &self.lock)
    }

    /// One transaction. What `change` refuses leaves no trace.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Transaction<'_>) -> Result<T, LineageError>,
    ) -> Result<T, LineageError> {
        let mut transaction = Transaction::on(&self.database, &self.recent, &self.lock);
        let answer = change(&mut transaction)?;
        self.noticed(transaction.commit())?;
        Ok(answer)
    }

    /// Waits until the disk has everything. The database itself asks for `sync_file_range(2)`, which
    /// writes the bytes and not what leads to them: of a file that grew they are lost with the power.
    fn flush(&self) -> Result<(), LineageError> {
        self.noticed(self.database.flush().map_err(database))?;
        self.noticed(self.log.sync_data().map_err(of_the_system))
    }

    /// What the database could not write it never writes, and it takes nothing more.
    fn noticed<T>(&self, written: Result<T, LineageError>) -> Result<T, LineageError> {
        written.inspect_err(|_| self.has_failed.store(true, Relaxed))
    }
}

impl LineageStore for DiskStore {
    fn has_failed(&self) -> bool {
        self.has_failed.load(Relaxed)
    }

    fn begin(&self, description: &RunDescription) -> Result<(), LineageError> {
        let id = RunId(description.id.clone());
        check_name("run", &id.0)?;
        self.change(|transaction| {
            if let Some(number) = transaction.run_number(&id)? {
                let known = transaction.run_record(number)?.description == *description;
                return if known { Ok(()) } else { Err(LineageError::RunDiffers(id)) };
            }
            let number = RunNumber(transaction.next(Counter::Run)?);
            let run = Run { description: description.clone(), end: None };
            transaction.put_record(Key::run(Table::Runs, number), &run)?;
            transaction.put_number(Key::run(Table::Ingested, number), 0);
            transaction.put_number(Key::run_number(&id), number.0);
            transaction.put(Key::run(Table::RunIds, number), id.0);
            transaction.mark(Key::run(Table::Unfinished, number));
            Ok(())
        })?;
        // A journal leads to no run: one that was forgotten here would never be attested.
        self.flush()
    }

    fn ingest(&self, run: &RunId, range: Range<u64>, facts: &[Fact]) -> Result<(), LineageError> {
        self.change(|transaction| {
            let number = transaction.known_run(run)?;
            let ingested = transaction.before().ingested(number)?;
            if range.end <= ingested && range.start <= range.end {
                return Ok(());
            }
            if range.start != ingested || range.end < range.start {
                let (start, end) = (range.start, range.end);
                return Err(LineageError::JournalGap { run: run.clone(), ingested, start, end });
            }
            if transaction.run_record(number)?.end.is_some() {
                return Err(LineageError::RunEnded(run.clone()));
            }
            recording::record(transaction, run, range, facts)
        })
    }

    fn ingested(&self, run: &RunId) -> Result<u64, LineageError> {
        let view = self.view();
        view.ingested(view.known_run(run)?)
    }

    fn end(&self, run: &RunId, end: &RunEnd) -> Result<(), LineageError> {
        self.change(|transaction| {
            let number = transaction.known_run(run)?;
            let mut record = transaction.run_record(number)?;
            match &record.end {
                Some(known) if known == end => return Ok(()),
                Some(_) => return Err(LineageError::EndDiffers(run.clone())),
                None => record.end = Some(end.clone()),
            }
            transaction.remove(Key::run(Table::Unfinished, number));
            transaction.put_record(Key::run(Table::Runs, number), &record)
        })
    }

    fn run(&self, run: &RunId) -> Result<Option<Run>, LineageError> {
        let view = self.view();
        view.run_number(run)?.map(|number| view.run_record(number)).transpose()
    }

    fn runs(&self, limit: usize) -> Result<Vec<Run>, LineageError> {
        let view = self.view();
        let newest = view.scan(&Key::of(Table::Runs)).rev().take(limit);
        newest.map(|entry| decode("run", &entry?.value)).collect()
    }

    fn unfinished(&self) -> Result<Vec<Run>, LineageError> {
        let view = self.view();
        view.numbers_below(&Key::of(Table::Unfinished))
            .map(|number| view.run_record(RunNumber(number?)))
            .collect()
    }

    fn outputs(&self, run: &RunId) -> Result<RunOutputs, LineageError> {
        let view = self.view();
        view.outputs(view.known_run(run)?)
    }

    fn materials(&self, run: &RunId) -> Result<Vec<Material>, LineageError> {
        let view = self.view();
        view.materials(view.known_run(run)?)
    }

    fn refusals(&self, run: &RunId, limit: usize) -> Result<Vec<RefusedOpen>, LineageError> {
        let view = self.view();
        let refusals = view.scan(&Key::run(Table::Refusals, view.known_run(run)?));
        refusals.take(limit).map(|entry| decode("refusal", &entry?.value)).collect()
    }

    fn versions_of_run(
        &self,
        run: &RunId,
        role: Role,
        limit: usize,
    ) -> Result<Vec<VersionId>, LineageError> {
        let view = self.view();
        view.versions_of_run(view.known_run(run)?, role, limit)
    }

    fn runs_of_version(
        &self,
        version: VersionId,
        role: Role,
        limit: usize,
    ) -> Result<Vec<RunId>, LineageError> {
        self.view().runs_of_version(version, role, limit)
    }

    fn found_after(
        &self,
        version: VersionId,
        limit: usize,
    ) -> Result<Vec<VersionId>, LineageError> {
        let view = self.view();
        let found = view.numbers_below(&Key::version(Table::FoundAfter, version)).take(limit);
        found.map(|number| Ok(VersionId(number?))).collect()
    }

    fn version(&self, version: VersionId) -> Result<Option<Version>, LineageError> {
        let view = self.view();
        let record = view.version_if_known(version)?;
        record.map(|record| view.public_version(version, record)).transpose()
    }

    fn version_of(&self, identity: &Identity) -> Result<Option<VersionId>, LineageError> {
        self.view().newest_of_identity(identity)
    }

    fn version_of_content(
        &self,
        file: &FileKey,
        sha256: &Sha256,
    ) -> Result<Option<VersionId>, LineageError> {
        self.view().newest_of_content(file, sha256)
    }

    fn versions_of_digest(
        &self,
        sha256: &Sha256,
        limit: usize,
    ) -> Result<Vec<VersionId>, LineageError> {
        self.view().versions_of_digest(sha256, limit)
    }

    fn digests_of(&self, identities: &[Identity]) -> Result<Vec<Option<Digests>>, LineageError> {
        let view = self.view();
        identities.iter().map(|identity| view.digests_of(identity)).collect()
    }

    fn remember(
        &self,
        identity: &Identity,
        digests: &Digests,
        path: &str,
    ) -> Result<VersionId, LineageError> {
        self.change(|transaction| transaction.learn(identity, digests, path, None))
    }

    fn freeze(&self, commit: &CommitId, bytes: &[u8]) -> Result<(), LineageError> {
        check_name("commit", &commit.0)?;
        check_frozen(bytes)?;
        self.change(|transaction| {
            if transaction.has(&Key::commit(Table::Commits, commit))? {
                return Err(LineageError::AlreadyPublished(commit.clone()));
            }
            if transaction.has(&Key::commit(Table::Frozen, commit))? {
                let same = transaction.before().frozen_bytes(commit)? == bytes;
                return if same {
                    Ok(())
                } else {
                    Err(LineageError::FrozenDiffers(commit.clone()))
                };
            }
            transaction.put_frozen(commit, bytes);
            Ok(())
        })?;
        self.flush()
    }

    fn frozen(&self) -> Result<Vec<FrozenCommit>, LineageError> {
        let view = self.view();
        view.scan(&Key::of(Table::Frozen)).map(|entry| view.frozen_commit(&entry?)).collect()
    }

    fn publish(
        &self,
        commit: &CommitId,
        attestations: &[PublishedAttestation],
    ) -> Result<(), LineageError> {
        self.change(|transaction| {
            if transaction.has(&Key::commit(Table::Commits, commit))? {
                return Ok(());
            }
            if !transaction.has(&Key::commit(Table::Frozen, commit))? {
                return Err(LineageError::NotFrozen(commit.clone()));
            }
            transaction.publish(commit, attestations)
        })?;
        self.flush()
    }

    fn free(&self, statements: &[Sha256]) -> Result<(), LineageError> {
        self.change(|transaction| transaction.free(statements))?;
        self.flush()
    }

    fn published(&self, commit: &CommitId) -> Result<Option<Vec<Attestation>>, LineageError> {
        let view = self.view();
        view.published(commit)
    }

    fn attestation(&self, statement: &Sha256) -> Result<Option<Attestation>, LineageError> {
        let view = self.view();
        let number = view.number(&Key::digest(Table::AttestationNumbers, statement))?;
        number.map(|number| view.attestation(number)).transpose()
    }

    fn subjects(&self, statement: &Sha256) -> Result<Vec<Subject>, LineageError> {
        self.view().subjects(statement)
    }

    fn attestations(
        &self,
        query: AttestationQuery<'_>,
        limit: usize,
    ) -> Result<Vec<Attestation>, LineageError> {
        self.view().attestations(query, limit)
    }

    fn latest(&self, path: &str) -> Result<Vec<Attestation>, LineageError> {
        self.view().latest(path)
    }
}

fn spell_schema(found: &[u8]) -> String {
    match found.first_chunk::<4>() {
        Some(number) => u32::from_be_bytes(*number).to_string(),
        None => "of no known kind".to_owned(),
    }
}

/// Makes an empty store elsewhere, and gives it its name when it is whole: of its first files the database can read none
/// that a full disk has cut off.
fn make(path: &Path) -> Result<(), LineageError> {
    let unplaced = path.with_extension("new");
    match fs::remove_dir_all(&unplaced) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(of_the_system(error)),
        _ => {}
    }
    drop(DiskStore::open_made(&unplaced)?);
    let place = || {
        fs::rename(&unplaced, path)?;
        File::open(path.parent().unwrap_or(path))?.sync_all()
    };
    place().map_err(of_the_system)
}

fn of_the_system(error: io::Error) -> LineageError {
    LineageError::Database(Box::new(error))
}

/// A database that was closed in this process lets go of its files a moment later, in a thread of
/// its own, so that being in use is believed only when it lasts.
fn open_patiently(path: &Path) -> Result<Db, LineageError> {
    let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    for _ in 1..OPEN_TRIES {
        match config.open() {
            Err(error) if is_lock_refusal(&error) => thread::sleep(OPEN_PAUSE),
            opened => return opened.map_err(database),
        }
    }
    config.open().map_err(|error| open_error(path, error))
}

fn open_error(path: &Path, error: sled::Error) -> LineageError {
    if is_lock_refusal(&error) {
        return LineageError::Locked { path: path.to_owned() };
    }
    database(error)
}

/// sled has no error of its own for a database that is in use, only this sentence.
fn is_lock_refusal(error: &sled::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

const OPEN_TRIES: u32 = 50;
const OPEN_PAUSE: Duration = Duration::from_millis(20);

/// Pages of the database in memory. A pipeline's working set is a few; the operating system caches
/// the rest.
const CACHE_BYTES: u64 = 64 << 20;
