use std::{
    collections::HashMap,
    fmt::Debug,
    fs::File,
    num::NonZero,
    os::fd::AsFd,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use attestfs_digest::Digests;

use super::{
    activity::Activity,
    content::{Content, State},
    following::Following,
    holders::Owner,
    material::Materials,
    seal::{Follower, Sealer},
    telling::Told,
    tracked::Tracked,
};
use crate::{
    backing::{Backing, Stat},
    error::Error,
    fact::{Fact, Process, RunVersion, TreePath, Unknown, Unsealed},
    identity::{FileKey, Identity},
    port::{KnownDigests, NothingKnown, Recorder},
    run::Inputs,
    sync::Mutex,
};

/// What one run may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of holes that hashing may have to feed as zeros for one file: what lies beyond is
    /// `unsealed: sparse`, because it would take longer than anybody waits.
    pub hole_bytes_max: u64,
    /// Threads that compute digests of files that were there before.
    pub material_threads: usize,
    /// Threads that make the SHA-256 of large files behind their writers, and complete digests of what was written
    /// out of order.
    pub seal_threads: usize,
}

impl Default for Limits {
    /// 16 GiB of holes (some 8 seconds of SHA-256), two threads for what is read, and for what is written one for
    /// each processor, from 2 to 8.
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(2, NonZero::get);
        Self { hole_bytes_max: 16 << 30, material_threads: 2, seal_threads: processors.clamp(2, 8) }
    }
}

/// One execution of a stage, as its mounts see it: which files it read, which it wrote, and their
/// digests.
#[derive(Debug)]
pub struct Run {
    pub(super) recorder: Box<dyn Recorder>,
    pub(super) limits: Limits,
    pub(super) activity: Activity,
    pub(super) materials: Materials,
    pub(super) sealer: Sealer,
    pub(super) guards: OnceLock<Arc<dyn Guards>>,
    /// Whose its open files are.
    owner: Owner,
    files: Mutex<HashMap<FileKey, Arc<Tracked>>>,
    versions: AtomicU64,
}

/// Who knows what is guarded.
pub(crate) trait Guards: Debug + Send + Sync {
    /// Whether what a file of these names holds is kept back unless it is admitted. In doubt it is.
    fn keeps_back(&self, names: &[TreePath]) -> bool;

    /// Whether a file is guarded by one of these names. In doubt it is; in audit mode, too.
    fn guards(&self, names: &[TreePath]) -> bool;
}

/// Who changes what, and through which open file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change<'a> {
    pub(crate) tracked: &'a Arc<Tracked>,
    pub(crate) opened: &'a Opened,
    pub(crate) by: &'a Process,
}

/// An open file of the backing store, with the store it belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub(crate) backing: Arc<dyn Backing>,
    pub(crate) file: Arc<File>,
}

impl Opened {
    pub(crate) fn stat(&self) -> Result<Stat, Error> {
        Ok(self.backing.stat(self.file.as_fd())?)
    }
}

impl Run {
    /// Starts a run. Facts go to `recorder`; digests that `known` has are not computed again;
    /// `inputs` says which files that were there before are hashed at all.
    pub fn start(
        recorder: Box<dyn Recorder>,
        known: Box<dyn KnownDigests>,
        inputs: Inputs,
        limits: Limits,
    ) -> Arc<Self> {
        let owner = Owner::Run(RUNS.fetch_add(1, Ordering::Relaxed));
        let run = Arc::new(Self::new(recorder, Materials::new(known, inputs), limits, owner));
        Sealer::start(&run);
        Materials::start(&run);
        run
    }

    /// What requests belong to while no stage is open: nobody's run. It owns nothing, tells nothing of
    /// reads and writes and hashes nothing; what the gate refuses and what is removed goes to
    /// `recorder`.
    pub fn idle(recorder: Box<dyn Recorder>) -> Arc<Self> {
        let materials = Materials::new(Box::new(NothingKnown), Inputs::None);
        Arc::new(Self::new(recorder, materials, Limits::default(), Owner::Nobody))
    }

    fn new(
        recorder: Box<dyn Recorder>,
        materials: Materials,
        limits: Limits,
        owner: Owner,
    ) -> Self {
        Self {
            recorder,
            limits,
            activity: Activity::default(),
            materials,
            sealer: Sealer::default(),
            guards: OnceLock::new(),
            owner,
            files: Mutex::default(),
            versions: AtomicU64::new(1),
        }
    }

    /// Goes by what this one guards, from now on.
    pub(crate) fn guarded_by(&self, guards: Arc<dyn Guards>) {
        // All mounts of a run have one gate.
        self.guards.get_or_init(|| guards);
    }

