//! What a run saw, as lines of JSON in its own file. The process that serves the mount appends and
//! never waits for the store; the store daemon reads, up to a length that it is told.

mod continuity;

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    mem,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use attestfs_fs::{Fact, Recorder};
use rustix::{
    fs::{FlockOperation, flock, fstat, fsync, syncfs},
    io::Errno,
};

pub(crate) use continuity::{break_off, is_unbroken};

use crate::{cure::cure, metrics::counts};

/// In the directory of a run.
const JOURNAL_NAME: &str = "journal.jsonl";

/// All that a journal leaves in the directory of its run. What comes first is of no use without the other.
pub(crate) const FILES: [&str; 2] = [continuity::NAME, JOURNAL_NAME];

/// The most bytes of one line. A name of the longest path, with every byte escaped twice, fits.
const LINE_BYTES_MAX: usize = 128 << 10;

/// The most facts that are held in memory at a time.
const PIECE_FACTS_MAX: usize = 4096;

/// The journal of a run that is alive: as long as this value exists, its file is locked, and that
/// is how others tell a live run from a dead one.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    file: File,
    /// A directory of each filesystem that it speaks of.
    stores: Vec<File>,
    /// Held while it is synced: who comes meanwhile waits for what is on its way.
    syncing: Mutex<()>,
    written: Mutex<Written>,
}

/// How far the file has come.
#[derive(Debug, Default)]
struct Written {
    length: u64,
    /// Whether it speaks of bytes since the stores were last synced.
    is_ahead: bool,
    failure: Option<RecordError>,
}

/// Why a journal is not complete. It stays so: a run whose journal failed is no success.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RecordError {
    /// The file cannot be made, locked or written.
    #[error("the journal of the run: {0}")]
    Io(Arc<io::Error>),
    /// What it speaks of does not reach the disk.
    #[error("the store of the run cannot be synced: {0}")]
    Store(Arc<io::Error>),
    /// A fact that is longer than any fact should be.
    #[error("the journal of the run: a fact of {bytes} bytes, at most {LINE_BYTES_MAX} are taken")]
    TooLong {
        /// As a line of JSON.
        bytes: usize,
    },
}

impl RecordError {
    /// What to do about it, where the sentence does not say so.
    pub(crate) fn next_step(&self) -> Option<&'static str> {
        match self {
            Self::Io(error) => cure(error),
            Self::Store(_) => Some(
                "writes to that filesystem were lost, of this run or of somebody else: look whether its disk is sound \
                 and nobody there is short of space, and run it again",
            ),
            Self::TooLong { .. } => None,
        }
    }
}

