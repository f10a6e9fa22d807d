//! Where the control socket is. The name of a Unix socket has room for 107 bytes; a state directory
//! with a longer one is reached through its descriptor.

use std::{
    fs::File,
    io,
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStrExt, net},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, unlinkat},
    io::Errno,
};

use crate::config::StateDir;

/// `sun_path` less its final NUL.
const SOCKET_NAME_BYTES_MAX: usize = 107;

/// Connects to whoever listens in `state`.
///
/// # Errors
/// What `connect(2)` says; `NotFound` and `ConnectionRefused` mean that nobody does.
pub fn connect(state: &StateDir) -> io::Result<net::UnixStream> {
    at(&state.socket(), |path| net::UnixStream::connect(path))
}

/// Listens in `state`, in place of whoever did before: the caller holds the daemon's lock.
///
/// # Errors
/// What `bind(2)` says.
pub fn listen(state: &StateDir) -> io::Result<net::UnixListener> {
    let path = state.socket();
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => at(&path, |path| net::UnixListener::bind(path)),
    }
}

/// Takes the socket away from `directory`, the state directory as it was when listening began: one
/// that was made anew at the same path has a socket of its own.
///
/// # Errors
/// What `unlink(2)` says, but that there is none.
pub fn unlisten(directory: &File) -> io::Result<()> {
    match unlinkat(directory, StateDir::SOCKET, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn at<T>(socket: &Path, act: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
    let (Some(directory), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    if socket.as_os_str().as_bytes().len() <= SOCKET_NAME_BYTES_MAX {
        return act(socket);
    }
    let directory = File::open(directory)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    act(&short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    #[test]
    fn a_state_directory_with_a_long_name_has_a_socket_too() {
        let directory = tempfile::tempdir().unwrap();
        for length in [1, 200] {
            let root = directory.path().join("x".repeat(length));
            let state = StateDir::resolve(Some(&root), &Environment::default()).unwrap();
            state.prepare().unwrap();
            assert_eq!(connect(&state).unwrap_err().kind(), io::ErrorKind::NotFound);
            drop(listen(&state).unwrap());
            assert_eq!(connect(&state).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
            let listener = listen(&state).unwrap();
            connect(&state).unwrap();
            listener.accept().unwrap();
        }
    }
}
