//! Descriptors that were open on a tree before it was mounted: they lead past the mount.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{BorrowedFd, RawFd},
        unix::fs::OpenOptionsExt,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{OFlags, SeekFrom, fcntl_getfl, fcntl_setfl};

use super::{failure::RunError, inside::InsideError};

/// Of standard output and error, the one that this process writes to itself.
const STANDARD_ERROR: RawFd = 2;

/// Refuses what the command would inherit and nobody would see it use. Files that are standard
/// input, output or error are opened again through the mount; no other descriptor can be.
pub(super) fn refuse_inherited(is_below: impl Fn(&Path) -> bool) -> Result<(), RunError> {
    let entries = fs::read_dir("/proc/self/fd").map_err(RunError::system("/proc/self/fd"))?;
    for entry in entries.flatten() {
        let Ok(descriptor) = entry.file_name().to_string_lossy().parse::<RawFd>() else {
            continue;
        };
        let Ok(path) = fs::read_link(entry.path()) else {
            continue;
        };
        if is_below(&path) && leads_past(descriptor) {
            return Err(RunError::Inherited { descriptor, path });
        }
    }
    Ok(())
}

/// The file that standard error is open on for writing, when `is_below` says that it is of interest.
pub(super) fn own_error(is_below: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let description = Description::of(STANDARD_ERROR).ok().flatten()?;
    (description.may_write() && is_below(&description.path)).then_some(description.path)
}

/// Opens the files again, through the mount, that standard input, output and error are open on.
/// Descriptors that were one open file stay one: they share where they are.
///
/// The process that started us goes on with the old ones, and so do we in `run`. From here on they
/// only append, because they do not learn how far the command wrote.
///
/// # Errors
/// One of them cannot be opened.
pub(super) fn reopen_standard(is_below: impl Fn(&Path) -> bool) -> Result<(), InsideError> {
    let old: Vec<(RawFd, Description)> = (0..=STANDARD_ERROR)
        .filter_map(|number| Some((number, Description::of(number).ok().flatten()?)))
        .filter(|(_, description)| is_below(&description.path))
        .collect();
    let mut opened = Vec::new();
    for (number, description) in &old {
        shared(&mut opened, description)
            .and_then(|new| description.replace(*number, new))
            .map_err(|error| {
                let path = description.path.display();
                InsideError::Enter(format!("descriptor {number}, {path}: {error}"))
            })?;
    }
    Ok(())
}

/// The file that was opened for such a description already, or a new one.
fn shared<'opened, 'old>(
    opened: &'opened mut Vec<(&'old Description, File)>,
    description: &'old Description,
) -> io::Result<&'opened File> {
    let known = opened.iter().position(|(other, _)| *other == description);
    let index = known.unwrap_or(opened.len());
    if known.is_none() {
        opened.push((description, description.open()?));
    }
    Ok(&opened[index].1)
}

/// An open file, as far as another one can be made like it. Two descriptors of which this is equal
/// are taken for two names of one: nothing told their users apart yet.
#[derive(Debug, PartialEq, Eq)]
struct Description {
    path: PathBuf,
    flags: OFlags,
    position: u64,
}

impl Description {
    /// None when the descriptor is closed, or open on something that cannot be opened again by name.
    fn of(number: RawFd) -> io::Result<Option<Self>> {
        let Ok(path) = fs::read_link(link(number)) else { return Ok(None) };
        let flags = fcntl_getfl(standard(number))?;
        if !path.is_file() || flags.contains(OFlags::PATH) {
            return Ok(None);
        }
        let position = rustix::fs::tell(standard(number))?;
        Ok(Some(Self { path, flags, position }))
    }

    fn may_read(&self) -> bool {
        self.flags & OFlags::ACCMODE != OFlags::WRONLY
    }

    fn may_write(&self) -> bool {
        self.flags & OFlags::ACCMODE != OFlags::RDONLY
    }

    fn open(&self) -> io::Result<File> {
        let lasting = OFlags::APPEND | OFlags::SYNC | OFlags::DSYNC | OFlags::NONBLOCK;
        let new = OpenOptions::new()
            .read(self.may_read())
            .write(self.may_write())
            .custom_flags((self.flags & lasting).bits().cast_signed())
            .open(&self.path)?;
        rustix::fs::seek(&new, SeekFrom::Start(self.position))?;
        Ok(new)
    }

    fn replace(&self, number: RawFd, new: &File) -> io::Result<()> {
        if self.may_write() {
            fcntl_setfl(standard(number), self.flags | OFlags::APPEND)?;
        }
        match number {
            0 => rustix::stdio::dup2_stdin(new)?,
            1 => rustix::stdio::dup2_stdout(new)?,
            _ => rustix::stdio::dup2_stderr(new)?,
        }
        Ok(())
    }
}

fn standard(number: RawFd) -> BorrowedFd<'static> {
    match number {
        0 => rustix::stdio::stdin(),
        1 => rustix::stdio::stdout(),
        _ => rustix::stdio::stderr(),
    }
}

/// Whether the command gets this descriptor and could use files of a tree through it: devices and
/// pipes are no content of one. Files are opened again when they are standard ones.
fn leads_past(descriptor: RawFd) -> bool {
    let flags = flags(descriptor);
    let is_reopened = descriptor <= STANDARD_ERROR;
    let opens_files = fs::metadata(link(descriptor)).is_ok_and(|open| {
        open.is_dir() || flags.contains(OFlags::PATH) || open.is_file() && !is_reopened
    });
    opens_files && !flags.contains(OFlags::CLOEXEC)
}

/// With which it was opened, and whether it survives an exec.
fn flags(descriptor: RawFd) -> OFlags {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    OFlags::from_bits_retain(flags.unwrap_or_default())
}

fn link(descriptor: RawFd) -> String {
    format!("/proc/self/fd/{descriptor}")
}
