//! The filesystem itself: inodes, handles, names, attributes. Knows nothing of FUSE.

mod attribute;
mod descriptors;
mod directory;
mod filesystem;
mod handle;
mod holding;
mod inode;
mod io;
mod links;
mod namespace;
mod opening;
mod owner;
mod shown;
mod space;
mod special;
mod subjects;
mod tenure;
mod virtual_files;
mod ways;
mod xattr;

pub(crate) use attribute::{AttributeChange, NewTime};
pub(crate) use filesystem::{Attributes, Vfs};
pub(crate) use handle::HandleId;
pub(crate) use inode::{InodeId, Shortcut};
pub(crate) use io::Promise;
pub(crate) use opening::{Answer, Given, PageCache, Told};
pub(crate) use tenure::Tenure;
pub(crate) use virtual_files::TOP_NAME;
pub(crate) use ways::Way;
