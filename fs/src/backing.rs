//! The storage we front: every call goes through a descriptor beneath the root, never through a
//! joined path, so that no name and no symbolic link leads out of the tree.

mod read_only;

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fmt::Debug,
    fs::File,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
};

use rustix::{
    fs::{
        Access, AtFlags, CWD, FallocateFlags, FileType, Gid, Mode, OFlags, RawDir, RenameFlags,
        ResolveFlags, SeekFrom, StatVfs, Statx, Timestamps, Uid, XattrFlags,
    },
    io::Errno,
    path::DecInt,
};

pub(crate) use read_only::ReadOnly;

use crate::identity::{Filesystem, Identity, OVERLAY_MAGIC, STAT_MASK};

/// A file of any kind in the backing store, held by an `O_PATH` descriptor: it stays reachable
/// when its name changes or goes.
#[derive(Debug)]
pub struct Node(OwnedFd);

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What `statx` says of a node.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    /// All of it.
    pub statx: Statx,
    /// The part that identifies one content.
    pub identity: Identity,
}

impl Stat {
    /// Permissions, set-id bits and the sticky bit.
    pub fn mode(&self) -> Mode {
        Mode::from_raw_mode(u32::from(self.statx.stx_mode))
    }

    fn of(statx: Statx, filesystem: Filesystem) -> Self {
        Self { statx, identity: Identity::from_statx(filesystem, &statx) }
    }

    /// Whether the store has given it less room than it has bytes.
    pub fn has_holes(&self) -> bool {
        self.statx.stx_blocks.saturating_mul(512) < self.identity.size
    }

    /// Regular file, directory, ..
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(u32::from(self.statx.stx_mode))
    }

    /// `makedev` of the device that holds the inode.
    pub fn device(&self) -> u64 {
        device_of(&self.statx)
    }
}

fn device_of(statx: &Statx) -> u64 {
    rustix::fs::makedev(statx.stx_dev_major, statx.stx_dev_minor)
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Its name.
    pub name: OsString,
    /// Its inode number in the backing store.
    pub inode: u64,
    /// Its kind, `Unknown` where the filesystem does not say.
    pub kind: FileType,
    /// Where to go on reading after this entry.
    pub next: u64,
}

type Result<T> = rustix::io::Result<T>;

