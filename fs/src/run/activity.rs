//! Which files are being written or settling, so that others can wait until they are not.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::tracked::Tracked;
use crate::{
    identity::FileKey,
    sync::{Condvar, Mutex},
};

/// The files whose content is not final.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    busy: Mutex<HashMap<FileKey, Arc<Tracked>>>,
    less: Condvar,
}

impl Activity {
    pub(crate) fn begin(&self, tracked: &Arc<Tracked>) {
        self.busy.lock().insert(tracked.key(), Arc::clone(tracked));
    }

    pub(crate) fn end(&self, tracked: &Tracked) {
        if self.busy.lock().remove(&tracked.key()).is_some() {
            self.less.notify_all();
        }
    }

    /// Waits until no file for which `concerns` holds is busy, no longer than `patience`.
    ///
    /// `concerns` must not lock a content: whoever changes one takes that lock first and ours next.
    pub(crate) fn wait(&self, patience: Duration, concerns: impl Fn(&Tracked) -> bool) {
        let mut busy = self.busy.lock();
        let some = |busy: &mut HashMap<FileKey, Arc<Tracked>>| busy.values().any(|t| concerns(t));
        self.less.wait_while_for(&mut busy, some, patience);
    }
}
