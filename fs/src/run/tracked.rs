use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use attestfs_digest::{Digests, Outboard};

use super::{
    content::{Content, State},
    following::Following,
    grace::Grace,
    holders::{Holder, Holders, InTheWay, Number, Owner, Usage},
    line::Line,
    run::{Opened, Run},
    verification::{Verification, Verifications},
};
use crate::{
    backing::Stat,
    error::Error,
    fact::TreePath,
    identity::{FileKey, Identity},
    left_behind::is_written_past_others,
    names::{FilePath, Names},
    sync::{Condvar, Mutex, MutexGuard},
};

/// What one run knows of one regular file. Outlives the kernel's references to the inode and holds
/// no descriptor.
#[derive(Debug)]
pub(crate) struct Tracked {
    shared: Arc<Shared>,
    content: Mutex<Content>,
    earlier: Option<(Weak<Run>, Weak<Self>)>,
}

/// What belongs to a file whichever run looks at it.
#[derive(Debug)]
struct Shared {
    key: FileKey,
    names: Mutex<Names>,
    order: Mutex<()>,
    line: Line,
    verifications: Mutex<Verifications>,
    holders: Mutex<Holders>,
    fewer_holders: Condvar,
    past: Mutex<Past>,
    fewer_past: Condvar,
}

/// Who writes to a file past us.
#[derive(Debug, Default)]
struct Past {
    now: u64,
    /// How often somebody began or ended.
    turns: u64,
}

impl Past {
    fn calm(&self) -> Option<u64> {
        (self.now == 0).then_some(self.turns)
    }
}

/// Somebody may write to the file past us as long as this lives.
#[derive(Debug)]
pub(crate) struct WritesPast(Arc<Shared>);

impl WritesPast {
    fn begin(shared: &Arc<Shared>) -> Self {
        let mut past = shared.past.lock();
        (past.now, past.turns) = (past.now + 1, past.turns + 1);
        Self(Arc::clone(shared))
    }
}

impl Drop for WritesPast {
    fn drop(&mut self) {
        let mut past = self.0.past.lock();
        (past.now, past.turns) = (past.now - 1, past.turns + 1);
        self.0.fewer_past.notify_all();
    }
}

/// An open file is held as long as this lives: see [`Usage`].
#[derive(Debug)]
pub(crate) struct Hold {
    shared: Arc<Shared>,
    number: Number,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shared.holders.lock().leave(self.number);
        self.shared.fewer_holders.notify_all();
    }
}

impl Tracked {
    pub(crate) fn new(key: FileKey) -> Self {
        let shared = Shared {
            key,
            names: Mutex::default(),
            order: Mutex::default(),
            line: Line::default(),
            verifications: Mutex::default(),
            holders: Mutex::default(),
            fewer_holders: Condvar::new(),
            past: Mutex::default(),
            fewer_past: Condvar::new(),
        };
        Self { shared: Arc::new(shared), content: Mutex::default(), earlier: None }
    }

    /// The same file for the run that follows `earlier`: it knows the names and nothing of the
    /// content.
    pub(super) fn after(known: &Arc<Self>, earlier: &Arc<Run>) -> Self {
        Self {
            shared: Arc::clone(&known.shared),
            content: Mutex::default(),
            earlier: Some((Arc::downgrade(earlier), Arc::downgrade(known))),
        }
    }

    /// The run before and the same file in it, as long as somebody is not done with them. To lock
    /// their contents while this one is locked is in order, and never the other way round.
    pub(crate) fn earlier(&self) -> Option<(Arc<Run>, Arc<Self>)> {
        let (run, tracked) = self.earlier.as_ref()?;
        run.upgrade().zip(tracked.upgrade())
    }

    pub(crate) fn key(&self) -> FileKey {
        self.shared.key
    }

