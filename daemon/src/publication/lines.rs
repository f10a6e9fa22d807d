//! Files of lines to which lines are only ever appended, by another process: each line is found by
//! its first word, without reading the file again.

use std::{
    collections::HashMap,
    fs::File,
    hash::{BuildHasher, RandomState},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    ops::ControlFlow,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The longest line that is one of ours, with room for longer numbers.
pub(super) const LINE_BYTES_MAX: usize = 512;

/// The largest file that is read: some ten million names. Above half of it there is a warning.
pub(super) const FILE_BYTES_MAX: u64 = 2 << 30;

/// What to do about a file that grows too large.
pub(super) const SHORTENS: &str = "'attestfs gc' leaves out what later lines say again";

/// The first line of a chain: no other one lies before it.
const NOTHING: u32 = u32::MAX;

/// The lines of one file, as far as they are ended. Follows the file as it grows; a file that was
/// put in its place, or is shorter than before, is read anew.
///
/// In memory there are only positions, some forty bytes a line. What is given out was read from the
/// file a moment ago.
#[derive(Debug)]
pub(super) struct Lines {
    path: PathBuf,
    known: RwLock<Known>,
    keys: RandomState,
}

/// What makes a file another one, or a longer one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Extent {
    device: u64,
    inode: u64,
    pub(super) length: u64,
}

#[derive(Debug, Default)]
struct Known {
    file: Option<File>,
    /// When it was looked at last.
    extent: Extent,
    /// Where the last whole line ends.
    read_to: u64,
    /// By the keyed hash of the first word, the newest line. A word of the same hash is told apart
    /// when the line is read.
    newest: HashMap<u64, u32>,
    positions: Vec<u64>,
    /// For each line the one before it of the same hash.
    earlier: Vec<u32>,
    /// That the file is large was said.
    has_warned: bool,
}

impl Lines {
    pub(super) fn of(path: PathBuf) -> Self {
        Self { path, known: RwLock::default(), keys: RandomState::new() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How the file is now; none has no length.
    pub(super) fn extent(&self) -> io::Result<Extent> {
        match std::fs::metadata(&self.path) {
            Ok(stat) => Ok(Extent::of(&stat)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Extent::default()),
            Err(error) => Err(error),
        }
    }

    /// Gives `visit` the rest of each line that begins with this word, the newest first, until it has
    /// seen enough.
    pub(super) fn newest_first(
        &self,
        word: &str,
        mut visit: impl FnMut(&str) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let hash = self.keys.hash_one(word.as_bytes());
        let known = self.up_to_date()?;
        let mut next = known.newest.get(&hash).copied().unwrap_or(NOTHING);
        while let Some(position) = known.positions.get(next as usize) {
            let line = known.line_at(*position)?;
            let rest = line.strip_prefix(word).and_then(|rest| rest.strip_prefix(' '));
            if rest.is_some_and(|rest| visit(rest).is_break()) {
                break;
            }
            next = known.earlier[next as usize];
        }
        Ok(())
    }

    /// Reads what is there, so that no question has to wait for it.
    pub(super) fn read_ahead(&self) -> io::Result<()> {
        self.up_to_date().map(drop)
    }

    /// What the file holds now. Only what was appended has to be waited for.
    fn up_to_date(&self) -> io::Result<RwLockReadGuard<'_, Known>> {
        let known = self.known.read();
        if self.extent()? == known.extent {
            return Ok(known);
        }
        drop(known);
        let mut known = self.known.write();
        self.follow(&mut known)?;
        Ok(RwLockWriteGuard::downgrade(known))
    }

    /// Takes in what was appended since.
    fn follow(&self, known: &mut Known) -> io::Result<()> {
        let now = self.extent()?;
        if now == known.extent {
            return Ok(());
        }
        if !known.extent.grew_to(now) {
            *known = Known { has_warned: known.has_warned, ..Known::default() };
        }
        if now == Extent::default() {
            return Ok(());
        }
        if now.length > FILE_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if now.length > FILE_BYTES_MAX / 2 && !known.has_warned {
            known.has_warned = true;
            let (path, next_step) = (self.path.display(), SHORTENS);
            tracing::warn!(%path, next_step, "more than half of what is read of it is full");
        }
        let file = match known.file.take() {
            Some(file) => file,
            None => File::open(&self.path)?,
        };
        // The place may have been taken since: then the next question begins anew.
        let extent = Extent::of(&file.metadata()?);
        let taken = known.take(&file, &self.keys);
        known.file = Some(file);
        taken?;
        known.extent = Extent { length: now.length.min(extent.length), ..extent };
        Ok(())
    }
}

impl Extent {
    fn of(stat: &std::fs::Metadata) -> Self {
        Self { device: stat.dev(), inode: stat.ino(), length: stat.len() }
    }

