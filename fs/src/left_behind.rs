//! Who writes to files of the store past the process that served them, and goes on when that one has ended.
//!
//! What the kernel was given to write by itself it holds open until whoever writes there has closed it, and nobody can
//! take it back. So each such open file bears a mark that stays as long as it does, whatever becomes of the process
//! that set it: an open file description lock (`fcntl_locking(2)`) on one byte beyond all content, whose offset says
//! who served it. `/proc/locks` lists them to all users and in all namespaces.

use std::{
    fs::{self, File},
    io,
    os::fd::AsFd,
};

use nix::fcntl::{FcntlArg, fcntl};
use rustix::{
    fs::{Mode, OFlags, openat},
    io::Errno,
};

/// A process that serves files, told from all others that have or had its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pid: u64,
    /// When it began, in clock ticks since the machine did.
    began: u64,
}

/// A mark, as the kernel lists it.
#[derive(Debug, PartialEq, Eq)]
struct Mark<'a> {
    server: Server,
    /// `<major>:<minor>` of the filesystem, in hexadecimal.
    device: &'a str,
    inode: u64,
}

impl Server {
    /// This process. None where proc does not show it.
    pub(crate) fn this() -> Option<Self> {
        let pid = u64::from(std::process::id());
        Some(Self { pid, began: began(pid)? })
            .filter(|it| it.pid <= PID_MAX && it.began <= TICKS_MAX)
    }

    /// Marks an open file: nobody takes it for one that is done with before the last one who has it open past this
    /// process has closed it.
    ///
    /// # Errors
    /// The filesystem knows no such locks, or somebody has locked all of the file.
    pub(crate) fn mark(self, file: impl AsFd) -> io::Result<()> {
        let set = |kind| fcntl(&file, FcntlArg::F_OFD_SETLK(&self.lock(kind)));
        match set(READ) {
            // It is open for writing only.
            Err(nix::Error::EBADF) => set(WRITE)?,
            set => set?,
        };
        Ok(())
    }

    /// Whether an open file that is not this one bears the mark. In doubt it does.
    pub(crate) fn has_marked(self, file: impl AsFd) -> bool {
        let mut lock = self.lock(WRITE);
        let asked = fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock));
        asked.is_err() || lock.l_type != NONE
    }

    fn lock(self, kind: i16) -> libc::flock {
        let (l_whence, l_start, l_len) = (START, self.offset(), 1);
        libc::flock { l_type: kind, l_whence, l_start, l_len, l_pid: 0 }
    }

    fn offset(self) -> i64 {
        let number = FIRST | self.began << PID_BITS | self.pid;
        i64::try_from(number).unwrap_or(i64::MAX)
    }

    fn at(offset: u64) -> Option<Self> {
        let is_mark = (FIRST..FIRST << 1).contains(&offset);
        let server = Self { pid: offset & PID_MAX, began: (offset & (FIRST - 1)) >> PID_BITS };
        is_mark.then_some(server)
    }

    /// Not of one in another process namespace: what it marked counts as left behind.
    fn is_alive(self) -> bool {
        began(self.pid) == Some(self.began)
    }
}

/// The inodes on the filesystem of `directory` that processes may write to past a server that has ended.
///
/// # Errors
/// The directory cannot be read, or proc not be seen.
pub fn left_behind(directory: impl AsFd) -> io::Result<Vec<u64>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let probe = File::from(openat(directory, ".", flags, Mode::empty())?);
    let this = Server::this().ok_or(Errno::NOENT)?;
    // How the kernel calls the filesystem in its list is seen by a mark of our own. Where there can be none
    // those on all filesystems count.
    let marked = this.mark(&probe).is_ok();
    let inode = rustix::fs::fstat(&probe)?.st_ino;
    let locks = fs::read_to_string("/proc/locks")?;
    let marks: Vec<_> = locks.lines().filter_map(Mark::parse).collect();
    let own = marks.iter().find(|mark| marked && mark.server == this && mark.inode == inode);
    let is_here = |mark: &&Mark<'_>| own.is_none_or(|own| own.device == mark.device);
    let here = marks.iter().filter(is_here);
    let mut left: Vec<_> = here.filter(|mark| !mark.server.is_alive()).map(|it| it.inode).collect();
    left.sort_unstable();
    left.dedup();
    Ok(left)
}