    pub(crate) fn names(&self) -> MutexGuard<'_, Names> {
        self.shared.names.lock()
    }

    /// Keeps those out who have the file open in another run, so that each change lies between two
    /// looks at the identity. Taken when the content is locked.
    pub(crate) fn in_order(&self) -> MutexGuard<'_, ()> {
        self.shared.order.lock()
    }

    /// From now on somebody may write past us.
    pub(crate) fn write_past(&self) -> WritesPast {
        WritesPast::begin(&self.shared)
    }

    /// None while somebody may write past us, or past another server, whom nobody can keep in order: the file may have the
    /// time of a write, and not all of its bytes. Else as often the same as nobody did past us in between.
    pub(crate) fn calm(&self, opened: &Opened) -> Option<u64> {
        let calm = self.shared.past.lock().calm();
        calm.filter(|_| !is_written_past_others(&opened.file))
    }

    /// As [`calm`](Self::calm), when those have left of whose close we are told late.
    pub(crate) fn calm_after_others(&self, opened: &Opened) -> Option<u64> {
        let mut past = self.shared.past.lock();
        let is_written = |past: &mut Past| past.now > 0;
        self.shared.fewer_past.wait_while_for(&mut past, is_written, Grace::Ahead.remaining());
        drop(past);
        self.calm(opened)
    }

    /// What the store says of the file while nobody changes it, in whichever run: a change that is under way has set
    /// its time already, and not all of its bytes. Asked when the content is locked.
    pub(super) fn stat_in_order(&self, opened: &Opened) -> Result<Stat, Error> {
        let _order = self.in_order();
        opened.stat()
    }

    /// The lock that every change of the file's bytes is made under, when all that was answered is
    /// stored and hashed.
    pub(crate) fn content(&self) -> MutexGuard<'_, Content> {
        self.shared.line.wait_until_empty();
        self.content.lock()
    }

    /// The same lock for whoever stands in line, or needs nothing of what was written.
    pub(crate) fn content_as_it_is(&self) -> MutexGuard<'_, Content> {
        self.content.lock()
    }

    /// Whoever changed it may have broken off before all was hashed: of a content that is being written everything is read
    /// back.
    pub(crate) fn doubt(&self) {
        let mut content = self.content_as_it_is();
        if let State::Written { hasher, identity, .. } = &mut content.state {
            *hasher = Arc::new(Following::unread(identity.size));
        }
    }

    /// Where a write takes its place behind those that came before.
    pub(crate) fn line(&self) -> &Line {
        &self.shared.line
    }

    /// From now on, and as long as what is answered lives, all reads of the file are verified: those
    /// through what was opened before and in other runs too.
    pub(crate) fn verify(
        &self,
        found: (Identity, Digests),
        outboard: &Arc<Outboard>,
    ) -> Arc<Verification> {
        self.shared.verifications.lock().begin(found, outboard)
    }

    /// Against what the file is verified for whoever has it open, if somebody wants that.
    pub(crate) fn verification(&self) -> Option<Arc<Verification>> {
        self.shared.verifications.lock().newest()
    }

    /// Holds the file open, unless somebody is in the way.
    pub(crate) fn hold(&self, usage: Usage, holder: Holder) -> Result<Hold, InTheWay> {
        let number = self.shared.holders.lock().enter(usage, holder)?;
        Ok(Hold { shared: Arc::clone(&self.shared), number })
    }

    /// Holds the file open where nobody is kept apart.
    pub(crate) fn hold_anyway(&self, usage: Usage, holder: Holder) -> Hold {
        let number = self.shared.holders.lock().enter_anyway(usage, holder);
        Hold { shared: Arc::clone(&self.shared), number }
    }

    /// Who keeps `owner` from holding the file so.
    pub(crate) fn in_the_way_of(&self, usage: Usage, owner: Owner) -> Option<InTheWay> {
        self.shared.holders.lock().in_the_way_of(usage, owner)
    }

    /// Who keeps `owner` from changing the file, through what it holds open itself if it does.
    pub(crate) fn in_the_way_of_change(
        &self,
        owner: Owner,
        own: Option<&Hold>,
    ) -> Option<InTheWay> {
        let own = own.map(|hold| hold.number);
        self.shared.holders.lock().in_the_way_of_change(owner, own)
    }

    /// Waits until nobody keeps `owner` from holding the file so, as long as there is grace.
    pub(crate) fn wait_until_free(&self, usage: Usage, owner: Owner, grace: Grace) {
        let mut holders = self.shared.holders.lock();
        let is_kept = |holders: &mut Holders| holders.in_the_way_of(usage, owner).is_some();
        self.shared.fewer_holders.wait_while_for(&mut holders, is_kept, grace.remaining());
    }

    /// Whether somebody has it open for writing, in whichever run.
    pub(super) fn is_open_for_writing(&self) -> bool {
        self.shared.holders.lock().may_change()
    }

    /// Waits until nobody has, no longer than `patience`.
    pub(super) fn wait_for_writers(&self, patience: Duration) {
        let mut holders = self.shared.holders.lock();
        let may_change = |holders: &mut Holders| holders.may_change();
        self.shared.fewer_holders.wait_while_for(&mut holders, may_change, patience);
    }

    /// How many verifications of the file there have been by now.
    pub(super) fn verification_count(&self) -> u64 {
        self.shared.verifications.lock().count()
    }

    /// Where the file is now; none when it is unlinked.
    pub(crate) fn path(&self) -> Option<TreePath> {
        self.file_path().map(TreePath::from)
    }

    /// All places where the file is, the one seen last first.
    pub(crate) fn paths(&self) -> Vec<TreePath> {
        self.names().paths().map(TreePath::from).collect()
    }

    /// The places that were not known when there had been `count`, the one seen last first; and how
    /// many there have been by now.
    pub(super) fn paths_since(&self, count: u64) -> (Vec<TreePath>, u64) {
        let names = self.names();
        (names.paths_since(count).map(TreePath::from).collect(), names.count())
    }

    /// Where the file is now, or was when it had a name.
    pub(crate) fn path_or_former(&self) -> Option<TreePath> {
        self.names().path_or_former().map(TreePath::from)
    }

    /// The same as a fact tells it.
    pub(crate) fn told_path(&self) -> TreePath {
        self.path_or_former().map_or_else(TreePath::nowhere, TreePath::told)
    }

    /// Whether it is not unlinked, be it that no path leads to it.
    pub(super) fn has_names(&self) -> bool {
        !self.names().is_empty()
    }

    pub(crate) fn file_path(&self) -> Option<FilePath> {
        self.names().path()
    }
}

