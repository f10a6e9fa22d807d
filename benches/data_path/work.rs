//! What is timed: what jobs do with files.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{Advice, fadvise, getxattr};

use crate::command::{find, finish, timed};

/// A mebibyte.
pub(crate) const MEBIBYTE: u64 = 1 << 20;

/// The most files in one directory.
const FILES_IN_DIRECTORY: u64 = 1000;

const SHORTEST_PAUSE: Duration = Duration::from_micros(200);
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// How long the digest of a file may take.
const PATIENCE: Duration = Duration::from_mins(10);

/// Writes a file from front to back in pieces, until `close` has returned.
pub(crate) fn write(path: &Path, length: u64, piece: u64) -> Duration {
    let pattern = pattern(0, piece);
    let start = Instant::now();
    drop(written(File::create(path).unwrap(), length, &pattern));
    start.elapsed()
}

/// The same, until it is on the disk.
pub(crate) fn write_and_sync(path: &Path, length: u64, piece: u64) -> Duration {
    let pattern = pattern(0, piece);
    let start = Instant::now();
    written(File::create(path).unwrap(), length, &pattern).sync_all().unwrap();
    start.elapsed()
}

/// Writes a file of its own in each of several threads.
pub(crate) fn write_streams(paths: &[PathBuf], length: u64, piece: u64) -> Duration {
    let start = Instant::now();
    thread::scope(|scope| {
        for path in paths {
            scope.spawn(move || write(path, length, piece));
        }
    });
    start.elapsed()
}

/// Appends to a file in pieces.
pub(crate) fn append(path: &Path, length: u64, piece: u64) -> Duration {
    let pattern = pattern(0, piece);
    let start = Instant::now();
    drop(written(File::options().append(true).create(true).open(path).unwrap(), length, &pattern));
    start.elapsed()
}

/// Writes files of one length, no two alike.
pub(crate) fn write_files(directory: &Path, count: u64, length: u64) -> Duration {
    let start = Instant::now();
    for number in 0..count {
        let path = numbered(directory, number);
        if number % FILES_IN_DIRECTORY == 0 {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
        }
        let pattern = pattern(number, length.min(MEBIBYTE));
        drop(written(File::create(path).unwrap(), length, &pattern));
    }
    start.elapsed()
}

/// Opens, reads and closes files that [`write_files`] made.
pub(crate) fn read_files(directory: &Path, numbers: impl Iterator<Item = u64>) {
    let mut buffer = vec![0; 1 << 20];
    for number in numbers {
        read_through(&File::open(numbered(directory, number)).unwrap(), &mut buffer);
    }
}

/// Where [`write_files`] puts a file.
pub(crate) fn numbered(directory: &Path, number: u64) -> PathBuf {
    directory.join((number / FILES_IN_DIRECTORY).to_string()).join(format!("{number}.bin"))
}

/// Lists a tree with all attributes.
pub(crate) fn list(directory: &Path) -> Duration {
    timed(Command::new("find").arg(directory).arg("-ls"))
}

/// Reads a file from front to back, a mebibyte at a time.
pub(crate) fn read(path: &Path) -> Duration {
    let mut buffer = vec![0; 1 << 20];
    let start = Instant::now();
    read_through(&File::open(path).unwrap(), &mut buffer);
    start.elapsed()
}

/// The same, when nothing of it is in the page cache of the file system at `path`. What lies behind
/// that one keeps its own.
pub(crate) fn read_past_the_cache(path: &Path) -> Duration {
    fadvise(File::open(path).unwrap(), 0, None, Advice::DontNeed).unwrap();
    read(path)
}

/// Reads 4 KiB so many times, here and there.
pub(crate) fn read_here_and_there(path: &Path, times: u64) -> Duration {
    let file = File::open(path).unwrap();
    let pages = file.metadata().unwrap().len() >> 12;
    let mut page = [0; 4096];
    let start = Instant::now();
    for time in 0..times {
        // Multiplication by a large odd number spreads over all pages.
        let number = time.wrapping_mul(0x9E37_79B9_7F4A_7C15) % pages;
        file.read_exact_at(&mut page, number << 12).unwrap();
    }
    start.elapsed()
}

/// Reads a byte of each page through a shared mapping; none where there is no Python. Without
/// `unsafe` this program cannot map anything.
pub(crate) fn touch(path: &Path) -> Option<Duration> {
    let program = "import mmap, os, sys, time\n\
         file = os.open(sys.argv[1], os.O_RDONLY)\n\
         start = time.perf_counter_ns()\n\
         mapped = mmap.mmap(file, 0, mmap.MAP_SHARED, mmap.PROT_READ)\n\
         mapped[::4096]\n\
         print(time.perf_counter_ns() - start)";
    let python = find(Path::new("python3"))?;
    let nanoseconds = finish(Command::new(python).args(["-c", program]).arg(path));
    Some(Duration::from_nanos(nanoseconds.trim().parse().unwrap()))
}

/// Opens a file so many times; what is timed is `open` alone.
pub(crate) fn open(path: &Path, times: u64) -> Duration {
    let one = || {
        let start = Instant::now();
        let file = File::open(path).unwrap();
        let taken = start.elapsed();
        drop(file);
        taken
    };
    (0..times).map(|_| one()).sum()
}

/// Asks until both digests of a file are final: more and more seldom, so that it is known to a
/// hundredth, and asking takes no processor from those who hash.
///
/// # Panics
/// When that takes ten minutes.
pub(crate) fn wait_until_sealed(path: &Path) {
    let start = Instant::now();
    while attribute(path, "user.attestfs.state").as_deref() != Some("sealed") {
        assert!(start.elapsed() < PATIENCE, "{} is not sealed", path.display());
        thread::sleep((start.elapsed() / 100).clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
    }
}

/// What an extended attribute says; none when there is none.
pub(crate) fn attribute(path: &Path, name: &str) -> Option<String> {
    let mut value = vec![0; 4096];
    let length = getxattr(path, name, &mut value).ok()?;
    value.truncate(length);
    Some(String::from_utf8(value).unwrap())
}

/// Runs several programs at once.
pub(crate) fn together(commands: Vec<Command>) -> Duration {
    let start = Instant::now();
    let children: Vec<_> = commands
        .into_iter()
        .map(|mut command| command.stdin(Stdio::null()).spawn().unwrap())
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    start.elapsed()
}

fn written(mut file: File, length: u64, pattern: &[u8]) -> File {
    let mut left = usize::try_from(length).unwrap();
    while left > 0 {
        let piece = left.min(pattern.len());
        file.write_all(&pattern[..piece]).unwrap();
        left -= piece;
    }
    file
}

fn read_through(mut file: &File, buffer: &mut [u8]) {
    while file.read(buffer).unwrap() > 0 {}
}

/// Bytes that no file system takes for a hole, and that begin with a number.
fn pattern(number: u64, length: u64) -> Vec<u8> {
    let words = (0_u32..).flat_map(|word| word.wrapping_mul(0x9E37_79B1).to_le_bytes());
    number.to_le_bytes().into_iter().chain(words).take(usize::try_from(length).unwrap()).collect()
}
