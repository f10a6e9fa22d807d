//! Files that are emptied by being opened, and who asks for their attributes meanwhile.
//!
//! When the kernel is told another size than it knows, it takes that for the size of the file under a lock, lets go of the
//! lock, and then drops the pages behind it (Linux 6.18, `fuse_change_attributes`). Whoever asks for the attributes of
//! a file that somebody else empties, and is told first that it is empty, may be without a processor in between for as
//! long as the other one takes to make the file larger, to map it and to store in the mapping: then that is dropped, and
//! nobody hears of it. So he is told when the kernel has told who emptied the file.

use std::{sync::Arc, time::Duration};

use super::Inode;
use crate::{
    lately::Moment,
    sync::{
        Condvar, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

/// Who empties one file.
#[derive(Debug, Default)]
pub(super) struct Emptying {
    state: Mutex<State>,
    fewer: Condvar,
    /// Whether anybody may have to wait. Most files are never emptied.
    is_recent: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    under_way: usize,
    /// Who was answered last, by the thread, and when.
    answered: Option<(u32, Moment)>,
}

/// One who empties a file by opening it. Dropped when he was answered.
#[derive(Debug)]
pub(crate) struct Emptier {
    inode: Arc<Inode>,
    thread: u32,
}

impl Emptier {
    /// Begins before anything of the file goes.
    pub(in crate::vfs) fn begin(inode: &Arc<Inode>, thread: u32) -> Self {
        inode.emptying.state.lock().under_way += 1;
        inode.emptying.is_recent.store(true, SeqCst);
        Self { inode: Arc::clone(inode), thread }
    }
}

impl Drop for Emptier {
    fn drop(&mut self) {
        let Emptying { state, fewer, .. } = &self.inode.emptying;
        let mut state = state.lock();
        state.under_way -= 1;
        state.answered = Some((self.thread, Moment::now()));
        fewer.notify_all();
    }
}

impl Emptying {
    /// Waits until each of those has heard of it who have emptied the file: a thread that asks for something else has.
    ///
    /// # Returns
    /// Whether anybody was waited for.
    pub(super) fn wait_until_heard(&self, thread: Option<u32>) -> bool {
        if !self.is_recent.load(SeqCst) {
            return false;
        }
        let (mut state, since) = (self.state.lock(), Moment::now());
        let mut has_waited = false;
        while let Some(rest) = state.rest(thread, since) {
            self.fewer.wait_for(&mut state, rest);
            has_waited = true;
        }
        if state.under_way == 0 {
            state.answered = None;
            self.is_recent.store(false, SeqCst);
        }
        has_waited
    }
}

impl State {
    /// How long whoever has waited since then is still to wait.
    fn rest(&self, thread: Option<u32>, since: Moment) -> Option<Duration> {
        let rest = match self.answered {
            _ if self.under_way > 0 => UNDER_WAY_MAX.saturating_sub(since.elapsed()),
            Some((by, at)) if Some(by) != thread => HEARING.saturating_sub(at.elapsed()),
            _ => Duration::ZERO,
        };
        (!rest.is_zero()).then_some(rest)
    }
}

/// A file that takes longer to be emptied is in a store that hangs.
const UNDER_WAY_MAX: Duration = Duration::from_secs(1);

/// How long a thread may take to hear of an answer that the kernel has.
const HEARING: Duration = Duration::from_millis(5);
