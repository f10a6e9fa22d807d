//! The only file that names the FUSE library: decode a request, call the operation of the same
//! name, encode its answer.

mod connection;
mod crew;
mod shortcuts;
mod watchdog;

use std::{
    cell::RefCell,
    ffi::OsStr,
    fs::File,
    io,
    os::fd::OwnedFd,
    panic::{self, AssertUnwindSafe},
    path::Path,
    sync::{
        Arc, OnceLock,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fuser::{
    AccessFlags, BsdFileFlags, Config, CopyFileRangeFlags, Errno, FileAttr, FileHandle, FileType,
    Filesystem, FopenFlags, Generation, INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner,
    Notifier, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, Session, SessionACL, TimeOrNow, WriteFlags,
};
use rustix::fs::{FallocateFlags, Mode, OFlags, SeekFrom, StatxTimestamp};

use self::{
    connection::{Connection, is_abort},
    crew::{Crew, Pace, Subject},
    shortcuts::{Shortcuts, known_as},
    watchdog::Watchdog,
};
use crate::{
    backing::DirectoryEntry,
    error::Error,
    gate::Waiters,
    meter::{Operation, Room, Watch, meter},
    run::Caller,
    vfs::{
        Answer, AttributeChange, Attributes, Given, HandleId, InodeId, NewTime, PageCache, Promise,
        Told, Vfs, Way,
    },
};

/// Answers the requests that come through `device` until the filesystem is unmounted, by so many `threads`, and
/// [`SPARE_THREADS`] that take the place of those that are held up.
///
/// # Errors
/// When the handshake with the kernel fails.
pub(crate) fn session(vfs: Arc<Vfs>, device: OwnedFd, threads: usize) -> io::Result<Service> {
    let (threads, all) = (threads.max(1), threads.max(1) + SPARE_THREADS);
    let mut config = Config::default();
    config.acl = SessionACL::All;
    config.n_threads = Some(all);
    let (notifier, connection) = (Arc::default(), Arc::new(Connection(device.try_clone()?)));
    let door = Arc::clone(&connection);
    let crew = Crew::of((threads, all), move || door.is_waited_for());
    let adapter = Adapter {
        shortcuts: Arc::new(Shortcuts::new(vfs.capture())),
        vfs: Arc::clone(&vfs),
        crew: Arc::clone(&crew),
        waiting: Arc::default(),
        notifier: Arc::clone(&notifier),
    };
    let session = Session::from_fd(adapter, device, SessionACL::All, config)?;
    notifier.get_or_init(|| session.notifier());
    Ok(Service { session, connection, watchdog: Watchdog::of(crew, vfs, all) })
}

/// A mounted filesystem that waits to be served.
#[derive(Debug)]
pub(crate) struct Service {
    session: Session<Adapter>,
    connection: Arc<Connection>,
    watchdog: Watchdog,
}

impl Service {
    /// Serves until the end.
    ///
    /// # Errors
    /// When the connection breaks in another way than by unmounting; when it has ended, and requests hang in the store.
    pub(crate) fn run(self) -> io::Result<()> {
        let Self { session, connection, mut watchdog } = self;
        let (tell, told) = mpsc::channel();
        // Who gave up waiting does not hear of it.
        thread::spawn(move || tell.send(session.run()).unwrap_or_default());
        let ended = loop {
            match told.recv_timeout(watchdog.pause()) {
                Ok(ended) => break ended,
                Err(RecvTimeoutError::Disconnected) => break Err(io::Error::other("it panicked")),
                Err(RecvTimeoutError::Timeout) => watchdog.look(),
            }
            if connection.has_ended() {
                watchdog.end()?;
            }
        };
        match ended {
            Err(error) if is_abort(&error) && connection.is_unmounted() => Ok(()),
            ended => ended,
        }
    }
}

/// Threads that rest as long as nothing hangs. Each takes 16 MiB of addresses for requests to come, and of memory what the
/// largest of them filled.
const SPARE_THREADS: usize = 13;

#[derive(Clone, Debug)]
struct Adapter {
    vfs: Arc<Vfs>,
    crew: Arc<Crew>,
    shortcuts: Arc<Shortcuts>,
    /// For answers that take their time.
    waiting: Arc<WaitingRooms>,
    /// Tells the kernel what it did not ask for. Set before any request is answered.
    notifier: Arc<OnceLock<Notifier>>,
}

/// Whoever waits for a signature to be checked does not wait behind those who wait for hashing, nor
/// behind those who wait for others to close a file, to end a write, or look through all attestations.
#[derive(Debug)]
struct WaitingRooms {
    judging: Waiters,
    hashing: Waiters,
    closing: Waiters,
    writing: Waiters,
    listing: Waiters,
}

impl Default for WaitingRooms {
    fn default() -> Self {
        Self {
            judging: Waiters::of(Room::JUDGING),
            hashing: Waiters::of(Room::HASHING),
            closing: Waiters::of(Room::CLOSING),
            writing: Waiters::of(Room::WRITING),
            listing: Waiters::of(Room::LISTING),
        }
    }
}

impl WaitingRooms {
    /// Gives the answer, after hashing if it takes that. Who waits for a file that somebody else is
    /// hashing leaves the thread to others meanwhile.
    fn go_on<T: 'static>(
        self: &Arc<Self>,
        answer: Answer<T>,
        give: impl FnOnce(Result<T, Error>) + Send + 'static,
    ) {
        let rooms = Arc::clone(self);
        match answer {
            Answer::Now(result) => give(result),
            Answer::Later(hash) => self.hashing.add(move || rooms.go_on(hash(), give)),
            Answer::AfterOthers(wait) => self.closing.add(move || rooms.go_on(wait(), give)),
            Answer::AfterWrites(wait) => self.writing.add(move || rooms.go_on(wait(), give)),
            Answer::AfterHashing(hashing, hash) => hashing.then(move |news| {
                let again = Arc::clone(&rooms);
                rooms.hashing.add(move || again.go_on(hash(news), give));
            }),
        }
    }

    fn close(&self) {
        self.judging.close();
        self.hashing.close();
        self.closing.close();
        self.writing.close();
        self.listing.close();
    }
}

/// How long the kernel may answer from what it was told. Names and attributes also change below
/// the mount, so not for long.
const LIFETIME: Duration = Duration::from_secs(1);

/// Inode numbers are not given to another file while the kernel knows them.
const GENERATION: Generation = Generation(0);

/// Bytes in one WRITE request at the most.
const WRITE_MAX: u32 = 4 << 20;

/// Requests that the kernel sends without waiting for the answers of earlier ones (readahead,
/// release).
const BACKGROUND_MAX: u16 = 64;

/// Never the writeback cache: it hides who wrote, and when. A connection that was aborted is told apart
/// from a filesystem that was unmounted. What is open for direct I/O may be mapped.
const CAPABILITIES: [InitFlags; 10] = [
    InitFlags::FUSE_ABORT_ERROR,
    InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
    InitFlags::FUSE_ATOMIC_O_TRUNC,
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
    InitFlags::FUSE_AUTO_INVAL_DATA,
    InitFlags::FUSE_ASYNC_READ,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_ASYNC_DIO,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
];

impl Adapter {
    /// Who asks.
    fn caller(&self, request: &Request) -> Caller {
        let thread = if self.vfs.sees_callers() { request.pid() } else { 0 };
        Caller { uid: request.uid(), gid: request.gid(), thread }
    }

    /// Has the kernel ask for the attributes of a file before it goes by them again. Keeps nobody waiting: of no page
    /// anything is said.
    fn forget_attributes(&self, id: INodeNo) {
        let told = self.notifier.get().map(|notifier| notifier.inval_inode(id, -1, 0));
        if let Some(Err(error)) = told {
            tracing::debug!(%error, inode = id.0, "the kernel may go by an older size for a second");
        }
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let mapped = self.vfs.maps_users().then_some(InitFlags::FUSE_ALLOW_IDMAP);
        // Where a guarded link leads is asked each time that somebody follows it.
        let cached = (!self.vfs.guards()).then_some(InitFlags::FUSE_CACHE_SYMLINKS);
        for capability in CAPABILITIES.into_iter().chain(mapped).chain(cached) {
            if config.add_capabilities(capability).is_err() {
                tracing::debug!(?capability, "the kernel does not offer this");
            }
        }
        if self.vfs.may_be_passed() && config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
        {
            // The kernel allows 1 and 2.
            let depth = config.set_max_stack_depth(self.vfs.stack_depth());
            depth.map_err(|_nearest| io::ErrorKind::InvalidInput)?;
        }
        // A smaller bound that the kernel insists on is as good.
        if let Err(nearest) = config.set_max_write(WRITE_MAX) {
            config.set_max_write(nearest).map_err(|_nearest| io::ErrorKind::InvalidInput)?;
        }
        if let Err(nearest) = config.set_max_background(BACKGROUND_MAX) {
            config.set_max_background(nearest).map_err(|_nearest| io::ErrorKind::InvalidInput)?;
        }
        Ok(())
    }

    fn destroy(&mut self) {
        self.waiting.close();
        self.vfs.release_all();
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.serve(Operation::Lookup, parent, |watch| {
            let found = watch.over(|| self.vfs.lookup(inode(parent), name, self.caller(request)));
            answer_entry(reply, &found);
        });
    }

    fn forget(&self, _request: &Request, id: INodeNo, lookups: u64) {
        // One of several that came together.
        self.serve_at(Pace::Series, Operation::Forget, id, |watch| {
            self.vfs.forget(inode(id), lookups);
            watch.stop(&Ok(()));
        });
    }

    fn getattr(
        &self,
        request: &Request,
        id: INodeNo,
        handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        let handle = handle.map(|handle| HandleId(handle.0));
        self.serve(Operation::GetAttributes, id, |watch| {
            let caller = self.caller(request);
            let attributes = watch.over(|| self.vfs.attributes(inode(id), handle, caller));
            answer_attributes(reply, &attributes);
        });
    }

    fn setattr(
        &self,
        request: &Request,
        id: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _changed: Option<SystemTime>,
        handle: Option<FileHandle>,
        _created: Option<SystemTime>,
        _changed_time: Option<SystemTime>,
        _backup: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = AttributeChange {
            mode,
            uid,
            gid,
            size,
            accessed: accessed.map(new_time),
            modified: modified.map(new_time),
        };
        let handle = handle.map(|handle| HandleId(handle.0));
        self.serve(Operation::SetAttributes, id, |watch| {
            let caller = self.caller(request);
            let changed = self.vfs.change_attributes(inode(id), handle, change, caller);
            self.answer_when_decided(watch, changed, reply, |reply, changed| {
                answer_attributes(reply, &changed);
            });
        });
    }

    fn readlink(&self, request: &Request, id: INodeNo, reply: ReplyData) {
        self.serve(Operation::ReadLink, id, |watch| {
            match watch.over(|| self.vfs.read_link(inode(id), self.caller(request))) {
                Ok(target) => reply.data(target.as_os_str().as_encoded_bytes()),
                Err(error) => reply.error(errno(error)),
            }
        });
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        let kind = rustix::fs::FileType::from_raw_mode(mode);
        let what = (kind, permissions(mode), u64::from(device));
        self.serve(Operation::MakeNode, parent, |watch| {
            let make = || self.vfs.make_node(inode(parent), name, what, self.caller(request));
            answer_entry(reply, &watch.over(make));
        });
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let mode = permissions(mode);
        self.serve(Operation::MakeDirectory, parent, |watch| {
            let make = || self.vfs.make_directory(inode(parent), name, mode, self.caller(request));
            answer_entry(reply, &watch.over(make));
        });
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let unlink = || self.vfs.unlink(inode(parent), name, self.caller(request));
        self.serve(Operation::Unlink, parent, |watch| answer(reply, watch.over(unlink)));
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let remove = || self.vfs.remove_directory(inode(parent), name);
        self.serve(Operation::RemoveDirectory, parent, |watch| answer(reply, watch.over(remove)));
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        self.serve(Operation::Symlink, parent, |watch| {
            let make = || self.vfs.symlink(inode(parent), name, target, self.caller(request));
            answer_entry(reply, &watch.over(make));
        });
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (from, to) = ((inode(parent), name), (inode(new_parent), new_name));
        let rename = || {
            let flags = rename_flags(flags).ok_or(Error::Invalid)?;
            self.vfs.rename(from, to, flags, self.caller(request))
        };
        self.serve(Operation::Rename, parent, |watch| answer(reply, watch.over(rename)));
    }

    fn link(
        &self,
        _request: &Request,
        id: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        self.serve(Operation::Link, id, |watch| {
            let linked = watch.over(|| self.vfs.link(inode(id), inode(new_parent), new_name));
            answer_entry(reply, &linked);
        });
    }

    fn open(&self, request: &Request, id: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.serve(Operation::Open, id, |watch| {
            let opened = self.vfs.open(inode(id), open_flags(flags.0), self.caller(request));
            let adapter = self.clone();
            self.answer_when_decided(watch, opened, reply, move |reply, opened| {
                let register = |file: &File| adapter.shortcuts.make(|| reply.open_backing(file));
                match opened.and_then(|ready| adapter.vfs.give(ready, register)) {
                    Ok(given) => {
                        if given.size == Told::Outdated {
                            adapter.forget_attributes(id);
                        }
                        let (handle, flags) = (FileHandle(given.handle.0), fopen_flags(&given));
                        match &given.way {
                            Way::Passthrough(shortcut) | Way::PassthroughDirect(shortcut) => {
                                reply.opened_passthrough(handle, flags, known_as(shortcut));
                            }
                            Way::Cached | Way::Direct => reply.opened(handle, flags),
                        }
                    }
                    Err(error) => reply.error(errno(error)),
                }
            });
        });
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (mode, flags) = (permissions(mode), open_flags(flags));
        self.serve(Operation::Create, parent, |watch| {
            let created = self.vfs.create(inode(parent), name, mode, flags, self.caller(request));
            let adapter = self.clone();
            self.answer_when_decided(watch, created, reply, move |reply, created| {
                let register = |file: &File| adapter.shortcuts.make(|| reply.open_backing(file));
                let given = created.and_then(|(attributes, ready)| {
                    Ok((file_attr(&attributes), adapter.vfs.give(ready, register)?))
                });
                match given {
                    Ok((made, given)) => {
                        let (handle, flags) = (FileHandle(given.handle.0), fopen_flags(&given));
                        match &given.way {
                            Way::Passthrough(shortcut) | Way::PassthroughDirect(shortcut) => {
                                let known = known_as(shortcut);
                                reply.created_passthrough(
                                    &LIFETIME, &made, GENERATION, handle, flags, known,
                                );
                            }
                            Way::Cached | Way::Direct => {
                                reply.created(&LIFETIME, &made, GENERATION, handle, flags);
                            }
                        }
                    }
                    Err(error) => reply.error(errno(error)),
                }
            });
        });
    }

    fn read(
        &self,
        _request: &Request,
        id: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let size = size as usize;
        let answer = |watch: Watch<'_>, buffer: &mut Vec<u8>| {
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            match watch.over(|| self.vfs.read(HandleId(handle.0), &mut buffer[..size], offset)) {
                Ok(count) => {
                    meter().read(count);
                    reply.data(&buffer[..count]);
                }
                Err(error) => reply.error(errno(error)),
            }
        };
        self.serve_at(pace_of(size), Operation::Read, id, |watch| {
            READ_BUFFER.with_borrow_mut(|buffer| answer(watch, buffer));
        });
    }

    fn write(
        &self,
        _request: &Request,
        id: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let drop_bits = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let promise = promise(write_flags, open_flags(flags.0));
        // The first piece of a file may be all of it; after that others are likely to follow.
        let pace = if offset > 0 { Pace::Long } else { pace_of(data.len()) };
        self.serve_at(pace, Operation::Write, id, |watch| {
            self.vfs.write(HandleId(handle.0), (data, offset), drop_bits, promise, |written| {
                watch.stop(&written);
                answer_written(reply, written);
            });
        });
    }

    fn flush(
        &self,
        _request: &Request,
        id: INodeNo,
        handle: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let flush = || self.vfs.flush(HandleId(handle.0));
        self.serve(Operation::Flush, id, |watch| answer(reply, watch.over(flush)));
    }

    fn release(
        &self,
        _request: &Request,
        id: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let release = || {
            self.vfs.release(HandleId(handle.0));
            Ok(())
        };
        self.serve(Operation::Release, id, |watch| answer(reply, watch.over(release)));
    }

    fn fsync(
        &self,
        _request: &Request,
        id: INodeNo,
        handle: FileHandle,
        data_only: bool,
        reply: ReplyEmpty,
    ) {
        let sync = || self.vfs.sync(HandleId(handle.0), data_only);
        self.serve(Operation::Sync, id, |watch| answer(reply, watch.over(sync)));
    }

    fn opendir(&self, request: &Request, id: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.serve(Operation::OpenDirectory, id, |watch| {
            match watch.over(|| self.vfs.open_directory(inode(id), self.caller(request))) {
                Ok(handle) => reply.opened(FileHandle(handle.0), FopenFlags::empty()),
                Err(error) => reply.error(errno(error)),
            }
        });
    }

    fn readdir(
        &self,
        _request: &Request,
        id: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let handle = HandleId(handle.0);
        self.list(Operation::ReadDirectory, (id, handle), move |vfs, watch| {
            let mut add = |entry: &DirectoryEntry| {
                !reply.add(INodeNo(entry.inode), entry.next, file_type(entry.kind), &entry.name)
            };
            match watch.over(|| vfs.read_directory(handle, offset, &mut add)) {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno(error)),
            }
        });
    }

    fn readdirplus(
        &self,
        _request: &Request,
        id: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let handle = HandleId(handle.0);
        self.list(Operation::ReadDirectoryPlus, (id, handle), move |vfs, watch| {
            let mut add = |entry: &DirectoryEntry| add_entry(vfs, handle, entry, &mut reply);
            match watch.over(|| vfs.read_directory(handle, offset, &mut add)) {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno(error)),
            }
        });
    }

    fn releasedir(
        &self,
        _request: &Request,
        id: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        let release = || {
            self.vfs.release(HandleId(handle.0));
            Ok(())
        };
        self.serve(Operation::ReleaseDirectory, id, |watch| answer(reply, watch.over(release)));
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        id: INodeNo,
        handle: FileHandle,
        data_only: bool,
        reply: ReplyEmpty,
    ) {
        let sync = || self.vfs.sync(HandleId(handle.0), data_only);
        self.serve(Operation::SyncDirectory, id, |watch| answer(reply, watch.over(sync)));
    }

    fn statfs(&self, _request: &Request, id: INodeNo, reply: ReplyStatfs) {
        self.serve(Operation::StatFilesystem, id, |watch| {
            match watch.over(|| self.vfs.statfs(inode(id))) {
                Ok(s) => reply.statfs(
                    s.f_blocks,
                    s.f_bfree,
                    s.f_bavail,
                    s.f_files,
                    s.f_ffree,
                    u32::try_from(s.f_bsize).unwrap_or(u32::MAX),
                    u32::try_from(s.f_namemax).unwrap_or(u32::MAX),
                    u32::try_from(s.f_frsize).unwrap_or(u32::MAX),
                ),
                Err(error) => reply.error(errno(error)),
            }
        });
    }

    fn setxattr(
        &self,
        _request: &Request,
        id: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let set = || self.vfs.set_attribute(inode(id), name, value, flags);
        self.serve(Operation::SetXattr, id, |watch| answer(reply, watch.over(set)));
    }

    fn getxattr(
        &self,
        _request: &Request,
        id: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        self.serve(Operation::GetXattr, id, |watch| {
            let value = self.vfs.attribute(inode(id), name);
            self.answer_when_decided(watch, value, (reply, size), |(reply, size), value| {
                answer_attribute(reply, size, value);
            });
        });
    }

    fn listxattr(&self, _request: &Request, id: INodeNo, size: u32, reply: ReplyXattr) {
        let names = || self.vfs.attribute_names(inode(id));
        self.serve(Operation::ListXattr, id, |watch| {
            answer_attribute(reply, size, watch.over(names));
        });
    }

    fn removexattr(&self, _request: &Request, id: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let remove = || self.vfs.remove_attribute(inode(id), name);
        self.serve(Operation::RemoveXattr, id, |watch| answer(reply, watch.over(remove)));
    }

    fn access(&self, _request: &Request, id: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        // Never asked: `default_permissions` has the kernel check modes itself.
        let unknown = || Err(rustix::io::Errno::NOSYS.into());
        self.serve(Operation::Access, id, |watch| answer(reply, watch.over(unknown)));
    }

    fn ioctl(
        &self,
        _request: &Request,
        id: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _input: &[u8],
        _output_size: u32,
        reply: ReplyIoctl,
    ) {
        // Python asks every file that it opens whether it is a terminal.
        let terminal = || Err::<(), _>(Error::from(rustix::io::Errno::NOTTY));
        self.serve(Operation::Control, id, |watch| {
            if let Err(error) = watch.over(terminal) {
                reply.error(errno(error));
            }
        });
    }

    fn fallocate(
        &self,
        _request: &Request,
        id: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let mode = u32::try_from(mode).ok().and_then(FallocateFlags::from_bits);
        let allocate = || {
            let mode = mode.ok_or(Error::NotSupported)?;
            self.vfs.allocate(HandleId(handle.0), mode, offset, length)
        };
        self.serve(Operation::Allocate, id, |watch| answer(reply, watch.over(allocate)));
    }

    fn lseek(
        &self,
        _request: &Request,
        id: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let seek = || {
            let to = match (u64::try_from(offset), whence) {
                (Ok(offset), libc::SEEK_DATA) => SeekFrom::Data(offset),
                (Ok(offset), libc::SEEK_HOLE) => SeekFrom::Hole(offset),
                (Err(_), libc::SEEK_DATA | libc::SEEK_HOLE) => {
                    return Err(rustix::io::Errno::NXIO.into());
                }
                _ => return Err(Error::Invalid),
            };
            self.vfs.seek(HandleId(handle.0), to)
        };
        self.serve(Operation::Seek, id, |watch| match watch.over(seek) {
            Ok(position) => reply.offset(i64::try_from(position).unwrap_or(i64::MAX)),
            Err(error) => reply.error(errno(error)),
        });
    }

    fn copy_file_range(
        &self,
        _request: &Request,
        _from: INodeNo,
        from_handle: FileHandle,
        from_offset: u64,
        to_id: INodeNo,
        to_handle: FileHandle,
        to_offset: u64,
        length: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        // The answer counts in 32 bits: copy no more than it can tell.
        let length = usize::try_from(length.min(COPY_MAX)).unwrap_or(usize::MAX);
        let (from, to) = (HandleId(from_handle.0), HandleId(to_handle.0));
        let copy = || self.vfs.copy_range((from, from_offset), (to, to_offset), length);
        self.serve(Operation::CopyRange, to_id, |watch| answer_written(reply, watch.over(copy)));
    }
}

