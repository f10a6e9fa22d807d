//! `.attestfs` at the root of a mount: the bundles of attestations as files that nobody stored there.
//!
//! Found by name and not listed, because copy tools and model signatures take in what is listed.
//! Whoever may read a file that an attestation is about may read the attestation; to others it is
//! not there. Who may is asked at each lookup and each open, and the kernel keeps none of it.

use std::{
    collections::HashMap,
    ffi::OsStr,
    os::fd::AsFd,
    path::{Component, Path},
    sync::Arc,
};

use attestfs_attestation::Bundle;
use attestfs_digest::Sha256;
use parking_lot::Mutex;
use rustix::{
    fs::{FileType, Mode, OFlags},
    io::Errno,
};

use super::{
    filesystem::{Attributes, Vfs},
    handle::{Handle, HandleId},
    inode::InodeId,
    subjects::Subjects,
};
use crate::{
    backing::DirectoryEntry,
    error::Error,
    port::BundleSource,
    run::{Caller, Credentials},
};

/// A file that we make up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VirtualFile {
    /// `.attestfs`
    Top,
    /// `.attestfs/attestations`
    Attestations,
    /// `.attestfs/attestations/<sha256>.sigstore.json`
    Bundle(Sha256),
}

/// The virtual files of one mount.
#[derive(Debug)]
pub(super) struct VirtualFiles {
    numbers: Mutex<Numbers>,
    subjects: Subjects,
}

/// Inode numbers of bundles: given when first seen, and kept, so that they stay the same.
#[derive(Debug, Default)]
struct Numbers {
    given: Vec<Sha256>,
    by_name: HashMap<Sha256, InodeId>,
}

/// A virtual file that is open.
#[derive(Debug)]
pub(crate) enum OpenVirtual {
    /// What is in it stands fixed from the open on.
    Bundle(Vec<u8>),
    Directory(VirtualDirectory),
}

/// A virtual directory that is open: which entries there are was asked at the open, which of them
/// whoever opened it may see is asked as they are handed out.
#[derive(Debug)]
pub(crate) struct VirtualDirectory {
    file: VirtualFile,
    bundles: Vec<Sha256>,
    reader: Credentials,
}

impl VirtualFiles {
    /// Of a mount whose root is called `origin` in statements, escaped.
    pub(super) fn below(origin: String) -> Self {
        Self { numbers: Mutex::default(), subjects: Subjects::below(origin) }
    }

    /// Whether this names, in the root of the mount, what is ours.
    pub(super) fn is_ours(parent: InodeId, name: &OsStr) -> bool {
        parent == InodeId::ROOT && name == TOP_NAME
    }

    fn at(&self, id: InodeId) -> Option<VirtualFile> {
        let position = id.virtual_position()?;
        match position {
            0 => Some(VirtualFile::Top),
            1 => Some(VirtualFile::Attestations),
            _ => {
                let position = usize::try_from(position - FIXED).ok()?;
                self.numbers.lock().given.get(position).copied().map(VirtualFile::Bundle)
            }
        }
    }

    fn number(&self, file: VirtualFile) -> InodeId {
        let attestation = match file {
            VirtualFile::Top => return InodeId::of_virtual(0),
            VirtualFile::Attestations => return InodeId::of_virtual(1),
            VirtualFile::Bundle(attestation) => attestation,
        };
        let Numbers { given, by_name } = &mut *self.numbers.lock();
        *by_name.entry(attestation).or_insert_with(|| {
            given.push(attestation);
            InodeId::of_virtual(FIXED + given.len() as u64 - 1)
        })
    }
}

impl Vfs {
    /// The virtual file of this number, if it is one.
    pub(super) fn virtual_file(&self, id: InodeId) -> Option<VirtualFile> {
        self.virtual_files.at(id)
    }

    /// The virtual file of this name, where it is our part to say so.
    pub(super) fn look_up_virtual(
        &self,
        parent: InodeId,
        name: &OsStr,
        caller: Caller,
    ) -> Option<Result<Attributes, Error>> {
        if VirtualFiles::is_ours(parent, name) {
            return Some(self.virtual_attributes(VirtualFile::Top, None));
        }
        let found = match self.virtual_file(parent)? {
            VirtualFile::Top if name == ATTESTATIONS_NAME => Ok(VirtualFile::Attestations),
            VirtualFile::Attestations => self.named(name, caller),
            VirtualFile::Top | VirtualFile::Bundle(_) => Err(Errno::NOENT.into()),
        };
        Some(found.and_then(|file| self.virtual_attributes(file, None)))
    }