/// Why a journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file is not there or cannot be read.
    #[error("the journal of the run: {0}")]
    Io(#[from] io::Error),
    /// It ends before the length that the run told.
    #[error("the journal of the run ends at byte {length}, and {wanted} were promised")]
    Short {
        /// Where it ends.
        length: u64,
        /// Where it should.
        wanted: u64,
    },
    /// A line that is too long, not ended, or no fact.
    #[error("the journal of the run: the line at byte {offset} is no fact: {reason}")]
    NotAFact {
        /// Of the line.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
}

impl From<io::Error> for RecordError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl Journal {
    /// Makes the directory and the journal of a new run, and locks it. It will speak of files below
    /// `stores`, directories that are open for reading.
    ///
    /// # Errors
    /// [`RecordError::Io`], also when there is a run of this id already.
    pub fn create(run_directory: &Path, stores: Vec<File>) -> Result<Self, RecordError> {
        DirBuilder::new().mode(0o700).create(run_directory)?;
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(journal_path(run_directory))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(io::Error::from)?;
        continuity::keep(run_directory, &stores)?;
        sync_directory(run_directory)?;
        run_directory.parent().map_or(Ok(()), sync_directory)?;
        let directory = run_directory.to_owned();
        let (syncing, written) = (Mutex::default(), Mutex::default());
        Ok(Self { directory, file, stores, syncing, written })
    }

    /// Makes what was recorded so far durable, and says how many bytes that is. The files come first:
    /// a digest that outlives the bytes it was made of would be believed, for neither size nor times
    /// of a file need tell that its bytes are lost.
    ///
    /// # Errors
    /// The first failure of this journal, whenever that was. The kernel tells one that what could not
    /// be written once, and then no more.
    pub fn sync(&self) -> Result<u64, RecordError> {
        let _syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let (length, is_ahead) = self.to_sync()?;
        // Whoever says nothing of any bytes need not wait for those of everybody else.
        let stores = if is_ahead { &self.stores[..] } else { &[] };
        sync_stores(stores).map_err(|error| self.break_off(error))?;
        self.file.sync_data().map_err(|error| self.fail(error.into()))?;
        Ok(length)
    }

    /// How far it is to be synced, and whether the stores are.
    fn to_sync(&self) -> Result<(u64, bool), RecordError> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let is_ahead = mem::take(&mut written.is_ahead);
        written.failure.clone().map_or(Ok((written.length, is_ahead)), Err)
    }

    /// Some of what it speaks of is lost, or may be. A daemon to come is not told so again.
    fn break_off(&self, error: io::Error) -> RecordError {
        if let Err(error) = break_off(&self.directory) {
            tracing::error!(%error, "that the store of the run could not be synced is not kept");
        }
        self.fail(RecordError::Store(Arc::new(error)))
    }

    fn fail(&self, failure: RecordError) -> RecordError {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.failure.get_or_insert(failure).clone()
    }

    /// Bytes of whole facts in the file, whatever failed after them.
    pub fn length(&self) -> u64 {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).length
    }
}

impl Recorder for Journal {
    /// Appends one line with one `write(2)`. A failure is kept for [`Journal::sync`], and nothing
    /// is appended after it: what follows a gap would tell another story.
    fn record(&self, fact: Fact) {
        let line = line(&fact);
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.failure.is_some() {
            return;
        }
        match line.and_then(|line| append(&self.file, &line)) {
            Ok(length) => {
                written.length += length;
                written.is_ahead |= speaks_of_bytes(&fact);
                counts().fact(length);
            }
            Err(failure) => {
                tracing::error!(%failure, "nothing more is recorded of this run");
                written.failure = Some(failure);
                counts().journal_failed();
            }
        }
    }
}

/// Whether a fact is believed of the bytes that are found on the disk later.
fn speaks_of_bytes(fact: &Fact) -> bool {
    matches!(fact, Fact::Sealed { .. } | Fact::Hashed { .. })
}

/// Makes everything durable that is in the filesystems of these directories, each once.
///
/// # Errors
/// What the system says: some of it is lost, or may be.
pub(crate) fn sync_stores(stores: &[File]) -> io::Result<()> {
    let mut synced = BTreeSet::new();
    for store in stores {
        if synced.insert(fstat(store)?.st_dev) {
            syncfs(store)?;
            sync_shut_down(store)?;
        }
    }
    Ok(())
}