    /// Whether this is nobody's run.
    pub fn is_idle(&self) -> bool {
        self.owner == Owner::Nobody
    }

    /// Whose what it opens is.
    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    /// How many files the run read or wrote so far.
    pub fn file_count(&self) -> usize {
        self.files.lock().len()
    }

    /// What is known of this file, from now on kept as long as somebody holds it or it matters.
    pub(crate) fn track(&self, key: FileKey) -> Arc<Tracked> {
        let mut files = self.files.lock();
        Arc::clone(files.entry(key).or_insert_with(|| Arc::new(Tracked::new(key))))
    }

    /// What is known of this file, if anything is.
    pub(crate) fn known(&self, key: FileKey) -> Option<Arc<Tracked>> {
        self.files.lock().get(&key).cloned()
    }

    /// The file that the run `earlier` knew, from now on kept as by [`track`](Self::track).
    pub(crate) fn take_over(&self, known: &Arc<Tracked>, earlier: &Arc<Self>) -> Arc<Tracked> {
        let mut files = self.files.lock();
        let entry = files.entry(known.key());
        Arc::clone(entry.or_insert_with(|| Arc::new(Tracked::after(known, earlier))))
    }

    /// The kernel let go of this file. What facts were told about stays known.
    pub(crate) fn forget(&self, key: FileKey) {
        let mut files = self.files.lock();
        let forgettable = files.get(&key).is_some_and(|tracked| {
            Arc::strong_count(tracked) == 1 && !tracked.content_as_it_is().matters()
        });
        if forgettable {
            files.remove(&key);
        }
    }

    pub(crate) fn tracked_files(&self) -> Vec<Arc<Tracked>> {
        self.files.lock().values().map(Arc::clone).collect()
    }

    /// The run opened this file and can see what is in it. Content that it did not write is a
    /// material; if its digests are `known`, nobody has to compute them.
    pub(crate) fn opened(
        &self,
        tracked: &Arc<Tracked>,
        (identity, known): (Identity, Option<Digests>),
        opened: &Opened,
        by: impl FnOnce() -> Process,
    ) {
        if self.is_idle() {
            return;
        }
        let mut content = tracked.content();
        self.notice_change_below(tracked, &mut content, opened, identity);
        match content.state {
            State::Found => content.told_names = 0,
            State::Material { version, .. } | State::Hashed { version, .. } => {
                let names = names_to_tell(tracked, &mut content);
                return self.tell_other_names(&mut content, version, names, opened);
            }
            _ => return,
        }
        let mut names = names_to_tell(tracked, &mut content);
        let path = names.next();
        if path.is_none() && !tracked.has_names() {
            return;
        }
        let is_told_whole = path.as_ref().is_some_and(TreePath::is_told_whole);
        let path = path.map_or_else(TreePath::nowhere, TreePath::told);
        let version = self.next_version();
        content.state = State::Material { version, identity };
        self.recorder.record(Fact::Opened { version, identity, path, by: by() });
        if !is_told_whole {
            self.leave_unhashed(&mut content, version);
        }
        self.tell_other_names(&mut content, version, names, opened);
        let State::Material { .. } = content.state else { return };
        if let Some(digests) = known {
            content.state = State::Hashed { version, identity, digests };
            self.recorder.record(Fact::Hashed { version, identity, digests });
            return;
        }
        drop(content);
        self.materials.add(Arc::clone(tracked), version, identity, opened.clone());
    }

    /// A file of one link has the name that was told, whatever names it had before.
    fn tell_other_names(
        &self,
        content: &mut Content,
        version: RunVersion,
        names: impl ExactSizeIterator<Item = TreePath>,
        opened: &Opened,
    ) {
        if names.len() == 0 || !opened.stat().is_ok_and(|stat| stat.statx.stx_nlink > 1) {
            return;
        }
        let mut are_told_whole = true;
        for path in names {
            are_told_whole &= path.is_told_whole();
            self.recorder.record(Fact::OpenedAs { version, path: path.told() });
        }
        if !are_told_whole {
            self.leave_unhashed(content, version);
        }
    }

    /// A digest would be told of a path that is not the material's.
    fn leave_unhashed(&self, content: &mut Content, version: RunVersion) {
        if let Some(identity) = content.identity() {
            content.state = State::Unhashed { identity };
        }
        self.not_hashed(version, Unknown::PathTooLong);
    }

