//! How a connection to the kernel ended.

use std::{io, os::fd::OwnedFd};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use super::WRITE_MAX;

/// The connection, beside the session that answers what comes through it.
#[derive(Debug)]
pub(super) struct Connection(pub(super) OwnedFd);

impl Connection {
    /// Whether the next request is there already.
    pub(super) fn is_waited_for(&self) -> bool {
        self.has(PollFlags::IN)
    }

    /// Whether the filesystem was unmounted, and nobody broke the connection off. Whoever fetches a request at the moment of
    /// an unmount is told the same as if somebody had (`fuse_dev_do_read`), but whoever comes after that is not.
    pub(super) fn is_unmounted(&self) -> bool {
        let ended = self.has_ended();
        // The kernel refuses a buffer that could not take all that may come before it looks any further.
        let mut buffer = vec![0; WRITE_MAX as usize + HEADERS_MAX];
        ended && rustix::io::read(&self.0, &mut buffer) == Err(Errno::NODEV)
    }

    /// Whether no request comes any more. Nobody waits for that here: the kernel would wake him for each request.
    pub(super) fn has_ended(&self) -> bool {
        self.has(PollFlags::ERR)
    }

    fn has(&self, flag: PollFlags) -> bool {
        let mut events = [PollFd::new(&self.0, flag)];
        poll(&mut events, Some(&Timespec::default())).is_ok() && events[0].revents().contains(flag)
    }
}

/// What the kernel says of a connection that somebody broke off.
pub(super) fn is_abort(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionAborted
}

/// Before the bytes of a write.
const HEADERS_MAX: usize = 4096;
