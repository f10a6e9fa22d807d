use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use attestfs_attestation::{
    Inputs, Lock, LockDifference, LockUse, Locked, WrittenLock, is_publication,
};
use attestfs_digest::Sha256;
use attestfs_fs::TreePath;
use rustix::fs::FileType;

use super::{
    LockFailure,
    file::{Found, LockFile},
    opened::{NotLockable, opened},
};
use crate::session::{Console, Trees, resolved};

/// How many differences are told to people.
const DIFFERENCES_SHOWN: usize = 20;

/// `--lock` and what goes with it.
#[derive(Clone, Debug)]
pub(crate) struct LockOptions {
    /// `--lock`.
    pub(crate) path: PathBuf,
    /// What is to become of it.
    pub(crate) wish: LockWish,
}

/// What a user wants of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockWish {
    /// That it is written when there is none, and otherwise compared with what was opened.
    Keep,
    /// That it says what was opened, whatever it said before: `--lock-update`.
    Update,
    /// That nothing else can be opened: `--locked`.
    Enforce,
}

/// What of a run's journal counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JournalPart<'a> {
    pub(crate) run_directory: &'a Path,
    /// Bytes.
    pub(crate) length: u64,
}

/// The lock of a run that is about to begin.
#[derive(Debug)]
pub(crate) struct DataLock {
    file: LockFile,
    /// Where the lock itself lies, when that is below a tree.
    place: Option<TreePath>,
    wish: LockWish,
    /// What lies there, if it can be read.
    lock: Option<Lock>,
    /// Whether nothing lies there.
    is_new: bool,
}

impl DataLock {
    /// Reads the lock, and refuses what cannot work before anything is started.
    ///
    /// # Errors
    /// [`LockFailure`].
    pub(crate) fn prepare(
        options: &LockOptions,
        trees: &Trees,
        outputs: &[TreePath],
        inputs: Inputs,
    ) -> Result<Self, LockFailure> {
        let LockOptions { path, wish } = options;
        if inputs != Inputs::Opened {
            return Err(LockFailure::Inputs);
        }
        let file = LockFile::new(path.clone(), resolved(path))?;
        let place = trees.place(file.path());
        if let Some(output) =
            place.as_ref().and_then(|place| outputs.iter().find(|output| output.covers(place)))
        {
            let (path, output) = (path.clone(), trees.path_of(output));
            return Err(LockFailure::InsideOutput { path, output });
        }
        let found = file.read()?;
        let is_new = matches!(found, Found::Nothing);
        let lock = usable(found, options, trees.iter().count())?;
        if is_new || *wish == LockWish::Update {
            file.refuse_unwritable()?;
        }
        let lock = lock.map(|lock| match &place {
            Some(place) => lock.lying_at(place.tree, &place.path),
            None => lock,
        });
        let prepared = Self { file, place, wish: *wish, lock, is_new };
        prepared.refuse_less(trees)?;
        Ok(prepared)
    }

    /// A command that takes what it finds would get other data without opening anything wrong.
    fn refuse_less(&self, trees: &Trees) -> Result<(), LockFailure> {
        let Some(lock) = self.enforced() else { return Ok(()) };
        let is_gone = |(tree, path, _): &(u16, &str, Sha256)| {
            let place = TreePath { tree: *tree, path: (*path).to_owned() };
            trees.kind(&place) != Some(FileType::RegularFile)
        };
        let mut gone = lock.files().filter(is_gone);
        let Some((tree, first, _)) = gone.next() else { return Ok(()) };
        let path = self.file.given().to_owned();
        Err(LockFailure::Gone { path, gone: lock.label(tree, first), others: gone.count() })
    }

    /// The lock that the gate is to enforce.
    pub(crate) fn enforced(&self) -> Option<&Lock> {
        self.lock.as_ref().filter(|_| self.wish == LockWish::Enforce)
    }

    /// What the run says of it from its beginning.
    pub(crate) fn enforced_use(&self) -> Option<LockUse> {
        self.enforced().map(|lock| LockUse { sha256: lock.sha256(), enforced: true })
    }

