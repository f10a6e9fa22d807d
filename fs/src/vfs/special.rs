//! Pipes, sockets and devices: the kernel opens them without asking us, so a guarded one is refused when
//! its name is looked up.

use std::ffi::OsStr;

use rustix::fs::FileType;

use super::{filesystem::Vfs, inode::Inode};
use crate::{error::Error, run::Caller};

impl Vfs {
    /// Whether what is of this kind may have this name. A refusal is told when somebody asked for it.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub(super) fn admit_special(
        &self,
        kind: FileType,
        (parent, name): (&Inode, &OsStr),
        caller: Option<Caller>,
    ) -> Result<(), Error> {
        let is_special =
            !matches!(kind, FileType::RegularFile | FileType::Directory | FileType::Symlink);
        if !is_special || !self.gate.guards() {
            return Ok(());
        }
        let Some(path) = parent.place()?.path_of(name) else { return Err(Error::Refused) };
        let by = caller.map(|caller| self.processes.of(caller));
        self.gate.let_in(&self.inodes.tenure().run, path.into(), by.as_ref())
    }
}