/// The storage behind a mount. All errors are those of the system call of the same name.
#[expect(
    missing_docs,
    clippy::missing_errors_doc,
    reason = "each method is the system call of the same name"
)]
pub trait Backing: Debug + Send + Sync {
    fn root(&self) -> Result<Node>;
    fn lookup(&self, parent: &Node, name: &OsStr) -> Result<Node>;
    /// Opens the file at a path relative to the root, following no symbolic link.
    fn resolve(&self, path: &Path) -> Result<Node>;
    /// Where a path relative to the root leads when every symbolic link is followed, relative to the
    /// root as well. XDEV when it leads out.
    fn follow(&self, path: &Path) -> Result<PathBuf>;
    fn stat(&self, file: BorrowedFd<'_>) -> Result<Stat>;
    /// What `stat` says of a name in a directory, by one look; of a symbolic link itself.
    fn stat_entry(&self, parent: &Node, name: &OsStr) -> Result<Stat>;
    /// Whether this process may write to it, as far as permissions go.
    fn may_write(&self, node: &Node) -> bool;
    /// `flags` may hold an access mode and nothing else.
    fn open(&self, node: &Node, flags: OFlags) -> Result<File>;
    fn create(&self, parent: &Node, name: &OsStr, flags: OFlags, mode: Mode) -> Result<File>;
    /// The node of an open file.
    fn node_of(&self, file: &File) -> Result<Node>;
    fn make_directory(&self, parent: &Node, name: &OsStr, mode: Mode) -> Result<Node>;
    fn make_node(
        &self,
        parent: &Node,
        name: &OsStr,
        kind: FileType,
        mode: Mode,
        device: u64,
    ) -> Result<Node>;
    fn symlink(&self, parent: &Node, name: &OsStr, target: &Path) -> Result<Node>;
    fn link(&self, node: &Node, parent: &Node, name: &OsStr) -> Result<()>;
    fn unlink(&self, parent: &Node, name: &OsStr) -> Result<()>;
    fn remove_directory(&self, parent: &Node, name: &OsStr) -> Result<()>;
    fn rename(&self, from: (&Node, &OsStr), to: (&Node, &OsStr), flags: RenameFlags) -> Result<()>;
    fn read_link(&self, node: &Node) -> Result<PathBuf>;
    fn change_mode(&self, file: BorrowedFd<'_>, mode: Mode) -> Result<()>;
    fn change_owner(&self, node: &Node, uid: Option<u32>, gid: Option<u32>) -> Result<()>;
    fn set_times(&self, node: &Node, times: &Timestamps) -> Result<()>;
    fn truncate(&self, file: &File, length: u64) -> Result<()>;
    /// Fills the buffer; fewer bytes only at the end of the file.
    fn read_at(&self, file: &File, buffer: &mut [u8], offset: u64) -> Result<usize>;
    /// Stores all of `bytes`, or as many as it can: the number tells. An error means none.
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> Result<usize>;
    fn allocate(&self, file: &File, mode: FallocateFlags, offset: u64, length: u64) -> Result<()>;
    fn copy_range(&self, from: (&File, u64), to: (&File, u64), length: usize) -> Result<usize>;
    fn seek(&self, file: &File, to: SeekFrom) -> Result<u64>;
    fn sync(&self, file: &File, data_only: bool) -> Result<()>;
    /// Entries from `position` on (0 is the start), as many as one buffer holds; none at the end.
    fn entries(&self, directory: &File, position: u64) -> Result<Vec<DirectoryEntry>>;
    fn statfs(&self, node: &Node) -> Result<StatVfs>;
    /// Whether it lies upon other filesystems, as overlayfs does.
    fn is_stacked(&self, node: &Node) -> Result<bool>;
    fn attribute(&self, node: &Node, name: &OsStr) -> Result<Vec<u8>>;
    fn attribute_names(&self, node: &Node) -> Result<Vec<u8>>;
    fn set_attribute(
        &self,
        node: &Node,
        name: &OsStr,
        value: &[u8],
        flags: XattrFlags,
    ) -> Result<()>;
    fn remove_attribute(&self, node: &Node, name: &OsStr) -> Result<()>;
}

/// A directory of this machine as backing store.
#[derive(Debug)]
pub struct Directory {
    root: OwnedFd,
    /// By device, so that a `stat` is one system call.
    filesystems: Mutex<HashMap<u64, Filesystem>>,
    /// Those of this process, in proc.
    descriptors: OnceLock<OwnedFd>,
}

impl Directory {
    /// Fronts the directory that `root` is open on (`O_PATH` will do).
    pub fn new(root: OwnedFd) -> Self {
        Self { root, filesystems: Mutex::default(), descriptors: OnceLock::new() }
    }

    /// The filesystem of a file of which `statx` says this, if it was met before.
    fn known_filesystem(&self, statx: &Statx) -> Option<Filesystem> {
        let known = self.filesystems.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&device_of(statx)).copied()
    }

    fn filesystem(&self, statx: &Statx, file: BorrowedFd<'_>) -> Result<Filesystem> {
        if let Some(known) = self.known_filesystem(statx) {
            return Ok(known);
        }
        let filesystem = Filesystem::of(file)?;
        let mut known = self.filesystems.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(device_of(statx), filesystem);
        Ok(filesystem)
    }

    /// Opens what a descriptor is open on once more. Each open of a file comes by here: the way from the root of the
    /// machine down to the descriptors is gone once.
    fn open_again(&self, file: impl AsFd, flags: OFlags) -> Result<OwnedFd> {
        let number = DecInt::from_fd(file);
        rustix::fs::openat(self.descriptors()?, number, flags | OFlags::CLOEXEC, Mode::empty())
    }

    fn descriptors(&self) -> Result<&OwnedFd> {
        if let Some(known) = self.descriptors.get() {
            return Ok(known);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open("/proc/self/fd", flags, Mode::empty())?;
        Ok(self.descriptors.get_or_init(|| opened))
    }
}

impl Backing for Directory {
    fn root(&self) -> Result<Node> {
        rustix::io::fcntl_dupfd_cloexec(&self.root, 0).map(Node)
    }

    fn lookup(&self, parent: &Node, name: &OsStr) -> Result<Node> {
        open_beneath(parent, Path::new(name), ResolveFlags::empty())
    }

    fn resolve(&self, path: &Path) -> Result<Node> {
        let mut pieces = pieces(path).into_iter();
        let first = pieces.next().unwrap_or_default();
        let found = open_beneath(&self.root, &first, ResolveFlags::NO_SYMLINKS)?;
        pieces
            .try_fold(found, |above, piece| open_beneath(&above, &piece, ResolveFlags::NO_SYMLINKS))
    }

    fn follow(&self, path: &Path) -> Result<PathBuf> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let found = rustix::fs::openat2(&self.root, path, flags, Mode::empty(), BENEATH)?;
        let place = |file: BorrowedFd<'_>| {
            let name = rustix::fs::readlink(by_descriptor(file), Vec::new())?;
            Ok::<_, Errno>(PathBuf::from(OsString::from_vec(name.into_bytes())))
        };
        let (found, root) = (place(found.as_fd())?, place(self.root.as_fd())?);
        found.strip_prefix(root).map(Path::to_owned).map_err(|_elsewhere| Errno::XDEV)
    }

