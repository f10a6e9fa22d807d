//! The lines of the two indexes that say under which names, and in which files, something was
//! published. `daemon/DESIGN.md` draws them.

use attestfs_digest::{Digests, Sha256};
use attestfs_fs::{FileKey, Identity};

/// The name of an artifact root itself, below itself.
pub const ROOT: &str = "";

/// A line of `names.index`: this content was published under this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameLine {
    /// See [`super::name_key`].
    pub key: Sha256,
    /// What has the name.
    pub content: Sha256,
    /// The statement that says so.
    pub statement: Sha256,
}

/// A line of `files.index`: this file had this content when it was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLine {
    /// What a `stat` said of it.
    pub identity: Identity,
    /// The content.
    pub digests: Digests,
    /// The statement that says so.
    pub statement: Sha256,
}

impl NameLine {
    /// With its end.
    pub(super) fn spell(&self) -> String {
        format!("{} {} {}\n", self.key, self.content, self.statement)
    }

    /// What follows the key.
    pub(super) fn parse_after(key: Sha256, rest: &str) -> Option<Self> {
        let (content, statement) = rest.split_once(' ')?;
        Some(Self { key, content: content.parse().ok()?, statement: statement.parse().ok()? })
    }
}

impl FileLine {
    /// With its end.
    pub(super) fn spell(&self) -> String {
        let Identity { file, size, mtime_ns, ctime_ns } = &self.identity;
        let (word, born) = (word_of(file), file.born_ns);
        let Digests { sha256, blake3 } = &self.digests;
        let statement = self.statement;
        format!("{word} {born} {size} {mtime_ns} {ctime_ns} {sha256} {blake3} {statement}\n")
    }

    /// What follows the word of this file. The time of birth is that of the line.
    pub(super) fn parse_after(file: &FileKey, rest: &str) -> Option<Self> {
        let mut words = rest.split(' ');
        let born_ns = words.next()?.parse().ok()?;
        let line = Self {
            identity: Identity {
                file: FileKey { born_ns, ..*file },
                size: words.next()?.parse().ok()?,
                mtime_ns: words.next()?.parse().ok()?,
                ctime_ns: words.next()?.parse().ok()?,
            },
            digests: Digests {
                sha256: words.next()?.parse().ok()?,
                blake3: words.next()?.parse().ok()?,
            },
            statement: words.next()?.parse().ok()?,
        };
        words.next().is_none().then_some(line)
    }

    /// Whether the line is about this file. Where files have no time of birth, the number of one
    /// that is gone is given to another: then size and time of change tell them apart.
    pub(super) fn is_of(&self, now: &Identity) -> bool {
        let then = &self.identity;
        let same = (then.size, then.mtime_ns) == (now.size, now.mtime_ns);
        then.file == now.file && (now.file.born_ns != 0 || same)
    }
}

/// The first word of the lines about a file: its file system and its inode number.
pub(super) fn word_of(file: &FileKey) -> String {
    format!("{:016x}:{}", file.filesystem, file.inode)
}

/// The statement at the end of a line of `files.index`, whatever else the line is.
pub(super) fn statement_of(line: &str) -> Option<Sha256> {
    line.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use attestfs_digest::Blake3;
    use proptest::prelude::*;

    use super::*;
    use crate::publication::name_key;

    fn line(born_ns: i64) -> FileLine {
        let file = FileKey { filesystem: 0xdead_beef, inode: 7, born_ns };
        FileLine {
            identity: Identity { file, size: 1, mtime_ns: -2, ctime_ns: 3 },
            digests: Digests { sha256: Sha256([1; 32]), blake3: Blake3([2; 32]) },
            statement: Sha256([3; 32]),
        }
    }

    #[test]
    fn a_path_has_one_key_below_whichever_root_and_a_root_has_its_own() {
        assert_eq!(name_key("/a/b", "c"), name_key("/a", "b/c"));
        assert_eq!(name_key("/", "a"), name_key("", "a"));
        assert_ne!(name_key("/a", "b"), name_key("/a/b", ROOT));
        assert_ne!(name_key("/a", "b"), name_key("/a", "c"));
    }

    #[test]
    fn lines_are_read_as_they_were_written() {
        let name = NameLine {
            key: name_key("/a", "b"),
            content: Sha256([1; 32]),
            statement: Sha256([2; 32]),
        };
        let spelled = name.spell();
        let rest = spelled.trim_end().strip_prefix(&format!("{} ", name.key)).unwrap();
        assert_eq!(NameLine::parse_after(name.key, rest), Some(name));
        for born_ns in [0, -1, i64::MAX] {
            let line = line(born_ns);
            let file = line.identity.file;
            let spelled = line.spell();
            let rest = spelled.trim_end().strip_prefix(&format!("{} ", word_of(&file))).unwrap();
            assert_eq!(FileLine::parse_after(&file, rest), Some(line));
            assert_eq!(statement_of(spelled.trim_end()), Some(line.statement));
            assert!(spelled.len() < 512);
        }
    }

    #[test]
    fn a_file_keeps_its_number_and_birth_whatever_is_written_to_it() {
        let line = line(5);
        let changed = Identity { size: 9, mtime_ns: 9, ctime_ns: 9, ..line.identity };
        assert!(line.is_of(&changed));
        let reborn = FileKey { born_ns: 6, ..line.identity.file };
        assert!(!line.is_of(&Identity { file: reborn, ..line.identity }));
    }

    #[test]
    fn without_a_birth_a_number_that_was_given_again_is_another_file() {
        let line = line(0);
        assert!(line.is_of(&Identity { ctime_ns: 9, ..line.identity }));
        assert!(!line.is_of(&Identity { size: 9, ..line.identity }));
        assert!(!line.is_of(&Identity { mtime_ns: 9, ..line.identity }));
    }

    proptest! {
        #[test]
        fn no_line_makes_the_reader_fall_over(rest in "\\PC{0,300}") {
            let _ = NameLine::parse_after(Sha256([0; 32]), &rest);
            let _ = FileLine::parse_after(&line(0).identity.file, &rest);
            let _ = statement_of(&rest);
        }
    }
}