    /// A file whose identity is another than the one its content is known by: somebody touched it
    /// below the mount. What was found counts as found again; what the run sealed is hashed again.
    fn notice_change_below(
        &self,
        tracked: &Arc<Tracked>,
        content: &mut Content,
        opened: &Opened,
        identity: Identity,
    ) {
        match content.state {
            State::Sealed { identity: known, .. } if known != identity => {
                self.settle_again(tracked, content, opened, identity);
            }
            State::Material { version, identity: known } if known != identity => {
                self.not_hashed(version, Unknown::Changed);
                content.state = State::Found;
            }
            State::Hashed { identity: known, .. } | State::Unhashed { identity: known }
                if known != identity =>
            {
                content.state = State::Found;
            }
            _ => {}
        }
    }

    /// Changes the bytes of a file by `operation`, and has the hasher `follow`. The file becomes a
    /// new version of the run's own, unless it is one already that is being written. A failed
    /// operation makes no version, unless it changed something all the same.
    ///
    /// The identity is looked at before and after: what others change below the mount meanwhile
    /// must not end up under a digest of what passed through it. Where the second look fails all is read back.
    ///
    /// # Errors
    /// Those of the first `stat`, of what `allows` it, and of `operation`.
    pub(crate) fn change<T>(
        &self,
        content: &mut Content,
        change: Change<'_>,
        allows: impl FnOnce(&mut Content, &Identity) -> Result<(), Error>,
        operation: impl FnOnce(&Opened) -> Result<T, Error>,
        follow: impl FnOnce(&Follower, &T),
    ) -> Result<T, Error> {
        let _order = change.tracked.in_order();
        let before = change.opened.stat()?.identity;
        allows(content, &before)?;
        let result = operation(change.opened);
        let after = change.opened.stat().ok().map(|stat| stat.identity);
        if result.is_err() && after == Some(before) {
            return result;
        }
        content.changes += 1;
        content.written_over = change.tracked.verification_count();
        if let Some(after) = after {
            content.move_on(before, after);
        }
        if self.is_idle() {
            return result;
        }
        content.build_on(&before);
        if after.is_some_and(|after| after.size == 0) {
            (content.tainted, content.lost) = (false, None);
        }
        self.begin_version(content, change, before);
        if let State::Written { hasher, identity, .. } = &mut content.state {
            if *identity != before {
                *hasher = Arc::new(Following::unread(before.size));
            }
            match (&result, after) {
                (Ok(value), Some(_)) => follow(hasher, value),
                // Of what it is now nothing was seen.
                _ => *hasher = Arc::new(Following::unread(after.unwrap_or(before).size)),
            }
            *identity = after.unwrap_or(before);
        }
        result
    }

    /// An empty file that was just made is the run's own.
    pub(crate) fn made(&self, change: Change<'_>, identity: Identity) {
        if self.is_idle() {
            return;
        }
        let mut content = change.tracked.content_as_it_is();
        content.changes += 1;
        content.tainted = false;
        self.begin_version(&mut content, change, identity);
    }

    /// The content is the run's own from now on; `before` is what it was.
    fn begin_version(&self, content: &mut Content, change: Change<'_>, before: Identity) {
        let version = match content.state {
            State::Written { .. } => return,
            // The digest was not final yet: the same version goes on.
            State::Settling { version, .. } => version,
            State::Material { version, .. } => {
                self.not_hashed(version, Unknown::Changed);
                self.tell_written(change.tracked, content, change.by)
            }
            State::Sealed { version, .. } | State::Unsealed { version, .. } => {
                self.recorder.record(Fact::Gone { version });
                self.tell_written(change.tracked, content, change.by)
            }
            State::Found | State::Hashed { .. } | State::Unhashed { .. } => {
                self.tell_written(change.tracked, content, change.by)
            }
        };
        content.state = State::Written {
            version,
            identity: before,
            hasher: Arc::new(Following::unread(before.size)),
        };
        self.activity.begin(change.tracked);
    }

    /// A file that is unlinked already is told by the name it had: whoever holds it open may write,
    /// and other names may lead to it that never passed through the mount.
    fn tell_written(&self, tracked: &Tracked, content: &mut Content, by: &Process) -> RunVersion {
        let version = self.next_version();
        content.told_paths = tracked.paths();
        let path = tracked.told_path();
        let (file, by) = (tracked.key(), by.clone());
        self.recorder.record(Fact::Written { version, file, path, by });
        version
    }

    /// Changes what a `stat` says of a file and not its content (mode, owner, times, names): the
    /// identity that the digest is bound to moves on, if it was still the file's.
    ///
    /// # Errors
    /// Those of `stat` and of `operation`.
    pub(crate) fn change_metadata<T>(
        &self,
        tracked: &Tracked,
        stat: impl Fn() -> Result<Stat, Error>,
        operation: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut content = tracked.content();
        let order = tracked.in_order();
        let before = stat()?.identity;
        let result = operation()?;
        let stat = stat()?;
        drop(order);
        self.follow_metadata(tracked, &mut content, before, &stat);
        drop(content);
        // A run that has just ended may not have been committed yet.
        if let Some((earlier, tracked)) = tracked.earlier() {
            earlier.follow_metadata(&tracked, &mut tracked.content(), before, &stat);
        }
        Ok(result)
    }

