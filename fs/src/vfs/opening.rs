//! Opening files: where the gate is asked, and where it is waited for.

use std::{fmt, fs::File, os::fd::AsFd, path::Path, sync::Arc};

use attestfs_digest::Digests;
use rustix::fs::OFlags;

use super::{
    filesystem::Vfs,
    handle::{Handle, HandleId},
    inode::{Inode, InodeId, Shortcut},
    tenure::Regular,
    ways::{Opener, Way},
};
use crate::{
    error::Error,
    fact::Process,
    gate::{Admitted, Decision, Elsewhere, News, Patience, Permit, Sightings, Waiting, Wanted},
    identity::Identity,
    read::ReadHandle,
    run::{Caller, Change, Opened, Usage},
    write::{WriteHandle, truncate_unopened},
};

/// Whether the pages that the kernel kept of a file still hold what the file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageCache {
    Keep,
    Drop,
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
}

/// A file that is open, but for the way in which the kernel reads and writes it.
#[derive(Debug)]
pub(crate) struct Ready {
    handle: Handle,
    /// None of a file that we make up.
    opener: Option<(Arc<Inode>, Opener)>,
    page_cache: PageCache,
}

/// How the kernel has a file open.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) handle: HandleId,
    pub(crate) way: Way<Shortcut>,
    pub(crate) page_cache: PageCache,
    /// Whether there is something to tell whoever closes it.
    pub(crate) flushes: bool,
}

/// An open that has come as far as the gate.
#[derive(Debug)]
struct Opening {
    inode: Arc<Inode>,
    regular: Regular,
    opened: Opened,
    access: OFlags,
    truncates: bool,
    caller: Caller,
}

/// Who waits for the gate's word on what was opened.
#[derive(Debug)]
struct AtGate {
    regular: Regular,
    opened: Opened,
    usage: Option<Usage>,
    by: Process,
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
        }
    }
}

