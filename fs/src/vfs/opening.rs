//! Opening files: where the gate is asked, and where it is waited for.

use std::{fmt, fs::File, os::fd::AsFd, path::Path, sync::Arc};

use attestfs_digest::Digests;
use rustix::fs::{Mode, OFlags};

use super::{
    attribute::{SUPERUSER, sets_id},
    filesystem::Vfs,
    handle::{Handle, HandleId},
    holding::Held,
    inode::{Emptier, Inode, InodeId, OnWay, Shortcut},
    tenure::Regular,
    ways::{Opener, Way},
};
use crate::{
    error::Error,
    fact::Process,
    gate::{Admitted, Decision, Elsewhere, News, Patience, Permit, Sightings, Waiting, Wanted},
    identity::Identity,
    mount::Capture,
    read::ReadHandle,
    run::{Caller, Change, Grace, Opened, Usage},
    write::{WriteHandle, truncate_unopened},
};

/// Whether the pages that the kernel kept of a file still hold what the file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageCache {
    Keep,
    Drop,
}

/// Whether the size that the kernel was told last is that of the file. It reads to that end, and asks for the size
/// again when a second has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Right,
    Outdated,
}

/// What a request is answered with.
pub(crate) enum Answer<T> {
    /// At once.
    Now(Result<T, Error>),
    /// By work that takes its time: first signatures are checked; if it takes still longer, a file is
    /// hashed.
    Later(Box<dyn FnOnce() -> Self + Send>),
    /// By work that is to be done when somebody else has hashed the file.
    AfterHashing(Elsewhere, Box<dyn FnOnce(News) -> Self + Send>),
    /// By work that waits until others have closed the file.
    AfterOthers(Box<dyn FnOnce() -> Self + Send>),
    /// By work that the store may have wait until a write past us has ended.
    AfterWrites(Box<dyn FnOnce() -> Self + Send>),
}

/// A file that is open, but for the way in which the kernel reads and writes it.
#[derive(Debug)]
pub(crate) struct Ready {
    handle: Handle,
    /// None of a file that we make up.
    opener: Option<(Arc<Inode>, Opener)>,
    /// Of one that was emptied: who is refused has changed nothing.
    entered: Option<(OnWay, Way<Shortcut>)>,
    page_cache: PageCache,
    size: Told,
    emptier: Option<Emptier>,
}

/// How the kernel has a file open.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) handle: HandleId,
    pub(crate) way: Way<Shortcut>,
    pub(crate) page_cache: PageCache,
    pub(crate) size: Told,
    /// Whether there is something to tell whoever closes it.
    pub(crate) flushes: bool,
    /// Until that is told.
    pub(crate) _emptier: Option<Emptier>,
}

/// An open that has come as far as the gate.
#[derive(Debug)]
struct Opening {
    inode: Arc<Inode>,
    regular: Regular,
    opened: Opened,
    flags: OFlags,
    access: OFlags,
    truncates: bool,
    caller: Caller,
}

/// What it takes to open a file.
#[derive(Debug)]
enum Leave {
    ToRead(Admitted),
    /// With leave to read what is found there, unless it is opened for nothing but writing.
    ToWrite(Held, Option<Admitted>),
}

/// Who waits for the gate's word on what was opened.
#[derive(Debug)]
struct AtGate {
    regular: Regular,
    opened: Opened,
    usage: Option<Usage>,
    by: Process,
    grace: Grace,
    sightings: Sightings,
}

impl<T: 'static> Answer<T> {
    /// Goes on with the result, whenever it comes.
    pub(super) fn then<U: 'static>(
        self,
        go_on: impl FnOnce(Result<T, Error>) -> Result<U, Error> + Send + 'static,
    ) -> Answer<U> {
        match self {
            Self::Now(result) => Answer::Now(go_on(result)),
            Self::Later(work) => Answer::Later(Box::new(move || work().then(go_on))),
            Self::AfterHashing(hashing, work) => {
                Answer::AfterHashing(hashing, Box::new(move |news| work(news).then(go_on)))
            }
            Self::AfterOthers(work) => Answer::AfterOthers(Box::new(move || work().then(go_on))),
            Self::AfterWrites(work) => Answer::AfterWrites(Box::new(move || work().then(go_on))),
        }
    }
}

