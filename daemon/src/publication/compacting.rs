//! Leaving out of the indexes what later lines say again.
//!
//! A stage that publishes the same directory again and again enters each of its files each time, also
//! those that did not change. Of lines that follow each other, as far as they have the same first
//! words, and say the same content, only the last one counts for anybody who asks what is the newest.

use std::{
    collections::HashMap,
    fs::File,
    hash::{BuildHasher, RandomState},
    io::{self, BufReader},
};

use super::{
    Files, Shelf,
    entering::FILES_INDEX,
    lines::next_line,
    shelf::{NAMES_INDEX, SUBJECTS_INDEX, open},
};

/// An index, and where in a line of it stands who it is about and what it says. Other words do not
/// matter when the next line about the same says the same.
struct Index {
    name: &'static str,
    /// How many words say who it is about.
    about: usize,
    /// How many words after these say what.
    content: usize,
}

const INDEXES: [Index; 3] = [
    Index { name: SUBJECTS_INDEX, about: 2, content: 0 },
    Index { name: NAMES_INDEX, about: 1, content: 1 },
    // Another identity of the same file is another line: exactly these digests are known of it.
    Index { name: FILES_INDEX, about: 5, content: 2 },
];

impl Shelf {
    /// How many bytes of the indexes later lines say again.
    ///
    /// # Errors
    /// An index cannot be read.
    pub(crate) fn repeated(&self) -> io::Result<u64> {
        INDEXES.iter().try_fold(0, |sum, index| {
            let repeats = Repeats::of(self.lines(index)?, index)?;
            Ok(sum + repeats.bytes)
        })
    }

    /// Leaves out of the indexes what later lines say again. The others keep their order.
    ///
    /// # Errors
    /// What reading and writing say. Each index is then as it was, or done.
    pub(crate) fn compact(&self, files: &dyn Files) -> io::Result<()> {
        for index in &INDEXES {
            let repeats = Repeats::of(self.lines(index)?, index)?;
            if repeats.bytes > 0 {
                self.put(files, index.name, &repeats.without(self.lines(index)?)?)?;
            }
        }
        Ok(())
    }

    fn lines(&self, index: &Index) -> io::Result<Lines> {
        let file = open(&self.directory().join(index.name))?;
        Ok(Lines { file: file.map(|file| BufReader::with_capacity(1 << 20, file)) })
    }
}

/// The lines of a file that may be gone, one by one.
struct Lines {
    file: Option<BufReader<File>>,
}

impl Lines {
    /// Reads the next one, with its end. Not the last one when a crash cut it off, and of one that is
    /// too long to be an entry only the end.
    fn next(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        let Some(file) = &mut self.file else { return Ok(false) };
        next_line(file, line)?;
        Ok(line.last() == Some(&b'\n'))
    }
}

/// Which lines of an index are said again.
#[derive(Default)]
struct Repeats {
    is_repeated: Vec<bool>,
    bytes: u64,
}

impl Repeats {
    fn of(mut lines: Lines, index: &Index) -> io::Result<Self> {
        let keys = RandomState::new();
        let mut repeats = Self::default();
        // By the keyed hash of who it is about, the newest line and the hash of what it says: some
        // thirty bytes a name.
        let mut newest: HashMap<u64, (usize, u64)> = HashMap::new();
        let mut line = Vec::new();
        while lines.next(&mut line)? {
            let number = repeats.is_repeated.len();
            repeats.is_repeated.push(false);
            let Some((about, content)) = index.split(&line) else { continue };
            let content = keys.hash_one(content);
            let earlier = newest.insert(keys.hash_one(about), (number, content));
            if let Some((earlier, _)) = earlier.filter(|(_, before)| *before == content) {
                repeats.is_repeated[earlier] = true;
                // Digests and spaces are as long in each line about the same.
                repeats.bytes += line.len() as u64;
            }
        }
        Ok(repeats)
    }

    fn without(&self, mut lines: Lines) -> io::Result<Vec<u8>> {
        let (mut kept, mut line) = (Vec::new(), Vec::new());
        for is_repeated in &self.is_repeated {
            if lines.next(&mut line)? && !is_repeated {
                kept.extend_from_slice(&line);
            }
        }
        Ok(kept)
    }
}

