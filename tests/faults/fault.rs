//! Calls that fail.

use std::{fmt, mem, sync::Arc};

use attestfs_fs::Backing;
use parking_lot::Mutex;
use rustix::io::Errno;

use crate::hooked::Hooked;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) errno: Errno,
    pub(crate) lasts: Lasts,
}

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lasts {
    Once,
    UntilMended,
}

impl Fault {
    /// Each of: a disk that fails, one that is full, a quota, and a filesystem that became read-only.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let errnos = [Errno::IO, Errno::NOSPC, Errno::DQUOT, Errno::ROFS];
        let lasting = |lasts| errnos.map(|errno| Self { errno, lasts });
        lasting(Lasts::Once).into_iter().chain(lasting(Lasts::UntilMended))
    }

    /// The name of the errno.
    pub(crate) fn name(self) -> &'static str {
        match self.errno {
            Errno::NOSPC => "ENOSPC",
            Errno::DQUOT => "EDQUOT",
            Errno::ROFS => "EROFS",
            _ => "EIO",
        }
    }

    /// Whether a call of this name may fail so.
    fn concerns(self, call: &str) -> bool {
        match self.errno {
            Errno::NOSPC | Errno::DQUOT => TAKE_ROOM.contains(&call),
            Errno::ROFS => TAKE_ROOM.contains(&call) || CHANGE.contains(&call),
            _ => true,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.name(), self.lasts)
    }
}

const TAKE_ROOM: [&str; 13] = [
    "create",
    "make_directory",
    "make_node",
    "symlink",
    "link",
    "rename",
    "truncate",
    "write_at",
    "allocate",
    "copy_range",
    "sync",
    "set_attribute",
    "remove_attribute",
];

const CHANGE: [&str; 5] =
    ["unlink", "remove_directory", "change_mode", "change_owner", "set_times"];

/// What fails in one store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Arc<Mutex<Plan>>);

#[derive(Debug, Default)]
struct Plan {
    /// And how many calls it lets by.
    armed: Option<(Fault, u64)>,
    /// The calls that failed.
    struck: Vec<&'static str>,
}

impl Faults {
    /// From now on the `nth` call that the fault concerns fails, counted from 1.
    pub(crate) fn arm(&self, fault: Fault, nth: u64) {
        *self.0.lock() = Plan { armed: Some((fault, nth - 1)), struck: Vec::new() };
    }

    /// From now on nothing fails.
    ///
    /// # Returns
    /// The calls that did.
    pub(crate) fn mend(&self) -> Vec<&'static str> {
        mem::take(&mut *self.0.lock()).struck
    }

    /// A store where they happen.
    pub(crate) fn in_front_of(&self, store: Arc<dyn Backing>) -> Arc<dyn Backing> {
        let plan = Arc::clone(&self.0);
        Hooked::before_each(store, move |call, _| plan.lock().strike(call))
    }
}

impl Plan {
    fn strike(&mut self, call: &'static str) -> Result<(), Errno> {
        let Some((fault, left)) = &mut self.armed else { return Ok(()) };
        if !fault.concerns(call) {
            return Ok(());
        }
        if *left > 0 {
            *left -= 1;
            return Ok(());
        }
        let errno = fault.errno;
        self.struck.push(call);
        if fault.lasts == Lasts::Once {
            self.armed = None;
        }
        Err(errno)
    }
}