impl<T> fmt::Debug for Answer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Now(_) => "Now",
            Self::Later(_) => "Later",
            Self::AfterHashing(..) => "AfterHashing",
            Self::AfterOthers(_) => "AfterOthers",
            Self::AfterWrites(_) => "AfterWrites",
        })
    }
}

impl Vfs {
    /// Opens a regular file. Of `flags` the access mode and `O_TRUNC` count; the kernel has done
    /// the rest, and `O_APPEND` on our side would put bytes elsewhere than it says.
    pub(crate) fn open(
        self: &Arc<Self>,
        id: InodeId,
        flags: OFlags,
        caller: Caller,
    ) -> Answer<Ready> {
        if let Some(file) = self.virtual_file(id) {
            let opened = self.open_virtual(file, flags, caller);
            return Answer::Now(opened.map(Ready::made_up));
        }
        match self.inodes.find(id) {
            Ok(inode) => self.open_inode(inode, flags, caller),
            Err(error) => Answer::Now(Err(error)),
        }
    }

    pub(super) fn open_inode(
        self: &Arc<Self>,
        inode: Arc<Inode>,
        flags: OFlags,
        caller: Caller,
    ) -> Answer<Ready> {
        let opening = match self.begin_open(inode, flags, caller) {
            Ok(opening) => opening,
            Err(error) => return Answer::Now(Err(error)),
        };
        let changes_what_others_know = opening.access == OFlags::RDWR || opening.truncates;
        if changes_what_others_know && opening.inode.is_passed() {
            return self.open_after_others(opening);
        }
        self.open_begun(opening)
    }

    /// Who may map what he writes waits until those have closed the file who have it open past us: a close is told
    /// after it is done. So does who empties it; and where somebody goes on writing to it, in a place where nobody waits
    /// for a close: for as long as one write takes the store has him wait.
    fn open_after_others(self: &Arc<Self>, opening: Opening) -> Answer<Ready> {
        let (vfs, grace) = (Arc::clone(self), Grace::Ahead.begun());
        Answer::AfterOthers(Box::new(move || {
            opening.inode.wait_until_not_passed(grace);
            let waits_for_writes = opening.truncates && opening.inode.written_past().is_some();
            let go_on = move || vfs.open_begun(opening);
            if waits_for_writes { Answer::AfterWrites(Box::new(go_on)) } else { go_on() }
        }))
    }

    fn open_begun(self: &Arc<Self>, opening: Opening) -> Answer<Ready> {
        let (caller, file) = (opening.caller, (opening.regular.clone(), opening.opened.clone()));
        match (opening.access, opening.truncates) {
            (OFlags::RDONLY, true) => self.empty_and_open(opening),
            (_, true) => self.open_for_writing(opening, Some(Admitted::emptied())),
            (OFlags::WRONLY, false) => self.open_for_writing(opening, None),
            (OFlags::RDONLY, false) => {
                self.when_admitted(file, Some(Usage::Reads), caller, move |vfs, admitted| {
                    Answer::Now(vfs.finish_open(opening, Leave::ToRead(admitted)))
                })
            }
            _ => self.when_admitted(
                file,
                Some(Usage::ReadsAndWrites),
                caller,
                move |vfs, admitted| vfs.open_for_writing(opening, Some(admitted)),
            ),
        }
    }

    /// Held open as it was admitted, or else for writing alone.
    fn open_for_writing(
        self: &Arc<Self>,
        opening: Opening,
        mut admitted: Option<Admitted>,
    ) -> Answer<Ready> {
        let caller = opening.caller;
        if let Some(hold) = admitted.as_mut().and_then(Admitted::take_hold) {
            let held = Held { hold, by: self.processes.of(caller) };
            return Answer::Now(self.finish_open(opening, Leave::ToWrite(held, admitted)));
        }
        self.when_held(opening.regular.clone(), caller, move |vfs, held| {
            vfs.finish_open(opening, Leave::ToWrite(held, admitted))
        })
    }

