//! The indexes of what was published under which name and in which file, as the daemon writes them.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
};

use attestfs_digest::Sha256;

use super::{
    FileLine, Files, NameLine, Shelf,
    index::statement_of,
    shelf::{NAMES_INDEX, SUBJECTS_INDEX, open},
};

/// What was published in which file. Only what vouches is in it.
pub(super) const FILES_INDEX: &str = "files.index";

impl Shelf {
    /// Enters what was published under which names. Entered again, nothing changes for readers but
    /// the place in the order.
    ///
    /// # Errors
    /// What writing says.
    pub fn enter_names(
        &self,
        files: &dyn Files,
        names: impl Iterator<Item = NameLine>,
    ) -> io::Result<()> {
        let lines: String = names.map(|line| line.spell()).collect();
        files.append(&File::open(self.directory())?, NAMES_INDEX, &lines)
    }

    /// Enters what was published in which files. Entered again, nothing changes for readers.
    ///
    /// # Errors
    /// What writing says.
    pub fn enter_files(
        &self,
        files: &dyn Files,
        published: impl Iterator<Item = FileLine>,
    ) -> io::Result<()> {
        let lines: String = published.map(|line| line.spell()).collect();
        files.append(&File::open(self.directory())?, FILES_INDEX, &lines)
    }

    /// Whether there is an index of names.
    ///
    /// # Errors
    /// That cannot be told.
    pub(crate) fn has_names(&self) -> io::Result<bool> {
        self.directory().join(NAMES_INDEX).try_exists()
    }

    /// Whether no attestation ever came here.
    ///
    /// # Errors
    /// That cannot be told.
    pub(super) fn is_empty(&self) -> io::Result<bool> {
        let has_subjects = self.directory().join(SUBJECTS_INDEX).try_exists()?;
        Ok(!has_subjects && self.statements_like("")?.is_empty())
    }

    /// Puts an index of names in place of what is there.
    ///
    /// # Errors
    /// What writing says. The index is then as it was.
    pub(crate) fn replace_names<'a>(
        &self,
        files: &dyn Files,
        names: impl Iterator<Item = &'a NameLine>,
    ) -> io::Result<()> {
        let lines: String = names.map(NameLine::spell).collect();
        self.put(files, NAMES_INDEX, lines.as_bytes())
    }

    /// Puts an index of files in place of what is there.
    ///
    /// # Errors
    /// As [`Shelf::replace_names`].
    pub(crate) fn replace_files<'a>(
        &self,
        files: &dyn Files,
        published: impl Iterator<Item = &'a FileLine>,
    ) -> io::Result<()> {
        let lines: String = published.map(FileLine::spell).collect();
        self.put(files, FILES_INDEX, lines.as_bytes())
    }

    /// Takes the files that these statements published out of the index of files. The numbers of
    /// such files are given to others one day.
    ///
    /// # Errors
    /// What reading and writing say. The index is then as it was.
    pub(crate) fn forget_files(
        &self,
        files: &dyn Files,
        statements: &BTreeMap<Sha256, u64>,
    ) -> io::Result<()> {
        let Some(mut file) = open(&self.directory().join(FILES_INDEX))? else {
            return Ok(());
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        // What a crash left may be anything; it is no entry either way.
        let text = String::from_utf8_lossy(&bytes);
        let is_kept = |line: &&str| {
            statement_of(line).is_none_or(|statement| !statements.contains_key(&statement))
        };
        let kept: Vec<&str> = text.lines().filter(is_kept).collect();
        if kept.len() == text.lines().count() {
            return Ok(());
        }
        let kept: String = kept.iter().flat_map(|line| [*line, "\n"]).collect();
        self.put(files, FILES_INDEX, kept.as_bytes())
    }
}