impl<'a> Mark<'a> {
    /// `1: OFDLCK ADVISORY  READ -1 fe:00:5678 2305843009213693959 2305843009213693959`
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split_whitespace().skip(1);
        let (kind, file) = (fields.next()?, fields.nth(3)?);
        let server = Server::at(fields.next()?.parse().ok()?)?;
        let (device, inode) = file.rsplit_once(':')?;
        let inode = inode.parse().ok()?;
        (kind == "OFDLCK").then_some(Self { server, device, inode })
    }
}

/// `starttime` of `proc_pid_stat(5)`. None of a process that has ended, waited for or not.
fn began(pid: u64) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program may hold anything.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    let has_ended = ENDED.contains(&fields.next()?);
    fields.nth(18).filter(|_| !has_ended)?.parse().ok()
}

const READ: i16 = small(libc::F_RDLCK);
const WRITE: i16 = small(libc::F_WRLCK);
const NONE: i16 = small(libc::F_UNLCK);
const START: i16 = small(libc::SEEK_SET);

#[expect(clippy::cast_possible_truncation, reason = "these constants are below 3")]
const fn small(constant: i32) -> i16 {
    constant as i16
}

/// States of processes that run no more.
const ENDED: [&str; 3] = ["Z", "X", "x"];

/// No filesystem holds files of 2 EiB.
const FIRST: u64 = 1 << 61;

/// `PID_MAX_LIMIT` is 4 Mi.
const PID_BITS: u32 = 22;
const PID_MAX: u64 = (1 << PID_BITS) - 1;

/// At 100 ticks a second some 170 years.
const TICKS_MAX: u64 = (FIRST >> PID_BITS) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_told_by_the_offset_of_its_mark() {
        let this = Server::this().unwrap();
        let last = Server { pid: PID_MAX, began: TICKS_MAX };
        for server in [this, last, Server { pid: 1, began: 0 }] {
            let offset = u64::try_from(server.offset()).unwrap();
            assert_eq!(Server::at(offset), Some(server));
        }
        for other in [0, FIRST - 1, FIRST << 1, u64::MAX] {
            assert_eq!(Server::at(other), None, "{other}");
        }
        assert!(this.is_alive());
        assert!(!Server { began: this.began + 1, ..this }.is_alive());
    }

    #[test]
    fn only_marks_count_among_the_locks() {
        let line = format!("1: OFDLCK ADVISORY  READ -1 fe:00:5678 {0} {0}", FIRST + 7);
        let server = Server { pid: 7, began: 0 };
        assert_eq!(Mark::parse(&line), Some(Mark { server, device: "fe:00", inode: 5678 }));
        for other in [
            line.replace("OFDLCK", "POSIX "),
            line.replace(&(FIRST + 7).to_string(), "0"),
            line.replace("fe:00:5678", "fe"),
            "1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF".to_owned(),
            String::new(),
        ] {
            assert_eq!(Mark::parse(&other), None, "{other}");
        }
    }

    #[test]
    fn what_a_server_that_ended_left_behind_is_found_until_it_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let root = File::open(directory.path()).unwrap();
        let make = |name: &str| {
            let file = File::create_new(directory.path().join(name)).unwrap();
            let inode = rustix::fs::fstat(&file).unwrap().st_ino;
            (file, inode)
        };
        let ((left, inode), (served, _)) = (make("left"), make("served"));
        let this = Server::this().unwrap();
        let ended = Server { began: this.began - 1, ..this };
        ended.mark(&left).unwrap();
        this.mark(&served).unwrap();
        assert!(!this.has_marked(&served), "through another open file");
        let again = File::open(directory.path().join("served")).unwrap();
        assert!(this.has_marked(&again) && !ended.has_marked(&again));
        // Others may have left something behind on this filesystem.
        assert!(left_behind(&root).unwrap().contains(&inode));
        drop(left);
        assert!(!left_behind(&root).unwrap().contains(&inode));
    }
}