    fn grew_to(self, now: Self) -> bool {
        (self.device, self.inode) == (now.device, now.inode) && self.length <= now.length
    }
}

impl Known {
    fn take(&mut self, mut file: &File, keys: &RandomState) -> io::Result<()> {
        file.seek(SeekFrom::Start(self.read_to))?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut line = Vec::new();
        loop {
            let length = next_line(&mut reader, &mut line)?;
            if line.last() != Some(&b'\n') {
                return Ok(());
            }
            if let Some(end) = line.iter().position(|byte| *byte == b' ') {
                self.add(keys.hash_one(&line[..end]))?;
            }
            self.read_to += length;
        }
    }

    /// The line at which reading stands has a word of this hash.
    fn add(&mut self, hash: u64) -> io::Result<()> {
        let number = u32::try_from(self.positions.len()).ok().filter(|number| *number != NOTHING);
        let number = number.ok_or(io::ErrorKind::FileTooLarge)?;
        self.positions.push(self.read_to);
        self.earlier.push(self.newest.insert(hash, number).unwrap_or(NOTHING));
        Ok(())
    }

    /// The line there, without its end; empty if it is none of ours.
    fn line_at(&self, position: u64) -> io::Result<String> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let mut bytes = [0; LINE_BYTES_MAX];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], position + filled as u64)? {
                0 => break,
                count => filled += count,
            }
            if bytes[..filled].contains(&b'\n') {
                break;
            }
        }
        let end = bytes[..filled].iter().position(|byte| *byte == b'\n');
        let line = end.and_then(|end| std::str::from_utf8(&bytes[..end]).ok());
        Ok(line.unwrap_or_default().to_owned())
    }
}