    fn stat(&self, file: BorrowedFd<'_>) -> Result<Stat> {
        let statx = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, STAT_MASK)?;
        let filesystem = self.filesystem(&statx, file)?;
        Ok(Stat::of(statx, filesystem))
    }

    fn stat_entry(&self, parent: &Node, name: &OsStr) -> Result<Stat> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let statx = rustix::fs::statx(parent, name, flags, STAT_MASK)?;
        match self.known_filesystem(&statx) {
            Some(filesystem) => Ok(Stat::of(statx, filesystem)),
            // By now the name may be another file's.
            None => self.stat(self.lookup(parent, name)?.as_fd()),
        }
    }

    fn may_write(&self, node: &Node) -> bool {
        let flags = AtFlags::EACCESS;
        rustix::fs::accessat(CWD, by_descriptor(node), Access::WRITE_OK, flags).is_ok()
    }

    fn open(&self, node: &Node, flags: OFlags) -> Result<File> {
        self.open_again(node, flags).map(File::from)
    }

    fn create(&self, parent: &Node, name: &OsStr, flags: OFlags, mode: Mode) -> Result<File> {
        let flags = flags | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat2(parent, name, flags, mode, BENEATH).map(File::from)
    }

    fn node_of(&self, file: &File) -> Result<Node> {
        self.open_again(file, OFlags::PATH).map(Node)
    }

    fn make_directory(&self, parent: &Node, name: &OsStr, mode: Mode) -> Result<Node> {
        rustix::fs::mkdirat(parent, name, mode)?;
        self.lookup(parent, name)
    }

    fn make_node(
        &self,
        parent: &Node,
        name: &OsStr,
        kind: FileType,
        mode: Mode,
        device: u64,
    ) -> Result<Node> {
        rustix::fs::mknodat(parent, name, kind, mode, device)?;
        self.lookup(parent, name)
    }

    fn symlink(&self, parent: &Node, name: &OsStr, target: &Path) -> Result<Node> {
        rustix::fs::symlinkat(target, parent, name)?;
        self.lookup(parent, name)
    }

    fn link(&self, node: &Node, parent: &Node, name: &OsStr) -> Result<()> {
        let follow = AtFlags::SYMLINK_FOLLOW;
        rustix::fs::linkat(CWD, by_descriptor(node), parent, name, follow)
    }

    fn unlink(&self, parent: &Node, name: &OsStr) -> Result<()> {
        rustix::fs::unlinkat(parent, name, AtFlags::empty())
    }

    fn remove_directory(&self, parent: &Node, name: &OsStr) -> Result<()> {
        rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
    }

    fn rename(&self, from: (&Node, &OsStr), to: (&Node, &OsStr), flags: RenameFlags) -> Result<()> {
        rustix::fs::renameat_with(from.0, from.1, to.0, to.1, flags)
    }

    fn read_link(&self, node: &Node) -> Result<PathBuf> {
        let target = rustix::fs::readlinkat(node, c"", Vec::new())?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    fn change_mode(&self, file: BorrowedFd<'_>, mode: Mode) -> Result<()> {
        rustix::fs::chmodat(CWD, by_descriptor(file), mode, AtFlags::empty())
    }

    fn change_owner(&self, node: &Node, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        rustix::fs::chownat(node, c"", uid, gid, AtFlags::EMPTY_PATH)
    }

    fn set_times(&self, node: &Node, times: &Timestamps) -> Result<()> {
        rustix::fs::utimensat(node, c"", times, AtFlags::EMPTY_PATH)
    }

    fn truncate(&self, file: &File, length: u64) -> Result<()> {
        rustix::fs::ftruncate(file, length)
    }

    fn read_at(&self, file: &File, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let length = buffer.len();
        let read = |done| rustix::io::pread(file, &mut buffer[done..], offset + done as u64);
        // Fewer bytes mean the end of the file to the kernel, so a failure must not look like it.
        let (done, ended) = piecewise(length, read);
        ended.map(|()| done)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> Result<usize> {
        let write = |done| rustix::io::pwrite(file, &bytes[done..], offset + done as u64);
        match piecewise(bytes.len(), write) {
            (0, Err(errno)) => Err(errno),
            (done, _) => Ok(done),
        }
    }

    fn allocate(&self, file: &File, mode: FallocateFlags, offset: u64, length: u64) -> Result<()> {
        rustix::fs::fallocate(file, mode, offset, length)
    }

    fn copy_range(&self, from: (&File, u64), to: (&File, u64), length: usize) -> Result<usize> {
        let (mut from_offset, mut to_offset) = (from.1, to.1);
        rustix::fs::copy_file_range(
            from.0,
            Some(&mut from_offset),
            to.0,
            Some(&mut to_offset),
            length,
        )
    }

    fn seek(&self, file: &File, to: SeekFrom) -> Result<u64> {
        rustix::fs::seek(file, to)
    }

    fn sync(&self, file: &File, data_only: bool) -> Result<()> {
        if data_only { rustix::fs::fdatasync(file) } else { rustix::fs::fsync(file) }
    }

    fn entries(&self, directory: &File, position: u64) -> Result<Vec<DirectoryEntry>> {
        rustix::fs::seek(directory, SeekFrom::Start(position))?;
        let mut buffer = vec![MaybeUninit::uninit(); DIRECTORY_BUFFER];
        let mut raw = RawDir::new(directory, &mut buffer);
        let mut entries = Vec::new();
        while let Some(entry) = raw.next() {
            let entry = entry?;
            entries.push(DirectoryEntry {
                name: OsStr::from_bytes(entry.file_name().to_bytes()).to_owned(),
                inode: entry.ino(),
                kind: entry.file_type(),
                next: entry.next_entry_cookie(),
            });
            if raw.is_buffer_empty() {
                break;
            }
        }
        Ok(entries)
    }

    fn statfs(&self, node: &Node) -> Result<StatVfs> {
        rustix::fs::fstatvfs(node)
    }

    fn is_stacked(&self, node: &Node) -> Result<bool> {
        Ok(rustix::fs::fstatfs(node)?.f_type == OVERLAY_MAGIC)
    }

    fn attribute(&self, node: &Node, name: &OsStr) -> Result<Vec<u8>> {
        let node = by_descriptor(node);
        let mut short = [0; XATTR_SIZE_USUAL];
        match rustix::fs::getxattr(&node, name, &mut short[..]) {
            Err(Errno::RANGE) => {}
            length => return Ok(short[..length?].to_vec()),
        }
        let mut value = vec![0; XATTR_SIZE_MAX];
        let length = rustix::fs::getxattr(&node, name, &mut value[..])?;
        value.truncate(length);
        Ok(value)
    }

    fn attribute_names(&self, node: &Node) -> Result<Vec<u8>> {
        let mut names = vec![0; XATTR_SIZE_MAX];
        let length = rustix::fs::listxattr(by_descriptor(node), &mut names[..])?;
        names.truncate(length);
        Ok(names)
    }

    fn set_attribute(
        &self,
        node: &Node,
        name: &OsStr,
        value: &[u8],
        flags: XattrFlags,
    ) -> Result<()> {
        rustix::fs::setxattr(by_descriptor(node), name, value, flags)
    }

    fn remove_attribute(&self, node: &Node, name: &OsStr) -> Result<()> {
        rustix::fs::removexattr(by_descriptor(node), name)
    }
}

/// Goes on until all `length` bytes are done, the other side has no more, or it fails. Answers with
/// how many were done, and how it ended.
fn piecewise(length: usize, mut piece: impl FnMut(usize) -> Result<usize>) -> (usize, Result<()>) {
    let mut done = 0;
    while done < length {
        match piece(done) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(errno) => return (done, Err(errno)),
        }
    }
    (done, Ok(()))
}

