//! `GET /metrics`, and nothing else. Whoever looks gets one answer and goes; who takes his time is left.

use std::{
    fs,
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    address::{Address, Listener, MetricsError},
    page::Page,
};

/// How long a request and its answer may take together.
const PATIENCE: Duration = Duration::from_secs(10);

/// Requests that are answered at a time; more are turned away.
const VISITORS_MAX: usize = 4;

/// The longest request: what monitors send has some hundred bytes.
const REQUEST_BYTES_MAX: usize = 8 << 10;

/// How long to wait before accepting again when the system is out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// As long as it is there, the socket has its name.
#[derive(Debug)]
pub(crate) struct Server {
    socket: Option<PathBuf>,
}

/// Serves a page from now on.
///
/// # Errors
/// Somebody listens at this address, or this process may not.
pub(crate) fn begin(address: &Address, page: Page) -> Result<Server, MetricsError> {
    let listener = address.listen()?;
    let page = Arc::new(page);
    match &listener {
        Listener::Unix(_) => tracing::info!(%address, "metrics are served"),
        Listener::Tcp(tcp) => tracing::info!(address = ?tcp.local_addr(), "metrics are served"),
    }
    let socket = match address {
        Address::Unix(path) => Some(path.clone()),
        Address::Tcp { .. } => None,
    };
    thread::spawn(move || receive(&listener, &page));
    Ok(Server { socket })
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            fs::remove_file(socket).unwrap_or_default();
        }
    }
}

fn receive(listener: &Listener, page: &Arc<Page>) {
    let visitors = Arc::new(AtomicUsize::new(0));
    loop {
        let accepted = match listener {
            Listener::Unix(unix) => unix.accept().map(|(it, _)| Box::new(it) as Box<dyn Stream>),
            Listener::Tcp(tcp) => tcp.accept().map(|(it, _)| Box::new(it) as Box<dyn Stream>),
        };
        let Ok(stream) = accepted else {
            thread::sleep(ACCEPT_PAUSE);
            continue;
        };
        let Some(visit) = Visit::begin(&visitors) else { continue };
        let page = Arc::clone(page);
        thread::spawn(move || {
            let mut conversation = Conversation::new(stream, PATIENCE);
            if let Err(error) = conversation.answer(&page) {
                tracing::debug!(%error, "somebody who looked at metrics got no answer");
            }
            // First, so that who comes again when the connection ends finds room.
            drop(visit);
            drop(conversation);
        });
    }
}

/// One of the few whose requests are answered at a time.
struct Visit(Arc<AtomicUsize>);