    /// `O_TRUNC`, which Linux grants to readers as well, if they may write.
    fn empty_and_open(self: &Arc<Self>, opening: Opening) -> Answer<Ready> {
        self.when_held(opening.regular.clone(), opening.caller, move |vfs, held| {
            let writable = vfs.open_backing(&opening.inode, OFlags::WRONLY)?;
            vfs.truncate_held(&opening.regular, &writable, 0, held)?;
            vfs.finish_open(opening, Leave::ToRead(Admitted::emptied()))
        })
    }

    /// What was published is not opened for a change.
    fn begin_open(
        &self,
        inode: Arc<Inode>,
        flags: OFlags,
        caller: Caller,
    ) -> Result<Opening, Error> {
        let regular = inode.regular().ok_or(Error::Invalid)?;
        let access = flags & OFlags::ACCMODE;
        let truncates = flags.contains(OFlags::TRUNC);
        let opened = self.open_backing(&inode, access)?;
        if truncates || access != OFlags::RDONLY {
            self.check_change(&regular, &opened, caller)?;
        }
        Ok(Opening { inode, regular, opened, flags, access, truncates, caller })
    }

    fn finish_open(&self, opening: Opening, leave: Leave) -> Result<Ready, Error> {
        let (page_cache, identity) = self.page_cache(&opening, leave.admitted())?;
        let opener = self.opener(&opening, &identity)?;
        let inode = Arc::clone(&opening.inode);
        let thread = opening.caller.thread;
        let emptier = opening.truncates.then(|| Emptier::begin(&inode, thread));
        let size = if inode.tell_size(identity.size) { Told::Outdated } else { Told::Right };
        // Who may be refused takes no shortcut when he empties it, and nobody else is.
        let may_be_refused = !matches!(opener, Opener::Writer { .. });
        let enter = || inode.enter_way(opener, || None);
        let entered = (opening.truncates && may_be_refused).then(enter).transpose()?;
        let handle = match leave {
            Leave::ToRead(admitted) => Handle::Reader(Arc::new(self.reader(opening, admitted)?)),
            Leave::ToWrite(held, admitted) => {
                Handle::Writer(Arc::new(self.writer(opening, held, admitted)?))
            }
        };
        Ok(Ready { handle, opener: Some((inode, opener)), entered, page_cache, size, emptier })
    }

    /// Whoever has a file open is given the pages that those read who have it verified, so that all reads must
    /// come to us where some are.
    fn opener(&self, opening: &Opening, identity: &Identity) -> Result<Opener, Error> {
        Ok(match opening.access {
            OFlags::RDONLY if self.gate.verifies_reads() => Opener::VerifiedReader,
            OFlags::RDONLY => Opener::Reader { passes: self.may_pass(opening, identity) },
            OFlags::RDWR if !opening.truncates && identity.size > 0 => Opener::Changer,
            OFlags::RDWR => Opener::Maker,
            _ if opening.truncates => {
                let mode = || Ok(opening.opened.stat()?.mode());
                self.writer_alone(opening.caller, opening.flags, mode)?
            }
            _ => Opener::Writer { past: None },
        })
    }

    /// Who writes what begins with it, and never reads nor maps it: the kernel may do so by itself where the file is
    /// read again in the end. Where some reads are verified all must come to us; and direct I/O, of which a store demands
    /// more than we do.
    pub(super) fn writer_alone(
        &self,
        caller: Caller,
        flags: OFlags,
        mode: impl FnOnce() -> Result<Mode, Error>,
    ) -> Result<Opener, Error> {
        let must_come_to_us = self.gate.verifies_reads() || flags.contains(OFlags::DIRECT);
        if self.options.capture == Capture::Inline || must_come_to_us {
            return Ok(Opener::Writer { past: None });
        }
        let keeps_set_id = caller.uid != SUPERUSER && sets_id(mode()?);
        Ok(Opener::Writer { past: (!keeps_set_id).then_some(caller.uid) })
    }

    /// Whether the kernel may read the file by itself: only what nobody can change through the mount. A mapping of
    /// what is open past us changes the store without a trace: its times stay as they are.
    fn may_pass(&self, opening: &Opening, identity: &Identity) -> bool {
        self.options.passthrough
            && !opening.truncates
            && identity.size >= SHORTCUT_BYTES
            && (self.options.read_only
                || self.permit(&opening.regular).is_immutable(&opening.regular.tracked, identity))
    }