#[cfg(test)]
#[cfg(feature = "shuttle")]
mod schedules;

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, fs::File, sync::mpsc, thread};

    use attestfs_digest::digests;
    use tempfile::TempDir;

    use super::*;
    use crate::{
        backing::Directory,
        fact::{Fact, Process},
        names::Place,
        port::{NothingKnown, Recorder},
        run::{
            Change, Haste, Inputs, Limits, Scope,
            seal::{Follower, StoredContent},
        },
    };

    #[derive(Clone, Debug, Default)]
    struct Told(Arc<Mutex<Option<Digests>>>);

    impl Recorder for Told {
        fn record(&self, fact: Fact) {
            if let Fact::Sealed { digests, .. } = fact {
                *self.0.lock() = Some(digests);
            }
        }
    }

    fn run() -> (Arc<Run>, Told) {
        let told = Told::default();
        let recorder = Box::new(told.clone());
        (Run::start(recorder, Box::new(NothingKnown), Inputs::None, Limits::default()), told)
    }

    fn empty_file() -> (TempDir, Opened) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
        let root = File::open(directory.path()).unwrap();
        let backing = Arc::new(Directory::new(root.into()));
        (directory, Opened { backing, file: Arc::new(file) })
    }

    fn write(
        run: &Run,
        tracked: &Arc<Tracked>,
        opened: &Opened,
        byte: u8,
        meanwhile: impl FnOnce(),
    ) {
        let by = &Process::default();
        let (bytes, offset) = ([byte; 4], u64::from(byte));
        let store = |opened: &Opened| {
            meanwhile();
            Ok(opened.backing.write_at(&opened.file, &bytes, offset)?)
        };
        let change = Change { tracked, opened, by };
        let content = &mut tracked.content();
        run.change(
            content,
            change,
            |_, _| Ok(()),
            store,
            |hasher, _| hasher.wrote(offset, &bytes, Haste::None),
        )
        .unwrap();
    }

    /// As when pages of a shared mapping are written back while somebody else writes: for those the
    /// kernel keeps no order.
    #[test]
    fn a_change_in_another_run_lies_before_or_after_and_never_within() {
        let (_directory, opened) = empty_file();
        let ((first, first_told), (second, second_told)) = (run(), run());
        let tracked = first.track(opened.stat().unwrap().identity.file);
        tracked.names().add(&Place::root(0), OsStr::new("f"));
        let taken_over = second.take_over(&tracked, &first);
        let (begun, begins) = mpsc::channel();
        let (ended, ends) = mpsc::channel();
        thread::scope(|threads| {
            let (run, tracked, opened) = (&first, &tracked, &opened);
            threads.spawn(move || {
                write(run, tracked, opened, 0, || {
                    begun.send(()).unwrap();
                    // In vain: the other one waits until this is over.
                    assert!(ends.recv_timeout(Duration::from_millis(300)).is_err());
                });
            });
            begins.recv().unwrap();
            write(&second, &taken_over, opened, 4, || {});
            ended.send(()).unwrap_or_default();
        });
        for (run, tracked) in [(&first, &tracked), (&second, &taken_over)] {
            run.writer_left(tracked, &opened);
            assert_eq!(run.quiesce(&Scope::Run, Duration::from_secs(20)), []);
        }
        let stored = digests(&StoredContent(&opened), 8).unwrap();
        assert_eq!(*first_told.0.lock(), Some(stored));
        assert_eq!(*second_told.0.lock(), Some(stored));
    }

    #[test]
    fn what_is_in_doubt_is_read_back() {
        let (_directory, opened) = empty_file();
        let (run, told) = run();
        let tracked = &run.track(opened.stat().unwrap().identity.file);
        tracked.names().add(&Place::root(0), OsStr::new("f"));
        let change = Change { tracked, opened: &opened, by: &Process::default() };
        let store = |opened: &Opened| Ok(opened.backing.write_at(&opened.file, b"stored", 0)?);
        let other = |follower: &Follower, _: &usize| follower.wrote(0, b"hashed", Haste::None);
        run.change(&mut tracked.content(), change, |_, _| Ok(()), store, other).unwrap();
        tracked.doubt();
        run.writer_left(tracked, &opened);
        assert_eq!(run.quiesce(&Scope::Run, Duration::from_secs(20)), []);
        assert_eq!(*told.0.lock(), Some(digests(&StoredContent(&opened), 6).unwrap()));
    }

    /// What is hashed then is neither the content before nor the one after.
    #[test]
    fn nobody_looks_at_a_file_while_another_run_is_changing_it() {
        let (_directory, opened) = empty_file();
        let ((first, first_told), (second, _)) = (run(), run());
        let tracked = first.track(opened.stat().unwrap().identity.file);
        tracked.names().add(&Place::root(0), OsStr::new("f"));
        let taken_over = second.take_over(&tracked, &first);
        write(&first, &tracked, &opened, 0, || {});
        let (left, leaves) = mpsc::channel();
        thread::scope(|threads| {
            write(&second, &taken_over, &opened, 4, || {
                threads.spawn(|| {
                    first.writer_left(&tracked, &opened);
                    left.send(()).unwrap();
                });
                assert!(leaves.recv_timeout(Duration::from_millis(300)).is_err());
            });
            leaves.recv().unwrap();
        });
        assert_eq!(first.quiesce(&Scope::Run, Duration::from_secs(20)), []);
        let stored = digests(&StoredContent(&opened), 8).unwrap();
        assert_eq!(*first_told.0.lock(), Some(stored));
    }
}