impl Index {
    /// Who a line is about, and what it says. None when it is no entry.
    fn split<'a>(&self, line: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let line = line.strip_suffix(b"\n")?;
        let ends = line.iter().enumerate().filter(|(_, byte)| **byte == b' ').map(|(at, _)| at);
        let mut ends = ends.chain([line.len()]);
        let about = ends.nth(self.about - 1)?;
        let content = match self.content {
            0 => about,
            words => ends.nth(words - 1)?,
        };
        Some((&line[..about], &line[about..content]))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use attestfs_digest::{Blake3, Digests, Sha256};
    use attestfs_fs::{FileKey, Identity};
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        config::{Environment, StateDir},
        publication::{DurableFiles, FileLine, NameLine},
    };

    fn shelf() -> (tempfile::TempDir, Shelf) {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::resolve(Some(directory.path()), &Environment::default()).unwrap();
        state.prepare().unwrap();
        (directory, Shelf::of(&state))
    }

    fn digest(byte: u8) -> Sha256 {
        Sha256([byte; 32])
    }

    fn name((key, content, statement): (u8, u8, u8)) -> NameLine {
        NameLine { key: digest(key), content: digest(content), statement: digest(statement) }
    }

    fn text(shelf: &Shelf, index: &str) -> String {
        fs::read_to_string(shelf.directory().join(index)).unwrap()
    }

    fn compact(shelf: &Shelf) {
        let sizes = || {
            INDEXES
                .iter()
                .map(|index| fs::metadata(shelf.directory().join(index.name)))
                .map(|stat| stat.map_or(0, |stat| stat.len()))
                .sum::<u64>()
        };
        let (before, repeated) = (sizes(), shelf.repeated().unwrap());
        shelf.compact(&DurableFiles).unwrap();
        assert_eq!(before - sizes(), repeated);
        assert_eq!(shelf.repeated().unwrap(), 0);
    }

    #[test]
    fn without_indexes_there_is_nothing_to_leave_out() {
        let (_directory, shelf) = shelf();
        compact(&shelf);
        assert_eq!(fs::read_dir(shelf.directory()).unwrap().count(), 0);
    }

    #[test]
    fn of_the_same_content_under_the_same_name_the_last_line_stays_in_its_place() {
        let (_directory, shelf) = shelf();
        let lines = [(1, 1, 1), (2, 1, 1), (1, 1, 2), (1, 2, 3), (2, 1, 3), (1, 1, 4), (1, 1, 4)];
        shelf.enter_names(&DurableFiles, lines.map(name).into_iter()).unwrap();
        compact(&shelf);
        let expected = [(1, 1, 2), (1, 2, 3), (2, 1, 3), (1, 1, 4)];
        let expected: String = expected.map(|line| name(line).spell()).concat();
        assert_eq!(text(&shelf, NAMES_INDEX), expected);
    }

    #[test]
    fn of_the_same_file_the_last_line_stays_for_each_identity() {
        let (_directory, shelf) = shelf();
        let line = |ctime_ns, statement| FileLine {
            identity: Identity {
                file: FileKey { filesystem: 1, inode: 2, born_ns: 3 },
                size: 4,
                mtime_ns: 5,
                ctime_ns,
            },
            digests: Digests { sha256: digest(6), blake3: Blake3([7; 32]) },
            statement: digest(statement),
        };
        let lines = [line(1, 1), line(2, 1), line(1, 2)];
        shelf.enter_files(&DurableFiles, lines.into_iter()).unwrap();
        compact(&shelf);
        let expected = [line(2, 1), line(1, 2)].map(|line| line.spell()).concat();
        assert_eq!(text(&shelf, FILES_INDEX), expected);
    }

    #[test]
    fn a_statement_names_a_content_once() {
        let (_directory, shelf) = shelf();
        for (statement, subject) in [(1, 1), (2, 1), (1, 1), (1, 2)] {
            shelf.index(&DurableFiles, digest(statement), [digest(subject)].into_iter()).unwrap();
        }
        compact(&shelf);
        assert_eq!(text(&shelf, SUBJECTS_INDEX).lines().count(), 3);
        assert_eq!(shelf.statements_of(digest(1)).unwrap(), [digest(1), digest(2)]);
    }

    #[test]
    fn lines_that_are_no_entry_hide_no_other_one_and_one_that_was_cut_off_goes() {
        let (_directory, shelf) = shelf();
        let entry = name((1, 1, 1)).spell();
        let long = "x".repeat(5000);
        let index = shelf.directory().join(NAMES_INDEX);
        fs::write(&index, format!("\nodd\n{long}\n{entry}{entry}{}", &entry[..9])).unwrap();
        shelf.compact(&DurableFiles).unwrap();
        assert_eq!(text(&shelf, NAMES_INDEX), format!("\nodd\n\n{entry}"));
    }

    proptest! {
        /// Whoever asks what is the newest, and whether a content was published, hears the same.
        #[test]
        fn no_answer_about_contents_changes(lines in vec((0_u8..3, 0_u8..3, 0_u8..3), 0..40)) {
            let (_directory, shelf) = shelf();
            shelf.enter_names(&DurableFiles, lines.iter().copied().map(name)).unwrap();
            compact(&shelf);
            let kept = text(&shelf, NAMES_INDEX);
            for key in 0..3 {
                let word = digest(key).to_string();
                let kept = kept.lines().filter_map(|line| line.strip_prefix(&format!("{word} ")));
                let kept: Vec<_> = kept.map(str::to_owned).collect();
                let mut expected: Vec<String> = Vec::new();
                for (_, content, statement) in lines.iter().filter(|line| line.0 == key) {
                    let content = digest(*content).to_string();
                    if expected.last().is_some_and(|last| last.starts_with(&content)) {
                        expected.pop();
                    }
                    expected.push(format!("{content} {}", digest(*statement)));
                }
                prop_assert_eq!(kept, expected);
            }
        }
    }
}
