//! Who is at the other end of a socket.

use std::{fs, io, os::fd::AsFd};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

/// The process that connected, as the kernel vouches for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// Its effective user.
    pub(super) user: u32,
    /// None when it lives in a process namespace that is not seen from here.
    process: Option<u32>,
}

impl Peer {
    /// Of a process that is not seen the kernel gives the process id 0, which `rustix` cannot hold.
    ///
    /// # Errors
    /// It is no Unix socket.
    pub(super) fn of(socket: impl AsFd) -> io::Result<Self> {
        let credentials = getsockopt(&socket, PeerCredentials)?;
        let process = u32::try_from(credentials.pid()).ok().filter(|process| *process != 0);
        Ok(Self { user: credentials.uid(), process })
    }

    /// Whether process ids mean the same to it and to this process. Not, when nobody can tell.
    pub(super) fn shares_process_ids(self) -> bool {
        let namespace = |process: String| fs::read_link(format!("/proc/{process}/ns/pid")).ok();
        let theirs = self.process.and_then(|process| namespace(process.to_string()));
        theirs.is_some() && theirs == namespace("self".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::config::effective_user;

    #[test]
    fn a_process_shares_its_process_ids_with_itself() {
        let (socket, _other) = UnixStream::pair().unwrap();
        let peer = Peer::of(socket).unwrap();
        assert_eq!(peer, Peer { user: effective_user(), process: Some(std::process::id()) });
        assert!(peer.shares_process_ids());
    }

    #[test]
    fn a_process_that_is_not_seen_shares_none() {
        for process in [None, Some(u32::MAX)] {
            assert!(!Peer { user: 0, process }.shares_process_ids());
        }
    }
}
