use std::{
    collections::HashMap,
    fs::File,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use attestfs_digest::FileHasher;
use parking_lot::Mutex;

use super::{
    activity::Activity,
    content::{Content, State},
    material::Materials,
    seal::Sealer,
    tracked::Tracked,
};
use crate::{
    backing::{Backing, Stat},
    error::Error,
    fact::{Fact, Process, RunVersion, TreePath, Unknown, Unsealed},
    identity::{FileKey, Identity},
    port::{KnownDigests, Recorder},
    run::Inputs,
};

/// What one run may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of holes that hashing may have to feed as zeros for one file: what lies beyond is
    /// `unsealed: sparse`, because it would take longer than anybody waits.
    pub hole_bytes_max: u64,
    /// Threads that compute digests of files that were there before.
    pub material_threads: usize,
    /// Threads that complete digests of files that were written out of order.
    pub seal_threads: usize,
}

impl Default for Limits {
    /// 16 GiB of holes (some 8 seconds of SHA-256), two threads for each kind of work.
    fn default() -> Self {
        Self { hole_bytes_max: 16 << 30, material_threads: 2, seal_threads: 2 }
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
    files: Mutex<HashMap<FileKey, Arc<Tracked>>>,
    versions: AtomicU64,
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
        let run = Arc::new(Self {
            recorder,
            limits,
            activity: Activity::default(),
            materials: Materials::new(known, inputs),
            sealer: Sealer::default(),
            files: Mutex::default(),
            versions: AtomicU64::new(1),
        });
        Sealer::start(&run);
        Materials::start(&run);
        run
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

    /// The kernel let go of this file. What facts were told about stays known.
    pub(crate) fn forget(&self, key: FileKey) {
        let mut files = self.files.lock();
        let forgettable = files
            .get(&key)
            .is_some_and(|tracked| Arc::strong_count(tracked) == 1 && !tracked.content().matters());
        if forgettable {
            files.remove(&key);
        }
    }

    pub(crate) fn tracked_files(&self) -> Vec<Arc<Tracked>> {
        self.files.lock().values().map(Arc::clone).collect()
    }

    /// The run opened this file and can see what is in it. Content that it did not write is a
    /// material.
    pub(crate) fn opened(
        &self,
        tracked: &Arc<Tracked>,
        identity: Identity,
        opened: &Opened,
        by: impl FnOnce() -> Process,
    ) {
        let mut content = tracked.content();
        self.notice_change_below(tracked, &mut content, opened, identity);
        if !matches!(content.state, State::Found) {
            return;
        }
        let Some(path) = tracked.path() else { return };
        let version = self.next_version();
        content.state = State::Material { version, identity };
        self.recorder.record(Fact::Opened { version, identity, path, by: by() });
        drop(content);
        self.materials.add(Arc::clone(tracked), version, identity, opened.clone());
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
    /// must not end up under a digest of what passed through it.
    ///
    /// # Errors
    /// Those of `stat` and of `operation`.
    pub(crate) fn change<T>(
        &self,
        content: &mut Content,
        change: Change<'_>,
        operation: impl FnOnce(&Opened) -> Result<T, Error>,
        follow: impl FnOnce(&mut FileHasher, &T),
    ) -> Result<T, Error> {
        let before = change.opened.stat()?.identity;
        let result = operation(change.opened);
        let after = change.opened.stat()?.identity;
        if result.is_err() && after == before {
            return result;
        }
        content.changes += 1;
        self.begin_version(content, change, before);
        if let State::Written { hasher, identity, .. } = &mut content.state {
            if *identity != before {
                **hasher = FileHasher::unread(before.size);
            }
            match &result {
                Ok(value) => follow(hasher, value),
                Err(_) => **hasher = FileHasher::unread(after.size),
            }
            *identity = after;
        }
        result
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
        let hasher = match before.size {
            0 => FileHasher::new(),
            length => FileHasher::unread(length),
        };
        content.state = State::Written { version, identity: before, hasher: Box::new(hasher) };
        self.activity.begin(change.tracked);
    }

    /// A file that is unlinked already is told by the name it had: whoever holds it open may write,
    /// and other names may lead to it that never passed through the mount.
    fn tell_written(&self, tracked: &Tracked, content: &mut Content, by: &Process) -> RunVersion {
        let version = self.next_version();
        content.told_paths = tracked.paths();
        let path = tracked.path_or_former().unwrap_or_else(TreePath::nowhere);
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
        let before = stat()?.identity;
        let result = operation()?;
        let stat = stat()?;
        let after = stat.identity;
        if content.cached == Some(before) {
            content.cached = Some(after);
        }
        if let Some(identity) = content.identity_mut()
            && *identity == before
        {
            *identity = after;
            match stat.statx.stx_nlink {
                0 => {}
                1..=NAMES_RETOLD_MAX => self.tell_again(tracked, &mut content),
                _ => self.tell_at_rest(tracked, &mut content),
            }
        }
        Ok(result)
    }

    pub(crate) fn directory_renamed(&self, from: &TreePath, to: &TreePath) {
        self.recorder.directory_renamed(from, to);
    }

    /// The last name of the file is gone. Nothing that it held can be an output.
    pub(crate) fn unlinked(&self, tracked: &Tracked) {
        let mut content = tracked.content();
        if let Some(version) = content.own_version() {
            self.recorder.record(Fact::Gone { version });
            content.state = State::Found;
            content.changes += 1;
            self.activity.end(tracked);
        }
    }

    /// Tells the current name and identity of a version once more, for they changed.
    pub(super) fn tell_again(&self, tracked: &Tracked, content: &mut Content) {
        match content.state {
            State::Sealed { version, identity, digests } => {
                let (path, also) = tell_names(tracked, content);
                self.recorder.record(Fact::Sealed { version, identity, digests, path, also });
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
        let (path, also) = tell_names(tracked, content);
        self.recorder.record(Fact::Unsealed { version, unsealed, path, also });
    }

    pub(super) fn not_hashed(&self, version: RunVersion, unknown: Unknown) {
        self.recorder.record(Fact::NotHashed { version, unknown });
    }

    fn next_version(&self) -> RunVersion {
        RunVersion(self.versions.fetch_add(1, Ordering::Relaxed))
    }
}

/// An output with more names is not told again at each change: a program that links a file n times
/// would make a journal of n * n names.
const NAMES_RETOLD_MAX: u32 = 64;

/// The names by which a fact is about to speak of the file: the one seen last, and the others.
fn tell_names(tracked: &Tracked, content: &mut Content) -> (Option<TreePath>, Vec<TreePath>) {
    content.told_paths = tracked.paths();
    let mut paths = content.told_paths.iter().cloned();
    (paths.next(), paths.collect())
}

impl Drop for Run {
    fn drop(&mut self) {
        self.sealer.close();
        self.materials.close();
    }
}
