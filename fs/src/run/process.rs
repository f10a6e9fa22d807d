//! Who opened a file: an annotation, taken while the caller is parked in the kernel and its entry
//! in proc stands still.

use std::{collections::HashMap, fs};

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
pub(crate) struct Processes(Mutex<HashMap<(u32, u64), Process>>);

impl Processes {
    /// Looks the caller up in proc. What cannot be seen stays empty: never a guess.
    pub(crate) fn of(&self, caller: Caller) -> Process {
        let unseen = Process { uid: caller.user(), ..Process::default() };
        if caller.thread == 0 {
            return unseen;
        }
        let Some(started) = start_time(caller.thread) else { return unseen };
        let mut known = self.0.lock();
        if known.len() >= PROCESSES_MAX {
            known.clear();
        }
        let process = known
            .entry((caller.thread, started))
            .or_insert_with(|| look_up(caller.thread).unwrap_or_default());
        Process { uid: caller.user(), ..process.clone() }
    }
}

/// So many threads are remembered.
const PROCESSES_MAX: usize = 4096;

/// Ticks from boot to the start of the thread: tells it from a later one of the same number.
fn start_time(thread: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{thread}/stat")).ok()?;
    // The program's name, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(START_TIME_FIELD)?.parse().ok()
}

/// Field 22 of `proc(5)` stat, counted from behind the name, which is field 2.
const START_TIME_FIELD: usize = 22 - 3;

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
