//! Who writes to files of the store past the process that served them, and goes on when that one has ended.
//!
//! What the kernel was given to write by itself it holds open until whoever writes there has closed it, and nobody can
//! take it back. So each such open file bears a mark that stays as long as it does, whatever becomes of the process
//! that set it: an open file description lock (`fcntl_locking(2)`) on one byte beyond all content, whose offset says
//! who served it. Whoever has the file open can ask for it, in all namespaces.

use std::{
    collections::BTreeSet,
    fs, io,
    ops::Range,
    os::fd::AsFd,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use nix::fcntl::{FcntlArg, fcntl};

/// A process that serves files, told from all others that have or had its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pid: u64,
    /// When it began, in clock ticks since the machine did.
    began: u64,
}

/// A mark, as the kernel lists it.
#[derive(Debug, PartialEq, Eq)]
struct Mark {
    server: Server,
    inode: u64,
}

impl Server {
    /// This process. None where proc does not show it, or is that of another process namespace.
    pub(crate) fn this() -> Option<Self> {
        static THIS: OnceLock<Option<Server>> = OnceLock::new();
        *THIS.get_or_init(|| {
            let stat = fs::read_to_string("/proc/self/stat").ok()?;
            let pid = stat.split(' ').next()?.parse().ok()?;
            let this = Self { pid, began: began_by(&stat)? };
            let is_so = pid == u64::from(std::process::id());
            Some(this).filter(|it| is_so && it.pid <= PID_MAX && it.began <= TICKS_MAX)
        })
    }

    /// Marks an open file: nobody takes it for one that is done with before the last one who has it open past this
    /// process has closed it.
    ///
    /// # Errors
    /// The filesystem knows no such locks, or somebody has locked all of the file.
    pub(crate) fn mark(self, file: impl AsFd) -> io::Result<()> {
        let set = |kind| fcntl(&file, FcntlArg::F_OFD_SETLK(&lock(kind, &self.byte())));
        HAS_MARKED.store(true, Relaxed);
        match set(READ) {
            // It is open for writing only.
            Err(nix::Error::EBADF) => set(WRITE)?,
            set => set?,
        };
        Ok(())
    }

    /// Whether an open file that is not this one bears the mark.
    pub(crate) fn has_marked(self, file: impl AsFd) -> bool {
        is_locked(file, &self.byte())
    }

    fn byte(self) -> Range<u64> {
        let first = FIRST | self.began << PID_BITS | self.pid;
        first..first + 1
    }

    fn at(offset: u64) -> Option<Self> {
        let is_mark = ALL.contains(&offset);
        let server = Self { pid: offset & PID_MAX, began: (offset & (FIRST - 1)) >> PID_BITS };
        is_mark.then_some(server)
    }

    /// Not of one in another process namespace: what it marked counts as left behind.
    fn is_alive(self) -> bool {
        began(self.pid) == Some(self.began)
    }
}

/// Whether somebody may write to this open file past a process that is not this one, be it alive or not. Who does so past this
/// one is known without.
pub fn is_written_past_others(file: impl AsFd) -> bool {
    match Server::this().filter(|_| HAS_MARKED.load(Relaxed)).map(Server::byte) {
        Some(own) => {
            is_locked(&file, &(ALL.start..own.start)) || is_locked(&file, &(own.end..ALL.end))
        }
        None => is_locked(file, &ALL),
    }
}

/// The numbers of inodes, on whichever filesystem, that somebody may write to past a server that has ended.
/// [`is_written_past_others`] says it of a file, and this where to look: who takes and drops many locks meanwhile can
/// hide from a reading of the list.
///
/// # Errors
/// Proc cannot be seen.
pub fn numbers_left_behind() -> io::Result<BTreeSet<u64>> {
    let mut numbers = BTreeSet::new();
    for _ in 0..READINGS {
        let locks = fs::read_to_string("/proc/locks")?;
        let marks = locks.lines().filter_map(Mark::parse);
        numbers.extend(marks.filter(|mark| !mark.server.is_alive()).map(|mark| mark.inode));
    }
    Ok(numbers)
}

