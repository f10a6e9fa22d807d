//! What a process takes, and what it says of itself.

use std::{
    collections::HashMap,
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
};

/// A process of another user or of this one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(pub(crate) u32);

impl Process {
    /// Memory that it holds now, in bytes.
    pub(crate) fn memory(self) -> u64 {
        self.kibibytes("VmRSS:") << 10
    }

    /// The most memory that it held since the start or [`Process::forget_peak`], in bytes.
    pub(crate) fn peak(self) -> u64 {
        self.kibibytes("VmHWM:") << 10
    }

    pub(crate) fn forget_peak(self) {
        fs::write(format!("/proc/{}/clear_refs", self.0), "5").unwrap();
    }

    pub(crate) fn threads(self) -> u64 {
        self.kibibytes("Threads:")
    }

    pub(crate) fn descriptors(self) -> u64 {
        fs::read_dir(format!("/proc/{}/fd", self.0)).unwrap().count() as u64
    }

    /// A number of its status.
    fn kibibytes(self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim_end_matches("kB").trim().parse().unwrap()
    }
}

/// What a process shows to monitors at a socket: the sum of each series over its labels.
pub(crate) fn metrics(socket: &Path) -> HashMap<String, f64> {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    assert!(page.ends_with("# EOF\n"), "{page}");
    let mut sums = HashMap::new();
    let body = page.split_once("\r\n\r\n").unwrap().1;
    for line in body.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap().to_owned();
        *sums.entry(name).or_default() += value.parse::<f64>().unwrap();
    }
    sums
}