    fn follow_metadata(
        &self,
        tracked: &Tracked,
        content: &mut Content,
        before: Identity,
        stat: &Stat,
    ) {
        let after = stat.identity;
        let Content { cached, vouched, .. } = content;
        for kept in [cached, vouched] {
            if *kept == Some(before) {
                *kept = Some(after);
            }
        }
        content.move_on(before, after);
        if let Some(identity) = content.identity_mut()
            && *identity == before
        {
            *identity = after;
            match stat.statx.stx_nlink {
                0 => {}
                1..=NAMES_RETOLD_MAX => self.tell_again(tracked, content),
                _ => self.tell_at_rest(tracked, content),
            }
        }
    }

    /// Tells what is about no version of the run's.
    pub(crate) fn tell(&self, fact: Fact) {
        self.recorder.record(fact);
    }

    pub(crate) fn directory_renamed(&self, from: &TreePath, to: &TreePath) {
        self.recorder.directory_renamed(from, to);
    }

    /// The last name of the file is gone. Nothing that it held can be an output.
    ///
    /// # Returns
    /// Whether the run wrote what it held.
    pub(crate) fn unlinked(&self, tracked: &Tracked) -> bool {
        if let Some((earlier, tracked)) = tracked.earlier() {
            earlier.unlinked(&tracked);
        }
        let mut content = tracked.content();
        let Some(version) = content.own_version() else {
            return false;
        };
        self.recorder.record(Fact::Gone { version });
        content.state = State::Found;
        content.changes += 1;
        self.activity.end(tracked);
        true
    }

    /// Tells the current name and identity of a version once more, for they changed.
    pub(super) fn tell_again(&self, tracked: &Tracked, content: &mut Content) {
        match content.state {
            State::Sealed { version, identity, digests } => {
                self.tell_output(tracked, content, version, |Told { path, also, is_cut }| {
                    if is_cut {
                        Fact::Unsealed { version, unsealed: Unsealed::PathTooLong, path, also }
                    } else {
                        Fact::Sealed { version, identity, digests, path, also }
                    }
                });
            }
            State::Hashed { version, identity, digests } => {
                self.recorder.record(Fact::Hashed { version, identity, digests });
            }
            _ => {}
        }
    }

    /// Leaves it to the next [`quiesce`](Run::quiesce) to tell an output of many names again.
    fn tell_at_rest(&self, tracked: &Tracked, content: &mut Content) {
        match content.state {
            State::Sealed { .. } => content.told_paths.clear(),
            _ => self.tell_again(tracked, content),
        }
    }

    pub(super) fn tell_unsealed(
        &self,
        tracked: &Tracked,
        content: &mut Content,
        version: RunVersion,
        unsealed: Unsealed,
    ) {
        self.tell_output(tracked, content, version, |Told { path, also, .. }| Fact::Unsealed {
            version,
            unsealed,
            path,
            also,
        });
    }

    /// One fact with as many names as it has room for, and those that are left in more facts.
    fn tell_output(
        &self,
        tracked: &Tracked,
        content: &mut Content,
        version: RunVersion,
        fact: impl FnOnce(Told) -> Fact,
    ) {
        content.told_paths = tracked.paths();
        let (told, more) = Told::of(tracked, &content.told_paths);
        self.recorder.record(fact(told));
        more.for_each(|also| self.recorder.record(Fact::AlsoNamed { version, also }));
    }

    pub(super) fn not_hashed(&self, version: RunVersion, unknown: Unknown) {
        self.recorder.record(Fact::NotHashed { version, unknown });
    }

    fn next_version(&self) -> RunVersion {
        RunVersion(self.versions.fetch_add(1, Ordering::Relaxed))
    }
}

/// Numbers of runs: each has its own, in this process.
static RUNS: AtomicU64 = AtomicU64::new(1);

/// An output with more names is not told again at each change: a program that links a file n times
/// would make a journal of n * n names.
const NAMES_RETOLD_MAX: u32 = 64;

/// The names of a material that were seen since its names were told last, the one seen last first.
fn names_to_tell(
    tracked: &Tracked,
    content: &mut Content,
) -> impl ExactSizeIterator<Item = TreePath> + use<> {
    let (names, count) = tracked.paths_since(content.told_names);
    content.told_names = count;
    names.into_iter()
}

impl Drop for Run {
    fn drop(&mut self) {
        self.sealer.close();
        self.materials.close();
    }
}