/// Whether this process has ever marked a file: each open asks, and twice only where that is so.
static HAS_MARKED: AtomicBool = AtomicBool::new(false);

/// Whether another open file has locked some of these bytes. Not where the filesystem knows no such locks: then nobody
/// was let write past anybody.
fn is_locked(file: impl AsFd, bytes: &Range<u64>) -> bool {
    let mut found = lock(WRITE, bytes);
    let asked = fcntl(file, FcntlArg::F_OFD_GETLK(&mut found));
    asked.is_ok() && found.l_type != NONE
}

fn lock(kind: i16, bytes: &Range<u64>) -> libc::flock {
    let (start, length) = (bytes.start.cast_signed(), (bytes.end - bytes.start).cast_signed());
    libc::flock { l_type: kind, l_whence: START, l_start: start, l_len: length, l_pid: 0 }
}

impl Mark {
    /// `1: OFDLCK ADVISORY  READ -1 fe:00:5678 2305843009213693959 2305843009213693959`
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_whitespace().skip(1);
        let (kind, file) = (fields.next()?, fields.nth(3)?);
        let server = Server::at(fields.next()?.parse().ok()?)?;
        let (_, inode) = file.rsplit_once(':')?;
        let inode = inode.parse().ok()?;
        (kind == "OFDLCK").then_some(Self { server, inode })
    }
}

fn began(pid: u64) -> Option<u64> {
    began_by(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// `starttime` of `proc_pid_stat(5)`. None of a process that has ended, waited for or not.
fn began_by(stat: &str) -> Option<u64> {
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

/// One reading misses one in thirty when thousands of locks are taken and dropped.
const READINGS: usize = 8;

/// States of processes that run no more.
const ENDED: [&str; 3] = ["Z", "X", "x"];

/// No filesystem holds files of 2 EiB.
const FIRST: u64 = 1 << 61;

/// Where marks are.
const ALL: Range<u64> = FIRST..FIRST << 1;

/// `PID_MAX_LIMIT` is 4 Mi.
const PID_BITS: u32 = 22;
const PID_MAX: u64 = (1 << PID_BITS) - 1;

/// At 100 ticks a second some 170 years.
const TICKS_MAX: u64 = (FIRST >> PID_BITS) - 1;

#[cfg(test)]
pub(crate) mod tests {
    use std::fs::File;

    use super::*;

    /// Marks an open file as a server would that has ended.
    pub(crate) fn mark_as_another(file: &File) {
        let this = Server::this().unwrap();
        Server { began: this.began - 1, ..this }.mark(file).unwrap();
    }

    #[test]
    fn a_server_is_told_by_the_offset_of_its_mark() {
        let this = Server::this().unwrap();
        let last = Server { pid: PID_MAX, began: TICKS_MAX };
        for server in [this, last, Server { pid: 1, began: 0 }] {
            assert_eq!(Server::at(server.byte().start), Some(server));
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
        assert_eq!(Mark::parse(&line), Some(Mark { server, inode: 5678 }));
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
    fn a_mark_is_seen_through_other_open_files_until_it_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        let (marked, asked) = (File::create_new(&path).unwrap(), File::open(&path).unwrap());
        let inode = rustix::fs::fstat(&asked).unwrap().st_ino;
        let this = Server::this().unwrap();
        let ended = Server { began: this.began - 1, ..this };
        for (server, is_another) in [(this, false), (ended, true)] {
            let marked = marked.try_clone().unwrap();
            server.mark(&marked).unwrap();
            assert!(!server.has_marked(&marked), "through another open file");
            assert!(server.has_marked(&asked));
            assert_eq!(is_written_past_others(&asked), is_another);
            assert_eq!(numbers_left_behind().unwrap().contains(&inode), is_another);
        }
        drop(marked);
        assert!(!this.has_marked(&asked) && !is_written_past_others(&asked));
        assert!(!numbers_left_behind().unwrap().contains(&inode));
    }
}
