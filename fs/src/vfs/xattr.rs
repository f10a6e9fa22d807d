//! Extended attributes: the user's own lie in the backing store, `user.attestfs.*` are answered
//! from what the run knows. The latter are not listed, because copy tools try to set what they find
//! listed.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, sync::Arc};

use rustix::{fs::XattrFlags, io::Errno};

use super::{
    filesystem::Vfs,
    inode::{Inode, InodeId},
    opening::Answer,
};
use crate::error::Error;

impl Vfs {
    /// Signatures may have to be checked for a verdict.
    pub(crate) fn attribute(self: &Arc<Self>, id: InodeId, name: &OsStr) -> Answer<Vec<u8>> {
        if name != "user.attestfs.verdict" || !self.gate.guards() {
            return Answer::Now(self.attribute_now(id, name));
        }
        let (vfs, name) = (Arc::clone(self), name.to_owned());
        Answer::Later(Box::new(move || Answer::Now(vfs.attribute_now(id, &name))))
    }

    fn attribute_now(&self, id: InodeId, name: &OsStr) -> Result<Vec<u8>, Error> {
        if id.is_virtual() {
            return Err(Error::NoAttribute);
        }
        let inode = self.inodes.find(id)?;
        match Namespace::of(name) {
            Namespace::Reserved(ours) => {
                let shown = self.shown(&inode, ours)?;
                Ok(shown.ok_or(Error::NoAttribute)?.into_bytes())
            }
            Namespace::Quiet => Err(Error::NoAttribute),
            Namespace::Refused => Err(Error::NotSupported),
            Namespace::Stored => Ok(self.backing.attribute(&*self.node(&inode)?, name)?),
        }
    }

    /// The names that the backing store has, each with a closing NUL.
    pub(crate) fn attribute_names(&self, id: InodeId) -> Result<Vec<u8>, Error> {
        if id.is_virtual() {
            return Ok(Vec::new());
        }
        let inode = self.inodes.find(id)?;
        let stored = match self.backing.attribute_names(&*self.node(&inode)?) {
            Ok(names) => names,
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(errno) => return Err(errno.into()),
        };
        let served = stored
            .split_inclusive(|byte| *byte == 0)
            .filter(|name| {
                let name = name.strip_suffix(&[0]).unwrap_or(name);
                matches!(Namespace::of(OsStr::from_bytes(name)), Namespace::Stored)
            })
            .flatten()
            .copied();
        Ok(served.collect())
    }

    pub(crate) fn set_attribute(
        &self,
        id: InodeId,
        name: &OsStr,
        value: &[u8],
        flags: i32,
    ) -> Result<(), Error> {
        let inode = self.changeable(id, name)?;
        let flags = u32::try_from(flags).ok().and_then(XattrFlags::from_bits);
        let flags = flags.ok_or(Error::Invalid)?;
        self.metadata_change(&inode, || {
            Ok(self.backing.set_attribute(&*self.node(&inode)?, name, value, flags)?)
        })
    }

    pub(crate) fn remove_attribute(&self, id: InodeId, name: &OsStr) -> Result<(), Error> {
        let inode = self.changeable(id, name)?;
        self.metadata_change(&inode, || {
            Ok(self.backing.remove_attribute(&*self.node(&inode)?, name)?)
        })
    }

    fn changeable(&self, id: InodeId, name: &OsStr) -> Result<Arc<Inode>, Error> {
        match Namespace::of(name) {
            Namespace::Reserved(_) => Err(Error::ReservedAttribute),
            Namespace::Quiet | Namespace::Refused => Err(Error::NotSupported),
            Namespace::Stored => self.inodes.find(id),
        }
    }
}

/// Who answers for an extended attribute.
enum Namespace<'name> {
    /// We do; the part of the name behind `user.attestfs.`.
    Reserved(&'name [u8]),
    /// The kernel and C libraries ask for these again and again; there are none.
    Quiet,
    /// No such namespace here.
    Refused,
    /// The backing store.
    Stored,
}

impl<'name> Namespace<'name> {
    fn of(name: &'name OsStr) -> Self {
        let name = name.as_bytes();
        match name.strip_prefix(b"user.attestfs.") {
            Some(ours) => Self::Reserved(ours),
            None if matches!(name, b"security.capability" | b"security.selinux") => Self::Quiet,
            None if name.starts_with(b"system.posix_acl_") => Self::Refused,
            None if PREFIXES.iter().any(|prefix| name.starts_with(prefix)) => Self::Stored,
            None => Self::Refused,
        }
    }
}

const PREFIXES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
