//! Writing files so that a crash leaves the old one or the new one, whole.

use std::{
    fmt::Debug,
    fs::File,
    io::{self, Read, Write},
    os::fd::AsFd,
};

use rustix::{
    fs::{
        AtFlags, FlockOperation, Gid, Mode, OFlags, Stat, Uid, fchown, flock, fstat, linkat,
        openat, renameat, unlinkat,
    },
    io::Errno,
};

/// The effects of a publication on files. Each is durable when it returns.
pub trait Files: Debug + Send + Sync {
    /// Puts a file of this name and content into the directory, in place of another one. It gets
    /// the directory's owner, and may be read by whoever may read the directory.
    ///
    /// # Errors
    /// What the system says; then the old file is there, or none.
    fn replace(&self, directory: &File, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Appends whole lines to a file of this name in the directory, which is made when it is
    /// missing. Bytes after the last newline, left by a crash, are first ended with one.
    ///
    /// # Errors
    /// What the system says; then some of the lines may be there.
    fn append(&self, directory: &File, name: &str, lines: &str) -> io::Result<()>;

    /// Takes these names out of the directory. One that is not there is passed over.
    ///
    /// # Errors
    /// What the system says; then some of them may be gone.
    fn remove(&self, directory: &File, names: &[String]) -> io::Result<()>;
}

/// Files of the system.
#[derive(Clone, Copy, Debug)]
pub struct DurableFiles;

impl Files for DurableFiles {
    fn replace(&self, directory: &File, name: &str, bytes: &[u8]) -> io::Result<()> {
        let like = fstat(directory)?;
        let mode = Mode::from_raw_mode(like.st_mode & 0o444 | 0o600);
        let unplaced = Unplaced::write(directory, name, bytes, mode)?;
        take_owner(&unplaced.file, &like)?;
        unplaced.replace()
    }

    fn append(&self, directory: &File, name: &str, lines: &str) -> io::Result<()> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?);
        if !ends_with_newline(&file)? {
            file.write_all(b"\n")?;
        }
        file.write_all(lines.as_bytes())?;
        file.sync_all()?;
        directory.sync_all()
    }

    fn remove(&self, directory: &File, names: &[String]) -> io::Result<()> {
        for name in names {
            match unlinkat(directory, name.as_str(), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        directory.sync_all()
    }
}

/// A file that is whole and durable, and not yet under its name. Dropped, it is gone.
#[derive(Debug)]
#[must_use = "a file that is not placed is gone"]
pub struct Unplaced<'a> {
    directory: &'a File,
    name: &'a str,
    temporary: String,
    file: File,
}

impl<'a> Unplaced<'a> {
    /// Writes a file that will have this name in the directory, and that nobody else has opened
    /// before.
    ///
    /// # Errors
    /// What the system says; then nothing is left of it.
    pub fn write(directory: &'a File, name: &'a str, bytes: &[u8], mode: Mode) -> io::Result<Self> {
        let (temporary, file) = temporary(directory, name, bytes, mode)?;
        let mut unplaced = Self { directory, name, temporary, file };
        unplaced.file.write_all(bytes)?;
        unplaced.file.sync_all()?;
        Ok(unplaced)
    }

    /// Gives it its name, in place of another file.
    ///
    /// # Errors
    /// What the system says; then the old file is there, or none.
    pub fn replace(self) -> io::Result<()> {
        renameat(self.directory, &*self.temporary, self.directory, self.name)?;
        self.directory.sync_all()
    }

    /// Gives it its name, unless there is something of that name.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`], or what else the system says.
    pub fn create(self) -> io::Result<()> {
        let flags = AtFlags::empty();
        linkat(self.directory, &*self.temporary, self.directory, self.name, flags)?;
        self.directory.sync_all()
    }
}

impl Drop for Unplaced<'_> {
    fn drop(&mut self) {
        // Once it has replaced another file there is nothing of the old name any more.
        unlinkat(self.directory, &*self.temporary, AtFlags::empty()).unwrap_or_default();
    }
}

/// As many bytes tell a file of ours from another one: what we write begins alike each time.
const BEGINNING: usize = 56;

/// The most names that are tried when somebody else's files have them.
const TEMPORARY_NAMES_MAX: usize = 100;

/// A new file under a name that nobody has. What a crash left there of an earlier attempt is taken
/// away; what is somebody else's stays.
fn temporary(directory: &File, name: &str, bytes: &[u8], mode: Mode) -> io::Result<(String, File)> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let others = (1..TEMPORARY_NAMES_MAX).map(|n| format!(".{name}.attestfs-new-{n}"));
    for temporary in std::iter::once(format!(".{name}.attestfs-new")).chain(others) {
        if is_left_over(directory, &temporary, bytes) {
            unlinkat(directory, &*temporary, AtFlags::empty())?;
        }
        match openat(directory, &*temporary, flags, mode) {
            Err(Errno::EXIST) => {}
            opened => {
                let file = File::from(opened?);
                flock(&file, FlockOperation::NonBlockingLockExclusive)?;
                return Ok((temporary, file));
            }
        }
    }
    Err(Errno::EXIST.into())
}

