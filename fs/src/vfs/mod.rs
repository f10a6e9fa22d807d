//! The filesystem itself: inodes, handles, names, attributes. Knows nothing of FUSE.

mod attribute;
mod directory;
mod filesystem;
mod handle;
mod inode;
mod io;
mod namespace;
mod xattr;

pub(crate) use attribute::{AttributeChange, NewTime};
pub(crate) use filesystem::{Attributes, Vfs};
pub(crate) use handle::HandleId;
pub(crate) use inode::InodeId;
pub(crate) use io::PageCache;