/// Reads up to the end of a line, however long it is, and keeps no more of it than a line may have.
/// Without an end it was cut off. Gives its length.
pub(super) fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<u64> {
    line.clear();
    let mut length = 0;
    loop {
        let room = (LINE_BYTES_MAX - line.len()) as u64;
        let count = reader.by_ref().take(room).read_until(b'\n', line)?;
        length += count as u64;
        if count == 0 || line.last() == Some(&b'\n') {
            if length > LINE_BYTES_MAX as u64 {
                // Too long to be ours: only its end counts.
                line.drain(..line.len().saturating_sub(1));
            }
            return Ok(length);
        }
        if line.len() == LINE_BYTES_MAX {
            line.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn lines() -> (tempfile::TempDir, Lines) {
        let directory = tempfile::tempdir().unwrap();
        let lines = Lines::of(directory.path().join("some.index"));
        (directory, lines)
    }

    /// The rest of each line that begins with this word, oldest first.
    fn after(lines: &Lines, word: &str) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        lines.newest_first(word, |rest| {
            found.push(rest.to_owned());
            ControlFlow::Continue(())
        })?;
        found.reverse();
        Ok(found)
    }

    fn append(lines: &Lines, text: &[u8]) {
        let file = File::options().append(true).create(true).open(lines.path());
        file.unwrap().write_all(text).unwrap();
    }

    #[test]
    fn a_file_that_is_not_there_has_no_lines() {
        let (_directory, lines) = lines();
        assert_eq!(after(&lines, "a").unwrap(), [""; 0]);
        assert_eq!(lines.extent().unwrap(), Extent::default());
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_taken_for_an_empty_one() {
        let (directory, _) = lines();
        let lines = Lines::of(directory.path().to_path_buf());
        assert!(after(&lines, "a").is_err());
        fs::write(directory.path().join("file"), "").unwrap();
        let lines = Lines::of(directory.path().join("file/below"));
        assert!(after(&lines, "a").is_err());
    }

    #[test]
    fn a_file_larger_than_the_bound_is_refused() {
        let (_directory, lines) = lines();
        File::create(lines.path()).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
        assert_eq!(after(&lines, "a").unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn lines_are_followed_as_they_are_appended() {
        let (_directory, lines) = lines();
        append(&lines, b"a 1\nb 2\n");
        assert_eq!(after(&lines, "a").unwrap(), ["1"]);
        append(&lines, b"a 3\n");
        assert_eq!(after(&lines, "a").unwrap(), ["1", "3"]);
        assert_eq!(after(&lines, "b").unwrap(), ["2"]);
        assert_eq!(after(&lines, "").unwrap(), [""; 0]);
    }

    #[test]
    fn no_more_lines_are_given_than_are_wanted() {
        let (_directory, lines) = lines();
        append(&lines, b"a 1\na 2\nb 3\na 4\n");
        let mut given = Vec::new();
        let mut visit = |rest: &str| {
            given.push(rest.to_owned());
            if rest == "2" { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        lines.newest_first("a", &mut visit).unwrap();
        assert_eq!(given, ["4", "2"]);
    }

    #[test]
    fn what_was_read_ahead_is_known_to_every_question() {
        let (_directory, lines) = lines();
        lines.read_ahead().unwrap();
        append(&lines, b"a 1\n");
        lines.read_ahead().unwrap();
        assert_eq!(lines.known.read().positions, [0]);
        assert_eq!(after(&lines, "a").unwrap(), ["1"]);
    }

    #[test]
    fn a_line_counts_from_its_end_on() {
        let (_directory, lines) = lines();
        append(&lines, b"a 1\na 2");
        assert_eq!(after(&lines, "a").unwrap(), ["1"]);
        append(&lines, b"3\n");
        assert_eq!(after(&lines, "a").unwrap(), ["1", "23"]);
    }

    #[test]
    fn a_line_of_any_length_hides_no_other_one() {
        for length in (0..5).chain(LINE_BYTES_MAX - 4..LINE_BYTES_MAX + 4).chain([5000]) {
            let (_directory, lines) = lines();
            let long = "x".repeat(length);
            append(&lines, format!("a 1\nb {long}\na 2\n").as_bytes());
            assert_eq!(after(&lines, "a").unwrap(), ["1", "2"], "{length}");
            let expected = if length + 3 <= LINE_BYTES_MAX { vec![long] } else { Vec::new() };
            assert_eq!(after(&lines, "b").unwrap(), expected, "{length}");
        }
    }

    #[test]
    fn a_file_that_took_the_place_of_another_or_shrank_is_read_anew() {
        let (directory, lines) = lines();
        append(&lines, b"a 1\na 2\n");
        assert_eq!(after(&lines, "a").unwrap(), ["1", "2"]);
        let other = directory.path().join("other");
        fs::write(&other, "a 3\na 4\na 5\n").unwrap();
        fs::rename(other, lines.path()).unwrap();
        assert_eq!(after(&lines, "a").unwrap(), ["3", "4", "5"]);
        fs::write(lines.path(), "a 6\n").unwrap();
        assert_eq!(after(&lines, "a").unwrap(), ["6"]);
        fs::remove_file(lines.path()).unwrap();
        assert_eq!(after(&lines, "a").unwrap(), [""; 0]);
    }

    /// Measured, and printed with `--nocapture`: what a million names cost in memory and time.
    #[test]
    #[ignore = "writes 195 MB; cargo test -p attestfs-daemon --lib million -- --ignored --nocapture"]
    #[expect(clippy::disallowed_methods, reason = "it measures")]
    fn a_million_lines_take_less_than_64_bytes_each() {
        const LINES: u64 = 1_000_000;
        let (_directory, lines) = lines();
        let mut file = io::BufWriter::new(File::create(lines.path()).unwrap());
        for number in 0..LINES {
            writeln!(file, "{number:064x} {number:064x} {number:064x}").unwrap();
        }
        file.flush().unwrap();
        let begun = std::time::Instant::now();
        assert_eq!(after(&lines, &format!("{:064x}", LINES - 1)).unwrap().len(), 1);
        let opened = begun.elapsed();
        let begun = std::time::Instant::now();
        for number in (0..LINES).step_by(1000) {
            assert_eq!(after(&lines, &format!("{number:064x}")).unwrap().len(), 1);
        }
        let asked = begun.elapsed() / 1000;
        let known = lines.known.read();
        let table = known.newest.capacity() * (size_of::<(u64, u32)>() + 1);
        let bytes = table + known.positions.capacity() * 8 + known.earlier.capacity() * 4;
        println!("read in {opened:?}, a question {asked:?}, {bytes} bytes");
        assert!(bytes as u64 / LINES < 64);
    }

    proptest! {
        /// Whatever the bytes and wherever they are cut, what is found is what a reader of the whole
        /// file finds.
        #[test]
        fn pieces_of_any_bytes_give_what_the_whole_gives(
            pieces in vec(vec(prop::sample::select(&b"ab \n\xff\0"[..]), 0..40), 0..8)
        ) {
            let (_directory, lines) = lines();
            for piece in &pieces {
                append(&lines, piece);
                after(&lines, "a").unwrap();
            }
            let whole = pieces.concat();
            let mut expected = Vec::new();
            let mut ended: Vec<_> = whole.split(|byte| *byte == b'\n').collect();
            ended.pop();
            for line in ended {
                let line = std::str::from_utf8(line).unwrap_or_default();
                expected.extend(line.strip_prefix("a ").map(str::to_owned));
            }
            prop_assert_eq!(after(&lines, "a").unwrap(), expected);
        }
    }
}