impl<T> fmt::Debug for Answer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Now(_) => "Now",
            Self::Later(_) => "Later",
            Self::AfterHashing(..) => "AfterHashing",
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
        if opening.truncates {
            return Answer::Now(self.finish_open(opening, Some(Admitted::emptied())));
        }
        if opening.access == OFlags::WRONLY {
            return Answer::Now(self.finish_open(opening, None));
        }
        let file = (opening.regular.clone(), opening.opened.clone());
        let usage = match opening.access {
            OFlags::RDONLY => Usage::Reads,
            _ => Usage::ReadsAndWrites,
        };
        self.when_admitted(file, Some(usage), caller, move |vfs, admitted| {
            vfs.finish_open(opening, Some(admitted))
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
        Ok(Opening { inode, regular, opened, access, truncates, caller })
    }

    /// `admitted` is none when the file is opened for nothing but writing.
    fn finish_open(&self, opening: Opening, admitted: Option<Admitted>) -> Result<Ready, Error> {
        let page_cache = self.page_cache(&opening, admitted.as_ref())?;
        let opener = opening.opener(self.gate.verifies_reads())?;
        let inode = Arc::clone(&opening.inode);
        let handle = match admitted {
            Some(admitted) if opening.access == OFlags::RDONLY => {
                Handle::Reader(Arc::new(self.reader(opening, admitted)?))
            }
            admitted => Handle::Writer(Arc::new(self.writer(opening, admitted)?)),
        };
        Ok(Ready { handle, opener: Some((inode, opener)), page_cache })
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
        let Ready { handle, opener, page_cache } = ready;
        let flushes = handle.writer().is_ok();
        let Some((inode, opener)) = opener else {
            let handle = self.handles.insert(handle);
            return Ok(Given { handle, way: Way::Cached, page_cache, flushes });
        };
        let file = handle.file()?;
        let shortcut = || self.options.passthrough.then(|| shortcut(file)).flatten();
        let (on_way, way) = inode.enter_way(opener, shortcut)?;
        if let (Way::PassthroughDirect(_), Ok(writer)) = (&way, handle.writer()) {
            writer.maps_past_us();
        }
        let handle = self.handles.insert_on_way(handle, Some(on_way));
        Ok(Given { handle, way, page_cache, flushes })
    }

    fn reader(&self, opening: Opening, admitted: Admitted) -> Result<ReadHandle, Error> {
        let Opening { inode, regular, opened, caller, .. } = opening;
        let by = || self.processes.of(caller);
        if opening.truncates {
            self.truncate_for_reader(&inode, &regular, &by())?;
        } else {
            let found = found(&admitted, &opened)?;
            regular.tenure.run.opened(&regular.tracked, found, &opened, by);
        }
        // Only a read that is verified can fail in a way that has to be told.
        let by = if admitted.is_verified() { by() } else { Process::default() };
        let Regular { tenure, tracked } = regular;
        let run = Arc::clone(&tenure.run);
        let verification = admitted.verify(&tracked);
        let hold = admitted.into_hold();
        Ok(ReadHandle { run, tracked, opened, verification, by, _hold: hold })
    }

    fn writer(&self, opening: Opening, admitted: Option<Admitted>) -> Result<WriteHandle, Error> {
        let Opening { regular, opened, truncates, caller, .. } = opening;
        let found = match &admitted {
            Some(admitted) => found(admitted, &opened)?,
            None => (opened.stat()?.identity, None),
        };
        let by = self.processes.of(caller);
        let writer = self.write_handle(regular, opened, by, admitted)?;
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
        by: Process,
        admitted: Option<Admitted>,
    ) -> Result<WriteHandle, Error> {
        let permit = self.permit(&regular);
        let Regular { tenure, tracked } = regular;
        let run = Arc::clone(&tenure.run);
        WriteHandle::new(run, tracked, opened, by, permit, admitted)
    }

    /// `O_TRUNC`, which Linux grants to readers as well, if they may write.
    fn truncate_for_reader(
        &self,
        inode: &Inode,
        regular: &Regular,
        by: &Process,
    ) -> Result<(), Error> {
        let opened = self.open_backing(inode, OFlags::WRONLY)?;
        let change = Change { tracked: &regular.tracked, opened: &opened, by };
        truncate_unopened(&regular.tenure.run, &self.permit(regular), change, 0)
    }

    /// Asks the gate whether a file may be read, and held open for this `usage` if it stays open. Goes
    /// on when it has said yes.
    pub(super) fn when_admitted<T: 'static>(
        self: &Arc<Self>,
        (regular, opened): (Regular, Opened),
        usage: Option<Usage>,
        caller: Caller,
        go_on: impl FnOnce(&Self, Admitted) -> Result<T, Error> + Send + 'static,
    ) -> Answer<T> {
        let by = || self.processes.of(caller);
        let wanted = self.wanted(&regular, &opened, usage);
        if let Decision::Made(answer) = self.gate.admit(&wanted, Patience::None, &by) {
            return Answer::Now(answer.and_then(|admitted| go_on(self, admitted)));
        }
        // The caller's entry in proc is looked at now: a signal may take the caller away.
        let (vfs, by, sightings) = (Arc::clone(self), by(), wanted.sightings);
        let judge = move || {
            let wanted = Wanted { sightings, ..vfs.wanted(&regular, &opened, usage) };
            let decision = vfs.gate.admit(&wanted, Patience::NoHashing, &|| by.clone());
            if let Decision::Made(answer) = decision {
                return Answer::Now(answer.and_then(|admitted| go_on(&vfs, admitted)));
            }
            let at_gate = AtGate { sightings: wanted.sightings, regular, opened, usage, by };
            Answer::Later(Box::new(move || vfs.admit_after_hashing(at_gate, None, go_on)))
        };
        Answer::Later(Box::new(judge))
    }

    /// Hashes the file or, as often as somebody else is at it, lets them.
    fn admit_after_hashing<T: 'static>(
        self: Arc<Self>,
        at_gate: AtGate,
        news: Option<&News>,
        go_on: impl FnOnce(&Self, Admitted) -> Result<T, Error> + Send + 'static,
    ) -> Answer<T> {
        let AtGate { regular, opened, usage, by, sightings } = at_gate;
        let wanted = Wanted { sightings, ..self.wanted(&regular, &opened, usage) };
        let waiting = Waiting { connection: &self.connection, news };
        match self.gate.admit(&wanted, Patience::WhileConnected(waiting), &|| by.clone()) {
            Decision::Made(answer) => {
                Answer::Now(answer.and_then(|admitted| go_on(&self, admitted)))
            }
            Decision::Later => Answer::Now(Err(Error::Refused)),
            Decision::AfterHashing(hashing) => {
                let at_gate = AtGate { sightings: wanted.sightings, regular, opened, usage, by };
                let again = move |news| self.admit_after_hashing(at_gate, Some(&news), go_on);
                Answer::AfterHashing(hashing, Box::new(again))
            }
        }
    }

    pub(super) fn wanted<'a>(
        &'a self,
        regular: &'a Regular,
        opened: &'a Opened,
        usage: Option<Usage>,
    ) -> Wanted<'a> {
        let origin: &Path = &self.options.origin;
        let (run, tracked) = (&regular.tenure.run, &regular.tracked);
        Wanted { run, tracked, opened, origin, usage, sightings: Sightings::default() }
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
    /// that are there, and its writes be refused, so that the store never saw them.
    fn page_cache(
        &self,
        opening: &Opening,
        admitted: Option<&Admitted>,
    ) -> Result<PageCache, Error> {
        let mut content = opening.regular.tracked.content();
        let now = self.backing.stat(opening.opened.file.as_fd())?.identity;
        let kept = content.cached == Some(now);
        content.cached = Some(now);
        let vouched = admitted.is_some_and(Admitted::is_of_the_store);
        Ok(if kept && !vouched { PageCache::Keep } else { PageCache::Drop })
    }
}

impl Ready {
    pub(super) fn made_up(handle: Handle) -> Self {
        Self { handle, opener: None, page_cache: PageCache::Drop }
    }

    /// A file that was just made.
    pub(super) fn made(inode: Arc<Inode>, writer: WriteHandle) -> Self {
        let handle = Handle::Writer(Arc::new(writer));
        Self { handle, opener: Some((inode, Opener::Writer)), page_cache: PageCache::Drop }
    }
}

impl Opening {
    /// `verifies` says whether some reads are verified. Whoever has a file open is given the pages that those
    /// read, so that all reads must be.
    fn opener(&self, verifies: bool) -> Result<Opener, Error> {
        let size = self.opened.stat()?.identity.size;
        Ok(match self.access {
            OFlags::RDONLY if verifies => Opener::VerifiedReader,
            OFlags::RDONLY => Opener::Reader { small: self.truncates || size < SHORTCUT_BYTES },
            OFlags::RDWR if !self.truncates && size > 0 => Opener::Changer,
            _ => Opener::Writer,
        })
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