/// Of a filesystem that was told to shut down, not every kernel says so to `syncfs`.
fn sync_shut_down(store: &File) -> io::Result<()> {
    match fsync(store) {
        // A filesystem that has nothing to do there loses nothing.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
        result => Ok(result?),
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn line(fact: &Fact) -> Result<Vec<u8>, RecordError> {
    let mut line = serde_json::to_vec(fact).map_err(io::Error::from)?;
    line.push(b'\n');
    if line.len() > LINE_BYTES_MAX {
        return Err(RecordError::TooLong { bytes: line.len() });
    }
    Ok(line)
}

fn append(mut file: &File, line: &[u8]) -> Result<u64, RecordError> {
    file.write_all(line)?;
    Ok(line.len() as u64)
}

/// Bytes of the journal in `run_directory`, a last line that is cut off included.
///
/// # Errors
/// When it is not there.
pub fn length(run_directory: &Path) -> io::Result<u64> {
    Ok(fs::metadata(journal_path(run_directory))?.len())
}

/// Whether a process still writes the journal in `run_directory`.
///
/// # Errors
/// When the journal is not there or cannot be locked at all.
pub fn is_live(run_directory: &Path) -> io::Result<bool> {
    let file = File::open(journal_path(run_directory))?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

/// Where the whole lines of a dead run's journal end. A last line that was cut off when its writer
/// was killed was acknowledged to nobody and does not count.
///
/// # Errors
/// When the journal cannot be read.
pub fn whole_length(run_directory: &Path) -> io::Result<u64> {
    let mut file = File::open(journal_path(run_directory))?;
    let length = file.seek(SeekFrom::End(0))?;
    let start = length.saturating_sub(LINE_BYTES_MAX as u64);
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.take(LINE_BYTES_MAX as u64).read_to_end(&mut tail)?;
    let newline = tail.iter().rposition(|byte| *byte == b'\n');
    Ok(newline.map_or(0, |at| start + at as u64 + 1))
}

/// A piece of a journal: facts, and the range of bytes they stood in.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    /// In the order in which they happened.
    pub facts: Vec<Fact>,
    /// Where the first line begins.
    pub from: u64,
    /// Where the last line ends.
    pub to: u64,
}

/// The facts of the journal in `run_directory` between two offsets, in pieces of bounded size.
///
/// # Errors
/// [`ReadError::Io`], [`ReadError::Short`]; each piece has its own.
pub fn pieces(
    run_directory: &Path,
    from: u64,
    to: u64,
) -> Result<impl Iterator<Item = Result<Piece, ReadError>>, ReadError> {
    let path = journal_path(run_directory);
    let length = fs::metadata(&path)?.len();
    if length < to {
        return Err(ReadError::Short { length, wanted: to });
    }
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut reader = BufReader::new(file).take(to.saturating_sub(from));
    let mut at = from;
    let mut failed = false;
    Ok(std::iter::from_fn(move || {
        if failed || at >= to {
            return None;
        }
        let piece = read_piece(&mut reader, at);
        match &piece {
            Ok(piece) => at = piece.to,
            Err(_) => failed = true,
        }
        Some(piece)
    }))
}

fn read_piece(reader: &mut impl BufRead, from: u64) -> Result<Piece, ReadError> {
    let mut piece = Piece { facts: Vec::new(), from, to: from };
    let mut line = Vec::new();
    while piece.facts.len() < PIECE_FACTS_MAX {
        line.clear();
        let bytes = reader.take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line)?;
        if bytes == 0 {
            break;
        }
        piece.facts.push(parse(&line, piece.to)?);
        piece.to += bytes as u64;
    }
    Ok(piece)
}

fn parse(line: &[u8], offset: u64) -> Result<Fact, ReadError> {
    let not_a_fact = |reason| ReadError::NotAFact { offset, reason };
    let text = line.strip_suffix(b"\n").ok_or_else(|| not_a_fact("it does not end".to_owned()))?;
    if line.len() > LINE_BYTES_MAX {
        return Err(not_a_fact("it is too long".to_owned()));
    }
    serde_json::from_slice(text).map_err(|error| not_a_fact(error.to_string()))
}

fn journal_path(run_directory: &Path) -> PathBuf {
    run_directory.join(JOURNAL_NAME)
}

#[cfg(test)]
mod tests {
    use attestfs_digest::{Blake3, Digests, Sha256};
    use attestfs_fs::{FileKey, Identity, Process, RunVersion, TreePath};
    use proptest::prelude::*;

    use super::*;

    fn written(version: u64, path: &str) -> Fact {
        Fact::Written {
            version: RunVersion(version),
            file: FileKey { filesystem: 1, inode: version, born_ns: 0 },
            path: TreePath { tree: 0, path: path.to_owned() },
            by: Process::default(),
        }
    }

    fn hashed() -> Fact {
        let file = FileKey { filesystem: 1, inode: 1, born_ns: 0 };
        let identity = Identity { file, size: 0, mtime_ns: 0, ctime_ns: 0 };
        let digests = Digests { sha256: Sha256::of(b""), blake3: Blake3::of(b"") };
        Fact::Hashed { version: RunVersion(1), identity, digests }
    }

    fn no_descriptor_to_sync_by(path: &Path) -> File {
        let flags = rustix::fs::OFlags::PATH;
        rustix::fs::open(path, flags, rustix::fs::Mode::empty()).unwrap().into()
    }

    fn run_directory(base: &tempfile::TempDir) -> PathBuf {
        base.path().join("run")
    }

    fn read(directory: &Path, from: u64, to: u64) -> Result<Vec<Fact>, ReadError> {
        let mut facts = Vec::new();
        for piece in pieces(directory, from, to)? {
            facts.extend(piece?.facts);
        }
        Ok(facts)
    }

    #[test]
    fn a_run_is_live_as_long_as_somebody_holds_its_journal() {
        let base = tempfile::tempdir().unwrap();
        let directory = run_directory(&base);
        assert!(is_live(&directory).is_err());
        let journal = Journal::create(&directory, Vec::new()).unwrap();
        assert!(is_live(&directory).unwrap());
        drop(journal);
        assert!(!is_live(&directory).unwrap());
    }

    #[test]
    fn a_run_id_is_used_once() {
        let base = tempfile::tempdir().unwrap();
        let directory = run_directory(&base);
        drop(Journal::create(&directory, Vec::new()).unwrap());
        assert!(Journal::create(&directory, Vec::new()).is_err());
    }

    #[test]
    fn a_journal_that_was_never_written_has_no_facts() {
        let base = tempfile::tempdir().unwrap();
        let directory = run_directory(&base);
        let journal = Journal::create(&directory, Vec::new()).unwrap();
        assert_eq!(journal.sync().unwrap(), 0);
        assert_eq!(whole_length(&directory).unwrap(), 0);
        assert_eq!(read(&directory, 0, 0).unwrap(), []);
    }

    #[test]
    fn facts_are_read_from_where_reading_stopped() {
        let base = tempfile::tempdir().unwrap();
        let directory = run_directory(&base);
        let journal = Journal::create(&directory, Vec::new()).unwrap();
        journal.record(written(1, "a"));
        let middle = journal.sync().unwrap();
        journal.record(written(2, "b"));
        let end = journal.sync().unwrap();
        assert_eq!(read(&directory, 0, middle).unwrap(), [written(1, "a")]);
        assert_eq!(read(&directory, middle, end).unwrap(), [written(2, "b")]);
        assert_eq!(whole_length(&directory).unwrap(), end);
    }

    #[test]
    fn more_facts_than_one_piece_holds_come_in_several() {
        let base = tempfile::tempdir().unwrap();
        let directory = run_directory(&base);
        let journal = Journal::create(&directory, Vec::new()).unwrap();
        let count = PIECE_FACTS_MAX + 1;
        (0..count).for_each(|n| journal.record(written(n as u64, "a")));
        let end = journal.sync().unwrap();
        let pieces: Vec<_> = pieces(&directory, 0, end).unwrap().map(Result::unwrap).collect();
        assert_eq!(pieces.len(), 2);
        assert_eq!(pieces[0].to, pieces[1].from);
        assert_eq!((pieces[1].facts.len(), pieces[1].to), (1, end));
    }

    #[test]
    fn a_journal_shorter_than_promised_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let directory = run_directory(&base);
        let journal = Journal::create(&directory, Vec::new()).unwrap();
        journal.record(written(1, "a"));
        let length = journal.sync().unwrap();
        let refusal = read(&directory, 0, length + 1).unwrap_err();
        assert!(matches!(refusal, ReadError::Short { .. }));
        let refusal = read(&directory, 0, length - 1).unwrap_err();
        assert!(matches!(refusal, ReadError::NotAFact { offset: 0, .. }));
    }

    #[test]
    fn a_line_cut_off_at_the_end_of_a_dead_run_does_not_count() {
        let base = tempfile::tempdir().unwrap();
        let directory = run_directory(&base);
        let journal = Journal::create(&directory, Vec::new()).unwrap();
        journal.record(written(1, "a"));
        let whole = journal.sync().unwrap();
        (&journal.file).write_all(b"{\"fact\":\"writ").unwrap();
        assert_eq!(whole_length(&directory).unwrap(), whole);
    }

    #[test]
    fn a_broken_line_in_the_middle_is_an_error_that_says_where() {
        let base = tempfile::tempdir().unwrap();
        let directory = run_directory(&base);
        let journal = Journal::create(&directory, Vec::new()).unwrap();
        journal.record(written(1, "a"));
        let whole = journal.sync().unwrap();
        (&journal.file).write_all(b"nonsense\n").unwrap();
        let end = whole_length(&directory).unwrap();
        let refusal = read(&directory, 0, end).unwrap_err();
        assert!(matches!(refusal, ReadError::NotAFact { offset, .. } if offset == whole));
    }

    #[test]
    fn a_store_that_cannot_be_synced_is_told_from_then_on() {
        let base = tempfile::tempdir().unwrap();
        let stores = vec![no_descriptor_to_sync_by(base.path())];
        let mut journal = Journal::create(&run_directory(&base), stores).unwrap();
        journal.record(hashed());
        assert!(matches!(journal.sync(), Err(RecordError::Store(_))));
        journal.stores.clear();
        let failure = journal.sync().unwrap_err();
        assert!(matches!(failure, RecordError::Store(_)));
        assert!(failure.next_step().unwrap().contains("or of somebody else"));
    }

    #[test]
    fn what_could_not_be_synced_counts_for_no_daemon_to_come() {
        let base = tempfile::tempdir().unwrap();
        let directory = run_directory(&base);
        let mut journal =
            Journal::create(&directory, vec![File::open(base.path()).unwrap()]).unwrap();
        journal.record(hashed());
        journal.sync().unwrap();
        let stores = [File::open(base.path()).unwrap()];
        assert!(is_unbroken(&directory, &stores));
        journal.stores = vec![no_descriptor_to_sync_by(base.path())];
        journal.record(hashed());
        journal.sync().unwrap_err();
        assert!(!is_unbroken(&directory, &stores));
    }

    #[test]
    fn who_speaks_of_no_bytes_waits_for_none() {
        let base = tempfile::tempdir().unwrap();
        let stores = vec![no_descriptor_to_sync_by(base.path())];
        let journal = Journal::create(&run_directory(&base), stores).unwrap();
        journal.record(written(1, "a"));
        journal.sync().unwrap();
        journal.record(hashed());
        assert!(matches!(journal.sync(), Err(RecordError::Store(_))));
    }

    #[test]
    fn a_directory_that_cannot_be_synced_by_itself_is_no_loss() {
        sync_stores(&[File::open("/proc").unwrap()]).unwrap();
    }

    #[test]
    fn nothing_is_recorded_after_a_fact_that_was_lost() {
        let base = tempfile::tempdir().unwrap();
        let directory = run_directory(&base);
        let journal = Journal::create(&directory, Vec::new()).unwrap();
        journal.record(written(1, &"x".repeat(LINE_BYTES_MAX)));
        journal.record(written(2, "b"));
        assert!(matches!(journal.sync(), Err(RecordError::TooLong { .. })));
        assert_eq!((journal.length(), whole_length(&directory).unwrap()), (0, 0));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let base = tempfile::tempdir().unwrap();
            fs::write(base.path().join("journal.jsonl"), &bytes).unwrap();
            let whole = whole_length(base.path()).unwrap();
            prop_assert!(whole <= bytes.len() as u64);
            drop(read(base.path(), 0, whole));
        }
    }
}
