//! Files of the store that the kernel reads and writes by itself (passthrough).

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use fuser::BackingId;
use rustix::io::Errno;

use crate::{meter::meter, mount::Capture, vfs::Shortcut};

/// Makes shortcuts, until it turns out that there are none on this mount.
#[derive(Debug)]
pub(super) struct Shortcuts {
    capture: Capture,
    impossible: AtomicBool,
}

impl Shortcuts {
    /// For a mount whose run comes to know in this way what is written.
    pub(super) fn new(capture: Capture) -> Self {
        Self { capture, impossible: AtomicBool::default() }
    }

    /// Makes a file of the store known to the kernel, by `register`. None where that is not possible: it takes
    /// `CAP_SYS_ADMIN` in the first user namespace, Linux 6.9, and a store that is not stacked on others
    /// itself.
    pub(super) fn make(
        &self,
        register: impl FnOnce() -> io::Result<BackingId>,
    ) -> Option<Shortcut> {
        if self.impossible.load(Relaxed) {
            return None;
        }
        match register() {
            Ok(known) => {
                meter().passed();
                Some(Shortcut(Arc::new(known)))
            }
            Err(error) => {
                if is_for_good(&error) && !self.impossible.swap(true, Relaxed) {
                    self.tell(&error);
                }
                None
            }
        }
    }

    /// Who asked for it wants to know.
    fn tell(&self, error: &io::Error) {
        const MESSAGE: &str = "no passthrough on this mount: all goes through this process";
        match self.capture {
            Capture::Inline => tracing::info!(%error, MESSAGE),
            Capture::Reread => tracing::warn!(%error, "--capture reread: {MESSAGE}"),
        }
    }
}

/// What the kernel knows the file by.
pub(super) fn known_as(shortcut: &Shortcut) -> &BackingId {
    shortcut.0.downcast_ref().expect("all shortcuts are made here")
}

/// Whether the next one will fail in the same way.
fn is_for_good(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(
        errno,
        Some(Errno::PERM | Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL | Errno::LOOP)
    )
}
