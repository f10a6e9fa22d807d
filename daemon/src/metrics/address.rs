use std::{
    fmt, fs, io,
    net::TcpListener,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::config::Environment;

/// The variable that stands for `--metrics`. Not for those whom a process starts: the address is taken.
pub(crate) const VARIABLE: &str = "ATTESTFS_METRICS";

/// Where metrics are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `unix:PATH`: a socket for the user and the group of the process.
    Unix(PathBuf),
    /// `HOST:PORT`, `:PORT` or `PORT`; without a host it is the loopback interface.
    Tcp {
        /// A name or a number.
        host: String,
        /// Its port.
        port: u16,
    },
}

/// Why metrics are not served.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// What was given cannot be understood.
    #[error("{text:?} is no address for metrics: give unix:PATH, HOST:PORT or PORT")]
    NoAddress {
        /// As it was given.
        text: String,
    },
    /// Nobody can listen there.
    #[error("metrics cannot be served at {address}: {source}")]
    Io {
        /// Where.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
}

impl MetricsError {
    /// What to do about it, where the sentence does not say so.
    pub(crate) fn next_step(&self) -> Option<String> {
        match self {
            Self::NoAddress { .. } => None,
            Self::Io { .. } => Some("give an address that is free with --metrics ADDR".to_owned()),
        }
    }
}

/// Listens for whoever looks.
#[derive(Debug)]
pub(super) enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// Where metrics are to be served, by the command line or else the environment.
///
/// # Errors
/// The variable holds no address.
pub(crate) fn wanted(
    option: Option<Address>,
    environment: &Environment,
) -> Result<Option<Address>, MetricsError> {
    let of_environment = || environment.metrics.as_deref().map(str::parse).transpose();
    option.map_or_else(of_environment, |address| Ok(Some(address)))
}

impl FromStr for Address {
    type Err = MetricsError;

    fn from_str(text: &str) -> Result<Self, MetricsError> {
        let none = || MetricsError::NoAddress { text: text.to_owned() };
        if let Some(path) = text.strip_prefix("unix:") {
            // Processes that are started for this one have another working directory.
            return std::path::absolute(path).map(Self::Unix).map_err(|_empty| none());
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bare.unwrap_or(host) {
            "" if bare.is_none() => LOOPBACK,
            host if host.contains(':') == bare.is_some() => host,
            _ => return Err(none()),
        };
        let port = port.parse().map_err(|_nonsense| none())?;
        Ok(Self::Tcp { host: host.to_owned(), port })
    }
}

const LOOPBACK: &str = "127.0.0.1";

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl Address {
    /// # Errors
    /// Somebody listens there, or this process may not.
    pub(super) fn listen(&self) -> Result<Listener, MetricsError> {
        let listener = match self {
            Self::Unix(path) => listen_at(path).map(Listener::Unix),
            Self::Tcp { host, port } => {
                TcpListener::bind((host.as_str(), *port)).map(Listener::Tcp)
            }
        };
        listener.map_err(|source| MetricsError::Io { address: self.clone(), source })
    }
}

/// Takes the place of a socket at which nobody listens any more.
fn listen_at(path: &Path) -> io::Result<UnixListener> {
    let left = fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if left && UnixStream::connect(path).is_err_and(refused) {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(listener)
}

/// For the user, and for a group that the directory may have been given.
const SOCKET_MODE: u32 = 0o660;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_refused_with_what_is_one() {
        for wrong in
            ["", ":", "unix:", "localhost", "host:", "host:65536", "::1:9", "[::1]", "[]:9"]
        {
            let error = Address::from_str(wrong).unwrap_err();
            assert!(error.to_string().contains("HOST:PORT"), "{wrong}: {error}");
        }
    }

    #[test]
    fn without_a_host_it_is_the_loopback_interface() {
        for text in ["9464", ":9464"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), "127.0.0.1:9464");
        }
        for text in ["0.0.0.0:80", "[::1]:9464", "localhost:1", "unix:/run/metrics.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_option_wins_over_the_variable_and_a_wrong_variable_is_an_error() {
        let of =
            |value: &str| Environment { metrics: Some(value.to_owned()), ..Environment::default() };
        let option: Address = "1".parse().unwrap();
        assert_eq!(wanted(Some(option.clone()), &of("2")).unwrap(), Some(option));
        assert_eq!(wanted(None, &of("2")).unwrap().unwrap().to_string(), "127.0.0.1:2");
        assert_eq!(wanted(None, &Environment::default()).unwrap(), None);
        assert!(wanted(None, &of("nonsense")).is_err());
    }

    #[test]
    fn a_socket_that_nobody_listens_at_is_taken_over_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.sock");
        let address = Address::Unix(path.clone());
        let listener = address.listen().unwrap();
        assert!(address.listen().unwrap_err().to_string().contains("in use"));
        drop(listener);
        drop(address.listen().unwrap());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "content").unwrap();
        address.listen().unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"content");
    }
}