impl Visit {
    fn begin(visitors: &Arc<AtomicUsize>) -> Option<Self> {
        let visit = Self(Arc::clone(visitors));
        let before = visitors.fetch_add(1, Ordering::Relaxed);
        (before < VISITORS_MAX).then_some(visit)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection whose calls can be bounded in time.
trait Stream: Read + Write + Send {
    fn bound(&self, time: Duration) -> io::Result<()>;
}

impl Stream for UnixStream {
    fn bound(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }
}

impl Stream for TcpStream {
    fn bound(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }
}

struct Conversation {
    stream: Box<dyn Stream>,
    since: Instant,
    patience: Duration,
}

impl Conversation {
    #[expect(clippy::disallowed_methods, reason = "it measures how long, and says nothing of when")]
    fn new(stream: Box<dyn Stream>, patience: Duration) -> Self {
        Self { stream, since: Instant::now(), patience }
    }

    fn answer(&mut self, page: &Page) -> io::Result<()> {
        let request = self.request()?;
        let (method, target) = parsed(&request).unwrap_or_default();
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        let answer = match (method, path) {
            ("GET" | "HEAD", "/metrics") => found(&page.text(), method == "HEAD"),
            ("GET" | "HEAD", _) => refused("404 Not Found", "there is only /metrics here\n"),
            ("", _) => refused("400 Bad Request", "this is no request\n"),
            _ => refused("405 Method Not Allowed", "there is only GET here\n"),
        };
        self.write(answer.as_bytes())
    }

    /// What came until an empty line, or an end.
    fn request(&mut self) -> io::Result<Vec<u8>> {
        let mut request = Vec::new();
        let mut piece = [0; 1024];
        while !is_whole(&request) && request.len() < REQUEST_BYTES_MAX {
            self.stream.bound(self.time_left()?)?;
            match self.stream.read(&mut piece)? {
                0 => break,
                count => request.extend_from_slice(&piece[..count]),
            }
        }
        Ok(request)
    }

    fn write(&mut self, mut rest: &[u8]) -> io::Result<()> {
        while !rest.is_empty() {
            self.stream.bound(self.time_left()?)?;
            match self.stream.write(rest)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => rest = &rest[count..],
            }
        }
        Ok(())
    }

    fn time_left(&self) -> io::Result<Duration> {
        let left = self.patience.checked_sub(self.since.elapsed());
        left.filter(|left| !left.is_zero()).ok_or_else(|| io::ErrorKind::TimedOut.into())
    }
}

fn is_whole(request: &[u8]) -> bool {
    request.windows(4).any(|end| end == b"\r\n\r\n")
}

/// Method and target of a whole request.
fn parsed(request: &[u8]) -> Option<(&str, &str)> {
    let line = request.split(|byte| *byte == b'\r').next().filter(|_| is_whole(request))?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    (version.starts_with("HTTP/1.") && words.next().is_none()).then_some((method, target))
}

fn found(page: &str, head_only: bool) -> String {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let head = head("200 OK", kind, page.len());
    if head_only { head } else { head + page }
}

fn refused(status: &str, text: &str) -> String {
    head(status, "text/plain; charset=utf-8", text.len()) + text
}

fn head(status: &str, kind: &str, length: usize) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server on a socket of its own.
    fn server() -> (tempfile::TempDir, PathBuf, Server) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.sock");
        let server = begin(&Address::Unix(path.clone()), Page::of_mounts()).unwrap();
        (directory, path, server)
    }

    fn ask(path: &PathBuf, request: &[u8]) -> String {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(request).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap_or_default();
        let mut answer = String::new();
        // Who sent more than is read may be told so by a reset, after the answer.
        stream.read_to_string(&mut answer).unwrap_or_default();
        answer
    }

    #[test]
    fn what_is_no_request_for_metrics_is_refused() {
        let (_directory, path, _server) = server();
        let long = [b'x'; REQUEST_BYTES_MAX - 1];
        for (request, status) in [
            (&b""[..], "400"),
            (b"GET /metrics HTTP/1.1\r\n", "400"),
            (b"GET /metrics SPDY\r\n\r\n", "400"),
            (b"GET /metrics HTTP/1.1 more\r\n\r\n", "400"),
            (b"\xff\xfe /metrics HTTP/1.1\r\n\r\n", "400"),
            (&long, "400"),
            (b"GET / HTTP/1.1\r\n\r\n", "404"),
            (b"GET /metrics/../x HTTP/1.1\r\n\r\n", "404"),
            (b"POST /metrics HTTP/1.1\r\n\r\n", "405"),
        ] {
            let answer = ask(&path, request);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer}");
        }
    }

    #[test]
    fn metrics_are_shown_and_their_length_is_told() {
        let (_directory, path, _server) = server();
        for request in
            ["GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "GET /metrics?x=1 HTTP/1.0\r\n\r\n"]
        {
            let answer = ask(&path, request.as_bytes());
            let (head, page) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            assert!(head.contains(&format!("Content-Length: {}\r\n", page.len())), "{head}");
            assert!(page.contains("attestfs_build_info{version="), "{page}");
            assert!(page.ends_with("# EOF\n"), "{page}");
        }
        let head = ask(&path, b"HEAD /metrics HTTP/1.1\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    }

    #[test]
    fn who_says_nothing_does_not_keep_others_waiting() {
        let (_directory, path, _server) = server();
        let silent: Vec<_> =
            (1..VISITORS_MAX).map(|_| UnixStream::connect(&path).unwrap()).collect();
        for _ in 0..3 * VISITORS_MAX {
            assert!(ask(&path, b"GET /metrics HTTP/1.1\r\n\r\n").contains("# EOF"));
        }
        drop(silent);
    }

    #[test]
    fn who_takes_his_time_is_left() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let trickle = thread::spawn(move || {
            while theirs.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
        });
        let patience = Duration::from_millis(100);
        let mut conversation = Conversation::new(Box::new(ours), patience);
        conversation.answer(&Page::of_mounts()).unwrap_err();
        drop(conversation);
        trickle.join().unwrap();
        let (ours, deaf) = UnixStream::pair().unwrap();
        let mut conversation = Conversation::new(Box::new(ours), patience);
        conversation.write(&vec![0; 16 << 20]).unwrap_err();
        drop(deaf);
    }

    #[test]
    fn more_than_a_few_visitors_are_turned_away() {
        let (_directory, path, _server) = server();
        let silent: Vec<_> =
            (0..VISITORS_MAX).map(|_| UnixStream::connect(&path).unwrap()).collect();
        let mut stream = UnixStream::connect(&path).unwrap();
        let mut answer = String::new();
        assert_eq!(stream.read_to_string(&mut answer).unwrap_or_default(), 0);
        drop(silent);
    }

    #[test]
    fn the_socket_goes_with_the_server() {
        let (_directory, path, server) = server();
        assert!(path.exists());
        drop(server);
        assert!(!path.exists());
    }
}