/// Whether the file of this name is what a dead attempt to write `bytes` can have left. A living
/// one has locked it.
fn is_left_over(directory: &File, name: &str, bytes: &[u8]) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = openat(directory, name, flags, Mode::empty()).map(File::from) else {
        return false;
    };
    let is_free = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
    let mut beginning = Vec::new();
    is_free
        && file.metadata().is_ok_and(|it| it.is_file())
        && file.take(BEGINNING as u64).read_to_end(&mut beginning).is_ok()
        && bytes.starts_with(&beginning)
}

/// Gives the file to the directory's owner, which only root can and need do.
fn take_owner(file: &File, like: &Stat) -> io::Result<()> {
    let own = fstat(file.as_fd())?;
    if (own.st_uid, own.st_gid) == (like.st_uid, like.st_gid) {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(like.st_uid), Gid::from_raw(like.st_gid));
    match fchown(file, Some(uid), Some(gid)) {
        Ok(()) => file.sync_all(),
        Err(Errno::PERM) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn ends_with_newline(file: &File) -> io::Result<bool> {
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        std::os::unix::fs::FileExt::read_exact_at(file, &mut last, length - 1)?;
    }
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    };

    use super::*;

    fn directory() -> (tempfile::TempDir, File) {
        let directory = tempfile::tempdir().unwrap();
        let file = File::open(directory.path()).unwrap();
        (directory, file)
    }

    #[test]
    fn a_file_takes_the_place_of_another_one() {
        let (path, directory) = directory();
        for content in ["", "first", "2"] {
            DurableFiles.replace(&directory, "x", content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(path.path().join("x")).unwrap(), content);
        }
        assert_eq!(fs::read_dir(path.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_in_the_way_is_not_followed() {
        let (path, directory) = directory();
        let elsewhere = path.path().join("elsewhere");
        fs::write(&elsewhere, "precious").unwrap();
        symlink(&elsewhere, path.path().join(".x.attestfs-new")).unwrap();
        symlink(&elsewhere, path.path().join("x")).unwrap();
        DurableFiles.replace(&directory, "x", b"new").unwrap();
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "precious");
        assert_eq!(fs::read_to_string(path.path().join("x")).unwrap(), "new");
        symlink(&elsewhere, path.path().join("index")).unwrap();
        assert!(DurableFiles.append(&directory, "index", "line\n").is_err());
    }

    #[test]
    fn somebody_elses_file_of_the_temporary_name_stays() {
        let (path, directory) = directory();
        let theirs = path.path().join(".x.attestfs-new");
        fs::write(&theirs, "precious").unwrap();
        DurableFiles.replace(&directory, "x", b"new").unwrap();
        assert_eq!(fs::read_to_string(&theirs).unwrap(), "precious");
        assert_eq!(fs::read_dir(path.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_a_crash_left_of_an_earlier_attempt_is_taken_away() {
        let ours = [b'o'; 2 * BEGINNING];
        for left in [0, 1, BEGINNING + 1, ours.len()] {
            let (path, directory) = directory();
            fs::write(path.path().join(".x.attestfs-new"), &ours[..left]).unwrap();
            DurableFiles.replace(&directory, "x", &ours).unwrap();
            assert_eq!(fs::read_dir(path.path()).unwrap().count(), 1, "{left}");
        }
    }

    #[test]
    fn a_file_that_cannot_take_its_place_leaves_nothing_behind() {
        let (path, directory) = directory();
        fs::create_dir_all(path.path().join("x/in-the-way")).unwrap();
        assert!(DurableFiles.replace(&directory, "x", b"new").is_err());
        assert_eq!(fs::read_dir(path.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_must_not_exist_takes_nobodys_place() {
        let (path, directory) = directory();
        let write =
            |text: &str| Unplaced::write(&directory, "x", text.as_bytes(), Mode::RUSR)?.create();
        write("first").unwrap();
        let refusal = write("second").unwrap_err();
        assert_eq!(refusal.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(path.path().join("x")).unwrap(), "first");
        assert_eq!(fs::read_dir(path.path()).unwrap().count(), 1);
    }

    #[test]
    fn whoever_may_read_the_directory_may_read_the_file() {
        for (of_directory, of_file) in
            [(0o700, 0o600), (0o750, 0o640), (0o755, 0o644), (0o777, 0o644)]
        {
            let (path, directory) = directory();
            fs::set_permissions(path.path(), fs::Permissions::from_mode(of_directory)).unwrap();
            DurableFiles.replace(&directory, "x", b"").unwrap();
            let mode = fs::metadata(path.path().join("x")).unwrap().mode() & 0o777;
            assert_eq!(mode, of_file);
        }
    }

    #[test]
    fn root_gives_the_file_to_the_owner_of_the_directory() {
        let (path, directory) = directory();
        if std::os::unix::fs::chown(path.path(), Some(12345), Some(54321)).is_err() {
            eprintln!("skipped: only root can give a directory away");
            return;
        }
        DurableFiles.replace(&directory, "x", b"").unwrap();
        let metadata = fs::metadata(path.path().join("x")).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (12345, 54321));
    }

    #[test]
    fn a_line_cut_off_by_a_crash_is_ended_before_the_next() {
        let (path, directory) = directory();
        DurableFiles.append(&directory, "index", "one\n").unwrap();
        DurableFiles.append(&directory, "index", "two\n").unwrap();
        fs::write(path.path().join("index"), "one\ntw").unwrap();
        DurableFiles.append(&directory, "index", "two\n").unwrap();
        let text = fs::read_to_string(path.path().join("index")).unwrap();
        assert_eq!(text, "one\ntw\ntwo\n");
    }
}
