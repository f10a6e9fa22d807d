//! A store whose calls may take as long as a test wants, or break.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may fail")]

use std::{
    ffi::OsStr,
    fs::File,
    os::fd::{AsRawFd, BorrowedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use attestfs_fs::{Backing, DirectoryEntry, Node, Stat};
use parking_lot::{Condvar, Mutex};
use rustix::{
    fs::{
        FallocateFlags, FileType, Mode, OFlags, RenameFlags, SeekFrom, StatVfs, Timestamps,
        XattrFlags,
    },
    io::Result,
};

/// Calls something before each call of a store that may fail, with the call's name, and for reads and writes the
/// open file. What it fails with is the answer.
pub(crate) struct Hooked {
    store: Arc<dyn Backing>,
    before: Box<Before>,
}

type Before = dyn Fn(&'static str, Option<&File>) -> Result<()> + Send + Sync;

impl Hooked {
    /// Calls `before` when an open file is to be read or written, with the file's name.
    pub(crate) fn in_front_of(
        store: Arc<dyn Backing>,
        before: impl Fn(&str) + Send + Sync + 'static,
    ) -> Arc<dyn Backing> {
        Self::before_each(store, move |_, file| {
            if let Some(file) = file {
                before(&name_of(file));
            }
            Ok(())
        })
    }

    pub(crate) fn before_each(
        store: Arc<dyn Backing>,
        before: impl Fn(&'static str, Option<&File>) -> Result<()> + Send + Sync + 'static,
    ) -> Arc<dyn Backing> {
        Arc::new(Self { store, before: Box::new(before) })
    }
}

fn name_of(file: &File) -> String {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let path = std::fs::read_link(link).unwrap();
    path.file_name().unwrap_or_default().to_str().unwrap().to_owned()
}

impl std::fmt::Debug for Hooked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hooked")
    }
}

macro_rules! as_the_store {
    ($(fn $name:ident($($argument:ident: $kind:ty),*) -> $result:ty;)*) => {
        $(fn $name(&self, $($argument: $kind),*) -> $result {
            (self.before)(stringify!($name), None)?;
            self.store.$name($($argument),*)
        })*
    };
}

impl Backing for Hooked {
    fn read_at(&self, file: &File, buffer: &mut [u8], offset: u64) -> Result<usize> {
        (self.before)("read_at", Some(file))?;
        self.store.read_at(file, buffer, offset)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> Result<usize> {
        (self.before)("write_at", Some(file))?;
        self.store.write_at(file, bytes, offset)
    }

    fn may_write(&self, node: &Node) -> bool {
        self.store.may_write(node)
    }

    as_the_store! {
        fn root() -> Result<Node>;
        fn lookup(parent: &Node, name: &OsStr) -> Result<Node>;
        fn resolve(path: &Path) -> Result<Node>;
        fn follow(path: &Path) -> Result<PathBuf>;
        fn stat(file: BorrowedFd<'_>) -> Result<Stat>;
        fn stat_entry(parent: &Node, name: &OsStr) -> Result<Stat>;
        fn open(node: &Node, flags: OFlags) -> Result<File>;
        fn create(parent: &Node, name: &OsStr, flags: OFlags, mode: Mode) -> Result<File>;
        fn node_of(file: &File) -> Result<Node>;
        fn make_directory(parent: &Node, name: &OsStr, mode: Mode) -> Result<Node>;
        fn make_node(parent: &Node, name: &OsStr, kind: FileType, mode: Mode, device: u64) -> Result<Node>;
        fn symlink(parent: &Node, name: &OsStr, target: &Path) -> Result<Node>;
        fn link(node: &Node, parent: &Node, name: &OsStr) -> Result<()>;
        fn unlink(parent: &Node, name: &OsStr) -> Result<()>;
        fn remove_directory(parent: &Node, name: &OsStr) -> Result<()>;
        fn rename(from: (&Node, &OsStr), to: (&Node, &OsStr), flags: RenameFlags) -> Result<()>;
        fn read_link(node: &Node) -> Result<PathBuf>;
        fn change_mode(file: BorrowedFd<'_>, mode: Mode) -> Result<()>;
        fn change_owner(node: &Node, uid: Option<u32>, gid: Option<u32>) -> Result<()>;
        fn set_times(node: &Node, times: &Timestamps) -> Result<()>;
        fn truncate(file: &File, length: u64) -> Result<()>;
        fn allocate(file: &File, mode: FallocateFlags, offset: u64, length: u64) -> Result<()>;
        fn copy_range(from: (&File, u64), to: (&File, u64), length: usize) -> Result<usize>;
        fn seek(file: &File, to: SeekFrom) -> Result<u64>;
        fn sync(file: &File, data_only: bool) -> Result<()>;
        fn entries(directory: &File, position: u64) -> Result<Vec<DirectoryEntry>>;
        fn statfs(node: &Node) -> Result<StatVfs>;
        fn is_stacked(node: &Node) -> Result<bool>;
        fn attribute(node: &Node, name: &OsStr) -> Result<Vec<u8>>;
        fn attribute_names(node: &Node) -> Result<Vec<u8>>;
        fn set_attribute(node: &Node, name: &OsStr, value: &[u8], flags: XattrFlags) -> Result<()>;
        fn remove_attribute(node: &Node, name: &OsStr) -> Result<()>;
    }
}

/// Whoever comes by waits until it is opened, or the test ends.
#[derive(Debug, Default)]
pub(crate) struct Barrier(Arc<Post>);

#[derive(Debug, Default)]
struct Post {
    traffic: Mutex<Traffic>,
    opened: Condvar,
}

#[derive(Debug, Default)]
struct Traffic {
    waiting: usize,
    is_open: bool,
}

impl Barrier {
    /// The way that it stands across.
    pub(crate) fn passage(&self) -> impl Fn() + Send + Sync + 'static {
        let post = Arc::clone(&self.0);
        move || {
            let mut traffic = post.traffic.lock();
            traffic.waiting += 1;
            post.opened.wait_while(&mut traffic, |traffic| !traffic.is_open);
            traffic.waiting -= 1;
        }
    }

    pub(crate) fn open(&self) {
        self.0.traffic.lock().is_open = true;
        self.0.opened.notify_all();
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.0.traffic.lock().waiting
    }
}

impl Drop for Barrier {
    fn drop(&mut self) {
        self.open();
    }
}
