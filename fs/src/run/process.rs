//! Who opened a file: an annotation, taken while the caller is parked in the kernel and its entry
//! in proc stands still.

use std::{
    collections::HashMap,
    fs::{self, File},
    os::unix::fs::FileExt,
};

use parking_lot::Mutex;

use crate::fact::Process;

/// The caller of a request, as the request header names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// [`Caller::NOBODY_KNOWS`], or the user.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// A thread id; 0 when the caller lives in a process namespace that we do not see.
    pub(crate) thread: u32,
}

impl Caller {
    /// What the kernel says, in place of a user, of a caller whose user id is mapped by the mount.
    pub(crate) const NOBODY_KNOWS: u32 = u32::MAX;

    fn user(self) -> Option<u32> {
        (self.uid != Self::NOBODY_KNOWS).then_some(self.uid)
    }
}

/// Callers that were looked up before: a thread opens many files.
#[derive(Debug, Default)]
pub(crate) struct Processes(Mutex<HashMap<u32, Known>>);

/// A thread that was looked up.
#[derive(Debug)]
struct Known {
    process: Process,
    /// The thread's name in proc, open. It can be read as long as this thread lives and not another one of
    /// its number.
    name: File,
    /// What it was. A thread that becomes another program gets that one's.
    was: Name,
}

/// `TASK_COMM_LEN` bytes at the most, and a newline.
type Name = [u8; 17];

impl Processes {
    /// Looks the caller up in proc. What cannot be seen stays empty: never a guess.
    pub(crate) fn of(&self, caller: Caller) -> Process {
        let unseen = Process { uid: caller.user(), ..Process::default() };
        if caller.thread == 0 {
            return unseen;
        }
        let mut threads = self.0.lock();
        let known = threads.get(&caller.thread).filter(|known| known.is_as_it_was());
        if let Some(known) = known {
            return Process { uid: caller.user(), ..known.process.clone() };
        }
        threads.remove(&caller.thread);
        let Some(known) = Known::look_up(caller.thread) else { return unseen };
        let process = Process { uid: caller.user(), ..known.process.clone() };
        if threads.len() >= THREADS_MAX {
            threads.clear();
        }
        threads.insert(caller.thread, known);
        process
    }
}

impl Known {
    /// None of a thread that cannot be seen, or any more.
    fn look_up(thread: u32) -> Option<Self> {
        let name = File::open(format!("/proc/{thread}/comm")).ok()?;
        let was = read_name(&name)?;
        Some(Self { process: look_up(thread).unwrap_or_default(), name, was })
    }

    fn is_as_it_was(&self) -> bool {
        read_name(&self.name) == Some(self.was)
    }
}

/// None when the thread has ended.
fn read_name(file: &File) -> Option<Name> {
    let mut name = Name::default();
    let length = file.read_at(&mut name, 0).ok()?;
    (length > 0).then_some(name)
}

/// So many threads are remembered, with a descriptor each.
const THREADS_MAX: usize = 256;

fn look_up(thread: u32) -> Option<Process> {
    let entry = format!("/proc/{thread}");
    let status = fs::read_to_string(format!("{entry}/status")).ok()?;
    let executable = fs::read_link(format!("{entry}/exe")).ok();
    let cgroups = fs::read_to_string(format!("{entry}/cgroup")).ok();
    Some(Process {
        pid: field(&status, "Tgid:").and_then(|text| text.parse().ok()),
        uid: None,
        executable: executable.map(|path| path.to_string_lossy().into_owned()),
        cgroup: cgroups.and_then(|text| cgroup(&text)),
    })
}

pub(super) fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// The path in the unified hierarchy, else in the hierarchy of the service manager, else the first.
fn cgroup(text: &str) -> Option<String> {
    let entries: Vec<(&str, &str)> =
        text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':')).collect();
    let of = |controllers: &str| {
        entries.iter().find(|(name, path)| *name == controllers && *path != "/")
    };
    of("").or_else(|| of("name=systemd")).or(entries.first()).map(|(_, path)| (*path).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uid: u32, thread: u32) -> Process {
        Processes::default().of(Caller { uid, gid: uid, thread })
    }

    #[test]
    fn this_process_is_seen() {
        let process = of(7, std::process::id());
        assert_eq!(process.pid, Some(std::process::id()));
        assert_eq!(process.uid, Some(7));
        assert!(process.executable.is_some());
    }

    #[test]
    fn a_thread_is_its_process() {
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned()).unwrap();
            assert!(ended.recv().is_err());
        });
        let number = told.recv().unwrap();
        assert_ne!(number, std::process::id());
        assert_eq!(of(0, number).pid, Some(std::process::id()));
        drop(end);
        thread.join().unwrap();
    }

    #[test]
    fn a_thread_that_has_ended_is_not_taken_for_the_next_one() {
        let processes = Processes::default();
        let ask = |thread| processes.of(Caller { uid: 0, gid: 0, thread });
        let ended = std::thread::spawn(|| rustix::thread::gettid().as_raw_nonzero().get());
        let thread = ended.join().unwrap().cast_unsigned();
        // It may take a moment until the kernel is done with it.
        let gone = Process { uid: Some(0), ..Process::default() };
        assert!((0..2000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            ask(thread) == gone
        }));
        let own = std::process::id();
        assert_eq!(ask(own).pid, Some(own));
        assert_eq!(ask(own), ask(own));
    }

    #[test]
    fn a_process_that_becomes_another_program_is_looked_up_again() {
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "read _; exec sleep 60"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let (processes, thread) = (Processes::default(), shell.id());
        let becomes = |expected: &str| {
            (0..2000).any(|_| {
                std::thread::sleep(std::time::Duration::from_millis(5));
                let seen = processes.of(Caller { uid: 0, gid: 0, thread }).executable;
                seen.is_some_and(|seen| seen.ends_with(expected))
            })
        };
        assert!(becomes("sh"));
        drop(shell.stdin.take());
        assert!(becomes("sleep"));
        shell.kill().unwrap();
        shell.wait().unwrap();
    }

    #[test]
    fn an_invisible_caller_stays_unknown() {
        let unknown = Process { uid: Some(1000), ..Process::default() };
        assert_eq!(of(1000, 0), unknown);
        assert_eq!(of(1000, u32::MAX), unknown);
        assert_eq!(of(Caller::NOBODY_KNOWS, 0), Process::default());
    }

    #[test]
    fn the_unified_hierarchy_comes_first() {
        assert_eq!(cgroup("12:cpu:/a\n0::/job/7\n").as_deref(), Some("/job/7"));
        assert_eq!(cgroup("12:cpu:/a\n1:name=systemd:/s\n0::/\n").as_deref(), Some("/s"));
        assert_eq!(cgroup("12:cpu:/a\n").as_deref(), Some("/a"));
        assert_eq!(cgroup(""), None);
    }
}