    /// Gives what is open its number, and says in which way the kernel is to have it open. `shortcut` makes a file
    /// of the store known to the kernel, where that is possible.
    ///
    /// # Errors
    /// [`Error::InUse`] when its reads must come to us, and those of others who have the file open do not.
    pub(crate) fn give(
        &self,
        ready: Ready,
        shortcut: impl FnOnce(&File) -> Option<Shortcut>,
    ) -> Result<Given, Error> {
        let Ready { handle, opener, entered, page_cache, size, emptier } = ready;
        let flushes = handle.writer().is_ok();
        let Some((inode, opener)) = opener else {
            let handle = self.handles.insert(handle);
            let way = Way::Cached;
            return Ok(Given { handle, way, page_cache, size, flushes, _emptier: emptier });
        };
        let file = handle.file()?;
        let shortcut = || match opener {
            _ if !self.options.passthrough => None,
            Opener::Writer { past: Some(_) } => shortcut(&*self.open_marked(&inode)?),
            _ => shortcut(file),
        };
        let enter = || inode.enter_way(opener, shortcut);
        let (on_way, way) = entered.map_or_else(enter, Ok)?;
        match (&way, handle.writer()) {
            (Way::Passthrough(_), Ok(writer)) => {
                writer.write_past();
                self.let_write_past(&inode, writer)?;
            }
            (Way::PassthroughDirect(_), Ok(writer)) => {
                writer.set_beside_passthrough();
                self.let_write_past(&inode, writer)?;
            }
            _ => {}
        }
        let handle = self.handles.insert_on_way(handle, Some(on_way));
        Ok(Given { handle, way, page_cache, size, flushes, _emptier: emptier })
    }

    /// Opened for the kernel alone, and marked for as long as it has it open. None where that cannot be: then nobody
    /// writes past us, of whom it would not be known.
    fn open_marked(&self, inode: &Inode) -> Option<Arc<File>> {
        let file = self.open_backing(inode, OFlags::WRONLY).ok()?.file;
        match self.server?.mark(&file) {
            Ok(()) => Some(file),
            Err(error) => {
                tracing::debug!(%error, "a file cannot be marked: nobody writes it past us");
                None
            }
        }
    }

    /// Where somebody writes past us, the run of everybody who writes knows the file at the end only.
    ///
    /// # Errors
    /// [`Error::InUse`] when it was given a set-id bit meanwhile, which a user would not take away from it.
    fn let_write_past(&self, inode: &Inode, writer: &WriteHandle) -> Result<(), Error> {
        let Some(user) = inode.written_past() else { return Ok(()) };
        if user != SUPERUSER && sets_id(self.stat(inode)?.mode()) {
            return Err(Error::InUse);
        }
        writer.know_at_the_end();
        Ok(())
    }

    fn reader(&self, opening: Opening, mut admitted: Admitted) -> Result<ReadHandle, Error> {
        let Opening { regular, opened, caller, .. } = opening;
        let by = || self.processes.of(caller);
        if !opening.truncates {
            let found = found(&admitted, &opened)?;
            regular.tenure.run.opened(&regular.tracked, found, &opened, by);
        }
        // Only a read that is verified can fail in a way that has to be told.
        let by = if admitted.is_verified() { by() } else { Process::default() };
        let Regular { tenure, tracked } = regular;
        let run = Arc::clone(&tenure.run);
        let verification = admitted.verify(&tracked);
        let hold = admitted.take_hold();
        Ok(ReadHandle { run, tracked, opened, verification, by, _hold: hold })
    }

    fn writer(
        &self,
        opening: Opening,
        held: Held,
        admitted: Option<Admitted>,
    ) -> Result<WriteHandle, Error> {
        let Opening { regular, opened, truncates, .. } = opening;
        let found = match &admitted {
            Some(admitted) => found(admitted, &opened)?,
            None => (opened.stat()?.identity, None),
        };
        let writer = self.write_handle(regular, opened, held, admitted);
        if truncates {
            writer.truncate(0)?;
        } else if found.0.size > 0 {
            // Who opens an empty file to write to it brings nothing along.
            writer.tell_found(found);
        }
        Ok(writer)
    }