impl Adapter {
    /// Answers a request about a file.
    fn serve(&self, operation: Operation, about: INodeNo, answer: impl FnOnce(Watch<'static>)) {
        self.serve_at(pace(operation), operation, about, answer);
    }

    /// Does what a request takes. One that panics is answered with EIO, when its reply is dropped, and takes no other along.
    fn serve_at(
        &self,
        pace: Pace,
        operation: Operation,
        about: INodeNo,
        work: impl FnOnce(Watch<'static>),
    ) {
        self.crew.turn(Subject { operation, inode: about.0 }, pace, || {
            let work = AssertUnwindSafe(|| work(meter().start(operation)));
            if panic::catch_unwind(work).is_err() {
                let operation = operation.name();
                tracing::error!(
                    operation,
                    inode = about.0,
                    "a request broke off: please report this"
                );
                self.vfs.doubt(inode(about));
            }
        });
    }

    /// Replies at once, or has it done when the answer is there.
    fn answer_when_decided<T: 'static, R: Send + 'static>(
        &self,
        watch: Watch<'static>,
        answer: Answer<T>,
        reply: R,
        give: impl FnOnce(R, Result<T, Error>) + Send + 'static,
    ) {
        let give = move |result| {
            watch.stop(&result);
            give(reply, result);
        };
        match answer {
            Answer::Later(judge) => {
                let waiting = Arc::clone(&self.waiting);
                self.waiting.judging.add(move || waiting.go_on(judge(), give));
            }
            answer => self.waiting.go_on(answer, give),
        }
    }

    /// Lists a directory: at once, unless for each entry it has to be found out who may see it.
    fn list(
        &self,
        operation: Operation,
        (id, directory): (INodeNo, HandleId),
        list: impl FnOnce(&Vfs, Watch<'_>) + Send + 'static,
    ) {
        self.serve(operation, id, |watch| {
            if !self.vfs.lists_attestations(directory) {
                return list(&self.vfs, watch);
            }
            let vfs = Arc::clone(&self.vfs);
            self.waiting.listing.add(move || list(&vfs, watch));
        });
    }
}

/// Adds an entry with its attributes, which counts as a lookup. Answers whether there was room.
fn add_entry(
    vfs: &Vfs,
    directory: HandleId,
    entry: &DirectoryEntry,
    reply: &mut ReplyDirectoryPlus,
) -> bool {
    if entry.name == "." || entry.name == ".." {
        let attr = listed_only(entry);
        let full = reply.add(attr.ino, entry.next, &entry.name, &Duration::ZERO, &attr, GENERATION);
        return !full;
    }
    match vfs.look_up_entry(directory, &entry.name) {
        Ok(Some(attributes)) => {
            let attr = file_attr(&attributes);
            let lifetime = lifetime(&attributes);
            let full = reply.add(attr.ino, entry.next, &entry.name, &lifetime, &attr, GENERATION);
            if full {
                // It was not handed out, so the kernel will not give it back.
                vfs.forget(attributes.id, 1);
            }
            !full
        }
        Ok(None) => true,
        Err(error) => {
            tracing::debug!(name = ?entry.name, %error, "left out of a listing");
            true
        }
    }
}

thread_local! {
    /// Grows to the largest READ that this thread answered.
    static READ_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Of a request of so many bytes or more others do not wait for the end: to store or to read them takes longer than
/// to wake a thread.
const LONG_BYTES: usize = 64 << 10;

/// How a request that moves so many bytes is answered.
fn pace_of(bytes: usize) -> Pace {
    if bytes >= LONG_BYTES { Pace::Long } else { Pace::Quick }
}

/// How a request of this kind is answered, as a rule.
fn pace(operation: Operation) -> Pace {
    match operation {
        Operation::Sync | Operation::SyncDirectory | Operation::Allocate | Operation::CopyRange => {
            Pace::Long
        }
        _ => Pace::Quick,
    }
}

/// Bytes that one request to copy copies at the most, for it keeps the file locked so long; the kernel
/// asks for the rest.
const COPY_MAX: u64 = 64 << 20;

fn inode(id: INodeNo) -> InodeId {
    InodeId(id.0)
}

fn open_flags(flags: i32) -> OFlags {
    OFlags::from_bits_retain(flags.cast_unsigned())
}

/// The kernel repeats with each write what its open file or the call wants of it.
fn promise(write_flags: WriteFlags, flags: OFlags) -> Promise {
    if write_flags.contains(WriteFlags::FUSE_WRITE_CACHE) {
        Promise::Stored
    } else if flags.contains(OFlags::SYNC) {
        Promise::Synced { data_only: false }
    } else if flags.contains(OFlags::DSYNC) {
        Promise::Synced { data_only: true }
    } else {
        Promise::Received
    }
}

fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777)
}

fn fopen_flags(given: &Given) -> FopenFlags {
    let mut flags = match (&given.way, given.page_cache) {
        (Way::Cached, PageCache::Keep) => FopenFlags::FOPEN_KEEP_CACHE,
        (Way::Direct | Way::PassthroughDirect(_), _) => FopenFlags::FOPEN_DIRECT_IO,
        (Way::Cached, PageCache::Drop) | (Way::Passthrough(_), _) => FopenFlags::empty(),
    };
    flags.set(FopenFlags::FOPEN_NOFLUSH, !given.flushes);
    flags
}

fn rename_flags(flags: RenameFlags) -> Option<rustix::fs::RenameFlags> {
    let known = rustix::fs::RenameFlags::NOREPLACE | rustix::fs::RenameFlags::EXCHANGE;
    let flags = rustix::fs::RenameFlags::from_bits(flags.bits())?;
    known.contains(flags).then_some(flags)
}

fn new_time(time: TimeOrNow) -> NewTime {
    match time {
        TimeOrNow::Now => NewTime::Now,
        TimeOrNow::SpecificTime(time) => NewTime::At(time),
    }
}

fn errno(error: Error) -> Errno {
    Errno::from_i32(error.errno())
}

fn answer(reply: ReplyEmpty, result: Result<(), Error>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}

fn answer_entry(reply: ReplyEntry, result: &Result<Attributes, Error>) {
    match result {
        Ok(attributes) => {
            reply.entry(&lifetime(attributes), &file_attr(attributes), GENERATION);
        }
        Err(error) => reply.error(errno(*error)),
    }
}

fn answer_attributes(reply: ReplyAttr, result: &Result<Attributes, Error>) {
    match result {
        Ok(attributes) => reply.attr(&lifetime(attributes), &file_attr(attributes)),
        Err(error) => reply.error(errno(*error)),
    }
}

fn answer_written(reply: ReplyWrite, result: Result<usize, Error>) {
    match result {
        Ok(count) => {
            meter().written(count);
            reply.written(u32::try_from(count).unwrap_or(u32::MAX));
        }
        Err(error) => reply.error(errno(error)),
    }
}

/// The two-step protocol: a size of 0 asks for the length.
fn answer_attribute(reply: ReplyXattr, size: u32, result: Result<Vec<u8>, Error>) {
    match result {
        Ok(value) if size == 0 => reply.size(u32::try_from(value.len()).unwrap_or(u32::MAX)),
        Ok(value) if value.len() <= size as usize => reply.data(&value),
        Ok(_) => reply.error(errno(Error::TooSmall)),
        Err(error) => reply.error(errno(error)),
    }
}

/// What one user may see of virtual files another one may not: the kernel has to ask each time.
fn lifetime(attributes: &Attributes) -> Duration {
    if attributes.id.is_virtual() { Duration::ZERO } else { LIFETIME }
}

fn file_attr(attributes: &Attributes) -> FileAttr {
    let stat = &attributes.stat.statx;
    FileAttr {
        ino: INodeNo(attributes.id.0),
        size: stat.stx_size,
        blocks: stat.stx_blocks,
        atime: time(stat.stx_atime),
        mtime: time(stat.stx_mtime),
        ctime: time(stat.stx_ctime),
        crtime: time(stat.stx_btime),
        kind: file_type(attributes.stat.kind()),
        perm: stat.stx_mode & 0o7777,
        nlink: stat.stx_nlink,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        rdev: kernel_device(stat.stx_rdev_major, stat.stx_rdev_minor),
        blksize: stat.stx_blksize,
        flags: 0,
    }
}

/// `.` and `..` in a listing: number and kind alone, and no reference.
fn listed_only(entry: &DirectoryEntry) -> FileAttr {
    FileAttr {
        ino: INodeNo(entry.inode),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::Directory,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

fn file_type(kind: rustix::fs::FileType) -> FileType {
    match kind {
        rustix::fs::FileType::Directory => FileType::Directory,
        rustix::fs::FileType::Symlink => FileType::Symlink,
        rustix::fs::FileType::Fifo => FileType::NamedPipe,
        rustix::fs::FileType::Socket => FileType::Socket,
        rustix::fs::FileType::CharacterDevice => FileType::CharDevice,
        rustix::fs::FileType::BlockDevice => FileType::BlockDevice,
        rustix::fs::FileType::RegularFile | rustix::fs::FileType::Unknown => FileType::RegularFile,
    }
}

/// Device numbers as FUSE carries them (the kernel's `new_encode_dev`).
fn kernel_device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & !0xff) << 12)
}

fn time(time: StatxTimestamp) -> SystemTime {
    let nanoseconds = Duration::from_nanos(u64::from(time.tv_nsec));
    let seconds = Duration::from_secs(time.tv_sec.unsigned_abs());
    let whole = if time.tv_sec >= 0 {
        UNIX_EPOCH.checked_add(seconds)
    } else {
        UNIX_EPOCH.checked_sub(seconds)
    };
    whole.and_then(|whole| whole.checked_add(nanoseconds)).unwrap_or(UNIX_EPOCH)
}
