use std::{
    ffi::OsStr,
    fs::File,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{
        FallocateFlags, FileType, Mode, OFlags, RenameFlags, SeekFrom, StatVfs, Timestamps,
        XattrFlags,
    },
    io::Errno,
};

use super::{Backing, DirectoryEntry, Node, Result, Stat};

/// A backing store that lets nothing be changed: EROFS. For a mount that is to be read-only however
/// the kernel was told to mount it, as when its descriptor came from somebody else.
#[derive(Debug)]
pub(crate) struct ReadOnly(pub(crate) Arc<dyn Backing>);

impl Backing for ReadOnly {
    fn root(&self) -> Result<Node> {
        self.0.root()
    }

    fn lookup(&self, parent: &Node, name: &OsStr) -> Result<Node> {
        self.0.lookup(parent, name)
    }

    fn resolve(&self, path: &Path) -> Result<Node> {
        self.0.resolve(path)
    }

    fn follow(&self, path: &Path) -> Result<PathBuf> {
        self.0.follow(path)
    }

    fn stat(&self, file: BorrowedFd<'_>) -> Result<Stat> {
        self.0.stat(file)
    }

    fn stat_entry(&self, parent: &Node, name: &OsStr) -> Result<Stat> {
        self.0.stat_entry(parent, name)
    }

    fn may_write(&self, _: &Node) -> bool {
        false
    }

    fn open(&self, node: &Node, flags: OFlags) -> Result<File> {
        match flags & OFlags::ACCMODE {
            OFlags::RDONLY => self.0.open(node, flags),
            _ => Err(Errno::ROFS),
        }
    }

    fn create(&self, _: &Node, _: &OsStr, _: OFlags, _: Mode) -> Result<File> {
        Err(Errno::ROFS)
    }

    fn node_of(&self, file: &File) -> Result<Node> {
        self.0.node_of(file)
    }

    fn make_directory(&self, _: &Node, _: &OsStr, _: Mode) -> Result<Node> {
        Err(Errno::ROFS)
    }

    fn make_node(&self, _: &Node, _: &OsStr, _: FileType, _: Mode, _: u64) -> Result<Node> {
        Err(Errno::ROFS)
    }

    fn symlink(&self, _: &Node, _: &OsStr, _: &Path) -> Result<Node> {
        Err(Errno::ROFS)
    }

    fn link(&self, _: &Node, _: &Node, _: &OsStr) -> Result<()> {
        Err(Errno::ROFS)
    }

    fn unlink(&self, _: &Node, _: &OsStr) -> Result<()> {
        Err(Errno::ROFS)
    }

    fn remove_directory(&self, _: &Node, _: &OsStr) -> Result<()> {
        Err(Errno::ROFS)
    }

    fn rename(&self, _: (&Node, &OsStr), _: (&Node, &OsStr), _: RenameFlags) -> Result<()> {
        Err(Errno::ROFS)
    }

    fn read_link(&self, node: &Node) -> Result<PathBuf> {
        self.0.read_link(node)
    }

    fn change_mode(&self, _: BorrowedFd<'_>, _: Mode) -> Result<()> {
        Err(Errno::ROFS)
    }

    fn change_owner(&self, _: &Node, _: Option<u32>, _: Option<u32>) -> Result<()> {
        Err(Errno::ROFS)
    }

    fn set_times(&self, _: &Node, _: &Timestamps) -> Result<()> {
        Err(Errno::ROFS)
    }

    fn truncate(&self, _: &File, _: u64) -> Result<()> {
        Err(Errno::ROFS)
    }

    fn read_at(&self, file: &File, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.0.read_at(file, buffer, offset)
    }

    fn write_at(&self, _: &File, _: &[u8], _: u64) -> Result<usize> {
        Err(Errno::ROFS)
    }

    fn allocate(&self, _: &File, _: FallocateFlags, _: u64, _: u64) -> Result<()> {
        Err(Errno::ROFS)
    }

    fn copy_range(&self, _: (&File, u64), _: (&File, u64), _: usize) -> Result<usize> {
        Err(Errno::ROFS)
    }

    fn seek(&self, file: &File, to: SeekFrom) -> Result<u64> {
        self.0.seek(file, to)
    }

    fn sync(&self, file: &File, data_only: bool) -> Result<()> {
        self.0.sync(file, data_only)
    }

    fn entries(&self, directory: &File, position: u64) -> Result<Vec<DirectoryEntry>> {
        self.0.entries(directory, position)
    }

    fn statfs(&self, node: &Node) -> Result<StatVfs> {
        self.0.statfs(node)
    }

    fn is_stacked(&self, node: &Node) -> Result<bool> {
        self.0.is_stacked(node)
    }

    fn attribute(&self, node: &Node, name: &OsStr) -> Result<Vec<u8>> {
        self.0.attribute(node, name)
    }

    fn attribute_names(&self, node: &Node) -> Result<Vec<u8>> {
        self.0.attribute_names(node)
    }

    fn set_attribute(&self, _: &Node, _: &OsStr, _: &[u8], _: XattrFlags) -> Result<()> {
        Err(Errno::ROFS)
    }

    fn remove_attribute(&self, _: &Node, _: &OsStr) -> Result<()> {
        Err(Errno::ROFS)
    }
}