    pub(super) fn write_handle(
        &self,
        regular: Regular,
        opened: Opened,
        held: Held,
        admitted: Option<Admitted>,
    ) -> WriteHandle {
        let leave = (self.permit(&regular), held.hold);
        let Regular { tenure, tracked } = regular;
        let run = Arc::clone(&tenure.run);
        WriteHandle::new(run, tracked, opened, held.by, leave, admitted)
    }

    /// Truncates a file that is held for that alone.
    pub(super) fn truncate_held(
        &self,
        regular: &Regular,
        opened: &Opened,
        length: u64,
        held: Held,
    ) -> Result<(), Error> {
        let change = Change { tracked: &regular.tracked, opened, by: &held.by };
        truncate_unopened(&regular.tenure.run, &self.permit(regular), change, &held.hold, length)
    }

    /// Asks the gate whether a file may be read, and held open for this `usage` if it stays open. Goes
    /// on when it has said yes.
    pub(super) fn when_admitted<T: 'static>(
        self: &Arc<Self>,
        (regular, opened): (Regular, Opened),
        usage: Option<Usage>,
        caller: Caller,
        go_on: impl FnOnce(&Arc<Self>, Admitted) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let (grace, by) = (Grace::Ahead, || self.processes.of(caller));
        let wanted = Wanted { grace, ..self.wanted(&regular, &opened, usage) };
        let decision = self.gate.admit(&wanted, Patience::None, &by);
        if let Decision::Made(answer) = decision {
            return self.answer(answer, go_on);
        }
        // The caller's entry in proc is looked at now: a signal may take the caller away.
        let (by, sightings) = (by(), wanted.sightings);
        let (vfs, at_gate) =
            (Arc::clone(self), AtGate { regular, opened, usage, by, grace, sightings });
        match decision {
            Decision::AfterOthers => vfs.admit_after_others(at_gate, go_on),
            _ => Answer::Later(Box::new(move || vfs.admit_after_judging(at_gate, go_on))),
        }
    }

    /// Hashes nothing.
    fn admit_after_judging<T: 'static>(
        self: Arc<Self>,
        at_gate: AtGate,
        go_on: impl FnOnce(&Arc<Self>, Admitted) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let (decision, at_gate) = self.ask(at_gate, Patience::NoHashing);
        match decision {
            Decision::Made(answer) => self.answer(answer, go_on),
            Decision::AfterOthers => self.admit_after_others(at_gate, go_on),
            Decision::Later | Decision::AfterHashing(_) => {
                Answer::Later(Box::new(move || self.admit_after_hashing(at_gate, None, go_on)))
            }
        }
    }

    /// Hashes the file or, as often as somebody else is at it, lets them.
    fn admit_after_hashing<T: 'static>(
        self: Arc<Self>,
        at_gate: AtGate,
        news: Option<&News>,
        go_on: impl FnOnce(&Arc<Self>, Admitted) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let waiting = Waiting { connection: &self.connection, news };
        let (decision, at_gate) = self.ask(at_gate, Patience::WhileConnected(waiting));
        match decision {
            Decision::Made(answer) => self.answer(answer, go_on),
            Decision::AfterOthers => self.admit_after_others(at_gate, go_on),
            Decision::Later => Answer::Now(Err(Error::Refused)),
            Decision::AfterHashing(hashing) => {
                let again = move |news| self.admit_after_hashing(at_gate, Some(&news), go_on);
                Answer::AfterHashing(hashing, Box::new(again))
            }
        }
    }

    /// Waits until nobody is in the way, and asks again. What took its time before is known by then.
    fn admit_after_others<T: 'static>(
        self: Arc<Self>,
        at_gate: AtGate,
        go_on: impl FnOnce(&Arc<Self>, Admitted) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let at_gate = AtGate { grace: at_gate.grace.begun(), ..at_gate };
        Answer::AfterOthers(Box::new(move || {
            let AtGate { regular: Regular { tenure, tracked }, usage, grace, .. } = &at_gate;
            tracked.wait_until_free(usage.unwrap_or(Usage::Reads), tenure.run.owner(), *grace);
            self.admit_after_judging(at_gate, go_on)
        }))
    }

    fn ask(&self, at_gate: AtGate, patience: Patience<'_>) -> (Decision, AtGate) {
        let AtGate { regular, opened, usage, by, grace, sightings } = at_gate;
        let wanted = Wanted { grace, sightings, ..self.wanted(&regular, &opened, usage) };
        let decision = self.gate.admit(&wanted, patience, &|| by.clone());
        let sightings = wanted.sightings;
        (decision, AtGate { regular, opened, usage, by, grace, sightings })
    }

    fn answer<T: 'static>(
        self: &Arc<Self>,
        answer: Result<Admitted, Error>,
        go_on: impl FnOnce(&Arc<Self>, Admitted) -> Answer<T>,
    ) -> Answer<T> {
        match answer {
            Ok(admitted) => go_on(self, admitted),
            Err(error) => Answer::Now(Err(error)),
        }
    }

    /// What somebody wants who waits for nobody.
    pub(super) fn wanted<'a>(
        &'a self,
        regular: &'a Regular,
        opened: &'a Opened,
        usage: Option<Usage>,
    ) -> Wanted<'a> {
        let origin: &Path = &self.options.origin;
        let (run, tracked) = (&regular.tenure.run, &regular.tracked);
        let (grace, sightings) = (Grace::Denied, Sightings::default());
        let is_contested = !self.options.read_only;
        Wanted { run, tracked, opened, origin, usage, is_contested, grace, sightings }
    }

    /// Whether a file may be changed. Tells why not.
    pub(super) fn check_change(
        &self,
        regular: &Regular,
        opened: &Opened,
        caller: Caller,
    ) -> Result<(), Error> {
        let Regular { tenure, tracked } = regular;
        let (identity, by) = (opened.stat()?.identity, || self.processes.of(caller));
        self.permit(regular).check(&tenure.run, tracked, &identity, &by)
    }

    pub(super) fn permit(&self, regular: &Regular) -> Permit {
        Permit::new(Arc::clone(&self.gate), &regular.tenure.replaceable)
    }

    /// Pages of what somebody vouches for are read anew: a mapping of others may have changed those
    /// that are there, and its writes be refused, so that the store never saw them. Also says what the file is now.
    fn page_cache(
        &self,
        opening: &Opening,
        admitted: Option<&Admitted>,
    ) -> Result<(PageCache, Identity), Error> {
        let mut content = opening.regular.tracked.content();
        let now = match admitted.and_then(Admitted::held) {
            Some(identity) => identity,
            None => self.backing.stat(opening.opened.file.as_fd())?.identity,
        };
        let kept = content.cached == Some(now);
        content.cached = Some(now);
        let vouched = admitted.is_some_and(Admitted::is_of_the_store);
        Ok((if kept && !vouched { PageCache::Keep } else { PageCache::Drop }, now))
    }
}