/// Names stay below the root and magic links are not followed.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

/// Bytes of directory entries that are read at once.
const DIRECTORY_BUFFER: usize = 32 * 1024;

/// The kernel asks for one of each file that is written to, and there mostly is none.
const XATTR_SIZE_USUAL: usize = 256;

/// Linux `XATTR_SIZE_MAX` and `XATTR_LIST_MAX`: no value and no list is larger.
const XATTR_SIZE_MAX: usize = 64 * 1024;

fn open_beneath(parent: impl AsFd, path: &Path, resolve: ResolveFlags) -> Result<Node> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(parent, path, flags, Mode::empty(), BENEATH | resolve).map(Node)
}

/// As many names of a path at a time as one system call takes.
fn pieces(path: &Path) -> Vec<PathBuf> {
    let mut pieces: Vec<PathBuf> = Vec::new();
    for name in path {
        match pieces.last_mut() {
            Some(piece) if piece.as_os_str().len() + name.len() + 1 < PATH_MAX => piece.push(name),
            _ => pieces.push(name.into()),
        }
    }
    pieces
}

/// Linux `PATH_MAX`: bytes of a path, with the NUL behind it.
const PATH_MAX: usize = 4096;

/// The way from an `O_PATH` descriptor to calls that want a path; the kernel jumps straight to the
/// inode, whatever its names are by now.
pub(crate) fn by_descriptor(file: impl AsFd) -> String {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_may_be_longer_than_one_system_call_takes() {
        let directory = tempfile::tempdir().unwrap();
        let open = |path: &Path| rustix::fs::open(path, OFlags::PATH, Mode::empty()).unwrap();
        let backing = Directory::new(open(directory.path()));
        let mut path = PathBuf::new();
        let mut below = backing.root().unwrap();
        for _ in 0..40 {
            let name = "d".repeat(255);
            below = backing.make_directory(&below, name.as_ref(), Mode::RWXU).unwrap();
            path.push(name);
            let found = backing.resolve(&path).unwrap();
            let [found, made] = [&found, &below].map(|node| backing.stat(node.as_fd()).unwrap());
            assert_eq!(found.identity, made.identity, "{}", path.as_os_str().len());
        }
        assert_eq!(backing.resolve(&path.join("missing")).err(), Some(Errno::NOENT));
        assert_eq!(backing.resolve(Path::new("")).err(), Some(Errno::NOENT));
    }

    #[test]
    fn a_failure_after_some_bytes_is_told_with_them() {
        let mut answers = [Ok(3), Err(Errno::INTR), Ok(2), Err(Errno::IO)].into_iter();
        let failed = piecewise(10, |_| answers.next().unwrap());
        assert_eq!(failed, (5, Err(Errno::IO)));
        let mut answers = [Ok(3), Ok(0)].into_iter();
        assert_eq!(piecewise(10, |_| answers.next().unwrap()), (3, Ok(())));
        assert_eq!(piecewise(0, |_| Err(Errno::IO)), (0, Ok(())));
    }
}
