use std::{
    ffi::OsStr,
    fs::{self, File},
    os::fd::AsFd,
};

use attestfs_digest::{Digests, digests};
use tempfile::TempDir;

use super::*;
use crate::{
    backing::{Backing, Directory},
    fact::{Fact, Process},
    gate::{Gate, Permit},
    identity::Identity,
    names::Place,
    port::{NothingKnown, Recorder},
    run::{Holder, Inputs, Limits, Opened, StoredContent, Usage},
    sync::{Condvar, Mutex, in_each_schedule, join_all},
    write::WriteHandle,
};

/// What a run was last told to have sealed, and of which identity.
#[derive(Clone, Debug, Default)]
struct Told(Arc<Mutex<Option<(Identity, Digests)>>>);

impl Recorder for Told {
    fn record(&self, fact: Fact) {
        if let Fact::Sealed { identity, digests, .. } = fact {
            *self.0.lock() = Some((identity, digests));
        }
    }
}

/// How many writes were answered.
#[derive(Debug, Default)]
struct Answered {
    count: Mutex<u64>,
    more: Condvar,
}

impl Answered {
    fn one_more(&self) {
        *self.count.lock() += 1;
        self.more.notify_all();
    }

    fn wait_for(&self, expected: u64) {
        let mut count = self.count.lock();
        self.more.wait_while(&mut count, |count| *count < expected);
    }
}

/// A run with one file.
#[derive(Clone)]
struct Desk {
    run: Arc<Run>,
    told: Told,
    tracked: Arc<Tracked>,
    opened: Opened,
    directory: Arc<TempDir>,
}

impl Desk {
    fn new() -> Self {
        let told = Told::default();
        let directory = tempfile::tempdir().unwrap();
        let root = File::open(directory.path()).unwrap();
        let backing: Arc<dyn Backing> = Arc::new(Directory::new(root.into()));
        let path = directory.path().join("f");
        let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
        let opened = Opened { backing, file: Arc::new(file) };
        let limits = Limits { material_threads: 1, seal_threads: 1, ..Limits::default() };
        let run = Run::start(Box::new(told.clone()), Box::new(NothingKnown), Inputs::None, limits);
        let tracked = run.track(opened.stat().unwrap().identity.file);
        tracked.names().add(&Place::root(0), OsStr::new("f"));
        Self { run, told, tracked, opened, directory: Arc::new(directory) }
    }

    /// The same file in the run that comes next.
    fn next(&self) -> Self {
        let told = Told::default();
        let (recorder, known) = (Box::new(told.clone()), Box::new(NothingKnown));
        let run = Run::start(recorder, known, Inputs::None, self.run.limits);
        let tracked = run.take_over(&self.tracked, &self.run);
        Self { run, told, tracked, ..self.clone() }
    }

    fn open(&self) -> WriteHandle {
        let holder = Holder { owner: self.run.owner(), by: Process::default() };
        let nowhere: Arc<[TreePath]> = Arc::new([]);
        let hold = self.tracked.hold_anyway(Usage::Writes, holder);
        let leave = (Permit::new(Gate::open(), &nowhere), hold);
        let (run, tracked) = (Arc::clone(&self.run), Arc::clone(&self.tracked));
        WriteHandle::new(run, tracked, self.opened.clone(), Process::default(), leave, None)
    }

    /// Writes a byte, answered first as a large write is, and closes the file.
    fn write(&self, byte: u8, answered: &Arc<Answered>) -> thread::JoinHandle<()> {
        let (writer, answered) = (self.open(), Arc::clone(answered));
        thread::spawn(move || {
            assert!(writer.write_behind(&[byte], byte.into(), |_| answered.one_more()));
        })
    }

    fn remove(&self) {
        fs::remove_file(self.directory.path().join("f")).unwrap();
        self.run.unlinked(&self.tracked);
    }

    /// Brings the run to rest: nothing is left out, and what was told is what the store holds.
    fn comes_to_rest(&self) {
        assert_eq!(self.told_at_rest(), self.stored());
    }

    /// Brings the run to rest, while another one may still write: what was told is what the store holds, as far as that
    /// has the identity that was told.
    fn comes_to_rest_beside_others(&self) {
        let (told, stored) = (self.told_at_rest(), self.stored());
        assert!(told == stored || told.0 != stored.0, "{told:?} {stored:?}");
    }

    fn told_at_rest(&self) -> (Identity, Digests) {
        assert_eq!(self.run.quiesce(&Scope::Run, LONG), []);
        self.told.0.lock().expect("it was sealed")
    }

    fn stored(&self) -> (Identity, Digests) {
        let identity = self.opened.backing.stat(self.opened.file.as_fd()).unwrap().identity;
        (identity, digests(&StoredContent(&self.opened), identity.size).unwrap())
    }
}

/// Nobody waits so long.
const LONG: Duration = Duration::from_hours(1);

#[test]
fn a_stage_that_ends_waits_for_what_was_answered_and_is_not_stored() {
    in_each_schedule(|| {
        let (desk, answered) = (Desk::new(), Arc::default());
        let writer = desk.write(0, &answered);
        answered.wait_for(1);
        desk.comes_to_rest();
        writer.join().unwrap();
    });
}

#[test]
fn a_stage_that_ends_while_others_write_has_the_digest_of_all_that_was_answered() {
    in_each_schedule(|| {
        let (desk, answered) = (Desk::new(), Arc::default());
        let writers = [0, 1].map(|byte| desk.write(byte, &answered));
        answered.wait_for(2);
        desk.comes_to_rest();
        join_all(writers);
    });
}

#[test]
fn a_file_that_two_stages_write_at_once_comes_to_rest_in_both() {
    in_each_schedule(|| {
        let (first, answered) = (Desk::new(), Arc::default());
        let second = first.next();
        let writers = [first.write(0, &answered), second.write(1, &answered)];
        answered.wait_for(2);
        first.comes_to_rest_beside_others();
        second.comes_to_rest_beside_others();
        join_all(writers);
    });
}

#[test]
fn who_waits_for_a_file_is_not_kept_by_who_removes_it() {
    in_each_schedule(|| {
        let (desk, answered) = (Desk::new(), Arc::default());
        let writer = desk.write(0, &answered);
        answered.wait_for(1);
        let remover = thread::spawn({
            let desk = desk.clone();
            move || desk.remove()
        });
        desk.run.quiesce(&Scope::Run, LONG);
        writer.join().unwrap();
        remover.join().unwrap();
        assert_eq!(desk.run.quiesce(&Scope::Run, LONG), []);
    });
}