    /// The command succeeded: writes the lock, or tells in what it differs from what was opened.
    ///
    /// # Returns
    /// The lock that has all that the run opened; none when it differs, or was enforced anyway.
    ///
    /// # Errors
    /// [`LockFailure`]; then the old lock is there, or none.
    pub(crate) fn conclude(
        &self,
        journal: JournalPart<'_>,
        trees: usize,
        console: &Console,
    ) -> Result<Option<LockUse>, LockFailure> {
        if self.wish == LockWish::Enforce {
            return Ok(None);
        }
        let opened = self.opened(journal, trees)?;
        match (&self.lock, self.wish) {
            (Some(lock), LockWish::Keep) => {
                let differences = lock.differences(&opened);
                self.tell(&differences, console);
                Ok(obeyed(lock, &differences))
            }
            _ => self.write(&opened, console).map(Some),
        }
    }

    fn opened(
        &self,
        journal: JournalPart<'_>,
        trees: usize,
    ) -> Result<Vec<BTreeMap<String, Locked>>, LockFailure> {
        let is_data = |name: &TreePath| !is_publication(&name.path) && !self.is_own(name);
        let path = || self.file.given().to_owned();
        opened(journal.run_directory, journal.length, trees, &is_data).map_err(
            |error| match error {
                NotLockable::Journal(error) => error.into(),
                NotLockable::NoDigest { path: opened, reason } => {
                    LockFailure::NoDigest { path: path(), opened, reason }
                }
                NotLockable::TwoContents { path: opened } => {
                    LockFailure::TwoContents { path: path(), opened }
                }
            },
        )
    }

    /// Whether this is the lock or one of its manifests.
    fn is_own(&self, name: &TreePath) -> bool {
        self.place.as_ref() == Some(name)
            || self.lock.as_ref().is_some_and(|lock| lock.is_own(name.tree, &name.path))
    }

    fn write(
        &self,
        opened: &[BTreeMap<String, Locked>],
        console: &Console,
    ) -> Result<LockUse, LockFailure> {
        let written = WrittenLock::of(opened);
        let used = LockUse { sha256: written.sha256(), enforced: false };
        let path = self.file.given().display();
        if self.lock.as_ref().is_some_and(|lock| lock.sha256() == used.sha256) {
            return Ok(used);
        }
        if self.is_new {
            self.file.create(&written)?;
        } else {
            self.file.replace(&written)?;
        }
        let files: usize = opened.iter().map(BTreeMap::len).sum();
        let noun = if files == 1 { "file" } else { "files" };
        console.say(format_args!("{path}: {files} {noun} locked"));
        Ok(used)
    }

    fn tell(&self, differences: &[LockDifference], console: &Console) {
        let path = self.file.given().display();
        for difference in differences.iter().take(DIFFERENCES_SHOWN) {
            console.say(format_args!("{path}: {difference}"));
        }
        let more = differences.len().saturating_sub(DIFFERENCES_SHOWN);
        if more > 0 {
            console.say(format_args!("{path}: .. and {more} more"));
        }
        if !differences.is_empty() {
            console.say(format_args!("{path} is left as it is: --lock-update writes it anew"));
        }
    }
}

/// The lock that was found, unless it is to be written anyway.
fn usable(found: Found, options: &LockOptions, trees: usize) -> Result<Option<Lock>, LockFailure> {
    let path = || options.path.clone();
    let failure = match (found, options.wish) {
        (Found::Lock(lock), wish) if lock.trees() == trees || wish == LockWish::Update => {
            return Ok(Some(lock));
        }
        (Found::Nothing | Found::Broken(_), LockWish::Update)
        | (Found::Nothing, LockWish::Keep) => {
            return Ok(None);
        }
        (Found::Nothing, LockWish::Enforce) => LockFailure::Missing { path: path() },
        (Found::Lock(lock), _) => {
            LockFailure::Trees { path: path(), locked: lock.trees(), given: trees }
        }
        (Found::Broken(reason), _) => LockFailure::Lock { path: path(), reason: Box::new(reason) },
    };
    Err(failure)
}

/// A run that opened less than is locked obeys the lock.
fn obeyed(lock: &Lock, differences: &[LockDifference]) -> Option<LockUse> {
    let obeys =
        differences.iter().all(|difference| matches!(difference, LockDifference::NotOpened { .. }));
    obeys.then_some(LockUse { sha256: lock.sha256(), enforced: false })
}