impl Ready {
    pub(super) fn made_up(handle: Handle) -> Self {
        let (page_cache, size) = (PageCache::Drop, Told::Right);
        Self { handle, opener: None, entered: None, page_cache, size, emptier: None }
    }

    /// A file that was just made.
    pub(super) fn made(inode: Arc<Inode>, opener: Opener, writer: WriteHandle) -> Self {
        let handle = Handle::Writer(Arc::new(writer));
        let (opener, page_cache, size) = (Some((inode, opener)), PageCache::Drop, Told::Right);
        Self { handle, opener, entered: None, page_cache, size, emptier: None }
    }
}

impl Leave {
    fn admitted(&self) -> Option<&Admitted> {
        match self {
            Self::ToRead(admitted) => Some(admitted),
            Self::ToWrite(_, admitted) => admitted.as_ref(),
        }
    }
}

/// Of a file below this size more is read while it is made known to the kernel.
const SHORTCUT_BYTES: u64 = 128 << 10;

/// What the file holds: as the gate found it, or as it is now.
pub(super) fn found(
    admitted: &Admitted,
    opened: &Opened,
) -> Result<(Identity, Option<Digests>), Error> {
    match admitted.digests() {
        Some((identity, digests)) => Ok((identity, Some(digests))),
        None => Ok((opened.stat()?.identity, None)),
    }
}