    fn named(&self, name: &OsStr, caller: Caller) -> Result<VirtualFile, Error> {
        let attestation = attestation_named(name).ok_or(Errno::NOENT)?;
        self.check_shown(attestation, &caller.credentials())?;
        Ok(VirtualFile::Bundle(attestation))
    }

    /// What the kernel is told of a virtual file: as the root of the mount, but read-only. One that
    /// is open stays as it was found.
    pub(super) fn virtual_attributes(
        &self,
        file: VirtualFile,
        opened: Option<&Handle>,
    ) -> Result<Attributes, Error> {
        let id = self.virtual_files.number(file);
        let mut stat = self.attributes_of(&*self.inodes.find(InodeId::ROOT)?)?.stat;
        let (kind, permissions, links, size) = match file {
            VirtualFile::Top | VirtualFile::Attestations => {
                (FileType::Directory, Mode::from_raw_mode(0o555), 2, 0)
            }
            VirtualFile::Bundle(attestation) => {
                let size = match opened {
                    Some(Handle::Virtual(opened)) => opened.length(),
                    _ => self.bundle(attestation)?.to_json().len(),
                };
                (FileType::RegularFile, Mode::from_raw_mode(0o444), 1, size as u64)
            }
        };
        let mode = kind.as_raw_mode() | permissions.as_raw_mode();
        stat.statx.stx_mode = u16::try_from(mode).unwrap_or_default();
        stat.statx.stx_nlink = links;
        stat.statx.stx_size = size;
        stat.statx.stx_blocks = size.div_ceil(512);
        Ok(Attributes { id, stat })
    }

    pub(super) fn open_virtual(
        &self,
        file: VirtualFile,
        flags: OFlags,
        caller: Caller,
    ) -> Result<Handle, Error> {
        if flags & OFlags::ACCMODE != OFlags::RDONLY || flags.contains(OFlags::TRUNC) {
            return Err(Error::ReadOnly);
        }
        let reader = caller.credentials();
        let opened = match file {
            VirtualFile::Bundle(attestation) => {
                self.check_shown(attestation, &reader)?;
                OpenVirtual::Bundle(self.bundle(attestation)?.to_json())
            }
            VirtualFile::Top => {
                OpenVirtual::Directory(VirtualDirectory { file, bundles: Vec::new(), reader })
            }
            VirtualFile::Attestations => {
                let listed = self.gate.source().map_or(Ok(Vec::new()), BundleSource::attestations);
                let bundles = listed.map_err(|unavailable| {
                    tracing::error!(%unavailable, "attestations cannot be listed");
                    Errno::IO
                })?;
                OpenVirtual::Directory(VirtualDirectory { file, bundles, reader })
            }
        };
        Ok(Handle::Virtual(Arc::new(opened)))
    }

    /// Whether listing this directory looks into attestations, which takes its time.
    pub(crate) fn lists_attestations(&self, directory: HandleId) -> bool {
        matches!(self.handles.find(directory), Ok(Handle::Virtual(opened)) if opened.has_attestations())
    }

    /// As [`Vfs::read_directory`], of a virtual directory.
    pub(super) fn read_virtual_directory(
        &self,
        opened: &OpenVirtual,
        position: u64,
        give: &mut dyn FnMut(&DirectoryEntry) -> bool,
    ) -> Result<(), Error> {
        let directory = opened.directory()?;
        let start = usize::try_from(position).unwrap_or(usize::MAX);
        let names = DOTS.into_iter().map(Entry::Dot).chain(directory.entries());
        for (index, entry) in names.enumerate().skip(start) {
            if let Entry::File(VirtualFile::Bundle(attestation)) = entry
                && self.check_shown(attestation, &directory.reader).is_err()
            {
                continue;
            }
            if !give(&self.listed(entry, index as u64 + 1)) {
                break;
            }
        }
        Ok(())
    }

    fn listed(&self, entry: Entry, next: u64) -> DirectoryEntry {
        let (name, file) = match entry {
            Entry::Dot(name) => (name.to_owned(), VirtualFile::Top),
            Entry::File(file) => (file.name(), file),
        };
        let kind = match file {
            VirtualFile::Bundle(_) => FileType::RegularFile,
            VirtualFile::Top | VirtualFile::Attestations => FileType::Directory,
        };
        let inode = self.virtual_files.number(file).0;
        DirectoryEntry { name: name.into(), inode, kind, next }
    }

