//! Writing files so that a crash leaves the old one or the new one, whole.

use std::{
    fmt::Debug,
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
};

use rustix::{
    fs::{AtFlags, Gid, Mode, OFlags, Stat, Uid, fchown, fstat, openat, renameat, unlinkat},
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
}

/// Files of the system.
#[derive(Clone, Copy, Debug)]
pub struct DurableFiles;

impl Files for DurableFiles {
    fn replace(&self, directory: &File, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = temporary_name(name);
        let like = fstat(directory)?;
        write_new(directory, &temporary, bytes, &like)?;
        renameat(directory, &*temporary, directory, name)?;
        directory.sync_all()
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
}

/// The name under which a file is written before it takes its place. It is always the same, so that
/// what a crash leaves behind is overwritten when the commit goes on.
pub fn temporary_name(name: &str) -> String {
    format!(".{name}.attestfs-new")
}

/// Writes a file that nobody else has opened before: an old one of this name, or a link that
/// somebody put there, is taken away first.
fn write_new(directory: &File, name: &str, bytes: &[u8], like: &Stat) -> io::Result<()> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(like.st_mode & 0o444 | 0o600);
    let mut file = File::from(openat(directory, name, flags, mode)?);
    take_owner(&file, like)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Gives the file to the directory's owner, which only root can and need do.
fn take_owner(file: &File, like: &Stat) -> io::Result<()> {
    let own = fstat(file.as_fd())?;
    if (own.st_uid, own.st_gid) == (like.st_uid, like.st_gid) {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(like.st_uid), Gid::from_raw(like.st_gid));
    match fchown(file, Some(uid), Some(gid)) {
        Ok(()) | Err(Errno::PERM) => Ok(()),
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
        symlink(&elsewhere, path.path().join(temporary_name("x"))).unwrap();
        symlink(&elsewhere, path.path().join("x")).unwrap();
        DurableFiles.replace(&directory, "x", b"new").unwrap();
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "precious");
        assert_eq!(fs::read_to_string(path.path().join("x")).unwrap(), "new");
        symlink(&elsewhere, path.path().join("index")).unwrap();
        assert!(DurableFiles.append(&directory, "index", "line\n").is_err());
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