    /// As [`Vfs::look_up_entry`], of a virtual directory: what was handed out may be seen.
    pub(super) fn look_up_virtual_entry(
        &self,
        opened: &OpenVirtual,
        name: &OsStr,
    ) -> Result<Option<Attributes>, Error> {
        let file = match opened.directory()?.file {
            VirtualFile::Attestations => attestation_named(name).map(VirtualFile::Bundle),
            VirtualFile::Top | VirtualFile::Bundle(_) => Some(VirtualFile::Attestations),
        };
        file.map(|file| self.virtual_attributes(file, None)).transpose()
    }

    fn bundle(&self, attestation: Sha256) -> Result<Bundle, Error> {
        let source = self.gate.source().ok_or(Errno::NOENT)?;
        let bundle = source.attestation(attestation).into_iter().find_map(Result::ok);
        Ok(bundle.ok_or(Errno::NOENT)?)
    }

    /// Whether `reader` may read a file that the attestation is about.
    ///
    /// # Errors
    /// ENOENT when not.
    fn check_shown(&self, attestation: Sha256, reader: &Credentials) -> Result<(), Error> {
        let source = self.gate.source().ok_or(Errno::NOENT)?;
        let bundle = || self.bundle(attestation);
        let may_read = |path: &Path| self.may_read(path, reader).unwrap_or(false);
        let subjects = &self.virtual_files.subjects;
        let is_shown = subjects.any(attestation, bundle, source, may_read)?;
        if is_shown { Ok(()) } else { Err(Errno::NOENT.into()) }
    }

    /// Whether there is a regular file at this path that `reader` can come by and may read.
    fn may_read(&self, path: &Path, reader: &Credentials) -> Result<bool, Errno> {
        let mut node = self.backing.root()?;
        for component in path.components() {
            let Component::Normal(name) = component else { return Ok(false) };
            let stat = self.backing.stat(node.as_fd())?;
            if stat.kind() != FileType::Directory || !reader.may_search(&stat) {
                return Ok(false);
            }
            node = self.backing.lookup(&node, name)?;
        }
        let stat = self.backing.stat(node.as_fd())?;
        Ok(stat.kind() == FileType::RegularFile && reader.may_read(&stat))
    }
}

impl VirtualFile {
    fn name(self) -> String {
        match self {
            Self::Top => TOP_NAME.to_owned(),
            Self::Attestations => ATTESTATIONS_NAME.to_owned(),
            Self::Bundle(attestation) => format!("{attestation}{BUNDLE_SUFFIX}"),
        }
    }
}

impl OpenVirtual {
    /// Fills `buffer` from `offset` on, as far as there is something, and says how far.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Error> {
        let Self::Bundle(bytes) = self else { return Err(Error::UnknownHandle) };
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let count = buffer.len().min(bytes.len() - start);
        buffer[..count].copy_from_slice(&bytes[start..start + count]);
        Ok(count)
    }

    /// Bytes to be read.
    fn length(&self) -> usize {
        match self {
            Self::Bundle(bytes) => bytes.len(),
            Self::Directory(_) => 0,
        }
    }

    fn has_attestations(&self) -> bool {
        matches!(self, Self::Directory(directory) if !directory.bundles.is_empty())
    }

    fn directory(&self) -> Result<&VirtualDirectory, Error> {
        match self {
            Self::Directory(directory) => Ok(directory),
            Self::Bundle(_) => Err(Error::UnknownHandle),
        }
    }
}

impl VirtualDirectory {
    fn entries(&self) -> impl Iterator<Item = Entry> {
        let inner = (self.file == VirtualFile::Top).then_some(VirtualFile::Attestations);
        let bundles = self.bundles.iter().copied().map(VirtualFile::Bundle);
        inner.into_iter().chain(bundles).map(Entry::File)
    }
}

/// One line of a listing.
#[derive(Clone, Copy)]
enum Entry {
    Dot(&'static str),
    File(VirtualFile),
}

/// The directory at the root of the mount.
pub(crate) const TOP_NAME: &str = ".attestfs";

const ATTESTATIONS_NAME: &str = "attestations";

const BUNDLE_SUFFIX: &str = ".sigstore.json";

const DOTS: [&str; 2] = [".", ".."];

/// Numbers that are not given to bundles.
const FIXED: u64 = 2;

fn attestation_named(name: &OsStr) -> Option<Sha256> {
    name.to_str()?.strip_suffix(BUNDLE_SUFFIX)?.parse().ok()
}
